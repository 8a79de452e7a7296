//! A bridge from Sentry to PagerDuty: it receives Sentry's webhooks, commits each alert to a durable queue before it answers,
//! and delivers it to PagerDuty's Events API v1 or v2.
//!
//! # The path of an alert
//!
//! ```text
//!  Sentry ──POST──▶ web ──▶ ingest ─┬─ sentry      bytes → Alert
//!                           │       ├─ routing     Alert → service key
//!                           │       └─ pagerduty   Alert → Event
//!                           ▼
//!         202 ◀── committed ◀── queue ──▶ delivery ──▶ awc ──▶ PagerDuty
//! ```
//!
//! Data flows in one direction. Decisions are pure functions: [`ingest`] takes headers, a body and a time and returns what
//! has to be done with a webhook; [`delivery::scheduler`] takes times, randomness and PagerDuty's answers and returns the
//! next step; [`monitor::checks`] takes a snapshot and returns what is wrong. I/O is at the edges: [`web`] reads
//! requests, [`queue`] commits, the worker of [`delivery`] sends.
//!
//! # A tour
//!
//! Five files in this order show the whole program: [`bridge`] puts the parts together and runs them; `web::webhook`
//! answers one webhook; [`ingest`] decides what it means; `queue::decide` decides what is enqueued, folded or ignored;
//! [`delivery::worker`] carries out what [`delivery::scheduler`] decides.
//!
//! # Modules
//!
//! What comes in:
//!
//! - [`web`]: the HTTP endpoints and who may use them. Webhooks, health, metrics, the status page and `/api`.
//! - [`envelope`]: what [`ingest`] asks [`queue`] to do.
//! - [`ingest`]: from a request to a decision: enqueue an event, ignore the webhook or reject it. `explain` and a retried
//!   rejected webhook call the same function.
//! - [`sentry`]: the bodies and signatures of Sentry's webhooks, of the legacy plugin and of the integration platform.
//!   Parsing is lenient, because an alert with an odd field must still page.
//! - [`alert`]: what Sentry said, whichever webhook it came by. It is the result of [`sentry`] and the input of all that
//!   follows.
//! - [`redaction`]: the fields that `BRIDGE_REDACT` names. They are removed before anything is stored or sent.
//! - [`routing`]: which service key an alert goes to. The syntax is that of Sentry's own PagerDuty plugin.
//!
//! What goes out:
//!
//! - [`pagerduty`]: events that are valid by construction, the client that sends them, and what its answers mean.
//!   Incident keys are always strings.
//! - [`queue`]: the durable queue in SQLite or PostgreSQL, with one commit for many alerts. It folds alerts into
//!   waiting triggers, knows which incidents are open, and keeps dead letters and rejected webhooks.
//! - [`delivery`]: what to send next, and when. One incident stays in order, each service key has a rate limiter and a
//!   backoff of its own, and an event that always fails becomes a dead letter.
//! - [`cluster`]: several bridges on one queue, and which of them delivers for which service key. A bridge alone may do
//!   everything.
//!
//! What watches it:
//!
//! - [`metrics`]: what happened, counted. Every module may hold a handle.
//! - [`monitor`]: whether the bridge is healthy, from a snapshot of queue, deliveries and metrics. It raises the bridge's own
//!   alarms.
//! - [`proof`]: whether PagerDuty's REST API shows what was delivered.
//! - [`canary`]: an event that the bridge sends through Sentry from time to time, to see that its webhook comes back.
//! - [`supervision`]: background tasks. When one ends, the process ends.
//! - [`logging`]: log lines, limited where a cause repeats. Log output that is not read blocks nothing.
//!
//! What people use:
//!
//! - [`cli`] and [`commands`]: the commands of the program, one file each. [`exit_code`] has the codes they end with.
//! - [`config`]: the `BRIDGE_*` settings. Each is declared once and parsed into a type that cannot hold a wrong value.
//! - [`queue::admin`]: retry and discard, for commands, the page and `/api`. [`queue::json`] is how all three show events and
//!   rejected webhooks.
//! - [`sentry_api`]: Sentry's own API, for `connect`, the audit, [`catch_up`] (alerts whose webhooks never came) and
//!   [`issue_status`] (resolves that never came). The path of an alert does not depend on it.
//! - [`pagerduty_rest`]: PagerDuty's REST API, for [`proof`], `check` and `connect pagerduty`. No event depends on it.
//! - [`two_way`]: what people resolve or reopen in PagerDuty, done in Sentry as well.
//! - `reload`: secrets that change while the bridge runs, and the webhooks that were held until then.
//! - [`bridge`]: the running application. [`descriptors`] raises the limit of open files for it.
//! - `http_client`: one HTTP request to another service, within a time limit and without redirects. [`tls`]: which certificate
//!   authorities the clients trust.
//! - [`backoff`]: how long to pause after failures in a row.
//! - [`printable`]: escapes control characters in untrusted text. Terminals and logs only get what it returns.
//! - [`build_info`]: the version and commit of this build.
//!
//! The strict local PagerDuty for rehearsals and tests is a crate of its own, [`pagerduty_sandbox`]. It shares no code with
//! [`pagerduty`], so that each checks the other.
//!
//! `docs/architecture.md` has a glossary, and lists the files to touch for common changes.

pub mod alert;
pub mod backoff;
pub mod bridge;
pub mod build_info;
pub mod canary;
pub mod catch_up;
pub mod cli;
pub mod cluster;
pub mod commands;
pub mod config;
pub mod delivery;
pub mod descriptors;
pub mod envelope;
pub mod exit_code;
mod http_client;
pub mod ingest;
pub mod issue_status;
pub mod logging;
pub mod metrics;
pub mod monitor;
pub mod pagerduty;
pub mod pagerduty_rest;
pub mod printable;
pub mod proof;
pub mod queue;
pub mod redaction;
mod reload;
pub mod routing;
pub mod sentry;
pub mod sentry_api;
pub mod supervision;
pub mod tls;
pub mod two_way;
pub mod web;
