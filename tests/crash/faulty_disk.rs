//! A disk that keeps only what it was told to sync, and fails when it is told to.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use tempfile::TempDir;

use super::support::Bridge;

/// What is preloaded into the bridge to make a disk of the system's one.
static PRELOADED: LazyLock<PathBuf> = LazyLock::new(|| {
    let library = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("faulty_disk.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/crash/faulty_disk.c");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-Wall", "-Werror", "-o"]).arg(&library).arg(source).status();
    assert!(built.unwrap().success(), "{source} cannot be compiled");
    library
});

pub(crate) struct FaultyDisk {
    home: TempDir,
}

impl FaultyDisk {
    pub(crate) fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("kept")).unwrap();
        Self { home }
    }

    /// A bridge whose queue lies on this disk.
    #[track_caller]
    pub(crate) fn bridge(&self, pagerduty: &str) -> Bridge {
        let (kept, failing) = (self.home.path().join("kept"), self.failing());
        let paths = [("LD_PRELOAD", &*PRELOADED), ("DISK_KEEPS", &kept), ("DISK_FAILS", &failing)];
        Bridge::start_with(pagerduty, &paths.map(|(name, path)| (name, path.to_str().unwrap())))
    }

    /// From now on it fails to sync.
    pub(crate) fn fail(&self) {
        fs::write(self.failing(), "").unwrap();
    }

    /// From now on it syncs again.
    pub(crate) fn recover(&self) {
        fs::remove_file(self.failing()).unwrap();
    }

    /// The database as a power cut would leave it.
    pub(crate) fn kept(&self) -> PathBuf {
        self.home.path().join("kept").join("bridge.db")
    }

    fn failing(&self) -> PathBuf {
        self.home.path().join("failing")
    }
}
