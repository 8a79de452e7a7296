//! A PostgreSQL cluster in a temporary folder, for tests: started when it is first needed, one for each test binary, and
//! removed when the test binary ends, however it ends.
//!
//! It listens on a free port of the loopback address, is not registered with any service manager, and runs as an
//! unprivileged user, because PostgreSQL refuses to run as root.

use std::env;
use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use tempfile::TempDir;

/// The user that runs the server if the tests run as root. Debian's package creates it.
const USER: &str = "postgres";

/// How long a start may take, in seconds.
const START: &str = "60";

/// How often a start is tried, each time on another free port.
const ATTEMPTS: u32 = 5;

/// Where Linux keeps files in memory. A new database has 300 files, and a test binary creates up to a hundred databases:
/// creating them on a disk is most of what the kernel does for these tests.
const MEMORY: &str = "/dev/shm";

/// `MEMORY` is used if at least this many bytes are free there: enough for the clusters of all test binaries that run at
/// once.
const ENOUGH: u64 = 6 << 30;

/// A script that waits for the end of its standard input, which comes when the test binary ends, then stops the server and
/// removes everything.
const CLEANER: &str = r#"cat >/dev/null
"$1/pg_ctl" --pgdata="$2" --mode=immediate --wait --timeout=20 stop >/dev/null 2>&1
rm -rf "$3""#;

/// The same for a pooler.
const POOLER_CLEANER: &str = r#"cat >/dev/null
kill "$(cat "$1/pid")"
rm -rf "$1""#;

/// A running cluster.
#[derive(Debug)]
pub struct PostgresCluster {
    programs: PathBuf,
    folder: PathBuf,
    port: u16,
    databases: AtomicU32,
    /// Its standard input is open for as long as this process lives.
    _cleaner: Child,
}

