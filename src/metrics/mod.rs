//! What happened, counted: the handle that every room may touch, and the answers of `/metrics` and the charts.
//!
//! - [`labels`]: where a webhook came from and what it was answered
//! - `counters`: what Prometheus counts, from zero with every start
//! - [`gauge`]: what is measured at the moment of a scrape, and the text format
//! - [`activity`]: the last 24 hours in steps
//! - [`memory`]: what is remembered over a restart

pub mod activity;
mod counters;
pub mod gauge;
pub mod labels;
pub mod memory;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

pub use activity::{Activity, Bucket, Happening};
pub use gauge::Gauge;
pub use labels::{Answered, Source};
pub use memory::Memory;

use crate::pagerduty::OutcomeKind;
use crate::pagerduty::{EventType, ServiceKey};
use counters::Counters;

/// A handle on the counters of one bridge; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    counters: Counters,
    notes: Mutex<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    activity: Activity,
    last_webhook_at: Option<DateTime<Utc>>,
    /// The same by the monotonic clock, if it was in this run.
    last_webhook: Option<Instant>,
    last_delivered_at: Option<DateTime<Utc>>,
    /// The same for each service key.
    delivered: BTreeMap<ServiceKey, DateTime<Utc>>,
    /// Those of them that changed since all was kept.
    unkept_keys: BTreeSet<ServiceKey>,
    untrusted: Option<String>,
    wrong_signatures: WrongSignatures,
    /// The oldest step that changed since all was kept.
    unkept_from: Option<DateTime<Utc>>,
}

/// Webhooks in a row that had a wrong signature.
#[derive(Debug, Default)]
struct WrongSignatures {
    number: u32,
    /// When the first and the last of them came.
    span: Option<(Instant, Instant)>,
    senders: Senders,
}

/// The addresses that connections came from: what a peer says of others in its headers is not asked.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Senders {
    /// The first few, each once.
    pub first: Vec<IpAddr>,
    /// Whether there were more.
    pub more: bool,
}

impl Senders {
    /// How many are told one by one.
    const MOST: usize = 5;

    fn add(&mut self, address: IpAddr) {
        if self.first.contains(&address) {
            return;
        }
        if self.first.len() < Self::MOST {
            self.first.push(address);
        } else {
            self.more = true;
        }
    }
}

/// What the metrics know beyond counters.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// When a webhook that proved where it comes from was received last, also in an earlier run.
    pub last_webhook_at: Option<DateTime<Utc>>,
    /// How long ago that was by a clock that is never set, if it was in this run.
    pub since_webhook: Option<Duration>,
    /// When PagerDuty took an event last, also in an earlier run.
    pub last_delivered_at: Option<DateTime<Utc>>,
    /// The same for each service key.
    pub delivered: BTreeMap<ServiceKey, DateTime<Utc>>,
    /// How many webhooks in a row had a wrong signature.
    ///
    /// Only a signature that was compared with its body counts, a missing one or a wrong token does not; and only a
    /// webhook of the integration platform that came in ends the row, for the legacy plugin's are not signed.
    pub wrong_signatures: u32,
    /// How long after the first of them the last one came, by a clock that is never set.
    pub wrong_signatures_for: Duration,
    /// Where they came from.
    pub wrong_signatures_from: Senders,
    /// The last 24 hours.
    pub activity: Vec<Bucket>,
}

impl Metrics {
    /// Counters that start at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A webhook that came at `at` was answered.
    pub fn webhook(&self, source: Source, answered: Answered, at: DateTime<Utc>) {
        self.0.counters.webhooks.with_label_values(&[source.name(), answered.name()]).inc();
        let mut notes = self.notes();
        if answered == Answered::WrongSignature {
            let (wrong, now) = (&mut notes.wrong_signatures, Instant::now());
            wrong.number = wrong.number.saturating_add(1);
            wrong.span = Some((wrong.span.map_or(now, |(first, _)| first), now));
        }
        if answered.is_proven(source) {
            if source == Source::Platform {
                notes.wrong_signatures = WrongSignatures::default();
            }
            // The newest, not the greatest: the clock may have been set back.
            notes.last_webhook_at = Some(at);
            notes.last_webhook = Some(Instant::now());
            notes.note(Happening::Received, at);
        }
    }

    /// A webhook with a wrong signature came by a connection from `address`.
    pub fn wrong_signature_from(&self, address: IpAddr) {
        self.notes().wrong_signatures.senders.add(address);
    }

    /// The bodies of so many rejected webhooks were kept.
    pub fn rejected_kept(&self, webhooks: u64) {
        self.0.counters.rejected_kept.inc_by(webhooks);
    }

    /// An event was committed to the end of its line.
    pub fn queued(&self, event_type: EventType) {
        self.0.counters.queued.with_label_values(&[event_type.as_str()]).inc();
    }

