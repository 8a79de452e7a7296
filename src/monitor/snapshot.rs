//! What is known of the bridge at one moment, with times that a step of the machine's clock does not change.
//!
//! Times are stored by the wall clock, which may be set back or forward at any moment. While the process lives,
//! durations are measured by the monotonic clock, and the times that are compared are shifted to what the wall clock
//! would have shown if it had always been set as it is now.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};

use crate::canary::CanaryStatus;
use crate::catch_up::CatchUpStatus;
use crate::cluster::ClusterView;
use crate::delivery::{DeliveryView, KeyView};
use crate::metrics::MetricsSnapshot;
use crate::pagerduty::{KeyNames, ServiceKey};
use crate::proof::ProofStatus;
use crate::queue::{Backlog, Durability, EventId, FirstWaiting, Overview, Proof, QueueError, ServiceKeyCounts};
use crate::sentry_api::audit::AuditStatus;

/// A smaller difference is clock drift or the time between two readings, not a step.
const STEP: TimeDelta = TimeDelta::seconds(2);

/// Commits within this time share an entry.
const COMMIT_GROUP: Duration = Duration::from_secs(1);

/// The maximum number of entries; when there are more, neighbours are merged.
const MAX_ENTRIES: usize = 4096;

/// What is known of the bridge at one moment.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The moment.
    pub at: DateTime<Utc>,
    /// When this bridge started.
    pub started_at: DateTime<Utc>,
    /// What the queue holds; the error when it cannot be read.
    pub queue: Result<Overview, QueueError>,
    /// The oldest waiting events and the dead letters. Waiting alarms of the bridge are left out, so that none is its own
    /// cause; dead ones are not, because then nobody was paged.
    pub backlog: Result<Backlog, QueueError>,
    /// How many alerts wait, alarms of the bridge left out; `None` when that is not known, or too many events wait.
    pub waiting_alerts: Option<u64>,
    /// Whether alerts can be committed; the error when they cannot.
    pub storage: Result<(), QueueError>,
    /// Since when alerts cannot be committed or the queue cannot be read, as far as this run has noticed.
    pub storage_since: Option<DateTime<Utc>>,
    /// What an alert survives once it is committed; `None` when the queue cannot be read.
    pub durability: Option<Durability>,
    /// The state of the deliveries.
    pub delivery: DeliveryView,
    /// The metrics.
    pub metrics: MetricsSnapshot,
    /// The bridges that share the queue.
    pub cluster: ClusterView,
    /// The canary; `None` where none is sent, the error when the queue cannot be read.
    pub canary: Option<Result<CanaryStatus, QueueError>>,
    /// The audit of Sentry's alerts; `None` where Sentry's API is not asked.
    pub audit: Option<AuditStatus>,
    /// Catch-up; `None` where it is off, or Sentry's API is not asked.
    pub catch_up: Option<CatchUpStatus>,
    /// The names of service keys.
    pub key_names: KeyNames,
    /// Whether PagerDuty carries out the events that it accepts; `None` where its REST API is not asked.
    pub proof: Option<ProofView>,
    /// The state of the fallback webhook; `None` when there is none.
    pub fallback: Option<FallbackView>,
}

/// Whether PagerDuty carries out the events that it accepts.
#[derive(Clone, Debug)]
pub struct ProofView {
    /// The state of the lookups.
    pub status: ProofStatus,
    /// The events that need attention; the error when the queue cannot be read.
    pub failures: Result<Vec<Proof>, QueueError>,
}

/// What the status page, `/api` and `/metrics` show of the fallback webhook.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct FallbackView {
    /// When it last accepted a message, in this run or an earlier one.
    pub last_told_at: Option<DateTime<Utc>>,
    /// Since when PagerDuty takes no events, if the webhook was notified of that and not yet of its end.
    pub outage_since: Option<DateTime<Utc>>,
    /// Why the last attempt to send it a message failed, if it did.
    pub failure: Option<String>,
}

/// What the queue holds for one service key, and how its events are delivered.
#[derive(Clone, Copy, Debug, Default)]
pub struct ServiceKeyStatus<'a> {
    /// How many events it has in each state; `None` if it has none, or the queue cannot be read.
    pub counts: Option<&'a ServiceKeyCounts>,
    /// Its deliveries; `None` where this bridge has sent nothing yet.
    pub deliveries: Option<&'a KeyView>,
}

impl ServiceKeyStatus<'_> {
    /// How many of its events wait.
    #[must_use]
    pub fn waiting(&self) -> u64 {
        self.counts.map_or(0, |counts| counts.waiting)
    }

    /// How many of its events are dead letters.
    #[must_use]
    pub fn dead(&self) -> u64 {
        self.counts.map_or(0, |counts| counts.dead)
    }
}

