//! The metrics of the bridge. [`Metrics`] is a handle that every module may hold; `/metrics`, the status page and the
//! monitor read it through [`MetricsSnapshot`].
//!
//! - [`labels`]: where a webhook came from and how it was answered
//! - [`counters`]: what Prometheus scrapes, and the text format
//! - [`activity`]: the last 24 hours in steps
//! - [`signatures`]: webhooks with a wrong signature
//! - [`failing`]: the service keys for which attempts fail at present

pub mod activity;
pub mod counters;
pub mod failing;
pub mod labels;
pub mod signatures;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use prometheus::proto::MetricFamily;
use tokio::sync::Notify;

pub use activity::{ActivityKind, Bucket, DailyActivity};
pub use counters::{CONTENT_TYPE, Gauge};
pub use failing::Failing;
pub use labels::{HeldOutcome, IssueCheck, PagerDutyAnswer, UpdateOutcome, WebhookAnswer, WebhookSource};
pub use signatures::{Senders, SignatureRow};

use crate::pagerduty::{EventType, OutcomeKind, ProofState, ServiceKey};
use counters::Counters;
use failing::FailingKeys;
use labels::label;
use signatures::WrongSignatures;

/// A handle on the metrics of one bridge; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Metrics {
    counters: Arc<Counters>,
    state: Arc<Mutex<MetricsState>>,
    needs_saving: Arc<Notify>,
}

/// What the metrics hold besides the counters.
#[derive(Debug, Default)]
struct MetricsState {
    activity: DailyActivity,
    last_webhook_at: Option<DateTime<Utc>>,
    /// The same time by the monotonic clock, if the webhook came in this run.
    last_webhook: Option<Instant>,
    last_delivered_at: Option<DateTime<Utc>>,
    delivered: BTreeMap<ServiceKey, DateTime<Utc>>,
    /// The keys of `delivered` that changed since the last save.
    unsaved_keys: BTreeSet<ServiceKey>,
    failing: FailingKeys,
    untrusted: Option<String>,
    wrong_signatures: WrongSignatures,
    is_verified: bool,
    unusable_secrets: Option<String>,
    /// Counts added to `activity` since the last save.
    unsaved: DailyActivity,
    /// The number of saves that began or ended: odd during one.
    saves: u64,
}

/// The metrics of one moment: the counters and the other fields are consistent.
#[derive(Clone, Debug, Default)]
pub struct MetricsSnapshot {
    /// When the last authenticated webhook was received, in this run or an earlier one. Webhooks of canaries do not count.
    pub last_webhook_at: Option<DateTime<Utc>>,
    /// How long ago that was by the monotonic clock; `None` if not in this run.
    pub since_webhook: Option<Duration>,
    /// When PagerDuty accepted the last event, in this run or an earlier one.
    pub last_delivered_at: Option<DateTime<Utc>>,
    /// The same for each service key.
    pub delivered: BTreeMap<ServiceKey, DateTime<Utc>>,
    /// The service keys for which PagerDuty accepts no events at present, including those that have failed since an
    /// earlier run.
    pub failing: BTreeMap<ServiceKey, Failing>,
    /// The number of consecutive webhooks that had a wrong signature, at whichever bridge that shares the queue they came.
    ///
    /// A missing or malformed signature and a wrong token do not count. Only an authenticated webhook of the integration
    /// platform resets the number, because webhooks of the legacy plugin are not signed.
    pub wrong_signatures: u32,
    /// When the first of them came.
    pub wrong_signatures_since: Option<DateTime<Utc>>,
    /// The time between the first and the last of them, by the monotonic clock.
    pub wrong_signatures_for: Duration,
    /// How long the longest series of wrong signatures lasted that ended with a correct signature within the last 24
    /// hours. The correct one shows that the secret was right, and that the wrong ones came from a stranger. Zero if there
    /// was none.
    pub disproved_for: Duration,
    /// Where the wrong signatures came from.
    pub wrong_signatures_from: Senders,
    /// Whether the signature of a webhook was verified in this run, on receipt or later, at whichever bridge.
    pub is_verified: bool,
    /// Why files of secrets could not be used when they were read again.
    pub unusable_secrets: Option<String>,
    /// The last 24 hours.
    pub activity: Vec<Bucket>,
    /// The part of the activity that this bridge counted and that is not stored yet.
    pub unsaved: Vec<Bucket>,
    /// The counters and histograms.
    pub counters: Vec<MetricFamily>,
}

