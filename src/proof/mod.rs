//! Proof that PagerDuty does what it accepts: after a delivery the bridge looks up whether the incident exists, or is resolved.
//!
//! - [`sample`]: which events are looked up and when, within a budget; pure
//! - [`finding`]: what PagerDuty shows about an event, and why it opened no incident
//! - this file: the task that looks events up, one request at a time

pub mod finding;
pub mod sample;

use std::collections::{BTreeMap, BTreeSet, HashSet, VecDeque};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use log::{Level, debug, info, warn};
use tokio::sync::watch;
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::cluster::IsLeader;
use crate::logging::log_throttled;
use crate::metrics::Metrics;
use crate::pagerduty::{EventType, IncidentKey, KeyNames, ProofState, ServiceKey};
use crate::pagerduty_rest::types::{Integration, PagerDutyIncident, PagerDutyService, ServiceStatus, owners};
use crate::pagerduty_rest::{PagerDutyApiError, PagerDutyRestClient};
use crate::queue::{EnqueueRequest, Envelope, EventId, Proof, Queue, QueueError, State};
use finding::{are_resolved, are_suppressed, cause, left_open_by, opened_by};
use sample::{ProofSchedule, Sample, WatchedEvent};

/// How many of the newest delivered events are considered in one round.
const NEWEST: u32 = 200;

/// How often the services are loaded again.
const REFRESH: Duration = Duration::from_hours(1);

/// The pause after an error that lasts until an operator changes a setting or the token.
const REFUSED: Duration = Duration::from_mins(10);

/// The pause if the plan of the account does not include the API: the task is as good as off.
const OFF: Duration = Duration::from_hours(24);

/// The pause after any other failure.
const RETRY: Backoff = Backoff { first: Duration::from_secs(15), ceiling: Duration::from_mins(5) };

/// The longest wait that PagerDuty may ask for.
const LONGEST_WAIT: Duration = Duration::from_mins(10);

/// How many events that need no further look-up are remembered.
const REMEMBERED: usize = 4_096;

/// Where the task's own clock begins. It is not zero, so that events delivered before the start have times as well.
const EPOCH: Duration = Duration::from_hours(24);

/// The state that the status page, `/api` and the alarms show.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProofStatus {
    /// Why PagerDuty's REST API cannot be used, if that is so.
    pub failure: Option<String>,
    /// Whether that lasts until an operator changes a setting or the token.
    pub is_refused: bool,
}

/// The task that looks up delivered events.
pub struct ProofTask {
    api: PagerDutyRestClient,
    queue: Queue,
    metrics: Metrics,
    names: KeyNames,
    is_leader: IsLeader,
    status: watch::Sender<ProofStatus>,
    sample: Sample,
    owners: BTreeMap<ServiceKey, (PagerDutyService, Integration)>,
    refreshed: Option<Duration>,
    /// The services that were loaded so far, and the offset of their next page, while they are loaded again: there may be more
    /// pages than the budget allows at once.
    loading: (Vec<PagerDutyService>, usize),
    /// Events that need no further look-up, as a set and in order of insertion.
    done: (HashSet<EventId>, VecDeque<EventId>),
    /// Incidents whose resolve was sent once more.
    resent: BTreeSet<(ServiceKey, IncidentKey)>,
    began: Instant,
}

/// What a look-up shows about an event.
enum LookUp {
    /// A trigger has no incident so far.
    Nothing,
    /// A trigger has its incident.
    Opened(PagerDutyIncident, ProofState),
    /// A resolve has closed its incident.
    Closed,
    /// This incident is still open after a resolve.
    Open(PagerDutyIncident),
}

/// Why a round ended early.
enum LookUpError {
    /// The budget of this minute is used up.
    Budget,
    Api(PagerDutyApiError),
    Queue(QueueError),
}

impl From<PagerDutyApiError> for LookUpError {
    fn from(error: PagerDutyApiError) -> Self {
        Self::Api(error)
    }
}

impl From<QueueError> for LookUpError {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

impl ProofTask {
    /// A task that looks up in `api` what `queue` has delivered. If several bridges share a queue, only the leader does
    /// anything.
    #[must_use]
    pub fn new(api: PagerDutyRestClient, queue: Queue, metrics: Metrics, names: KeyNames, is_leader: IsLeader) -> Self {
        Self {
            api,
            queue,
            metrics,
            names,
            is_leader,
            status: watch::channel(ProofStatus::default()).0,
            sample: Sample::new(ProofSchedule::default()),
            owners: BTreeMap::new(),
            refreshed: None,
            loading: (Vec::new(), 0),
            done: (HashSet::new(), VecDeque::new()),
            resent: BTreeSet::new(),
            began: Instant::now(),
        }
    }