impl Snapshot {
    /// The status of each service key that has events or deliveries, in the order of the keys.
    #[must_use]
    pub fn service_keys(&self) -> BTreeMap<&ServiceKey, ServiceKeyStatus<'_>> {
        let mut all: BTreeMap<&ServiceKey, ServiceKeyStatus<'_>> = BTreeMap::new();
        for counts in self.queue.iter().flat_map(|queue| &queue.service_keys) {
            all.entry(&counts.service_key).or_default().counts = Some(counts);
        }
        for view in &self.delivery.keys {
            all.entry(&view.service_key).or_default().deliveries = Some(view);
        }
        all
    }

    /// Why the queue cannot be read. A queue that is busy with too many readers does not count.
    pub(super) fn read_error(&self) -> Option<&QueueError> {
        let errors = [self.queue.as_ref().err(), self.backlog.as_ref().err()];
        errors.into_iter().flatten().find(|error| !matches!(error, QueueError::Busy { .. }))
    }

    /// When PagerDuty accepted the last event for a service key, in this run or an earlier one.
    pub(super) fn last_delivered_at(&self, service_key: &ServiceKey) -> Option<DateTime<Utc>> {
        let key = self.delivery.keys.iter().find(|key| key.service_key == *service_key);
        key.and_then(|key| key.last_delivered_at).max(self.metrics.delivered.get(service_key).copied())
    }

    /// Corrects the times of the start, the last webhook and the oldest waiting events, so that their ages are right
    /// even if the wall clock was set since.
    pub(super) fn correct_times(mut self, clock: &Clock, commits: &CommitTimes) -> Self {
        self.started_at = clock.before_start(clock.started_at);
        self.metrics.last_webhook_at = self.metrics.last_webhook_at.map(|last| match self.metrics.since_webhook {
            Some(ago) => clock.ago(last, ago, ago),
            None => clock.before_start(last),
        });
        for first in self.backlog.iter_mut().flat_map(|backlog| &mut backlog.first) {
            let since = waiting_since(first, clock, commits);
            if let Ok(queue) = &mut self.queue {
                let is_first = |destination: &&mut ServiceKeyCounts| {
                    destination.service_key == first.service_key && destination.oldest_waiting == Some(first.since)
                };
                let shown = queue.service_keys.iter_mut().filter(is_first);
                shown.for_each(|destination| destination.oldest_waiting = Some(since));
            }
            first.since = since;
        }
        if let Ok(queue) = &mut self.queue {
            queue.oldest_waiting = queue.service_keys.iter().filter_map(|destination| destination.oldest_waiting).min();
        }
        self
    }
}

fn waiting_since(first: &FirstWaiting, clock: &Clock, commits: &CommitTimes) -> DateTime<Utc> {
    // A retry may come from another process, so only the wall clock knows when it was.
    if first.is_requeued && first.since > clock.started_at {
        return clock.ago(first.since, Duration::ZERO, clock.uptime);
    }
    match commits.age(first.id, clock.read_at) {
        Some((least, most)) if !first.is_requeued => clock.ago(first.since, least, most),
        _ => clock.before_start(first.since),
    }
}

/// One moment, by the wall clock and by the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(super) struct Clock {
    /// When the bridge started, by the wall clock as it was set then.
    pub(super) started_at: DateTime<Utc>,
    /// How long it has been running.
    pub(super) uptime: Duration,
    /// The moment by the wall clock.
    pub(super) now: DateTime<Utc>,
    /// The moment by the monotonic clock.
    pub(super) read_at: Instant,
}

impl Clock {
    /// Corrects a time that is not after the start.
    fn before_start(&self, time: DateTime<Utc>) -> DateTime<Utc> {
        let step = self.now - later(self.started_at, self.uptime);
        if step.abs() < STEP { time } else { time.checked_add_signed(step).unwrap_or(time) }
    }

    /// Corrects the time of something that happened `least` to `most` ago.
    fn ago(&self, time: DateTime<Utc>, least: Duration, most: Duration) -> DateTime<Utc> {
        let (earliest, latest) = (earlier(self.now, most), earlier(self.now, least));
        if time > latest + STEP {
            latest
        } else if time < earliest - STEP {
            earliest
        } else {
            time
        }
    }
}

fn later(time: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(by).ok().and_then(|by| time.checked_add_signed(by)).unwrap_or(time)
}

fn earlier(time: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(by).ok().and_then(|by| time.checked_sub_signed(by)).unwrap_or(time)
}

/// When events were committed, by the monotonic clock. Event ids grow with time, so a few pairs of id and time are enough
/// for all events. Bounded to 4,096 entries.
#[derive(Debug, Default)]
pub struct CommitTimes(Mutex<VecDeque<CommitGroup>>);

/// The events `first` to `last` were committed from `from` to `to`.
#[derive(Clone, Copy, Debug)]
struct CommitGroup {
    first: EventId,
    last: EventId,
    from: Instant,
    to: Instant,
}