impl MetricsSnapshot {
    /// Includes what all bridges that share the queue have stored: the last day, the last webhook, the last deliveries and
    /// the failing keys.
    pub fn include(&mut self, stored: &PersistedMetrics, now: DateTime<Utc>) {
        let mut all = DailyActivity::default();
        all.add(stored.buckets.iter().chain(&self.unsaved).copied());
        self.activity = all.last_day(now);
        // What is stored by this bridge itself is not newer than what it knows.
        if stored.last_webhook_at > self.last_webhook_at {
            (self.last_webhook_at, self.since_webhook) = (stored.last_webhook_at, None);
        }
        self.last_delivered_at = self.last_delivered_at.max(stored.last_delivered_at);
        for (key, at) in &stored.delivered {
            let latest = self.delivered.entry(key.clone()).or_insert(*at);
            *latest = (*latest).max(*at);
        }
        failing::include(&mut self.failing, &stored.failing, &self.delivered);
    }

    /// The counters and `gauges` in Prometheus' text format, to be sent as [`CONTENT_TYPE`].
    #[must_use]
    pub fn into_text(self, gauges: Vec<Gauge>) -> String {
        counters::text(self.counters, gauges)
    }
}

/// The metrics that are stored, so that they are there after a restart: without them, a bridge that restarts every hour
/// would never notice that no webhooks come.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct PersistedMetrics {
    /// When the last authenticated webhook was received; when written, `None` if none came since the last save.
    pub last_webhook_at: Option<DateTime<Utc>>,
    /// When PagerDuty accepted the last event; when written, `None` if it accepted none since the last save.
    pub last_delivered_at: Option<DateTime<Utc>>,
    /// When PagerDuty accepted the last event of each service key: all keys when read, only those that changed when
    /// written.
    pub delivered: BTreeMap<ServiceKey, DateTime<Utc>>,
    /// How attempts fail, for each service key where they do: all such keys when read; only those that changed when
    /// written, with `None` for keys that no longer fail.
    pub failing: BTreeMap<ServiceKey, Option<Failing>>,
    /// The TLS error because of which PagerDuty's certificate is not trusted; `None` while it is trusted.
    pub untrusted: Option<String>,
    /// The consecutive wrong signatures: those of all bridges when read, what changed when written; `None` if there is
    /// nothing.
    pub wrong_signatures: Option<SignatureRow>,
    /// Steps of the last 24 hours, oldest first: the counts of all runs and bridges when read, the counts to add when
    /// written.
    pub buckets: Vec<Bucket>,
}

impl Metrics {
    /// Creates metrics whose counters start at zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Counts a webhook that was received at `at` and has been answered.
    pub fn count_webhook(&self, source: WebhookSource, answered: WebhookAnswer, at: DateTime<Utc>) {
        let mut state = self.state();
        self.counters.webhooks.with_label_values(&[label(source), label(answered)]).inc();
        if answered == WebhookAnswer::WrongSignature && state.wrong_signatures.add(at) {
            self.needs_saving.notify_one();
        }
        if answered.is_authenticated(source) {
            if source == WebhookSource::Platform {
                if state.wrong_signatures.disprove(at) {
                    self.needs_saving.notify_one();
                }
                state.is_verified = true;
            }
            // What the bridge sends itself says nothing about how quiet Sentry's other alerts are.
            if answered != WebhookAnswer::Canary {
                // The newest, not the greatest: the clock may have been set back.
                state.last_webhook_at = Some(at);
                state.last_webhook = Some(Instant::now());
                state.record(ActivityKind::Received, at);
            }
        }
    }

    /// Records that a webhook with a wrong signature came over a connection from `address`.
    pub fn record_wrong_signature_sender(&self, address: IpAddr) {
        self.state().wrong_signatures.add_sender(address);
    }

    /// Counts webhooks with a wrong signature, by what became of them.
    pub fn count_held(&self, outcome: HeldOutcome, webhooks: u64) {
        self.counters.held.with_label_values(&[label(outcome)]).inc_by(webhooks);
    }

    /// Records that a secret has verified at `at` webhooks that had a wrong signature when they came. This ends the series
    /// of wrong signatures.
    pub fn record_verification(&self, at: DateTime<Utc>) {
        let mut state = self.state();
        state.wrong_signatures.end(at);
        state.is_verified = true;
        self.needs_saving.notify_one();
    }

    /// Sets why files of secrets could not be used when they were read again; `None` if they could.
    pub fn set_unusable_secrets(&self, reason: Option<String>) {
        self.state().unusable_secrets = reason;
    }