    /// Returns the task with another schedule.
    #[must_use]
    pub fn with_schedule(self, schedule: ProofSchedule) -> Self {
        Self { sample: Sample::new(schedule), ..self }
    }

    /// The state of the task.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<ProofStatus> {
        self.status.subscribe()
    }

    /// Looks up delivered events until the future is dropped.
    pub async fn run(mut self) -> Infallible {
        let mut failures = 0;
        loop {
            sleep(self.sample.schedule().tick).await;
            if !(self.is_leader)() {
                self.sample.clear();
                self.loading = (Vec::new(), 0);
                self.is_well();
                continue;
            }
            match self.round().await {
                Ok(()) | Err(LookUpError::Budget) => {
                    failures = 0;
                    self.is_well();
                }
                // Only a debug line: an operator learns of a failing queue from the alerts that cannot be enqueued.
                Err(LookUpError::Queue(error)) => debug!("deliveries are not looked up yet: {error}"),
                Err(LookUpError::Api(error)) => {
                    failures += 1;
                    self.failed(&error);
                    sleep(pause(&error, failures)).await;
                }
            }
        }
    }

    fn is_well(&self) {
        self.status.send_if_modified(|status| std::mem::take(status) != ProofStatus::default());
    }

    fn failed(&self, error: &PagerDutyApiError) {
        let is_refused = error.is_refused();
        self.status.send_replace(ProofStatus { failure: Some(error.to_string()), is_refused });
        log_throttled!(
            Level::Warn, "incidents could not be looked up";
            "whether deliveries opened incidents is not known: {error}"
        );
    }

    fn now(&self) -> Duration {
        EPOCH + self.began.elapsed()
    }

    async fn round(&mut self) -> Result<(), LookUpError> {
        let now = self.now();
        if self.refreshed.is_none_or(|at| now.saturating_sub(at) >= REFRESH) {
            self.refresh().await?;
        }
        self.offer().await?;
        while let Some(event) = self.sample.next(self.now()) {
            let seen = self.look(&event).await?;
            self.judge(event, seen).await?;
        }
        Ok(())
    }

    /// Makes one request, if the budget of this minute allows it. Requests are made one at a time.
    async fn request<T>(
        &mut self,
        request: impl AsyncFnOnce(&PagerDutyRestClient) -> Result<T, PagerDutyApiError>,
    ) -> Result<T, LookUpError> {
        let now = self.now();
        if self.sample.left(now) == 0 {
            return Err(LookUpError::Budget);
        }
        let answer = request(&self.api).await;
        let now = self.now();
        self.sample.requested(now);
        Ok(answer?)
    }

    /// Loads the services and their names.
    async fn refresh(&mut self) -> Result<(), LookUpError> {
        loop {
            let offset = self.loading.1;
            let (page, next) = self.request(async |api| api.services_page(None, offset).await).await?;
            self.loading.0.extend(page);
            let Some(next) = next else { break };
            self.loading.1 = next;
        }
        self.owners = owners(std::mem::take(&mut self.loading).0);
        let names = self.owners.iter().map(|(key, (service, _))| (key.clone(), service.name.clone()));
        self.names.learn(names.filter(|(_, name)| !name.is_empty()).collect());
        self.refreshed = Some(self.now());
        Ok(())
    }

