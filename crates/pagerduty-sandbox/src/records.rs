//! What the sandbox knows: the options and faults, the journal, the counters, the incidents and the held events; and the lock
//! around them that notifies subscribers of every change.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use tokio::sync::{broadcast, mpsc, watch};

use crate::api::EventsApiVersion;
use crate::faults::{FaultError, FaultRule, FaultRules, Until};
use crate::incidents::{
    ActionKind, Agent, Effect, EventType, Incident, Incidents, ManualAction, Transition, ValidEvent,
};
use crate::journal::{Counters, Journal, JournalEntry, Verdict};
use crate::options::{Options, ThrottleOptions};
use crate::webhooks::{PendingWebhook, WebhookAttempt, webhooks};

/// How many entries a slow subscriber may fall behind before it misses some.
const SUBSCRIBER_BUFFER: usize = 4096;

/// How many requests to the REST API are recorded; older ones are dropped.
const REST_REQUESTS: usize = 10_000;

/// The clock for arrival times, the rate limit and the end of fault rules: the system's, or a test's own.
///
/// Delays run on the real clock, because sockets wait for them.
#[derive(Clone)]
pub struct TimeSource(Arc<dyn Fn() -> DateTime<Utc> + Send + Sync>);

impl TimeSource {
    /// A clock that calls `now` each time.
    pub fn new(now: impl Fn() -> DateTime<Utc> + Send + Sync + 'static) -> Self {
        Self(Arc::new(now))
    }

    pub(crate) fn now(&self) -> DateTime<Utc> {
        (self.0)()
    }
}

impl Default for TimeSource {
    /// The system's clock.
    fn default() -> Self {
        Self::new(Utc::now)
    }
}

impl fmt::Debug for TimeSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Clock")
    }
}

/// A request to the REST API, as it is recorded.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct RestRequest {
    /// When it was received.
    pub at: DateTime<Utc>,
    /// Its method.
    pub method: String,
    /// Its path and query, below the root of the API.
    pub target: String,
    /// The status it was answered with.
    pub status: u16,
    /// Why it was refused, if it was.
    pub error: Option<String>,
}

/// The times of the events in each integration key's window, oldest first.
#[derive(Debug, Default)]
pub(crate) struct ThrottleWindows(HashMap<String, VecDeque<DateTime<Utc>>>);

impl ThrottleWindows {
    /// Whether the limit allows an event of `service_key` at `now`. If so it counts; see also
    /// [`ThrottleOptions::count_rejected`].
    pub(crate) fn admit(&mut self, service_key: &str, now: DateTime<Utc>, options: &ThrottleOptions) -> bool {
        let window = TimeDelta::from_std(options.window).unwrap_or(TimeDelta::MAX);
        let times = self.0.entry(service_key.to_owned()).or_default();
        while times.front().is_some_and(|&time| now.signed_duration_since(time) >= window) {
            times.pop_front();
        }
        let admitted = times.len() < options.limit;
        if admitted || options.count_rejected {
            times.push_back(now);
        }
        admitted
    }
}

/// An event that [`Fault::Late`](crate::faults::Fault::Late) holds.
#[derive(Debug)]
pub(crate) struct HeldEvent {
    pub(crate) api: EventsApiVersion,
    pub(crate) event: ValidEvent,
    pub(crate) until: Until,
    /// The entry of its request.
    pub(crate) origin: Arc<JournalEntry>,
}

/// Everything that the sandbox knows at one moment.
#[derive(Debug, Default)]
pub struct Records {
    pub(crate) options: Arc<Options>,
    pub(crate) faults: FaultRules,
    pub(crate) throttle: ThrottleWindows,
    pub(crate) held: Vec<HeldEvent>,
    pub(crate) journal: Journal,
    /// The attempts to post webhooks, in order.
    pub(crate) webhook_attempts: Vec<WebhookAttempt>,
    /// The newest requests to the REST API, oldest first.
    rest_requests: VecDeque<RestRequest>,
    /// How many there were since the last reset.
    rest_total: u64,
    /// The times of those in the last minute.
    rest_window: VecDeque<DateTime<Utc>>,
    /// Entries that have not been sent to subscribers yet.
    unpublished: Vec<Arc<JournalEntry>>,
    /// Webhooks that have not been handed over for posting yet.
    pub(crate) unposted: Vec<PendingWebhook>,
    pub(crate) incidents: Incidents,
    counters: Counters,
}

impl Records {
    /// The newest requests, oldest first.
    pub fn journal(&self) -> impl DoubleEndedIterator<Item = &JournalEntry> {
        self.journal.entries().map(AsRef::as_ref)
    }

    /// The newest requests to the REST API, oldest first.
    #[must_use]
    pub fn rest_requests(&self) -> impl DoubleEndedIterator<Item = &RestRequest> {
        self.rest_requests.iter()
    }