    /// Counts a webhook of PagerDuty that was answered.
    pub fn count_pagerduty_webhook(&self, answered: PagerDutyAnswer) {
        self.counters.pagerduty_webhooks.with_label_values(&[label(answered)]).inc();
    }

    /// Counts an attempt to do in Sentry what a person did in PagerDuty.
    pub fn count_issue_update(&self, outcome: UpdateOutcome) {
        self.counters.issue_updates.with_label_values(&[label(outcome)]).inc();
    }

    /// Counts rejected webhooks whose bodies were stored.
    pub fn count_rejected_kept(&self, webhooks: u64) {
        self.counters.rejected_kept.inc_by(webhooks);
    }

    /// Counts an event that was enqueued.
    pub fn count_queued(&self, event_type: EventType) {
        self.counters.queued.with_label_values(&[event_type.as_str()]).inc();
    }

    /// Counts alerts that were folded into waiting events.
    pub fn count_folded(&self, alerts: u64) {
        self.counters.folded.inc_by(alerts);
    }

    /// Records how long a commit took.
    pub fn record_commit(&self, took: Duration) {
        self.counters.commit_seconds.observe(took.as_secs_f64());
    }

    /// Counts a commit that failed.
    pub fn count_failed_commit(&self) {
        self.counters.commits_failed.inc();
    }

    /// Counts an attempt to deliver an event for `key` that ended at `at`. The event's newest alert was received at
    /// `received_at`.
    pub fn count_attempt(&self, key: &ServiceKey, kind: OutcomeKind, received_at: DateTime<Utc>, at: DateTime<Utc>) {
        let mut state = self.state();
        self.counters.attempts.with_label_values(&[kind.name()]).inc();
        if state.failing.attempted(key, kind, at) {
            self.needs_saving.notify_one();
        }
        if kind == OutcomeKind::Delivered {
            self.counters.delivered.inc();
            // Negative where the clock was set back in between.
            let latency = (at - received_at).max(TimeDelta::zero());
            self.counters.latency_seconds.observe(latency.as_seconds_f64());
            // The newest, not the greatest: the clock may have been set back.
            state.last_delivered_at = Some(at);
            state.delivered.insert(key.clone(), at);
            state.unsaved_keys.insert(key.clone());
        } else if let Some(delivered) = state.delivered.get_mut(key) {
            // It is before this attempt. If its time is later, the clock was set back in between.
            *delivered = (*delivered).min(at);
        }
        let counted = match kind {
            OutcomeKind::Delivered => ActivityKind::Delivered,
            OutcomeKind::Throttled => ActivityKind::Throttled,
            _ => ActivityKind::Failed,
        };
        state.record(counted, at);
    }

    /// Waits until something happens that should be saved soon: attempts for a service key begin to fail, fail in another
    /// way, or succeed again; or a series of wrong signatures begins or ends.
    pub async fn needs_saving(&self) {
        self.needs_saving.notified().await;
    }

    /// Records that this bridge delivers for `key` from now on. How its own attempts failed before does not count, because
    /// another bridge may have delivered since; the next attempt shows whether they still fail.
    pub fn record_takeover(&self, key: &ServiceKey) {
        self.state().failing.forget(key);
    }

    /// How attempts for a service key fail, if they do.
    #[must_use]
    pub fn failing(&self, key: &ServiceKey) -> Option<Failing> {
        self.state().failing.of(key)
    }

    /// Sets why PagerDuty's certificate is not trusted; `None` if it is, as far as is known.
    pub fn set_untrusted(&self, reason: Option<String>) {
        self.state().untrusted = reason;
    }

    /// Counts a canary that was sent to Sentry; `taken`: whether Sentry accepted it.
    pub fn count_canary(&self, taken: bool) {
        self.counters.canaries_sent.with_label_values(&[if taken { "yes" } else { "no" }]).inc();
    }

    /// Records how long it took until a canary came back.
    pub fn record_canary_return(&self, took: Duration) {
        self.counters.canary_seconds.observe(took.as_secs_f64());
    }

    /// Counts an event that became a dead letter.
    pub fn count_dead(&self) {
        self.counters.dead.inc();
    }

    /// Counts a run of catch-up that ended, complete or not.
    pub fn count_catch_up_run(&self, is_complete: bool) {
        let outcome = if is_complete { "complete" } else { "failed" };
        self.counters.catch_up_runs.with_label_values(&[outcome]).inc();
    }