    /// Watches recently delivered events, the newest first, as far as there is room.
    async fn offer(&mut self) -> Result<(), LookUpError> {
        // Older events were delivered while no bridge could look them up.
        let oldest = self.sample.schedule().end() * 3;
        let reader = self.queue.reader();
        let mut delivered = reader.list(State::Delivered, None, NEWEST).await?;
        delivered.retain(|event| event.event_type != EventType::Acknowledge && !self.done.0.contains(&event.id));
        let ids: Vec<_> = delivered.iter().map(|event| event.id).collect();
        let known: HashSet<_> = reader.proofs(&ids).await?.into_iter().map(|proof| proof.event).collect();
        // Only now: an event that was delivered after this time would be looked up, and given up, too early.
        let (now, at) = (self.now(), Utc::now());
        for event in delivered {
            if known.contains(&event.id) {
                self.remember(event.id);
                continue;
            }
            let Some(delivered_at) = event.finished_at else { continue };
            let age = (at - delivered_at).max(TimeDelta::zero()).to_std().unwrap_or_default();
            if age > oldest {
                self.remember(event.id);
                continue;
            }
            let resent = (event.service_key, event.incident_key);
            let is_resent = event.event_type == EventType::Resolve && self.resent.contains(&resent);
            self.sample.offer(WatchedEvent {
                id: event.id,
                service_key: resent.0,
                incident_key: resent.1,
                event_type: event.event_type,
                delivered_at,
                delivered: now.saturating_sub(age),
                is_resent,
            });
        }
        Ok(())
    }

    fn remember(&mut self, id: EventId) {
        let (known, order) = &mut self.done;
        if known.insert(id) {
            order.push_back(id);
        }
        if order.len() > REMEMBERED
            && let Some(oldest) = order.pop_front()
        {
            known.remove(&oldest);
        }
    }

    async fn look(&mut self, event: &WatchedEvent) -> Result<LookUp, LookUpError> {
        let service = self.owners.get(&event.service_key).map(|(service, _)| service.id.clone());
        let incidents = self.request(async |api| api.incidents(&event.incident_key, service.as_deref()).await).await?;
        if event.event_type == EventType::Resolve {
            let Some(incident) = left_open_by(event.delivered_at, &incidents) else { return Ok(LookUp::Closed) };
            // An incident without a key of its own has alerts, and may be open because of others of them.
            let is_resolved = incident.incident_key.is_none() && {
                are_resolved(&self.request(async |api| api.alerts(&incident.id, &event.incident_key).await).await?)
            };
            return Ok(if is_resolved { LookUp::Closed } else { LookUp::Open(incident.clone()) });
        }
        let Some(incident) = opened_by(event.delivered_at, &incidents) else { return Ok(LookUp::Nothing) };
        let is_suppressed = incident.incident_key.is_none() && {
            are_suppressed(&self.request(async |api| api.alerts(&incident.id, &event.incident_key).await).await?)
        };
        let state = if is_suppressed { ProofState::Suppressed } else { ProofState::Confirmed };
        Ok(LookUp::Opened(incident.clone(), state))
    }

    async fn judge(&mut self, event: WatchedEvent, seen: LookUp) -> Result<(), LookUpError> {
        let now = self.now();
        match seen {
            LookUp::Opened(incident, state) => self.decide(&event, state, Some(&incident), None).await,
            LookUp::Closed => self.decide(&event, ProofState::Confirmed, None, None).await,
            LookUp::Nothing => {
                if !self.sample.looked(event.id, now) {
                    return Ok(());
                }
                let reason = self.reason(&event.service_key).await?;
                self.decide(&event, ProofState::NotOpened, None, Some(reason)).await
            }
            LookUp::Open(incident) => {
                let is_last = self.sample.looked(event.id, now);
                let age = now.saturating_sub(event.delivered);
                let is_late = if event.is_resent { is_last } else { age >= self.sample.schedule().resend_after };
                if !is_late {
                    return Ok(());
                }
                let state = self.queue.reader().incident(&event.incident_key, &event.service_key).await?;
                if state.is_open {
                    // It was triggered again since then, so it has to be open.
                    self.forget(&event);
                    return Ok(());
                }
                if event.is_resent {
                    let reason = "PagerDuty accepted its resolve twice, and left it open".to_owned();
                    return self.decide(&event, ProofState::LeftOpen, Some(&incident), Some(reason)).await;
                }
                self.resend(&event).await?;
                self.decide(&event, ProofState::Resent, Some(&incident), None).await
            }
        }
    }

    /// Returns the likely reason why a trigger of this key opened no incident. What cannot be read of it does not matter.
    async fn reason(&mut self, key: &ServiceKey) -> Result<String, LookUpError> {
        let Some((known, _)) = self.owners.get(key).cloned() else { return Ok(cause(None, None, &[])) };
        let service = self.request(async |api| Ok(api.service(&known.id).await.ok())).await?;
        let windows = match &service {
            Some(service) if service.status == ServiceStatus::Maintenance => {
                self.request(async |api| Ok(api.maintenance(&service.id).await.unwrap_or_default())).await?
            }
            _ => Vec::new(),
        };
        Ok(cause(Some(&known), service.as_ref(), &windows))
    }

