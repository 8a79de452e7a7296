//! Chromium's driver, which starts and drives the browser.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use crate::support::Process;

/// Says what is missing, for those whose tests fail because of it.
const MISSING: &str = "the browser tests need `chromedriver` and `chromium`: run `make setup`, which installs them";

/// A running driver at a free port.
pub(crate) struct Driver {
    pub(crate) url: String,
    _process: Process,
}

impl Driver {
    #[track_caller]
    pub(crate) fn start() -> Self {
        for program in ["chromium", "chromedriver"] {
            let asked = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
            match asked {
                Ok(status) if status.success() => {}
                Err(error) if error.kind() != ErrorKind::NotFound => panic!("{program}: {error}"),
                _ => panic!("{MISSING}"),
            }
        }
        let process = Process::spawn(Command::new("chromedriver").arg("--port=0"));
        let port: u16 = process.stdout.wait_for("the driver's port", |line| {
            line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok()
        });
        Self { url: format!("http://127.0.0.1:{port}"), _process: process }
    }
}
