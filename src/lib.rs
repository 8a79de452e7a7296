//! Takes Sentry's webhooks, queues each alert on disk and delivers it to PagerDuty's Events API v1.
//!
//! # The way an alert takes
//!
//! ```text
//!  Sentry ──POST──▶ web ──▶ ingest ─┬─ sentry      bytes → Alert
//!                           │       ├─ routing     Alert → service key
//!                           │       └─ pagerduty   Alert → Event
//!                           ▼
//!         202 ◀── committed ◀── queue ──▶ delivery ──▶ awc ──▶ PagerDuty
//! ```
//!
//! One direction, no way back. What stands inside [`ingest`] is pure: bytes, headers and a time go in, a verdict comes
//! out. So is [`delivery::schedule`]: time, randomness and PagerDuty's answers are its arguments.
//!
//! # Where things are
//!
//! - [`config`]: `BRIDGE_*` variables into checked types
//! - [`bridge`]: the running application, built from its configuration and a listener
//! - [`web`]: one file per endpoint
//! - [`ingest`]: the pure way from a request to a verdict
//! - [`sentry`], [`alert`], [`routing`], [`pagerduty`]: the steps of that way
//! - [`redaction`]: what of an alert is never kept nor sent
//! - [`queue`]: the durable queue
//! - [`delivery`]: what to send next and when, and the worker that does it
//! - [`row`]: what is told about an event or a rejected webhook, as JSON
//! - [`metrics`]: what happened, counted; every room may touch it
//! - [`monitor`]: whether the bridge is well
//! - [`supervision`]: background tasks, none of which may end; [`descriptors`]: how many files may be open
//! - [`logging`]: log lines, fewer where a cause repeats
//! - [`printable`]: texts of others, made safe for terminals and logs
//! - [`about`]: which version this is
//! - [`cli`] and [`commands`]: the verbs of the program; [`exit`]: how they end
//!
//! The strict local PagerDuty for rehearsals and tests is a crate of its own, [`pagerduty_sandbox`]: it cannot use what
//! stands here, so that each checks the other.

pub mod about;
pub mod alert;
pub mod bridge;
pub mod cli;
pub mod commands;
pub mod config;
pub mod delivery;
pub mod descriptors;
pub mod exit;
pub mod ingest;
pub mod logging;
pub mod metrics;
pub mod monitor;
pub mod pagerduty;
pub mod printable;
pub mod queue;
pub mod redaction;
pub mod routing;
pub mod row;
pub mod sentry;
pub mod supervision;
pub mod web;
