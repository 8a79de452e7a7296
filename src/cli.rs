//! The command line; [`crate::commands`] runs what it asks for.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use chrono::{DateTime, Utc};
use clap::builder::{PossibleValue, PossibleValuesParser, TypedValueParser};
use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use url::Url;

use crate::config::socket_address;
use crate::pagerduty::ApiVersion;
use crate::queue::ItemId;
use crate::sentry_api::address::WebhookKind;
use crate::sentry_api::types::AlertSystem;

/// Receives Sentry's webhooks, enqueues each alert on disk and delivers it to PagerDuty.
#[derive(Debug, Parser)]
#[command(name = "sentry-pagerduty-bridge", version, after_long_help = after_help())]
#[command(disable_version_flag = true)]
pub struct Cli {
    /// Print version, commit and the fingerprint of the settings
    #[arg(long, short = 'V')]
    pub version: bool,
    /// What to do; `serve` by default.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the bridge (the default)
    Serve,
    /// Run bridge, sandbox and sample alerts on this machine, without any settings
    Demo(DemoArgs),
    /// Run a strict local PagerDuty to rehearse with
    Sandbox(SandboxArgs),
    /// Show what would be sent for a payload, and why; sends nothing
    Explain(ExplainArgs),
    /// Post payload files to a running bridge
    Replay(ReplayArgs),
    /// Inspect and change the queue: waiting events, dead letters and rejected webhooks
    Queue {
        /// What to do
        #[command(subcommand)]
        command: QueueCommand,
    },
    /// Check settings, database and the connection to PagerDuty
    Check(CheckArgs),
    /// Set Sentry up to call the bridge; shows a plan, and changes nothing without --yes
    Connect(ConnectArgs),
    /// Find projects and alerts of Sentry that would page nobody
    Audit(AuditArgs),
    /// Ask Sentry which alerts fired and never reached the bridge, and enqueue them
    CatchUp(CatchUpArgs),
    /// Ask the local bridge whether it is ready; for container health checks
    Healthcheck,
    /// Print a completion script for a shell
    Completions {
        /// The shell to complete for
        shell: Shell,
    },
    /// Print the manual page, or write those of all commands
    Man {
        /// Write a page for each command into this folder
        #[arg(long, value_name = "FOLDER")]
        to: Option<PathBuf>,
    },
    /// Print version, commit and the fingerprint of the settings
    Version,
}

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Exit when everything is delivered, with 1 if anything is not
    #[arg(long)]
    pub once: bool,

    /// How long each trouble lasts [default: 10, or 1 with --once]
    #[arg(long, value_name = "SECONDS", value_parser = clap::value_parser!(u64).range(..=600))]
    pub pause: Option<u64>,
}

/// Arguments of `sandbox`.
#[derive(Args, Debug)]
pub struct SandboxArgs {
    /// Address of the Events API
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS", value_parser = address)]
    pub listen: SocketAddr,
    /// Address of journal, incidents and faults
    #[arg(long, default_value = "127.0.0.1:8091", value_name = "ADDRESS", value_parser = address)]
    pub control: SocketAddr,
    /// Accept what the real PagerDuty accepts beyond its documentation
    #[arg(long)]
    pub lax: bool,
    /// Events per minute and service key above which it throttles
    #[arg(long, default_value_t = 120, value_name = "N")]
    pub rate: u32,
    /// Throttle with 429 instead of 403
    #[arg(long)]
    pub throttle_429: bool,
    /// Answer this status instead of accepting events
    #[arg(long, value_name = "STATUS")]
    pub fail: Option<u16>,
    /// Number of requests that --fail applies to [default: all]
    #[arg(long, value_name = "N", requires = "fail")]
    pub fail_first: Option<u64>,
    /// Answer success and open no incident, as PagerDuty once did for an hour
    #[arg(long)]
    pub silent_drop: bool,
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// Payload files; `-` reads standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print only the events, as JSON, one per line
    #[arg(long)]
    pub json: bool,
    /// Show the events for this Events API of PagerDuty instead of the one they would be sent by
    #[arg(long, value_enum, value_name = "API")]
    pub api: Option<ExplainApi>,
    /// Show service keys in full instead of their last four characters
    #[arg(long)]
    pub show_keys: bool,
}

/// The Events APIs for which `explain` shows events.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ExplainApi {
    /// Events API v1
    V1,
    /// Events API v2
    V2,
    /// Both
    Both,
}

