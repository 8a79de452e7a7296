//! A running bridge.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus};
use std::sync::OnceLock;

use sentry_pagerduty_bridge::config::DatabaseUrl;
use sentry_pagerduty_bridge::queue::{EventId, EventRecord, Reader};
use serde_json::Value;
use tempfile::TempDir;

use super::{Answer, Process, get, post, program};

pub(crate) const TOKEN: &str = "webhook-token-for-tests-alone";

/// The file of the queue if `BRIDGE_DATABASE_URL` is not set.
const DATABASE: &str = "bridge.db";

/// The default service key.
pub(crate) const KEY: &str = "default0key0for0tests000000000A1";

/// The service key of [`ROUTES`].
pub(crate) const OTHER_KEY: &str = "another0key0for0tests000000000B2";

/// Routes alerts of the level `fatal` to [`OTHER_KEY`].
pub(crate) const ROUTES: (&str, &str) = ("BRIDGE_PAGERDUTY_ROUTES", "level,fatal,another0key0for0tests000000000B2");

/// A bridge in its own directory, which also holds its queue.
pub(crate) struct Bridge {
    pub(crate) process: Process,
    pub(crate) address: SocketAddr,
    home: TempDir,
    settings: Vec<(String, String)>,
    program: fn() -> Command,
}

/// Whether the bridges of this test binary keep their queues in PostgreSQL.
pub(crate) const IS_POSTGRES: bool =
    matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"bridge_postgres" | b"bridge_pgbouncer");

/// Whether they connect to it through `PgBouncer`.
const IS_POOLED: bool = matches!(env!("CARGO_CRATE_NAME").as_bytes(), b"bridge_pgbouncer");

impl Bridge {
    /// Starts a bridge that delivers to `pagerduty` with a high rate limit, and stops without a drain.
    #[track_caller]
    pub(crate) fn start(pagerduty: &str) -> Self {
        Self::start_with(pagerduty, &[])
    }

