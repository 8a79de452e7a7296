//! The task that raises and resolves the bridge's alarms.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use log::{Level, error, info, warn};
use strum::VariantArray;
use tokio::sync::watch;
use tokio::time::sleep;

use super::alarms::{self, AlarmAction, Alarms, IncidentStatus, may_accept};
use super::{Cause, Intervals, Monitor, Snapshot, Trouble, TroubleLimits, troubles};
use crate::backoff::Backoff;
use crate::envelope::{Dedup, FollowUp};
use crate::logging::log_throttled;
use crate::pagerduty::event::EventAction;
use crate::pagerduty::outcome::Outcome;
use crate::pagerduty::{Event, EventsClient, IncidentKey, KeyApis, ServiceKey, render};
use crate::queue::{EnqueueRequest, Enqueued, Envelope, Queue, QueueError};

/// The interval at which an idle bridge tests whether an alert could be committed.
const PROBE_INTERVAL: Duration = Duration::from_mins(1);

/// The number of attempts to send an alarm that cannot be enqueued; with the pauses in between they take 17 minutes.
const DIRECT_ATTEMPTS: u32 = 9;

/// The pause after one of these attempts.
const DIRECT_BACKOFF: Backoff = Backoff { first: Duration::from_secs(4), ceiling: Duration::from_secs(1024) };

/// Where alarms are sent.
#[derive(Clone, Debug)]
pub struct Paging {
    /// The service keys to page: the first one, and the next one if that rejects an alarm. If there are none, troubles
    /// are logged and nobody is paged.
    pub service_keys: Vec<ServiceKey>,
    /// The Events API of each service key.
    pub apis: KeyApis,
    /// The prefix of the incident keys.
    pub prefix: String,
}

/// Checks the bridge every few seconds, raises alarms and resolves them.
pub struct AlarmTask {
    monitor: Monitor,
    queue: Queue,
    client: EventsClient,
    paging: watch::Receiver<Paging>,
    intervals: Intervals,
    alarms: Alarms,
    started: Instant,
    probed: Instant,
    direct: DirectSend,
    /// Why PagerDuty has not accepted the alarm that cannot be enqueued; `None` if it has, or if there is no such
    /// alarm.
    unsent: watch::Sender<Option<String>>,
    /// The newest time of an alarm's event. The clock may be set back, and an alarm must not seem to be older than the
    /// resolve of the previous one.
    latest: DateTime<Utc>,
}

/// The attempts to send an alarm that cannot be enqueued.
#[derive(Debug, Default)]
struct DirectSend {
    attempts: u32,
    not_before: Duration,
    /// The key for which PagerDuty accepted it, or may have.
    sent_to: Option<ServiceKey>,
}

impl AlarmTask {
    /// Creates the alarm task of the bridge that `monitor` observes.
    #[must_use]
    pub fn new(monitor: Monitor, queue: Queue, client: EventsClient, paging: watch::Receiver<Paging>) -> Self {
        let (intervals, now) = (Intervals::default(), Instant::now());
        let alarms = Alarms::new(monitor.limits, intervals.resolve_after, !monitor.cluster.is_alone());
        let (direct, latest, (unsent, _)) = (DirectSend::default(), DateTime::UNIX_EPOCH, watch::channel(None));
        Self { monitor, queue, client, paging, intervals, alarms, started: now, probed: now, direct, unsent, latest }
    }

    /// Why PagerDuty has not accepted the alarm that cannot be enqueued; `None` if it has, or if there is no such
    /// alarm.
    #[must_use]
    pub fn unsent_alarm(&self) -> watch::Receiver<Option<String>> {
        self.unsent.subscribe()
    }

    /// Replaces the intervals. Must be called before [`AlarmTask::run`], because the alarms start over.
    #[must_use]
    pub fn with_intervals(self, intervals: Intervals) -> Self {
        Self { intervals, ..self }.with_new_alarms()
    }

    /// Changes the limits at which troubles begin for the alarms. Must be called before [`AlarmTask::run`], because the
    /// alarms start over.
    #[must_use]
    pub fn with_limits(mut self, change: impl FnOnce(&mut TroubleLimits)) -> Self {
        change(&mut self.monitor.limits);
        self.with_new_alarms()
    }

    fn with_new_alarms(self) -> Self {
        let is_shared_by_bridges = !self.monitor.cluster.is_alone();
        let alarms = Alarms::new(self.monitor.limits, self.intervals.resolve_after, is_shared_by_bridges);
        Self { alarms, ..self }
    }

    /// Checks periodically for as long as it is polled.
    pub async fn run(mut self) -> Infallible {
        loop {
            sleep(self.intervals.check).await;
            self.check().await;
        }
    }