/// Arguments of `replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// Payload files, or folders of them: `.json` holds one payload, `.ndjson` one per line
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The webhook to post to, such as `http://127.0.0.1:8080/sentry/TOKEN`; HOST:PORT is enough where
    /// `BRIDGE_WEBHOOK_TOKEN` is set, or with --secret-file
    #[arg(long, value_name = "URL", required_unless_present = "dry_run", value_parser = webhook)]
    pub to: Option<Url>,
    /// Sign as Sentry's integration platform does, with the Client Secret in this file
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Rate limit, such as `10/s` or `120/m`
    #[arg(long = "rate", value_name = "N/s", value_parser = interval)]
    pub interval: Option<Duration>,
    /// Post everything N times
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Only print what would be posted
    #[arg(long)]
    pub dry_run: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// Works beside a running bridge. Events are numbered like `7`, rejected webhooks like `r7`.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List events and rejected webhooks
    List(QueueListArgs),
    /// Show everything about an event or a rejected webhook
    Show(QueueShowArgs),
    /// Enqueue dead letters again, and process rejected webhooks again
    Retry(QueueRetryArgs),
    /// Delete permanently
    Discard(QueueDiscardArgs),
    /// Write everything to a file, one JSON object per line, with service keys and bodies
    Export(QueueExportArgs),
    /// Fill an empty database with the queue that `export --complete` wrote, while no bridge runs on it
    Import {
        /// A file that `queue export --complete` wrote; `-` is standard input
        #[arg(value_name = "FILE")]
        from: PathBuf,
    },
}

/// The state of an event or a rejected webhook.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum ItemState {
    /// Waiting for delivery
    Waiting,
    /// Dead letters: given up, because PagerDuty rejected them or they kept failing
    Dead,
    /// Webhooks that were answered 400 or 422
    Rejected,
    /// Accepted by PagerDuty, and kept for `BRIDGE_KEEP_DELIVERED`
    Delivered,
}

/// Arguments of `queue list`.
#[derive(Args, Debug)]
pub struct QueueListArgs {
    /// Only these; several are separated by commas [default: dead,rejected,waiting]
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    pub states: Vec<ItemState>,
    /// At most N [default: all]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub limit: Option<u64>,
    /// Print a JSON array
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `queue show`.
#[derive(Args, Debug)]
pub struct QueueShowArgs {
    /// What to show: `7` is an event, `r7` a rejected webhook
    pub id: ItemId,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
    /// Show the service key in full instead of its last four characters
    #[arg(long)]
    pub show_keys: bool,
}

/// Arguments of `queue retry`.
#[derive(Args, Debug)]
pub struct QueueRetryArgs {
    /// Dead letters, such as `7`, and rejected webhooks, such as `r7`
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub ids: Vec<ItemId>,
    /// All dead letters and all rejected webhooks
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    /// Also send triggers whose incident was resolved since, which opens it again
    #[arg(long)]
    pub force: bool,
}

/// Arguments of `queue discard`.
#[derive(Args, Debug)]
pub struct QueueDiscardArgs {
    /// Events, such as `7`, and rejected webhooks, such as `r7`
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub ids: Vec<ItemId>,
    /// Everything in the states of --state
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    /// The states that --all discards; several are separated by commas [default: dead,rejected]
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', requires = "all")]
    pub states: Vec<ItemState>,
    /// Do not ask for confirmation
    #[arg(long, short)]
    pub yes: bool,
}

/// Arguments of `queue export`.
#[derive(Args, Debug)]
pub struct QueueExportArgs {
    /// A new file that only its owner may read; `-` is standard output
    #[arg(value_name = "FILE")]
    pub to: PathBuf,
    /// Only these; several are separated by commas [default: dead,rejected,waiting]
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    pub states: Vec<ItemState>,
    /// The whole queue, for `import` into another database; no bridge may run on this one
    #[arg(long, conflicts_with = "states")]
    pub complete: bool,
}

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Open and resolve one real test incident, and send a test message to `BRIDGE_FALLBACK_URL`
    #[arg(long)]
    pub page: bool,
}

