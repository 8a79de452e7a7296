//! The command line: what can be asked of the program. How it is done stands in [`crate::commands`].

mod rate;

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use url::Url;

pub use rate::Rate;

use crate::queue::ItemId;

/// Takes Sentry's webhooks, queues each alert on disk and delivers it to PagerDuty's Events API v1.
#[derive(Debug, Parser)]
#[command(name = "sentry-pagerduty-bridge", version, after_long_help = after_help(), disable_help_subcommand = true)]
#[command(disable_version_flag = true)]
pub struct Cli {
    /// Print version and commit, and a mark of the settings that is the same where they are
    #[arg(long, short = 'V')]
    pub version: bool,
    /// What to do; `serve` when nothing is said.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The verbs.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the bridge (the default)
    Serve,
    /// Run bridge, sandbox and sample alerts on this machine, with nothing to configure
    Demo(DemoArgs),
    /// Run a strict local PagerDuty to rehearse with
    Sandbox(SandboxArgs),
    /// Show what would be sent for a payload, and why; sends nothing
    Explain(ExplainArgs),
    /// Post payload files to a running bridge
    Replay(ReplayArgs),
    /// Look at and act on what waits, what is dead and what was rejected
    Queue {
        /// What to do
        #[command(subcommand)]
        command: QueueCommand,
    },
    /// Check settings, queue and the way to PagerDuty
    Check(CheckArgs),
    /// Set Sentry up to call the bridge; shows a plan, and changes nothing without --yes
    Connect(ConnectArgs),
    /// Find projects and alerts of Sentry that would page nobody
    Audit(AuditArgs),
    /// Ask the local bridge whether it is ready; for container health checks
    Healthcheck,
    /// Print a completion script for a shell
    Completions {
        /// The shell to complete for
        shell: Shell,
    },
    /// Print the manual page
    Man,
}

/// Arguments of `demo`.
#[derive(Args, Debug)]
pub struct DemoArgs {
    /// Exit when everything is delivered, non-zero if anything is not
    #[arg(long)]
    pub once: bool,
}

/// Arguments of `sandbox`.
#[derive(Args, Debug)]
pub struct SandboxArgs {
    /// Where the Events API is served
    #[arg(long, default_value = "127.0.0.1:8090", value_name = "ADDRESS")]
    pub listen: SocketAddr,
    /// Where journal, incidents and faults are reached
    #[arg(long, default_value = "127.0.0.1:8091", value_name = "ADDRESS")]
    pub control: SocketAddr,
    /// Accept what the real PagerDuty accepts beyond its documentation
    #[arg(long)]
    pub lax: bool,
    /// Events a minute and service key before it throttles
    #[arg(long, default_value_t = 120, value_name = "N")]
    pub rate: u32,
    /// Throttle with 429 instead of 403
    #[arg(long)]
    pub throttle_429: bool,
    /// Answer this status instead of taking events
    #[arg(long, value_name = "STATUS")]
    pub fail: Option<u16>,
    /// How many requests --fail is for [default: all]
    #[arg(long, value_name = "N", requires = "fail")]
    pub fail_first: Option<u64>,
    /// Take events with success and open nothing, as PagerDuty once did for an hour
    #[arg(long)]
    pub silent_drop: bool,
}

/// Arguments of `explain`.
#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// Payload files; `-` reads standard input
    #[arg(required = true, value_name = "FILE")]
    pub files: Vec<PathBuf>,
    /// Print only the events, as JSON, one a line
    #[arg(long)]
    pub json: bool,
    /// Show service keys whole instead of their last four characters
    #[arg(long)]
    pub show_keys: bool,
}

/// Arguments of `replay`.
#[derive(Args, Debug)]
pub struct ReplayArgs {
    /// Payload files, or folders of them: `.json` holds one payload, `.ndjson` one a line
    #[arg(required = true, value_name = "PATH")]
    pub paths: Vec<PathBuf>,
    /// The webhook to post to, such as `http://127.0.0.1:8080/sentry/TOKEN`
    #[arg(long, value_name = "URL", required_unless_present = "dry_run")]
    pub to: Option<Url>,
    /// Post at most so many, such as `10/s` or `120/m`
    #[arg(long, value_name = "N/s")]
    pub rate: Option<Rate>,
    /// Post everything so many times
    #[arg(long, default_value_t = 1, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub repeat: u32,
    /// Only say what would be posted
    #[arg(long)]
    pub dry_run: bool,
    /// Print the summary as JSON
    #[arg(long)]
    pub json: bool,
}