impl PostgresCluster {
    /// The cluster of this test binary.
    ///
    /// # Panics
    ///
    /// When PostgreSQL is not installed or does not start; `scripts/setup` installs it.
    #[must_use]
    #[allow(clippy::panic, reason = "a test cannot go on without it")]
    pub fn shared() -> &'static Self {
        static SHARED: OnceLock<PostgresCluster> = OnceLock::new();
        SHARED.get_or_init(|| {
            Self::start(&[]).unwrap_or_else(|error| panic!("no PostgreSQL for the tests, see scripts/setup: {error}"))
        })
    }

    /// Starts a separate cluster with these settings, in addition to those that make it fast.
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not installed or does not start.
    pub fn start(settings: &[(&str, &str)]) -> io::Result<Self> {
        Self::start_with(settings, &[])
    }

    /// Starts a separate cluster that offers TLS, with this certificate and its key (PEM).
    ///
    /// # Errors
    ///
    /// When PostgreSQL is not installed or does not start.
    pub fn start_with_tls(certificate: &str, key: &str) -> io::Result<Self> {
        // The names that PostgreSQL looks for by default.
        Self::start_with(&[("ssl", "on")], &[("server.crt", certificate), ("server.key", key)])
    }

    /// Starts a cluster with additional files in the data folder.
    fn start_with(settings: &[(&str, &str)], files: &[(&str, &str)]) -> io::Result<Self> {
        // A caller that sets fsync needs a disk.
        let (programs, temporary) = (programs()?, folder(!settings.contains(&("fsync", "on")))?);
        let log = File::create(temporary.path().join("initdb.log"))?;
        let mut initdb = as_user(&programs.join("initdb"));
        initdb.args(["--username=bridge", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync", "--pgdata"]);
        run(initdb.arg(temporary.path().join("data")).stdout(log.try_clone()?).stderr(log))?;
        for (name, content) in files {
            let path = temporary.path().join("data").join(name);
            fs::OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(&path)?
                .write_all(content.as_bytes())?;
            own(&path)?;
        }
        Self::start_in(programs, temporary, settings)
    }

    /// Starts a streaming standby of this cluster.
    ///
    /// # Errors
    ///
    /// When it cannot be copied or the copy does not start.
    pub fn standby(&self) -> io::Result<Self> {
        let temporary = folder(true)?;
        let mut copy = as_user(&self.programs.join("pg_basebackup"));
        copy.args(["--host=127.0.0.1", "--username=bridge", "--checkpoint=fast", "--no-sync", "--write-recovery-conf"]);
        copy.args(["--port", &self.port.to_string(), "--pgdata"]).arg(temporary.path().join("data"));
        run(&mut copy)?;
        Self::start_in(self.programs.clone(), temporary, &[])
    }

    /// Promotes a standby to a primary.
    ///
    /// # Errors
    ///
    /// When it is not a standby, or is not promoted in time.
    pub fn promote(&self) -> io::Result<()> {
        run(self.pg_ctl().args(["--wait", "--timeout", START, "promote"]))
    }

    /// Starts the server on the data in a folder.
    fn start_in(programs: PathBuf, temporary: TempDir, settings: &[(&str, &str)]) -> io::Result<Self> {
        let data = temporary.path().join("data");
        let mut configuration = fs::OpenOptions::new().append(true).open(data.join("postgresql.conf"))?;
        let folder = temporary.path().display().to_string();
        let ours = [
            ("listen_addresses", "127.0.0.1"),
            ("unix_socket_directories", folder.as_str()),
            ("max_connections", "300"),
            ("shared_buffers", "64MB"),
            ("fsync", "off"),
            ("log_min_messages", "warning"),
        ];
        for (name, value) in ours.iter().chain(settings) {
            writeln!(configuration, "{name} = '{value}'")?;
        }
        // From here on the cleaner removes the folder.
        let folder = temporary.keep();
        let cleaner = Command::new("sh")
            .args(["-c", CLEANER, "cleaner"])
            .args([programs.as_path(), data.as_path(), folder.as_path()])
            .stdin(Stdio::piped())
            .spawn()?;
        let mut cluster = Self { programs, folder, port: 0, databases: AtomicU32::new(0), _cleaner: cleaner };
        let mut attempts = 0;
        loop {
            attempts += 1;
            cluster.port = free_port()?;
            // If a setting is repeated, the last value counts.
            writeln!(configuration, "port = {}", cluster.port)?;
            match cluster.start_again() {
                // Another process on this machine may have taken the port in the meantime.
                Err(error) if attempts < ATTEMPTS && error.to_string().contains("Address already in use") => {}
                result => return result.map(|()| cluster),
            }
        }
    }

    /// Stops the server at once, as a crash does.
    ///
    /// # Errors
    ///
    /// When it could not be stopped.
    pub fn stop(&self) -> io::Result<()> {
        run(self.pg_ctl().args(["--mode=immediate", "--wait", "--timeout", START, "stop"]))
    }

    /// Starts it again on the same port.
    ///
    /// # Errors
    ///
    /// When it does not start; its log says why.
    pub fn start_again(&self) -> io::Result<()> {
        let log = self.folder.join("server.log");
        run(self.pg_ctl().args(["--wait", "--timeout", START, "--log"]).arg(&log).arg("start"))
            .map_err(|error| io::Error::other(format!("{error}: {}", fs::read_to_string(&log).unwrap_or_default())))
    }

    /// Sends a signal such as `STOP` to the server and all its processes.
    ///
    /// # Errors
    ///
    /// When there is no server.
    pub fn signal(&self, signal: &str) -> io::Result<()> {
        let process = fs::read_to_string(self.data().join("postmaster.pid"))?;
        let process = process.lines().next().unwrap_or_default();
        let children = Command::new("pgrep").args(["--parent", process]).output()?.stdout;
        let children = String::from_utf8_lossy(&children).into_owned();
        run(Command::new("kill").arg(format!("-{signal}")).arg(process).args(children.split_whitespace()))
    }

    /// The port on the loopback address.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The data folder.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.folder.join("data")
    }

    /// What the server has logged.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn log(&self) -> io::Result<String> {
        fs::read_to_string(self.folder.join("server.log"))
    }

    /// The folder of PostgreSQL's programs.
    #[must_use]
    pub fn programs(&self) -> &Path {
        &self.programs
    }

    /// Creates a database that nothing else uses, and returns its URL.
    ///
    /// # Errors
    ///
    /// When it cannot be created.
    pub fn database(&self) -> io::Result<String> {
        let name = format!("test{}", self.databases.fetch_add(1, Ordering::Relaxed));
        self.psql("postgres", &format!("CREATE DATABASE {name}"))?;
        Ok(self.url(&name))
    }

    /// The URL of a database.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://bridge@127.0.0.1:{}/{database}", self.port)
    }

    /// Runs statements in a database and returns what they print, without alignment.
    ///
    /// # Errors
    ///
    /// When one of them fails.
    pub fn psql(&self, database: &str, sql: &str) -> io::Result<String> {
        let output = Command::new(self.programs.join("psql"))
            .args(["--no-psqlrc", "--quiet", "--tuples-only", "--no-align", "--set=ON_ERROR_STOP=1", "--dbname"])
            .arg(self.url(database))
            .args(["--command", sql])
            .output()?;
        if !output.status.success() {
            return Err(io::Error::other(String::from_utf8_lossy(&output.stderr).into_owned()));
        }
        Ok(String::from_utf8_lossy(&output.stdout).trim_end().to_owned())
    }

    fn pg_ctl(&self) -> Command {
        let mut command = as_user(&self.programs.join("pg_ctl"));
        command.arg("--pgdata").arg(self.data()).stdout(Stdio::null());
        command
    }
}

