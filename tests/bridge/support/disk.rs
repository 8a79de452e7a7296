//! A small disk that can be filled.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system of 5 MiB, with a file in it that can be deleted to free space.
pub(crate) struct Disk {
    home: TempDir,
}

impl Disk {
    /// Size of the filler in bytes. Its space is enough for everything in the write-ahead log, which SQLite copies into the
    /// database at the next commits.
    const FILLER: usize = 5 * 512 * 1024;

    /// The environment variable that is set for a test that runs in a namespace of its own.
    const INSIDE: &str = "TEST_RUNS_IN_A_NAMESPACE";

    /// Mounts one. If that is not permitted, the test `name` is run in a namespace where it is, and `None` says that it has
    /// been run. If that is not permitted either, the test fails.
    pub(crate) fn mount(name: &str) -> Option<Self> {
        let disk = Self { home: tempfile::tempdir().unwrap() };
        let mount = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=5m", "tmpfs"])
            .arg(disk.home.path())
            .output()
            .unwrap();
        if mount.status.success() {
            fs::write(disk.filler(), vec![0; Self::FILLER]).unwrap();
            return Some(disk);
        }
        let refusal = String::from_utf8_lossy(&mount.stderr).into_owned();
        assert!(std::env::var_os(Self::INSIDE).is_none(), "no tmpfs even in a namespace: {refusal}");
        let inside = Command::new("unshare")
            .args(["--user", "--map-root-user", "--mount"])
            .arg(std::env::current_exe().unwrap())
            .args(["--exact", name, "--nocapture"])
            .env(Self::INSIDE, "1")
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&inside.stdout).into_owned() + &String::from_utf8_lossy(&inside.stderr);
        assert!(
            inside.status.success() && said.contains("1 passed"),
            "this test needs a small disk: run it as root or where user namespaces are allowed ({refusal}): {said}"
        );
        None
    }

    /// The path of a file on it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn filler(&self) -> PathBuf {
        self.path("filler")
    }

    /// Fills it completely.
    pub(crate) fn fill(&self) {
        let mut filler = OpenOptions::new().append(true).open(self.filler()).unwrap();
        let mut size = 64 * 1024;
        while size > 0 {
            match filler.write(&vec![0; size]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => size /= 2,
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Frees space.
    pub(crate) fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, because a program that still runs after a failure has files open.
        let _ = Command::new("umount").arg("--lazy").arg::<&Path>(self.home.path()).output();
    }
}