    /// Counts the missing alerts that a complete run of catch-up enqueued, only reported, or summarized in one event.
    pub fn count_caught_up(&self, enqueued: u64, reported: u64, summarized: u64) {
        for (outcome, alerts) in [("enqueued", enqueued), ("reported", reported), ("summarized", summarized)] {
            self.counters.caught_up.with_label_values(&[outcome]).inc_by(alerts);
        }
    }

    /// Counts that Sentry was asked about the issue of an open incident, by the result.
    pub fn count_issue_check(&self, check: IssueCheck) {
        self.counters.issue_checks.with_label_values(&[label(check)]).inc();
    }

    /// Counts a delivered event for which it is known what became of it in PagerDuty.
    pub fn count_proof(&self, state: ProofState) {
        self.counters.proofs.with_label_values(&[state.name()]).inc();
    }

    /// How long ago the last authenticated webhook of this run was received, by the monotonic clock.
    #[must_use]
    pub fn since_webhook(&self) -> Option<Duration> {
        self.state().last_webhook.map(|last| last.elapsed())
    }

    /// When the last authenticated webhook was received, in this run or an earlier one.
    #[must_use]
    pub fn last_webhook_at(&self) -> Option<DateTime<Utc>> {
        self.state().last_webhook_at
    }

    /// The metrics at `now`.
    #[must_use]
    pub fn snapshot(&self, now: DateTime<Utc>) -> MetricsSnapshot {
        // Under the lock that also guards the counters that have a field here, so that no update falls between counters
        // and fields.
        let state = self.state();
        let wrong = state.wrong_signatures.row(now);
        MetricsSnapshot {
            last_webhook_at: state.last_webhook_at,
            since_webhook: state.last_webhook.map(|last| last.elapsed()),
            last_delivered_at: state.last_delivered_at,
            delivered: state.delivered.clone(),
            failing: state.failing.get(),
            wrong_signatures: wrong.number,
            wrong_signatures_since: wrong.first_at,
            wrong_signatures_for: wrong.lasted,
            disproved_for: state.wrong_signatures.disproved_for(),
            wrong_signatures_from: wrong.senders,
            is_verified: state.is_verified,
            unusable_secrets: state.unusable_secrets.clone(),
            activity: state.activity.last_day(now),
            unsaved: state.unsaved.counted(),
            counters: self.counters.gather(),
        }
    }

    /// Restores what an earlier run stored. Times after `now`, such as after the clock was set back, are left out or become
    /// `now`.
    pub fn restore(&self, stored: PersistedMetrics, now: DateTime<Utc>) {
        let mut state = self.state();
        let past = |at: &DateTime<Utc>| *at <= now;
        state.last_webhook_at = state.last_webhook_at.max(stored.last_webhook_at.filter(past));
        state.last_delivered_at = state.last_delivered_at.max(stored.last_delivered_at.filter(past));
        for (key, at) in stored.delivered {
            state.delivered.entry(key).or_insert(at.min(now));
        }
        let MetricsState { failing, delivered, .. } = &mut *state;
        failing.restore(stored.failing, delivered, now);
        state.untrusted = stored.untrusted;
        state.wrong_signatures.restore(stored.wrong_signatures.unwrap_or_default(), now);
        state.activity.add(stored.buckets.into_iter().filter(|bucket| past(&bucket.from)));
    }

    /// The number of saves that began or ended so far, for [`Metrics::follow_signatures`].
    #[must_use]
    pub fn saves(&self) -> u64 {
        self.state().saves
    }

    /// Follows the wrong signatures that are stored for all bridges that share the queue; what happened here since the last
    /// save comes after that. `saves` is what [`Metrics::saves`] returned before `stored` was read: if a save was under way
    /// since, it is not known whether `stored` has it, so that nothing is changed.
    pub fn follow_signatures(&self, stored: Option<&SignatureRow>, saves: u64, now: DateTime<Utc>) {
        let mut state = self.state();
        if state.saves == saves && saves.is_multiple_of(2) {
            let stored = stored.cloned().unwrap_or_default();
            state.is_verified |= state.wrong_signatures.follow_stored(stored, now);
        }
    }

