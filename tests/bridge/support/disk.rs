//! A disk that is soon full.

use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

/// A file system of 5 MiB, with a file in it that can make room.
pub(crate) struct Disk {
    home: TempDir,
}

impl Disk {
    /// What the filler takes, in bytes. It makes room for all that the log may hold, which SQLite writes into the database
    /// at the next commits.
    const FILLER: usize = 5 * 512 * 1024;

    /// Says where it runs when it may not mount anything itself.
    const INSIDE: &str = "TEST_RUNS_IN_A_NAMESPACE";

    /// Mounts one. Where that is not allowed, the test `name` is run in a namespace where it is, and `None` says that it
    /// has been. Where that is not allowed either, the test fails.
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

    /// A file on it.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn filler(&self) -> PathBuf {
        self.path("filler")
    }

    /// Takes the last byte of it.
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

    /// Makes room.
    pub(crate) fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // Lazily, for a program that still runs after a failure has its files open.
        let _ = Command::new("umount").arg("--lazy").arg::<&Path>(self.home.path()).output();
    }
}