    async fn check(&mut self) {
        if self.probed.elapsed() >= PROBE_INTERVAL {
            // The snapshot shows the result.
            let _ = self.queue.probe().await;
            self.probed = Instant::now();
        }
        let snapshot = self.monitor.snapshot(Utc::now()).await;
        let mut troubles = troubles(&snapshot, &self.monitor.limits);
        // The failed attempts that cause `delivery` are in the log, and if it lasts, it pages as `waiting`. Every
        // bridge raises the storage alarm, because each has its own connection to the database, and without the
        // database there may be no leader. All raise the same incident, and repeat that while their trouble lasts, because
        // the first bridge whose trouble is over resolves it.
        let is_leader = self.monitor.cluster.is_leader();
        if !is_leader {
            self.alarms.not_leading(self.started.elapsed());
        }
        let is_own = |cause: Cause| is_leader || cause == Cause::Storage;
        for &cause in Cause::VARIANTS.iter().filter(|cause| **cause != Cause::Delivery && is_own(**cause)) {
            let trouble = troubles.iter().position(|trouble| trouble.cause == cause);
            let assessment = alarms::assess(cause, trouble.map(|place| troubles.swap_remove(place)), &snapshot);
            let (incident, service_key) = self.incident(cause, &snapshot).await;
            let Some(action) = self.alarms.update(cause, &assessment, incident, self.started.elapsed()) else {
                continue;
            };
            if self.perform(&action, service_key, &snapshot).await {
                self.alarms.done(&action, self.started.elapsed());
            }
        }
    }

    /// What the queue knows about the incident of a cause, and which service key to page for it, if any.
    async fn incident(&self, cause: Cause, snapshot: &Snapshot) -> (IncidentStatus, Option<ServiceKey>) {
        let incident_key = self.incident_key(cause);
        let (mut is_rejected, mut paged) = (false, None);
        for service_key in self.in_order(cause, snapshot) {
            match self.queue.reader().incident(&incident_key, &service_key).await {
                Ok(incident) if incident.is_open => return (IncidentStatus::Open, Some(service_key)),
                Ok(incident) => {
                    is_rejected |= incident.died_at.is_some();
                    let delivered_at = snapshot.last_delivered_at(&service_key);
                    if paged.is_none() && may_accept(&incident, delivered_at, snapshot.at) {
                        paged = Some(service_key);
                    }
                }
                Err(_) => return (IncidentStatus::Unknown, self.paged_keys(cause).into_iter().next()),
            }
        }
        match (&paged, is_rejected) {
            (_, false) => (IncidentStatus::Closed, paged),
            (Some(_), true) => (IncidentStatus::Retry, paged),
            (None, true) => (IncidentStatus::Rejected, None),
        }
    }

    fn paged_keys(&self, cause: Cause) -> Vec<ServiceKey> {
        if cause.is_paged() { self.paging.borrow().service_keys.clone() } else { Vec::new() }
    }

    fn incident_key(&self, cause: Cause) -> IncidentKey {
        cause.incident_key(&self.paging.borrow().prefix)
    }

    /// Returns the service keys to page for a cause, the best first. For `proof`, those are the keys whose events open
    /// incidents.
    fn in_order(&self, cause: Cause, snapshot: &Snapshot) -> Vec<ServiceKey> {
        let mut keys = self.paged_keys(cause);
        let failures = snapshot.proof.as_ref().and_then(|proof| proof.failures.as_ref().ok());
        if let Some(failures) = failures.filter(|_| cause == Cause::Proof) {
            keys.sort_by_key(|key| failures.iter().any(|failure| failure.service_key == *key));
        }
        keys
    }

    fn event(&self, cause: Cause, service_key: &ServiceKey, action: EventAction) -> Event {
        let incident_key = self.incident_key(cause);
        Event { destination: self.paging.borrow().apis.destination(service_key), incident_key, action }
    }

    /// Performs an action. Returns whether it is done, or given up.
    async fn perform(&mut self, action: &AlarmAction, service_key: Option<ServiceKey>, snapshot: &Snapshot) -> bool {
        let cause = action.cause();
        self.latest = self.latest.max(snapshot.at);
        let Some(service_key) = service_key.or_else(|| self.paged_keys(cause).into_iter().next()) else {
            match action {
                AlarmAction::Raise(trouble) => warn!(alarm = cause.name(); "{}", trouble.sentence),
                AlarmAction::Resolve(_) => info!(alarm = cause.name(); "alarm resolved"),
            }
            return true;
        };
        match action {
            AlarmAction::Raise(trouble) => {
                let Some(trigger) = alarms::trigger(trouble, snapshot, self.latest) else { return true };
                if cause == Cause::Storage {
                    return self.send(trouble, &trigger).await;
                }
                let event = self.event(cause, &service_key, trigger);
                self.enqueue(EnqueueRequest::event(Envelope::new(&event, self.latest)), cause, &trouble.sentence).await
            }
            AlarmAction::Resolve(_) => {
                let resolve = alarms::resolve(self.latest);
                // The queue does not know the incident of the storage alarm, whose trigger bypassed it.
                let incoming = if cause == Cause::Storage {
                    let event = self.event(cause, self.direct.sent_to.as_ref().unwrap_or(&service_key), resolve);
                    EnqueueRequest::event(Envelope::new(&event, self.latest))
                } else {
                    let follow_up = FollowUp {
                        incident_key: self.incident_key(cause),
                        action: resolve,
                        sentry_at: None,
                        received_at: self.latest,
                        fallback: None,
                        reopening: None,
                        shared_key: None,
                        apis: self.paging.borrow().apis.clone(),
                        dedup: Dedup::default(),
                    };
                    EnqueueRequest::FollowUp(Box::new(follow_up))
                };
                let is_enqueued = self.enqueue(incoming, cause, "alarm resolved").await;
                // Not before: a resolve that has to be repeated goes where the trigger went.
                if is_enqueued && cause == Cause::Storage {
                    self.direct = DirectSend::default();
                    self.unsent.send_replace(None);
                }
                is_enqueued
            }
        }
    }