    /// Like [`start`](Self::start), with `settings` that override its settings.
    #[track_caller]
    pub(crate) fn start_with(pagerduty: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), program, Self::settings(pagerduty, settings))
    }

    /// Like [`start_with`](Self::start_with), by another command that executes the program.
    #[track_caller]
    pub(crate) fn start_by(program: fn() -> Command, pagerduty: &str, settings: &[(&str, &str)]) -> Self {
        Self::start_in(tempfile::tempdir().unwrap(), program, Self::settings(pagerduty, settings))
    }

    fn settings(pagerduty: &str, settings: &[(&str, &str)]) -> Vec<(String, String)> {
        let usual = [
            ("BRIDGE_PAGERDUTY_URL", pagerduty),
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
            ("BRIDGE_PAGERDUTY_RATE", "10000"),
            ("BRIDGE_WEBHOOK_TOKEN", TOKEN),
            ("BRIDGE_LISTEN", "127.0.0.1:0"),
            ("BRIDGE_SHUTDOWN_DRAIN", "0s"),
            // The tests of alarms turn them on.
            ("BRIDGE_ALARMS", "off"),
        ];
        let mut all = Self::database_settings();
        all.extend(usual.iter().chain(settings).copied().map(owned));
        all
    }

    /// The settings of a new database; none if it is the SQLite file in the working directory.
    pub(crate) fn database_settings() -> Vec<(String, String)> {
        if !IS_POSTGRES {
            return Vec::new();
        }
        let url = temporary_postgres::PostgresCluster::shared().database().unwrap();
        let pooled = if IS_POOLED { pooler().url(url.rsplit('/').next().unwrap()) } else { url.clone() };
        // On a machine that is busy with other tests, PostgreSQL may be slow.
        let pooled = [("BRIDGE_DATABASE_URL", pooled.as_str()), ("BRIDGE_DATABASE_TIMEOUT", "10s")];
        let direct = IS_POOLED.then_some(("BRIDGE_DATABASE_DIRECT_URL", url.as_str()));
        pooled.into_iter().chain(direct).map(owned).collect()
    }

    /// Starts a bridge on a copy of the database `fixture`.
    #[track_caller]
    pub(crate) fn start_on(fixture: &Path, pagerduty: &str, settings: &[(&str, &str)]) -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::copy(fixture, home.path().join(DATABASE)).unwrap();
        Self::start_in(home, program, Self::settings(pagerduty, settings))
    }

    #[track_caller]
    fn start_in(home: TempDir, program: fn() -> Command, settings: Vec<(String, String)>) -> Self {
        let (process, address) = spawn(program(), &home, &settings);
        Self { process, address, home, settings, program }
    }

    /// Posts a webhook as Sentry does.
    #[track_caller]
    pub(crate) fn post(&self, body: &[u8]) -> Answer {
        post(self.address, &format!("/sentry/{TOKEN}"), &[("Content-Type", "application/json")], body)
    }

    /// Posts a webhook and asserts that it was queued.
    #[track_caller]
    pub(crate) fn queue(&self, body: &[u8]) {
        let (status, said) = self.post(body).status_and_json();
        assert_eq!((status, &said["status"]), (202, &Value::from("queued")), "{said}");
    }

    /// Posts a webhook that has to be rejected with this status, and waits until it is kept.
    #[track_caller]
    pub(crate) fn reject(&self, body: &[u8], status: u16) {
        let is_kept = |line: &str| message(line, "it is kept as r").is_some();
        let before = self.process.stderr.all().iter().filter(|line| is_kept(line)).count();
        assert_eq!(self.post(body).status, status);
        self.wait_for_logs(before + 1, "it is kept as r");
    }

    #[track_caller]
    pub(crate) fn get(&self, path: &str) -> Answer {
        get(self.address, path)
    }

    /// The URL of the webhook.
    pub(crate) fn webhook(&self) -> String {
        format!("http://{}/sentry/{TOKEN}", self.address)
    }

    /// Waits for a log line whose message contains `part`, and returns the message.
    #[track_caller]
    pub(crate) fn wait_for_log(&self, part: &str) -> String {
        self.process.stderr.wait_for(&format!("the log line `{part}`"), |line| message(line, part))
    }

    /// Waits for so many log lines whose messages have `part` in them.
    #[track_caller]
    pub(crate) fn wait_for_logs(&self, number: usize, part: &str) {
        let mut found = 0;
        self.process.stderr.wait_for(&format!("log line {number} with `{part}`"), |line| {
            found += usize::from(message(line, part).is_some());
            (found == number).then_some(())
        });
    }

    /// Delivers another event with `deliver_another` after each failure of an event that always fails, until that event is
    /// given up. Returns how many others were delivered.
    #[track_caller]
    pub(crate) fn deliver_others_until_given_up(&self, mut deliver_another: impl FnMut(u64)) -> u64 {
        for failures in 1..=20 {
            let mut found = 0;
            // PagerDuty knows of a failure before the bridge does, and only what is delivered after the bridge knows counts.
            let given_up = self.process.stderr.wait_for(&format!("failure {failures}"), |line| {
                found += u64::from(message(line, "not delivered yet").is_some());
                let given_up = message(line, "given up after it failed for").is_some();
                (given_up || found == failures).then_some(given_up)
            });
            if given_up {
                return failures - 1;
            }
            deliver_another(failures);
        }
        panic!("it is never given up: {:#?}", self.process.stderr.all());
    }

    /// Sends a signal and waits for the exit.
    #[track_caller]
    pub(crate) fn terminate(&mut self, signal: &str) -> ExitStatus {
        self.process.signal(signal);
        self.process.exit()
    }

    /// Changes a setting, with effect from the next [`restart`](Self::restart).
    pub(crate) fn set(&mut self, name: &str, value: &str) {
        self.settings.push(owned((name, value)));
    }

    /// Starts it again on the same queue, on another port.
    #[track_caller]
    pub(crate) fn restart(&mut self) {
        (self.process, self.address) = spawn((self.program)(), &self.home, &self.settings);
    }

    /// The value of `BRIDGE_DATABASE_URL` for its queue, without the pooler.
    pub(crate) fn database_url(&self) -> String {
        let is_url = |name: &str| ["BRIDGE_DATABASE_URL", "BRIDGE_DATABASE_DIRECT_URL"].contains(&name);
        let set = self.settings.iter().rfind(|(name, _)| is_url(name));
        set.map_or_else(|| format!("sqlite:{}", self.database().display()), |(_, value)| value.clone())
    }

    /// The file of the queue.
    pub(crate) fn database(&self) -> PathBuf {
        self.home.path().join(DATABASE)
    }

    /// Stops it, and returns all events in its queue.
    #[track_caller]
    pub(crate) fn end(mut self) -> Vec<EventRecord> {
        assert_eq!(self.terminate("TERM").code(), Some(0), "{:#?}", self.process.stderr.all());
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let url = DatabaseUrl::parse(&self.database_url()).unwrap();
            let reader = Reader::open(url).await.unwrap();
            let counts = reader.overview().await.unwrap();
            let mut records = Vec::new();
            for number in 1..=counts.waiting + counts.dead + counts.delivered {
                let id = EventId::new(number.try_into().unwrap());
                records.push(reader.get(id).await.unwrap().unwrap());
            }
            records
        })
    }
}