    /// Enqueues the same resolve once more.
    async fn resend(&mut self, event: &WatchedEvent) -> Result<(), LookUpError> {
        let Some(record) = self.queue.reader().get(event.id).await? else { return Ok(()) };
        let again = Envelope {
            service_key: event.service_key.clone(),
            api: record.api,
            issue_key: None,
            incident_key: event.incident_key.clone(),
            event_type: event.event_type,
            description: record.summary.description,
            body: record.body,
            counts_at: None,
            received_at: Utc::now(),
        };
        self.queue.enqueue(EnqueueRequest::event(again)).await?;
        self.resent.insert((event.service_key.clone(), event.incident_key.clone()));
        Ok(())
    }

    async fn decide(
        &mut self,
        event: &WatchedEvent,
        state: ProofState,
        incident: Option<&PagerDutyIncident>,
        reason: Option<String>,
    ) -> Result<(), LookUpError> {
        let proof = Proof {
            event: event.id,
            service_key: event.service_key.clone(),
            state,
            delivered_at: event.delivered_at,
            judged_at: Utc::now(),
            incident_number: incident.map(|incident| incident.number),
            incident_url: incident.and_then(PagerDutyIncident::page),
            reason,
        };
        self.queue.record_proof(proof.clone()).await?;
        self.metrics.count_proof(state);
        self.forget(event);
        let (id, incident_key, number) =
            (event.id.get(), event.incident_key.as_str(), proof.incident_number.unwrap_or(0));
        let key = self.names.show(&event.service_key);
        match state {
            ProofState::Confirmed => {
                info!(event = id, incident = incident_key, number; "PagerDuty's REST API confirms the event");
            }
            ProofState::Suppressed => {
                warn!(event = id, incident = incident_key, number; "a rule of PagerDuty suppresses the alert for {key}");
            }
            ProofState::Resent => {
                warn!(event = id, incident = incident_key, number; "the incident is still open after its resolve, which is sent once more");
            }
            ProofState::NotOpened | ProofState::LeftOpen => {
                let reason = proof.reason.unwrap_or_default();
                warn!(event = id, incident = incident_key, number; "PagerDuty accepted the event for {key}, but it had no effect: {reason}");
            }
        }
        Ok(())
    }

    fn forget(&mut self, event: &WatchedEvent) {
        self.sample.forget(event.id);
        self.remember(event.id);
        if event.is_resent {
            self.resent.remove(&(event.service_key.clone(), event.incident_key.clone()));
        }
    }
}

/// How long to wait after `error`, which was the last of this many failures in a row.
fn pause(error: &PagerDutyApiError, failures: u32) -> Duration {
    let doubled = RETRY.pause(failures);
    match error {
        PagerDutyApiError::Throttled { wait: Some(wait), .. } => (*wait).clamp(Duration::from_secs(1), LONGEST_WAIT),
        PagerDutyApiError::Throttled { wait: None, .. } => doubled.max(Duration::from_mins(1)),
        PagerDutyApiError::NotInPlan { .. } => OFF,
        error if error.is_refused() => REFUSED,
        _ => doubled,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_refusal_is_waited_for_as_it_deserves() {
        let call = || "GET /incidents".to_owned();
        let throttled = |wait| PagerDutyApiError::Throttled { call: call(), wait };
        assert_eq!(pause(&throttled(Some(Duration::from_secs(7))), 1), Duration::from_secs(7));
        assert_eq!(pause(&throttled(Some(Duration::from_hours(9))), 1), LONGEST_WAIT);
        assert_eq!(pause(&throttled(None), 1), Duration::from_mins(1), "without headers it backs off");
        assert_eq!(pause(&throttled(None), 4), Duration::from_mins(2));
        for refused in
            [PagerDutyApiError::Unauthorized { call: call() }, PagerDutyApiError::Forbidden { call: call(), needs: "" }]
        {
            assert_eq!(pause(&refused, 1), REFUSED, "{refused}");
        }
        assert_eq!(pause(&PagerDutyApiError::NotInPlan { call: call() }, 1), OFF);
        let broken = PagerDutyApiError::Status { call: call(), status: 500, reason: String::new() };
        assert_eq!([1, 2, 10].map(|failures| pause(&broken, failures).as_secs()), [15, 30, 300]);
    }
}
