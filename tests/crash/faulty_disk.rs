//! A disk on which only synced data survives, and whose syncs can be made to fail.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::LazyLock;

use tempfile::TempDir;

use super::support::Bridge;

/// The library that is preloaded into the bridge and intercepts its writes and syncs.
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

    /// A bridge whose queue is on this disk.
    #[track_caller]
    pub(crate) fn bridge(&self, pagerduty: &str) -> Bridge {
        let (kept, failing) = (self.home.path().join("kept"), self.failing());
        let paths = [("LD_PRELOAD", &*PRELOADED), ("DISK_KEEPS", &kept), ("DISK_FAILS", &failing)];
        Bridge::start_with(pagerduty, &paths.map(|(name, path)| (name, path.to_str().unwrap())))
    }

    /// Syncs fail from now on.
    pub(crate) fn fail(&self) {
        fs::write(self.failing(), "").unwrap();
    }

    /// Syncs succeed again.
    pub(crate) fn recover(&self) {
        fs::remove_file(self.failing()).unwrap();
    }

    /// The database with only the data that survives a power cut.
    pub(crate) fn kept(&self) -> PathBuf {
        self.home.path().join("kept").join("bridge.db")
    }

    fn failing(&self) -> PathBuf {
        self.home.path().join("failing")
    }
}