/// What can be done with the queue, while the bridge runs or not. Events are numbered like `7`, rejected webhooks like
/// `r7`.
#[derive(Debug, Subcommand)]
pub enum QueueCommand {
    /// List what waits, what is dead and what was rejected
    List(QueueListArgs),
    /// Show all about an event or a rejected webhook
    Show(QueueShowArgs),
    /// Send dead letters again, and map rejected webhooks anew
    Retry(QueueRetryArgs),
    /// Delete for ever
    Discard(QueueDiscardArgs),
    /// Write everything to a file, one JSON object a line, with service keys and bodies
    Export(QueueExportArgs),
}

/// Where something in the queue stands.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Standing {
    /// In line for PagerDuty
    Waiting,
    /// Given up: PagerDuty does not take it
    Dead,
    /// Webhooks that were answered 400 or 422
    Rejected,
    /// Taken by PagerDuty, and kept for a while
    Delivered,
}

/// Arguments of `queue list`.
#[derive(Args, Debug)]
pub struct QueueListArgs {
    /// Only these; several are separated by commas [default: dead,rejected,waiting]
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    pub states: Vec<Standing>,
    /// At most so many [default: all]
    #[arg(long, value_name = "N")]
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
    /// Show the service key whole instead of its last four characters
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
}

/// Arguments of `queue discard`.
#[derive(Args, Debug)]
pub struct QueueDiscardArgs {
    /// Events, such as `7`, and rejected webhooks, such as `r7`
    #[arg(value_name = "ID", required_unless_present = "all")]
    pub ids: Vec<ItemId>,
    /// All in these states
    #[arg(long, conflicts_with = "ids")]
    pub all: bool,
    /// What --all means; several are separated by commas [default: dead,rejected]
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',', requires = "all")]
    pub states: Vec<Standing>,
    /// Do not ask
    #[arg(long, short)]
    pub yes: bool,
}

/// Arguments of `queue export`.
#[derive(Args, Debug)]
pub struct QueueExportArgs {
    /// A new file, readable for its owner alone; `-` is standard output
    #[arg(value_name = "FILE")]
    pub to: PathBuf,
    /// Only these; several are separated by commas [default: dead,rejected,waiting]
    #[arg(long = "state", value_name = "STATE", value_delimiter = ',')]
    pub states: Vec<Standing>,
}

/// Arguments of `check`.
#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Open and resolve one real test incident
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
    /// What fires where Sentry has both [default: by its version]
    #[arg(long, value_name = "KIND")]
    pub alerts: Option<Decides>,
    /// Print a JSON object
    #[arg(long)]
    pub json: bool,
}

/// Arguments of `connect`.
#[derive(Args, Debug)]
pub struct ConnectArgs {
    /// Where Sentry reaches the bridge, such as `https://bridge.example.com`
    #[arg(long, value_name = "URL")]
    pub bridge: Url,
    /// Only these projects, by slug [default: all]
    #[arg(long = "project", value_name = "SLUG")]
    pub projects: Vec<String>,
    /// By what Sentry calls [default: an integration where this Sentry has some]
    #[arg(long, value_name = "WAY")]
    pub by: Option<By>,
    /// Let this alert call the bridge too, in place of one of the bridge's own
    #[arg(long = "rule", value_name = "NAME")]
    pub rules: Vec<String>,
    /// A new file for the integration's Client Secret, readable for its owner alone [default: print it once]
    #[arg(long, value_name = "FILE")]
    pub secret_file: Option<PathBuf>,
    /// Do it
    #[arg(long, short)]
    pub yes: bool,
    /// Take back what was made before
    #[arg(long, conflicts_with = "secret_file")]
    pub undo: bool,
    /// Send no test webhook at the end, which opens a test incident
    #[arg(long)]
    pub no_test: bool,
    /// What fires where Sentry has both [default: by its version]
    #[arg(long, value_name = "KIND")]
    pub alerts: Option<Decides>,
}

/// By what Sentry calls the bridge.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum By {
    /// An internal integration, which also tells of resolved issues
    Integration,
    /// The legacy WebHooks of each project
    Legacy,
}

/// What decides whom Sentry notifies.
#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
pub enum Decides {
    /// Alert rules of each project, up to about 2025
    Rules,
    /// Workflows, on sentry.io and on self-hosted Sentrys from 26.7 on
    Workflows,
}

fn after_help() -> String {
    format!("{}\nExit codes: 0 done, 1 something failed, 2 wrong usage or settings.\n", crate::config::help())
}