    /// Returns what has changed since the last call and has to be stored; `None` if nothing has. Has to be followed by
    /// [`Metrics::saved`] or [`Metrics::not_saved`].
    #[must_use]
    pub fn take_unsaved(&self) -> Option<PersistedMetrics> {
        let mut state = self.state();
        let wrong_signatures = state.wrong_signatures.take_unsaved();
        if state.unsaved.is_empty() && wrong_signatures.is_none() {
            return None;
        }
        state.saves += 1;
        let buckets = std::mem::take(&mut state.unsaved).counted();
        // Stored again without anything new, a time of a clock that was ahead would count as the time of the save.
        let is_new = |counted: fn(&Bucket) -> u64| buckets.iter().any(|bucket| counted(bucket) > 0);
        Some(PersistedMetrics {
            last_webhook_at: state.last_webhook_at.filter(|_| is_new(|bucket| bucket.received)),
            last_delivered_at: state.last_delivered_at.filter(|_| is_new(|bucket| bucket.delivered)),
            delivered: std::mem::take(&mut state.unsaved_keys)
                .into_iter()
                .filter_map(|key| state.delivered.get(&key).copied().map(|at| (key, at)))
                .collect(),
            failing: state.failing.take_unsaved(),
            untrusted: state.untrusted.clone(),
            wrong_signatures,
            buckets,
        })
    }

    /// Records that what [`Metrics::take_unsaved`] returned is stored.
    pub fn saved(&self) {
        self.state().saves += 1;
    }

    /// Takes back what [`Metrics::take_unsaved`] returned, because it could not be stored: the next call returns it again.
    pub fn not_saved(&self, unsaved: &PersistedMetrics) {
        let mut state = self.state();
        state.saves += 1;
        state.unsaved_keys.extend(unsaved.delivered.keys().cloned());
        state.unsaved.add(unsaved.buckets.iter().copied());
        state.failing.not_saved(&unsaved.failing);
        state.wrong_signatures.not_saved(unsaved.wrong_signatures.as_ref());
    }

    fn state(&self) -> MutexGuard<'_, MetricsState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl MetricsState {
    fn record(&mut self, kind: ActivityKind, at: DateTime<Utc>) {
        self.activity.record(kind, at);
        self.unsaved.record(kind, at);
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::*;

    #[test]
    fn a_snapshot_shows_counters_and_activity_of_the_same_moment() {
        let (metrics, now) = (Metrics::new(), Utc::now());
        let key = ServiceKey::parse("0123456789abcdef0123456789abWXYZ").unwrap();
        thread::scope(|scope| {
            let deliveries = scope.spawn(|| {
                for _ in 0..20_000 {
                    metrics.count_attempt(&key, OutcomeKind::Delivered, now, now);
                }
            });
            while !deliveries.is_finished() {
                let snapshot = metrics.snapshot(now);
                let charted: u64 = snapshot.activity.iter().map(|bucket| bucket.delivered).sum();
                let is_known = snapshot.last_delivered_at.is_some();
                let text = snapshot.into_text(Vec::new());
                let counted =
                    text.lines().find_map(|line| line.strip_prefix("bridge_events_delivered_total ")).unwrap();
                assert_eq!((counted, is_known), (charted.to_string().as_str(), charted > 0));
            }
        });
    }

    #[test]
    fn a_row_of_wrong_signatures_that_was_read_around_a_save_changes_nothing() {
        let (metrics, now) = (Metrics::new(), Utc::now());
        let wrong = || metrics.snapshot(now).wrong_signatures;
        metrics.count_webhook(WebhookSource::Unknown, WebhookAnswer::WrongSignature, now);
        let before = metrics.saves();
        metrics.follow_signatures(None, before, now);
        assert_eq!(wrong(), 1, "it is not saved yet");
        let row = metrics.take_unsaved().unwrap().wrong_signatures;
        metrics.follow_signatures(None, before, now);
        metrics.follow_signatures(row.as_ref(), metrics.saves(), now);
        metrics.saved();
        metrics.follow_signatures(None, before, now);
        assert_eq!(wrong(), 1, "whether what was read has it is not known");
        metrics.follow_signatures(row.as_ref(), metrics.saves(), now);
        assert_eq!(wrong(), 1);
        metrics.follow_signatures(None, metrics.saves(), now);
        assert_eq!((wrong(), metrics.snapshot(now).is_verified), (0, true));
    }

    #[test]
    fn the_last_delivery_is_the_newest_also_after_the_clock_was_set_back() {
        let (metrics, now) = (Metrics::new(), Utc::now());
        let (key, back) = (ServiceKey::parse("0123456789abcdef0123456789abWXYZ").unwrap(), now - TimeDelta::hours(2));
        for at in [now, back] {
            metrics.count_attempt(&key, OutcomeKind::Delivered, at, at);
        }
        assert_eq!(metrics.snapshot(back).last_delivered_at, Some(back));
    }
}