    async fn enqueue(&mut self, incoming: EnqueueRequest, cause: Cause, sentence: &str) -> bool {
        let alarm = cause.name();
        match self.queue.enqueue(incoming).await {
            Ok(Enqueued::Queued(events)) => {
                let event = events.first().map_or(0, |event| event.id.get());
                warn!(alarm, event; "{sentence}");
                true
            }
            Ok(Enqueued::Ignored(_)) => {
                info!(alarm; "{sentence}");
                true
            }
            Err(QueueError::Closed) => false,
            Err(error) => {
                log_throttled!(
                    Level::Error, "alarms were not enqueued", alarm;
                    "the alarm cannot be enqueued: {error}"
                );
                false
            }
        }
    }

    /// Sends an alarm directly, bypassing the queue, and to the next service key if one rejects it. Returns whether it
    /// is done, or given up.
    async fn send(&mut self, trouble: &Trouble, trigger: &EventAction) -> bool {
        let alarm = trouble.cause.name();
        let now = self.started.elapsed();
        if now < self.direct.not_before {
            return false;
        }
        if self.direct.attempts == 0 && self.direct.sent_to.is_none() {
            error!(alarm; "{}", trouble.sentence);
        }
        self.direct.attempts += 1;
        self.alarms.attempted(trouble.cause);
        self.direct.not_before = now + DIRECT_BACKOFF.pause(self.direct.attempts);
        for key in self.paged_keys(trouble.cause) {
            let event = self.event(trouble.cause, &key, trigger.clone());
            match self.client.send(&event.destination, render(&event).bytes).await {
                Outcome::Delivered { .. } => {
                    self.direct = DirectSend { sent_to: Some(key), ..DirectSend::default() };
                    self.unsent.send_replace(None);
                    self.alarms.accepted(trouble.cause, now);
                    return true;
                }
                Outcome::Refused { reason } => {
                    error!(alarm; "PagerDuty rejected the alarm for the service key {key}: {reason}");
                    self.unsent.send_replace(Some(reason));
                }
                Outcome::Throttled { reason, .. }
                | Outcome::Transient { reason, .. }
                | Outcome::Dropped { reason }
                | Outcome::Untrusted { reason } => {
                    warn!(alarm, attempt = self.direct.attempts; "the alarm is not delivered yet: {reason}");
                    self.unsent.send_replace(Some(reason));
                    self.direct.sent_to = Some(key);
                    break;
                }
            }
        }
        self.direct.attempts >= DIRECT_ATTEMPTS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::monitor::tests::{LONG, start};
    use crate::pagerduty::EventType;
    use crate::queue::EventId;

    #[actix_web::test]
    async fn the_resolve_of_the_storage_alarm_follows_its_trigger_also_if_it_was_not_enqueued_at_once() {
        let bridge = start(LONG).await;
        let keys = ["0123456789abcdef0123456789abWXYZ", "0123456789abcdef0123456789abVWXY"];
        let [first, second] = keys.map(|key| ServiceKey::parse(key).unwrap());
        let service_keys = vec![first.clone(), second.clone()];
        let paging = Paging { service_keys, apis: KeyApis::default(), prefix: String::new() };
        let client = EventsClient::new(&"http://127.0.0.1:9".parse().unwrap(), LONG, None).unwrap();
        let (_sender, paging) = watch::channel(paging);
        let closed = Queue::open(&bridge.directory.path().join("closed.db")).await.unwrap();
        closed.close().await.unwrap();
        let mut task = AlarmTask::new(bridge.monitor.clone(), closed, client, paging);
        // PagerDuty rejected the trigger for the first key.
        task.direct.sent_to = Some(second.clone());
        let snapshot = bridge.monitor.snapshot(Utc::now()).await;
        let resolve = AlarmAction::Resolve(Cause::Storage);
        assert!(!task.perform(&resolve, Some(first.clone()), &snapshot).await);
        // That of another alarm changes nothing either.
        task.queue = bridge.queue.clone();
        assert!(task.perform(&AlarmAction::Resolve(Cause::DeadLetters), Some(first.clone()), &snapshot).await);
        assert!(task.perform(&resolve, Some(first), &snapshot).await);
        let event = bridge.queue.reader().get(EventId::new(1)).await.unwrap().unwrap();
        assert_eq!((event.summary.event_type, event.summary.service_key), (EventType::Resolve, second));
        assert_eq!(task.direct.sent_to, None);
    }
}