    /// How many requests there were to the REST API since the last reset.
    #[must_use]
    pub fn rest_total(&self) -> u64 {
        self.rest_total
    }

    /// All incidents, by integration key and incident key.
    pub fn incidents(&self) -> impl Iterator<Item = &Incident> {
        self.incidents.iter()
    }

    /// One incident; with [`Options::separate_apis`] that of v1, if both have one.
    #[must_use]
    pub fn incident(&self, service_key: &str, incident_key: &str) -> Option<&Incident> {
        self.incidents.get(service_key, incident_key)
    }

    /// All attempts to post webhooks since the last reset, in order.
    #[must_use]
    pub fn webhook_attempts(&self) -> &[WebhookAttempt] {
        &self.webhook_attempts
    }

    /// The counters.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Whether the limit of the REST API allows a request at `now`. If so it counts.
    pub(crate) fn admit_rest(&mut self, now: DateTime<Utc>) -> bool {
        self.rest_window.retain(|at| now - *at < TimeDelta::minutes(1));
        let admitted = self.rest_window.len() < self.options.rest.limit;
        if admitted {
            self.rest_window.push_back(now);
        }
        admitted
    }

    /// Records a request to the REST API.
    pub(crate) fn write_rest(&mut self, request: RestRequest) {
        self.rest_total += 1;
        self.rest_requests.push_back(request);
        if self.rest_requests.len() > REST_REQUESTS {
            self.rest_requests.pop_front();
        }
    }

    /// Deletes everything but the options.
    pub(crate) fn reset(&mut self) {
        *self = Self { options: Arc::clone(&self.options), ..Self::default() };
    }

    /// Applies an event to its incident. Returns its incident key, generated if it has none, and what it changed.
    pub(crate) fn apply(
        &mut self,
        api: EventsApiVersion,
        event: &ValidEvent,
        now: DateTime<Utc>,
    ) -> (String, Transition) {
        let incident_key = event.incident_key.clone().unwrap_or_else(generated_key);
        let of_api = self.options.separate_apis.then_some(api);
        let transition = self.incidents.apply(of_api, event, &incident_key, now);
        self.counters.count_applied(event, transition.effect);
        self.tell(&event.service_key, &incident_key, transition.effect, Agent::Integration, now);
        (incident_key, transition)
    }

    /// Performs an action of a person or of PagerDuty itself on an incident. Returns whether that changed it.
    pub(crate) fn act(&mut self, action: &ManualAction, now: DateTime<Utc>) -> bool {
        let ManualAction { service_key, incident_key, kind, agent } = action;
        let event_type = match kind {
            ActionKind::Acknowledge => EventType::Acknowledge,
            ActionKind::Resolve => EventType::Resolve,
            ActionKind::Reopen => {
                let is_reopened = self.incidents.reopen(service_key, incident_key, now);
                if is_reopened {
                    self.tell_as(service_key, incident_key, "incident.reopened", *agent, now);
                }
                return is_reopened;
            }
        };
        let event = ValidEvent {
            event_type,
            service_key: service_key.clone(),
            incident_key: Some(incident_key.clone()),
            description: None,
        };
        let of_api = self.incidents.api_of(service_key, incident_key);
        let effect = self.incidents.apply(of_api, &event, incident_key, now).effect;
        self.tell(service_key, incident_key, effect, *agent, now);
        matches!(effect, Effect::Acknowledged | Effect::Resolved)
    }

    /// Queues the webhooks that tell subscribers what an event or an action did.
    pub(crate) fn tell(
        &mut self,
        service_key: &str,
        incident_key: &str,
        effect: Effect,
        agent: Agent,
        now: DateTime<Utc>,
    ) {
        let event_type = match effect {
            Effect::Opened => "incident.triggered",
            Effect::Acknowledged => "incident.acknowledged",
            Effect::Resolved => "incident.resolved",
            Effect::Logged | Effect::AlreadyAcknowledged | Effect::Dropped => return,
        };
        self.tell_as(service_key, incident_key, event_type, agent, now);
    }

    fn tell_as(
        &mut self,
        service_key: &str,
        incident_key: &str,
        event_type: &'static str,
        agent: Agent,
        now: DateTime<Utc>,
    ) {
        if let Some(incident) = self.incidents.get(service_key, incident_key) {
            let service = self.service_of(service_key);
            self.unposted.extend(webhooks(&self.options.webhooks, incident, &service, event_type, agent, now));
        }
    }

    /// Writes and counts an entry.
    pub(crate) fn write(&mut self, entry: JournalEntry) -> Arc<JournalEntry> {
        if entry.late_of.is_none() {
            self.counters.count_request(&entry);
        }
        let entry = self.journal.write(entry, &self.options);
        self.unpublished.push(Arc::clone(&entry));
        entry
    }

