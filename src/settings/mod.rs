//! `BRIDGE_*` variables, read once at start and checked into types.
//!
//! Whoever holds a [`Settings`] need not check anything again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use url::Url;

use crate::alert::Level;
use crate::routing::Routes;

/// Everything the bridge can be told, checked.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where alerts go: the default integration key and the routes before it.
    pub routes: Routes,
    /// How PagerDuty is reached.
    pub pagerduty: PagerDutySettings,
    /// Secrets any of which opens the webhook; never empty.
    pub webhook_tokens: Vec<WebhookToken>,
    /// Where the webhook is served.
    pub listen: SocketAddr,
    /// Where alerts wait.
    pub database: DatabaseUrl,
    /// What is written before the id in an incident key; at most 100 characters.
    pub incident_key_prefix: String,
    /// Alerts below it are answered `ignored`.
    pub min_level: Option<Level>,
    /// The largest webhook body that is read, in bytes.
    pub max_body: usize,
    /// How long webhooks are still served after a signal, while `/readyz` is 503 already.
    pub shutdown_drain: Duration,
    /// How long requests and deliveries in flight may take after that.
    pub shutdown_grace: Duration,
    /// How log lines are written.
    pub log_format: LogFormat,
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