impl CommitTimes {
    /// Records that the events `first` to `last` were committed at `now`. Has to be called in the order of the events.
    pub fn committed(&self, first: EventId, last: EventId, now: Instant) {
        let mut entries = self.entries();
        match entries.back_mut() {
            Some(entry) if now.saturating_duration_since(entry.from) < COMMIT_GROUP => {
                (entry.last, entry.to) = (last, now);
            }
            _ => entries.push_back(CommitGroup { first, last, from: now, to: now }),
        }
        if entries.len() > MAX_ENTRIES {
            let joined = entries.make_contiguous().chunks(2).map(|pair| {
                let (one, other) = (pair[0], pair[pair.len() - 1]);
                CommitGroup { first: one.first, last: other.last, from: one.from, to: other.to }
            });
            *entries = joined.collect();
        }
    }

    /// Returns how long ago `id` was committed, at least and at most; `None` if that was in an earlier run.
    fn age(&self, id: EventId, now: Instant) -> Option<(Duration, Duration)> {
        let entries = self.entries();
        let place = entries.partition_point(|entry| entry.first <= id).checked_sub(1)?;
        let entry = entries[place];
        let ago = |moment: Instant| now.saturating_duration_since(moment);
        if id <= entry.last {
            return Some((ago(entry.to), ago(entry.from)));
        }
        // Another process committed it, between two commits of this one.
        Some((entries.get(place + 1).map_or(Duration::ZERO, |next| ago(next.from)), ago(entry.to)))
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<CommitGroup>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
impl Snapshot {
    /// A bridge at `at` that started at `started_at`, to which nothing has come yet, and of which nothing is wrong.
    pub(crate) fn empty(at: DateTime<Utc>, started_at: DateTime<Utc>) -> Self {
        Self {
            at,
            started_at,
            queue: Ok(Overview::default()),
            backlog: Ok(Backlog::default()),
            waiting_alerts: Some(0),
            storage: Ok(()),
            storage_since: None,
            durability: None,
            delivery: DeliveryView::default(),
            metrics: MetricsSnapshot::default(),
            cluster: ClusterView::default(),
            canary: None,
            audit: None,
            catch_up: None,
            key_names: KeyNames::default(),
            proof: None,
            fallback: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::minutes(minutes)
    }

    fn id(number: i64) -> EventId {
        EventId::new(number)
    }

    /// A clock that shows `minutes` after ten minutes of uptime.
    fn clock(minutes: i64) -> Clock {
        Clock { started_at: at(0), uptime: 10 * MINUTE, now: at(minutes), read_at: Instant::now() }
    }

    #[test]
    fn what_lies_before_the_start_moves_with_the_clock() {
        for (now, moved) in [(10, -5), (-110, -125), (130, 115)] {
            assert_eq!(clock(now).before_start(at(-5)), at(moved), "now is {now}");
        }
        let drifting = Clock { now: at(10) + TimeDelta::seconds(1), ..clock(10) };
        assert_eq!(drifting.before_start(at(-5)), at(-5));
    }

    #[test]
    fn what_happened_in_this_run_is_as_old_as_it_is() {
        // Three to four minutes ago, when the clock showed 6 or 7.
        for (now, seen) in [(10, 6), (10, 7)] {
            assert_eq!(clock(now).ago(at(seen), 3 * MINUTE, 4 * MINUTE), at(seen));
        }
        assert_eq!(clock(-110).ago(at(6), 3 * MINUTE, 4 * MINUTE), at(-113));
        assert_eq!(clock(130).ago(at(6), 3 * MINUTE, 4 * MINUTE), at(126));
    }

    #[test]
    fn the_age_of_an_event_is_known_from_the_commits_around_it() {
        let (times, start) = (CommitTimes::default(), Instant::now());
        assert_eq!(times.age(id(1), start), None);
        times.committed(id(10), id(12), start);
        times.committed(id(13), id(13), start + Duration::from_millis(500));
        times.committed(id(20), id(20), start + MINUTE);
        let age = |number| times.age(id(number), start + 3 * MINUTE);
        assert_eq!(age(9), None, "it was there before");
        let nearly_three = Duration::from_millis(179_500);
        assert_eq!(age(11), Some((nearly_three, 3 * MINUTE)));
        assert_eq!(age(13), Some((nearly_three, 3 * MINUTE)));
        assert_eq!(age(15), Some((2 * MINUTE, nearly_three)), "by another process");
        assert_eq!(age(20), Some((2 * MINUTE, 2 * MINUTE)));
        assert_eq!(age(21), Some((Duration::ZERO, 2 * MINUTE)));
    }

    #[test]
    fn many_commits_take_bounded_room_and_the_newest_stay_exact_enough() {
        let (times, start) = (CommitTimes::default(), Instant::now());
        for number in 0..20_000_u32 {
            times.committed(id(number.into()), id(number.into()), start + number * MINUTE);
        }
        assert!(times.entries().len() <= MAX_ENTRIES);
        let (least, most) = times.age(id(0), start + 20_000 * MINUTE).unwrap();
        assert!(
            least <= 20_000 * MINUTE && 20_000 * MINUTE <= most && most <= least + 512 * MINUTE,
            "{least:?} {most:?}"
        );
    }
}