    /// Applies the held events that `due` selects, in the order in which they came, and returns how many.
    pub(crate) fn release(&mut self, now: DateTime<Utc>, due: impl Fn(&HeldEvent) -> bool) -> usize {
        let (released, held) = std::mem::take(&mut self.held).into_iter().partition::<Vec<_>, _>(due);
        self.held = held;
        for HeldEvent { api, event, origin, .. } in &released {
            let (incident_key, Transition { effect, before, after }) = self.apply(*api, event, now);
            self.write(JournalEntry {
                number: self.journal.next_number(),
                verdict: Verdict::Accepted { effect },
                fault: None,
                status: None,
                incident_key: Some(incident_key),
                before,
                after,
                late_of: Some(origin.number),
                ..JournalEntry::clone(origin)
            });
        }
        released.len()
    }
}

/// An incident key of 32 hexadecimal digits, as PagerDuty generates them.
pub(crate) fn generated_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}

/// The records as the servers and [`Sandbox`](crate::Sandbox) share them.
#[derive(Debug)]
pub(crate) struct SharedRecords {
    pub(crate) clock: TimeSource,
    records: Mutex<Records>,
    changes: watch::Sender<()>,
    entries: broadcast::Sender<Arc<JournalEntry>>,
    webhooks: mpsc::UnboundedSender<PendingWebhook>,
    /// The receiver of `webhooks`, until the first server takes it.
    unposted: Mutex<Option<mpsc::UnboundedReceiver<PendingWebhook>>>,
}

impl SharedRecords {
    pub(crate) fn new(options: Options, clock: TimeSource) -> Self {
        let records = Records { options: Arc::new(options), ..Records::default() };
        let (webhooks, unposted) = mpsc::unbounded_channel();
        Self {
            webhooks,
            unposted: Mutex::new(Some(unposted)),
            clock,
            records: Mutex::new(records),
            changes: watch::Sender::new(()),
            entries: broadcast::Sender::new(SUBSCRIBER_BUFFER),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Records> {
        self.records.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn read<T>(&self, read: impl FnOnce(&Records) -> T) -> T {
        read(&self.lock())
    }

    /// Changes the records, publishes new entries and wakes all tasks that wait for changes.
    pub(crate) fn change<T>(&self, change: impl FnOnce(&mut Records, DateTime<Utc>) -> T) -> T {
        let now = self.clock.now();
        let mut records = self.lock();
        let result = change(&mut records, now);
        for entry in records.unpublished.drain(..) {
            // An error only means that there is no subscriber.
            let _ = self.entries.send(entry);
        }
        for webhook in records.unposted.drain(..) {
            // An error means that the sandbox was stopped.
            let _ = self.webhooks.send(webhook);
        }
        drop(records);
        self.changes.send_replace(());
        result
    }

    /// Adds a fault rule and returns its number.
    pub(crate) fn inject(&self, rule: FaultRule) -> Result<u64, FaultError> {
        rule.fault.check()?;
        Ok(self.change(|records, now| records.faults.add(rule, now)))
    }

    /// Returns the receiver of the webhooks to post on the first call, and `None` after that.
    pub(crate) fn take_webhooks(&self) -> Option<mpsc::UnboundedReceiver<PendingWebhook>> {
        self.unposted.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    pub(crate) fn changes(&self) -> watch::Receiver<()> {
        self.changes.subscribe()
    }

    pub(crate) fn subscribe(&self) -> broadcast::Receiver<Arc<JournalEntry>> {
        self.entries.subscribe()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn the_limit_holds_in_every_window_and_for_each_key_alone() {
        let options = ThrottleOptions { limit: 2, ..ThrottleOptions::default() };
        let mut throttle = ThrottleWindows::default();
        let times = [(0, true), (30, true), (59, false), (60, true), (61, false), (90, true)];
        for (second, admitted) in times {
            assert_eq!(throttle.admit("K", at(second), &options), admitted, "second {second}");
        }
        assert!(throttle.admit("L", at(90), &options));
    }

    #[test]
    fn a_client_that_hammers_never_recovers_where_refusals_count() {
        let options = ThrottleOptions { limit: 1, count_rejected: true, ..ThrottleOptions::default() };
        let mut throttle = ThrottleWindows::default();
        assert!(throttle.admit("K", at(0), &options));
        assert!((1..10).all(|step| !throttle.admit("K", at(step * 30), &options)));
    }

    #[test]
    fn a_limit_lowered_mid_run_counts_what_was_already_taken() {
        let mut options = ThrottleOptions { limit: 3, ..ThrottleOptions::default() };
        let mut throttle = ThrottleWindows::default();
        assert!(throttle.admit("K", at(0), &options) && throttle.admit("K", at(1), &options));
        options.limit = 1;
        assert!(!throttle.admit("K", at(2), &options));
    }
}
