//! chromedriver, which starts and drives the browser.

use std::io::ErrorKind;
use std::process::{Command, Stdio};

use crate::support::Process;

/// The message if it is not installed.
const MISSING: &str = "the browser tests need `chromedriver` and `chromium`: run `make setup`, which installs them";

/// How often the driver is started. It chooses a port of one of the loopback addresses and gives up if another process has
/// that port of the other one.
const ATTEMPTS: u32 = 5;

/// A running driver on a free port.
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
        for _ in 0..ATTEMPTS {
            let process = Process::spawn(Command::new("chromedriver").arg("--port=0"));
            let port: Option<u16> = process.stdout.wait_for("the driver's port", |line| {
                if line.starts_with("IPv4 port not available") {
                    return Some(None);
                }
                line.split_once("started successfully on port ")?.1.trim_end_matches('.').parse().ok().map(Some)
            });
            if let Some(port) = port {
                return Self { url: format!("http://127.0.0.1:{port}"), _process: process };
            }
        }
        panic!("chromedriver found no free port {ATTEMPTS} times");
    }
}