/// Arguments of `audit`.
#[derive(Args, Debug)]
pub struct AuditArgs {
    /// Where Sentry reaches the bridge, such as `https://bridge.example.com` [default: any address that ends in /sentry]
    #[arg(long, value_name = "URL")]
    pub bridge: Option<Url>,
    /// Only these projects, by slug [default: all]
    #[arg(long = "project", value_name = "SLUG")]
    pub projects: Vec<String>,
    /// Save what pages now, to compare with it after an upgrade of Sentry
    #[arg(long, value_name = "FILE")]
    pub save: Option<PathBuf>,
    /// Also find what paged when this file was saved, and does not now
    #[arg(long, value_name = "FILE")]
    pub against: Option<PathBuf>,
    /// Which alert system to read if Sentry answers for both [default: by its version]
    #[arg(long, value_name = "KIND", value_parser = alert_system())]
    pub alerts: Option<AlertSystem>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `catch-up`.
#[derive(Args, Debug)]
pub struct CatchUpArgs {
    /// A time such as `2026-11-26T10:00:00Z`, or how long ago, such as `2h` [default: since the last run or webhook]
    #[arg(long, value_name = "WHEN", value_parser = Since::parse)]
    pub since: Option<Since>,
    /// Only show what would be done
    #[arg(long)]
    pub dry_run: bool,
    /// Where Sentry reaches the bridge, such as `https://bridge.example.com` [default: any address that ends in /sentry]
    #[arg(long, value_name = "URL")]
    pub bridge: Option<Url>,
    /// Which alert system to read if Sentry answers for both [default: by its version]
    #[arg(long, value_name = "KIND", value_parser = alert_system())]
    pub alerts: Option<AlertSystem>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// `--since`: a time, or how long ago.
#[derive(Clone, Copy, Debug)]
pub enum Since {
    /// A time.
    At(DateTime<Utc>),
    /// A time span before now.
    Ago(Duration),
}

impl Since {
    /// Parses `2h` or `2026-11-26T10:00:00Z`.
    ///
    /// # Errors
    ///
    /// When it is neither.
    pub fn parse(text: &str) -> Result<Self, String> {
        if let Ok(at) = text.parse() {
            return Ok(Self::At(at));
        }
        let ago = humantime::parse_duration(text).map(Self::Ago);
        ago.map_err(|_| "write a time as `2026-11-26T10:00:00Z`, or how long ago as `2h`".to_owned())
    }
}

/// Arguments of `connect`.
#[derive(Args, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct ConnectArgs {
    /// Set PagerDuty up instead
    #[command(subcommand)]
    pub other: Option<ConnectOther>,
    /// Where Sentry reaches the bridge, such as `https://bridge.example.com`
    #[arg(long, value_name = "URL", required = true)]
    pub bridge: Option<Url>,
    /// Only these projects, by slug [default: all]
    #[arg(long = "project", value_name = "SLUG")]
    pub projects: Vec<String>,
    /// How Sentry calls the bridge [default: an integration, where this Sentry supports them]
    #[arg(long, value_name = "WAY", value_parser = webhook_kind())]
    pub by: Option<WebhookKind>,
    /// Let this existing alert call the bridge too, instead of making a new one
    #[arg(long = "rule", value_name = "NAME")]
    pub rules: Vec<String>,
    /// Also make the alert for the canary in the project of `BRIDGE_CANARY_DSN`; with --undo: remove only that alert
    #[arg(long)]
    pub canary: bool,
    /// A new file for the integration's Client Secret, readable only by its owner [default: print it once]
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Carry out the plan
    #[arg(long, short)]
    pub yes: bool,
    /// Undo what `connect` made before
    #[arg(long, conflicts_with = "secret_file")]
    pub undo: bool,
    /// Send no test webhook at the end, which opens a test incident
    #[arg(long)]
    pub no_test: bool,
    /// Which alert system to read if Sentry answers for both [default: by its version]
    #[arg(long, value_name = "KIND", value_parser = alert_system())]
    pub alerts: Option<AlertSystem>,
}

/// What can be set up besides Sentry.
#[derive(Debug, Subcommand)]
pub enum ConnectOther {
    /// Make an integration on a service of PagerDuty and print its key; shows a plan, and changes nothing without --yes
    #[command(name = "pagerduty")]
    PagerDuty(ConnectPagerDutyArgs),
}

/// Arguments of `connect pagerduty`.
#[derive(Args, Debug)]
pub struct ConnectPagerDutyArgs {
    /// The service, by its name or its id
    #[arg(long, value_name = "NAME")]
    pub service: String,
    /// The name of the integration
    #[arg(long, value_name = "NAME", default_value = "Sentry (bridge)")]
    pub name: String,
    /// The Events API of the integration [default: that of `BRIDGE_PAGERDUTY_EVENTS_API`]
    #[arg(long, value_name = "API", value_parser = events_api())]
    pub api: Option<ApiVersion>,
    /// A new file for the integration key, readable only by its owner [default: print it]
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Carry out the plan
    #[arg(long, short)]
    pub yes: bool,
}

/// Parses the version of an Events API.
fn events_api() -> impl TypedValueParser<Value = ApiVersion> {
    PossibleValuesParser::new(["v1", "v2"])
        .try_map(|name| ApiVersion::parse(&name).ok_or("no version of the Events API"))
}

/// Parses how Sentry calls the bridge.
fn webhook_kind() -> impl TypedValueParser<Value = WebhookKind> {
    PossibleValuesParser::new([
        PossibleValue::new("integration").help("An internal integration, which also reports resolved issues"),
        PossibleValue::new("legacy").help("The legacy WebHooks of each project"),
    ])
    .map(|name| if name == "legacy" { WebhookKind::Legacy } else { WebhookKind::Integration })
}

/// Parses what decides whom Sentry notifies.
fn alert_system() -> impl TypedValueParser<Value = AlertSystem> {
    PossibleValuesParser::new([
        PossibleValue::new("rules").help("Alert rules of each project, up to about 2025"),
        PossibleValue::new("workflows").help("Workflows, on sentry.io and on self-hosted Sentrys from 26.7 on"),
    ])
    .map(|name| if name == "rules" { AlertSystem::Rules } else { AlertSystem::Workflows })
}

/// Parses an address to listen on, in the format of `BRIDGE_LISTEN`.
fn address(text: &str) -> Result<SocketAddr, String> {
    socket_address(text).map_err(|error| format!("it {error}"))
}

/// Parses the URL of a webhook. Without a scheme it is `http`, as in `localhost:8080`.
fn webhook(text: &str) -> Result<Url, String> {
    let with_scheme = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let url = Url::parse(&with_scheme).map_err(|error| error.to_string())?;
    let is_local_name = |host: &str| !host.contains('.') && host != "localhost" && url.port().is_none();
    match url.host_str() {
        // `--to nowhere` is more likely a slip than the name of a host.
        Some(host) if !text.contains("://") && is_local_name(host) => {
            Err("it has neither a scheme nor a port".to_owned())
        }
        Some(_) if matches!(url.scheme(), "http" | "https") => Ok(url),
        _ => Err("it is not an `http` or `https` URL".to_owned()),
    }
}

fn after_help() -> String {
    format!("{}\nExit codes: 0 done, 1 something failed, 2 wrong usage or settings.\n", crate::config::help())
}

/// Parses a rate, such as `10/s`, and returns the time from one to the next.
fn interval(text: &str) -> Result<Duration, String> {
    let wrong = || format!("`{text}` is not a rate: write it like 10/s, 120/m or 0.5/s");
    let (number, unit) = text.split_once('/').unwrap_or((text, "s"));
    let seconds = match unit.trim() {
        "s" => 1.0,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(wrong()),
    };
    let number: f64 = number.trim().parse().map_err(|_| wrong())?;
    if !(number > 0.0 && number <= 1e6) {
        return Err(wrong());
    }
    Duration::try_from_secs_f64(seconds / number).map_err(|_| wrong())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_may_be_named_by_host_and_port() {
        let read = |text: &str| webhook(text).map(|url| url.to_string());
        assert_eq!(read("localhost:8080"), Ok("http://localhost:8080/".to_owned()));
        assert_eq!(read("bridge:8080/sentry/x"), Ok("http://bridge:8080/sentry/x".to_owned()));
        assert_eq!(read("bridge.example.com"), Ok("http://bridge.example.com/".to_owned()));
        assert_eq!(read("https://bridge/sentry/x"), Ok("https://bridge/sentry/x".to_owned()));
        for wrong in ["", "nowhere", "ftp://bridge", "http://", "localhost:port"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_rate_is_a_number_per_second_minute_or_hour() {
        assert_eq!(interval("10/s"), Ok(Duration::from_millis(100)));
        assert_eq!(interval("120/m"), Ok(Duration::from_millis(500)));
        assert_eq!(interval("0.5"), Ok(Duration::from_secs(2)));
        assert_eq!(interval("1/h"), Ok(Duration::from_hours(1)));
        for wrong in ["", "0/s", "-1/s", "ten/s", "10/d", "inf/s", "NaN/s", "1e-300/h"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }
}
