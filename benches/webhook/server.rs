//! The processes that are measured.

use std::env;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sentry_pagerduty_bridge::config::SETTINGS;

pub(crate) const TOKEN: &str = "bench-token-that-guards-nothing";

/// What opens the status page.
pub(crate) const ADMIN_TOKEN: &str = "bench-admin-token-that-guards-nothing";

/// Which server is measured.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Bare,
    File,
    Insert,
    Bridge,
    Postgres,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Bare => "bare",
            Self::File => "file",
            Self::Insert => "insert",
            Self::Bridge => "bridge",
            Self::Postgres => "postgres",
        }
    }

    /// The servers that this very program can be.
    pub(crate) fn of_child(argument: &str) -> Option<Self> {
        [Self::Bare, Self::File, Self::Insert].into_iter().find(|kind| argument == format!("--serve-{}", kind.name()))
    }

    pub(crate) fn needs_postgres(self) -> bool {
        matches!(self, Self::Insert | Self::Postgres)
    }
}

/// A running server; dropping it kills it.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// Where the server that inserts finds its database.
pub(crate) const DATABASE: &str = "BENCH_DATABASE_URL";

/// Starts a server whose files lie in `place`, or whose rows lie in `database`, and waits until it listens.
pub(crate) fn start(kind: Kind, place: &Path, database: Option<&str>) -> Server {
    let mut command = if matches!(kind, Kind::Bridge | Kind::Postgres) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sentry-pagerduty-bridge"));
        command
            .env("BRIDGE_LISTEN", "127.0.0.1:0")
            .env("BRIDGE_PAGERDUTY_SERVICE_KEY", "0".repeat(32))
            .env("BRIDGE_PAGERDUTY_URL", format!("http://{}", nobody()))
            .env("BRIDGE_WEBHOOK_TOKEN", TOKEN);
        if SETTINGS.iter().any(|setting| setting.name == "BRIDGE_ADMIN_TOKEN") {
            command.env("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN);
        }
        if let Some(database) = database {
            command.env("BRIDGE_DATABASE_URL", database);
        }
        command
    } else {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg(format!("--serve-{}", kind.name()));
        if let Some(database) = database {
            command.env(DATABASE, database);
        }
        command
    };
    let mut child = command.current_dir(place).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let address = loop {
        let line = lines.next().expect("the server ended").unwrap();
        if let Some((_, address)) = line.split_once("listening on http://") {
            let end =
                address.find(|character: char| !matches!(character, '0'..='9' | '.' | ':')).unwrap_or(address.len());
            break address[..end].parse().unwrap();
        }
    };
    // Its log is read to the end, as a container engine would.
    std::thread::spawn(move || lines.for_each(drop));
    Server { child, address }
}

/// An address where nobody listens.
fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// How long an fsync takes here; the median of 50.
pub(crate) fn fsync(place: &Path) -> Duration {
    let mut file = File::create(place.join("fsync")).unwrap();
    let mut times: Vec<Duration> = (0..50)
        .map(|_| {
            file.write_all(&vec![7; 65_536]).unwrap();
            let begun = Instant::now();
            file.sync_data().unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort_unstable();
    times[times.len() / 2]
}