/// A running `PgBouncer` in transaction mode in front of a cluster.
#[derive(Debug)]
pub struct Pooler {
    port: u16,
    /// Its standard input is open for as long as this process lives.
    _cleaner: Child,
}

impl Pooler {
    /// Starts a pooler in front of a cluster.
    ///
    /// # Errors
    ///
    /// When it is not installed or does not start.
    pub fn start(cluster: &PostgresCluster) -> io::Result<Self> {
        let (temporary, port) = (folder(true)?, free_port()?);
        let place = |name: &str| temporary.path().join(name).display().to_string();
        let file = place("pgbouncer.ini");
        let configuration = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=bridge\n[pgbouncer]\nlisten_addr = 127.0.0.1\n\
             listen_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode = transaction\nmax_client_conn = 1000\n\
             pidfile = {}\nlogfile = {}\nquery_wait_timeout = 5\n",
            cluster.port,
            place("pid"),
            place("log"),
        );
        fs::write(&file, configuration)?;
        run(as_user(Path::new("pgbouncer")).args(["--daemon", "--quiet", &file]))?;
        // From here on the cleaner stops it and removes the folder.
        let cleaner = Command::new("sh")
            .args(["-c", POOLER_CLEANER, "cleaner"])
            .arg(temporary.keep())
            .stdin(Stdio::piped())
            .spawn()?;
        Ok(Self { port, _cleaner: cleaner })
    }

    /// The URL of a database of the cluster, through the pooler.
    #[must_use]
    pub fn url(&self, database: &str) -> String {
        format!("postgres://bridge@127.0.0.1:{}/{database}", self.port)
    }
}

/// Returns the folder of PostgreSQL's programs: the newest version that Debian's packages have installed, else the first in
/// PATH.
fn programs() -> io::Result<PathBuf> {
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let version = |folder: &PathBuf| folder.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = installed.map(|entry| entry.path()).filter(|folder| folder.join("bin/initdb").exists());
    if let Some(newest) = newest.max_by_key(version) {
        return Ok(newest.join("bin"));
    }
    let paths = env::var_os("PATH").unwrap_or_default();
    let found = env::split_paths(&paths).find(|folder| folder.join("initdb").exists());
    found.ok_or_else(|| io::Error::other("initdb is not installed"))
}

/// Creates a folder that belongs to the user who runs the server, in memory if that is allowed and has enough space.
fn folder(may_be_memory: bool) -> io::Result<TempDir> {
    let memory = Path::new(MEMORY);
    let available = rustix::fs::statvfs(memory).map_or(0, |system| system.f_bavail.saturating_mul(system.f_frsize));
    let parent = if may_be_memory && available >= ENOUGH { memory.to_owned() } else { env::temp_dir() };
    let temporary = TempDir::with_prefix_in("postgres-", parent)?;
    own(temporary.path())?;
    Ok(temporary)
}

/// Gives a file or folder to the user who runs the server.
fn own(path: &Path) -> io::Result<()> {
    if is_root() { run(Command::new("chown").arg(USER).arg(path)) } else { Ok(()) }
}

fn is_root() -> bool {
    let id = Command::new("id").arg("-u").output();
    id.is_ok_and(|output| output.stdout.trim_ascii() == b"0")
}

/// Returns a command that runs a program as the user who may run the server.
fn as_user(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("runuser");
    command.args(["-u", USER, "--"]).arg(program).current_dir("/");
    command
}

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn run(command: &mut Command) -> io::Result<()> {
    let status = command.stdin(Stdio::null()).status()?;
    if status.success() {
        return Ok(());
    }
    Err(io::Error::other(format!("{} failed with {status}", command.get_program().to_string_lossy())))
}