    /// So many alerts were folded into events that wait.
    pub fn folded(&self, alerts: u64) {
        self.0.counters.folded.inc_by(alerts);
    }

    /// A commit took so long.
    pub fn committed(&self, took: Duration) {
        self.0.counters.commit_seconds.observe(took.as_secs_f64());
    }

    /// A commit failed.
    pub fn commit_failed(&self) {
        self.0.counters.commits_failed.inc();
    }

    /// An attempt to deliver an event for `key`, whose newest alert came at `received_at`, ended at `at`.
    pub fn attempted(&self, key: &ServiceKey, kind: OutcomeKind, received_at: DateTime<Utc>, at: DateTime<Utc>) {
        self.0.counters.attempts.with_label_values(&[kind.name()]).inc();
        let mut notes = self.notes();
        if kind == OutcomeKind::Delivered {
            self.0.counters.delivered.inc();
            // A clock that was set back makes it immediate.
            let latency = (at - received_at).max(TimeDelta::zero());
            self.0.counters.latency_seconds.observe(latency.as_seconds_f64());
            notes.last_delivered_at = notes.last_delivered_at.max(Some(at));
            notes.delivered.insert(key.clone(), at);
            notes.unkept_keys.insert(key.clone());
        }
        let happening = match kind {
            OutcomeKind::Delivered => Happening::Delivered,
            OutcomeKind::Throttled => Happening::Throttled,
            _ => Happening::Failed,
        };
        notes.note(happening, at);
    }

    /// Why PagerDuty cannot be trusted now; `None` when it can be, as far as is known.
    pub fn untrusted(&self, reason: Option<String>) {
        self.notes().untrusted = reason;
    }

    /// An event became a dead letter.
    pub fn dead(&self) {
        self.0.counters.dead.inc();
    }

    /// What is known at `now`.
    #[must_use]
    pub fn snapshot(&self, now: DateTime<Utc>) -> Snapshot {
        let notes = self.notes();
        Snapshot {
            last_webhook_at: notes.last_webhook_at,
            since_webhook: notes.last_webhook.map(|last| last.elapsed()),
            last_delivered_at: notes.last_delivered_at,
            delivered: notes.delivered.clone(),
            wrong_signatures: notes.wrong_signatures.number,
            wrong_signatures_for: notes.wrong_signatures.span.map_or(Duration::ZERO, |(first, last)| last - first),
            wrong_signatures_from: notes.wrong_signatures.senders.clone(),
            activity: notes.activity.last_day(now),
        }
    }

    /// All counters, and `gauges`, in Prometheus' text format, for [`gauge::CONTENT_TYPE`].
    #[must_use]
    pub fn text(&self, gauges: Vec<Gauge>) -> String {
        gauge::text(self.0.counters.gather(), gauges)
    }

    /// Takes in what an earlier run remembered; what lies after `now`, as after the clock was set back, is left out.
    pub fn recall(&self, memory: Memory, now: DateTime<Utc>) {
        let mut notes = self.notes();
        let past = |at: &DateTime<Utc>| *at <= now;
        notes.last_webhook_at = notes.last_webhook_at.max(memory.last_webhook_at.filter(past));
        notes.last_delivered_at = notes.last_delivered_at.max(memory.last_delivered_at.filter(past));
        for (key, at) in memory.delivered {
            notes.delivered.entry(key).or_insert(at.min(now));
        }
        notes.untrusted = memory.untrusted;
        notes.activity.recall(memory.buckets.into_iter().filter(|bucket| past(&bucket.from)));
    }

    /// What has changed since this was asked last and has to be kept; `None` when nothing has.
    #[must_use]
    pub fn take_unkept(&self) -> Option<Memory> {
        let mut notes = self.notes();
        let from = notes.unkept_from.take()?;
        Some(Memory {
            last_webhook_at: notes.last_webhook_at,
            last_delivered_at: notes.last_delivered_at,
            delivered: std::mem::take(&mut notes.unkept_keys)
                .into_iter()
                .filter_map(|key| notes.delivered.get(&key).copied().map(|at| (key, at)))
                .collect(),
            untrusted: notes.untrusted.clone(),
            buckets: notes.activity.since(from),
        })
    }

    /// What was [taken](Self::take_unkept) could not be kept, and has to be taken again.
    pub fn not_kept(&self, memory: &Memory) {
        let mut notes = self.notes();
        notes.unkept_keys.extend(memory.delivered.keys().cloned());
        if let Some(first) = memory.buckets.first() {
            notes.unkept_since(first.from);
        }
    }

    fn notes(&self) -> MutexGuard<'_, Notes> {
        self.0.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Notes {
    fn note(&mut self, happening: Happening, at: DateTime<Utc>) {
        let from = self.activity.note(happening, at);
        self.unkept_since(from);
    }

    fn unkept_since(&mut self, from: DateTime<Utc>) {
        self.unkept_from = Some(self.unkept_from.map_or(from, |unkept| unkept.min(from)));
    }
}
