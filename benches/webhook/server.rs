//! The processes that are measured.

use std::collections::BTreeMap;
use std::env;
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

pub(crate) const TOKEN: &str = "bench-token-that-guards-nothing";

/// The token for the status page.
pub(crate) const ADMIN_TOKEN: &str = "bench-admin-token-that-guards-nothing";

/// Which server is measured.
#[derive(Clone, Copy, PartialEq)]
pub(crate) enum Kind {
    Lean,
    File,
    Mapping,
    Insert,
    Bridge,
    Postgres,
}

impl Kind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Lean => "lean",
            Self::File => "file",
            Self::Mapping => "mapping",
            Self::Insert => "insert",
            Self::Bridge => "bridge",
            Self::Postgres => "postgres",
        }
    }

    /// The server that this program itself runs for an argument such as `--serve-lean`.
    pub(crate) fn of_child(argument: &str) -> Option<Self> {
        let kinds = [Self::Lean, Self::File, Self::Mapping, Self::Insert];
        kinds.into_iter().find(|kind| argument == format!("--serve-{}", kind.name()))
    }

    pub(crate) fn needs_postgres(self) -> bool {
        matches!(self, Self::Insert | Self::Postgres)
    }
}

/// A running server; dropping it kills it.
pub(crate) struct Server {
    child: Child,
    address: SocketAddr,
    started_in: Duration,
}

impl Server {
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// How long it took from its start until it listened.
    pub(crate) fn started_in(&self) -> Duration {
        self.started_in
    }

    /// Its resident memory, in MiB.
    pub(crate) fn memory(&self) -> f64 {
        self.kibibytes("VmRSS:") / 1024.0
    }

    /// Its peak resident memory, in MiB.
    pub(crate) fn most_memory(&self) -> f64 {
        self.kibibytes("VmHWM:") / 1024.0
    }

    fn kibibytes(&self, member: &str) -> f64 {
        let status = fs::read_to_string(self.proc().join("status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix(member)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// The processor time that it has used, in seconds.
    pub(crate) fn processor_seconds(&self) -> f64 {
        let stat = fs::read_to_string(self.proc().join("stat")).unwrap();
        let (_, members) = stat.rsplit_once(") ").unwrap();
        let ticks = members.split(' ').skip(11).take(2).map(|ticks| ticks.parse::<u32>().unwrap()).sum::<u32>();
        // Linux reports 100 ticks a second, whatever the frequency of its own timer.
        f64::from(ticks) / 100.0
    }

    /// How often its threads have waited so far (voluntary context switches).
    pub(crate) fn waits(&self) -> u64 {
        let tasks = fs::read_dir(self.proc().join("task")).unwrap();
        let waits = |status: &str| -> Option<u64> {
            status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"))?.trim().parse().ok()
        };
        tasks.filter_map(|task| waits(&fs::read_to_string(task.ok()?.path().join("status")).ok()?)).sum()
    }

    fn proc(&self) -> PathBuf {
        Path::new("/proc").join(self.child.id().to_string())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// The environment variable with the URL of the database for the server that inserts.
pub(crate) const DATABASE: &str = "BENCH_DATABASE_URL";

/// Starts a server whose files lie in `place`, or whose rows lie in `database`, and waits until it listens.
pub(crate) fn start(kind: Kind, place: &Path, database: Option<&str>) -> Server {
    start_with(kind, place, database, &BTreeMap::new())
}

/// Like [`start`], with additional settings of the bridge.
pub(crate) fn start_with(
    kind: Kind,
    place: &Path,
    database: Option<&str>,
    settings: &BTreeMap<&str, String>,
) -> Server {
    let mut command = if matches!(kind, Kind::Bridge | Kind::Postgres) {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sentry-pagerduty-bridge"));
        command
            .env("BRIDGE_LISTEN", "127.0.0.1:0")
            .env("BRIDGE_PAGERDUTY_SERVICE_KEY", "0".repeat(32))
            .env("BRIDGE_PAGERDUTY_URL", format!("http://{}", nobody()))
            .env("BRIDGE_WEBHOOK_TOKEN", TOKEN)
            .env("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN);
        if let Some(database) = database {
            command.env("BRIDGE_DATABASE_URL", database);
        }
        command.envs(settings);
        command
    } else {
        let mut command = Command::new(env::current_exe().unwrap());
        command.arg(format!("--serve-{}", kind.name()));
        if let Some(database) = database {
            command.env(DATABASE, database);
        }
        command
    };
    let begun = Instant::now();
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
    let started_in = begun.elapsed();
    // Its log is read to the end, as a container engine would.
    std::thread::spawn(move || lines.for_each(drop));
    Server { child, address, started_in }
}

/// An address on which nothing listens.
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
