//! `BRIDGE_*` variables, read once at start and checked into types.
//!
//! Whoever holds a [`Settings`] need not check anything again.
//!
//! - `source`: environment, `.env` and the files that `BRIDGE_X_FILE` name, as one text a setting
//! - `dotenv`: the file `.env`, with errors that repeat no value
//! - `raw`: those texts sorted into fields by `envy`
//! - `check`: the fields as [`Settings`], or every problem at once
//! - `token`, `client_secret`, `admin_token`: the secrets; `pagerduty_url`, `database`: the addresses; `values`: the rest
//! - `error`: what may be wrong, as sentences
//! - `fingerprint`: a short mark of all of them together
//! - `table`: names, defaults and meanings, the source of `--help` and `.env.example`

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::alert::{Level, Opening};
use crate::pagerduty::ServiceKey;
use crate::redaction::Redaction;
use crate::routing::Routes;

mod admin_token;
mod check;
mod client_secret;
mod database;
mod dotenv;
mod error;
mod fingerprint;
mod pagerduty_url;
mod raw;
mod source;
mod table;
mod token;
mod values;

pub use admin_token::{AdminToken, AdminTokenError};
pub use client_secret::{ClientSecret, ClientSecretError};
pub use database::{DatabaseUrl, DatabaseUrlError};
pub use error::{Fault, Problem, SettingsError};
pub use fingerprint::Fingerprint;
pub use pagerduty_url::PagerDutyUrlError;
pub use source::Source;
pub use table::{SETTINGS, SettingDoc, help};
pub use token::{WebhookToken, WebhookTokenError};
pub use values::ValueError;

/// Everything the bridge can be told, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where alerts go: the default integration key and the routes before it.
    pub routes: Routes,
    /// How PagerDuty is reached.
    pub pagerduty: PagerDutySettings,
    /// Secrets any of which opens the webhook; empty only where there are client secrets.
    pub webhook_tokens: Vec<WebhookToken>,
    /// Secrets any of which may have signed a webhook of the integration platform; empty where none is checked.
    pub client_secrets: Vec<ClientSecret>,
    /// Secrets any of which opens the status page and `/api`; empty where there are none of either.
    pub admin_tokens: Vec<AdminToken>,
    /// Where the webhook is served.
    pub listen: SocketAddr,
    /// Where alerts wait.
    pub database: DatabaseUrl,
    /// What is written before the id in an incident key; at most 100 characters.
    pub incident_key_prefix: String,
    /// Alerts below it are answered `ignored`.
    pub min_level: Option<Level>,
    /// For how long delivered events are kept; ten minutes or more.
    pub keep_delivered: Duration,
    /// What opens incidents.
    pub page_on: Vec<Opening>,
    /// Which incidents Sentry's resolved webhooks close.
    pub resolve: ResolveScope,
    /// Whether an issue that was assigned to somebody acknowledges its incident.
    pub acknowledge: bool,
    /// What of an alert is never kept nor sent.
    pub redaction: Redaction,
    /// The largest webhook body that is read, in bytes.
    pub max_body: usize,
    /// How long webhooks are still served after a signal, while `/readyz` is 503 already.
    pub shutdown_drain: Duration,
    /// How long requests and deliveries in flight may take after that.
    pub shutdown_grace: Duration,
    /// How log lines are written.
    pub log_format: LogFormat,
    /// What the bridge pages for on its own account, and where.
    pub alarms: AlarmSettings,
    /// What is logged: `RUST_LOG`, in the syntax of `env_logger`, from the environment or from `.env`.
    pub log_filter: String,
}

/// Which incidents are resolved by `issue.resolved` and `metric_alert.resolved`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResolveScope {
    /// Those the bridge opened, at every integration where it opened them.
    Opened,
    /// Those, and at the default integration also ones the bridge knows nothing of.
    All,
    /// None.
    Off,
}

/// How log lines are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// Lines for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What the bridge pages for on its own account, and where.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AlarmSettings {
    /// Whether anybody is paged for troubles of the bridge itself.
    pub page: bool,
    /// For how long no webhook may come; `None`: nobody is told of silence.
    pub silence: Option<Duration>,
    /// For how long an event may wait.
    pub waiting: Duration,
    /// The integration that alarms go to.
    pub service_key: ServiceKey,
}

/// How PagerDuty is reached.
#[derive(Clone, Debug)]
pub struct PagerDutySettings {
    /// The root, such as `https://events.pagerduty.com`; the path of the Events API v1 is added to it.
    pub url: Url,
    /// The time one attempt may take, from connecting to the last byte of the answer.
    pub timeout: Duration,
    /// How many events one integration key is sent in 60 seconds.
    pub rate: u32,
    /// A PEM file of certificate authorities trusted besides the usual ones.
    pub ca_file: Option<PathBuf>,
    /// For how long an event may be answered with trouble while others of its key pass, before it is a dead letter.
    pub give_up_after: Duration,
}