/// The pooler of this test binary.
fn pooler() -> &'static temporary_postgres::Pooler {
    static POOLER: OnceLock<temporary_postgres::Pooler> = OnceLock::new();
    POOLER.get_or_init(|| temporary_postgres::Pooler::start(temporary_postgres::PostgresCluster::shared()).unwrap())
}

fn owned((name, value): (&str, &str)) -> (String, String) {
    (name.to_owned(), value.to_owned())
}

#[track_caller]
fn spawn(mut program: Command, home: &TempDir, settings: &[(String, String)]) -> (Process, SocketAddr) {
    let variables = settings.iter().map(|(name, value)| (name, value));
    let process = Process::spawn(program.current_dir(home).envs(variables));
    let address = process.stderr.wait_for("the bridge's address", |line| {
        message(line, "listening on http://")?.strip_prefix("listening on http://")?.parse().ok()
    });
    (process, address)
}

/// The message of a log line, JSON or text, if it contains `part`.
fn message(line: &str, part: &str) -> Option<String> {
    let message = match serde_json::from_str::<Value>(line) {
        Ok(line) => line["message"].as_str()?.to_owned(),
        Err(_) => line.split_once("] ")?.1.to_owned(),
    };
    Some(message).filter(|message| message.contains(part))
}

/// Has the database of a running bridge refuse every resolve, until [`take_resolves`].
pub(crate) fn refuse_resolves(bridge: &Bridge) {
    let sql = if IS_POSTGRES {
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'no resolves'; END $$;
         CREATE TRIGGER refuse BEFORE INSERT ON events FOR EACH ROW WHEN (NEW.event_type = 'resolve')
         EXECUTE FUNCTION refuse()"
    } else {
        "CREATE TRIGGER refuse BEFORE INSERT ON events WHEN NEW.event_type = 'resolve'
         BEGIN SELECT RAISE(ABORT, 'no resolves'); END"
    };
    execute_script(bridge, sql);
}

/// Ends [`refuse_resolves`].
pub(crate) fn take_resolves(bridge: &Bridge) {
    execute_script(bridge, if IS_POSTGRES { "DROP FUNCTION refuse() CASCADE" } else { "DROP TRIGGER refuse" });
}

/// Executes statements without parameters on the database of a running bridge.
fn execute_script(bridge: &Bridge, sql: &'static str) {
    use sqlx::ConnectOptions;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if IS_POSTGRES {
            let options: sqlx::postgres::PgConnectOptions = bridge.database_url().parse().unwrap();
            sqlx::raw_sql(sql).execute(&mut options.connect().await.unwrap()).await.unwrap();
        } else {
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(bridge.database());
            sqlx::raw_sql(sql).execute(&mut options.connect().await.unwrap()).await.unwrap();
        }
    });
}

/// Executes a statement on the database of a running bridge, to create rows as an earlier version would have written them.
pub(crate) fn execute_sql(bridge: &Bridge, sql: &'static str, body: &[u8]) {
    use sqlx::ConnectOptions;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        if IS_POSTGRES {
            let options: sqlx::postgres::PgConnectOptions = bridge.database_url().parse().unwrap();
            let mut connection = options.connect().await.unwrap();
            let sql = sqlx::AssertSqlSafe(sql.replace('?', "$1"));
            sqlx::query(sql).bind(body).execute(&mut connection).await.unwrap();
            return;
        }
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(bridge.database());
        let mut connection = options.connect().await.unwrap();
        sqlx::query(sql).bind(body).execute(&mut connection).await.unwrap();
    });
}
