//! Keeps an eye on the bridge and pages for what is wrong with it.
//!
//! Alarms take the way of every event: through the durable queue, in its order and at its pace. Only one that says that
//! nothing can be committed goes to PagerDuty at once.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use log::{Level, error, info, log, warn};
use tokio::time::sleep;

use super::alarm::{Alarms, Deed, Finding, Incident};
use super::notice::Notice;
use super::{Cause, Facts, Rhythm, Trouble, Watch, judge};
use crate::logging::repeats;
use crate::pagerduty::client::Client;
use crate::pagerduty::outcome::Outcome;
use crate::pagerduty::{IncidentKey, ServiceKey, WireEvent};
use crate::queue::{Incoming, NewEvent, Queue, QueueError, Reception};

/// How often a bridge that has nothing to do tries whether it could commit an alert.
const PROBING: Duration = Duration::from_mins(1);

/// How often an alarm that cannot be queued is sent; with the pauses between them that takes 17 minutes.
const DIRECT_ATTEMPTS: u32 = 9;

/// The pause after the first of these attempts; it doubles with each.
const DIRECT_PAUSE: Duration = Duration::from_secs(2);

/// For so long an alarm that PagerDuty has refused is not repeated by a bridge that starts again.
const REFUSED: TimeDelta = TimeDelta::days(1);

/// Where alarms go, and whether they do.
#[derive(Clone, Debug)]
pub struct Paging {
    /// The integration; `None`: troubles are logged, and nobody is paged.
    pub service_key: Option<ServiceKey>,
    /// What the incident keys begin with.
    pub prefix: String,
}

/// Looks after a running bridge.
pub struct Keeper {
    watch: Watch,
    queue: Queue,
    client: Client,
    paging: Paging,
    rhythm: Rhythm,
    alarms: Alarms,
    began: Instant,
    probed: Instant,
    direct: Direct,
    /// The newest time an event of an alarm was given, for the clock may be set back: an alarm must not seem to be older
    /// than the end of the one before.
    latest: DateTime<Utc>,
}

/// Attempts to send what cannot be queued.
#[derive(Debug, Default)]
struct Direct {
    attempts: u32,
    not_before: Duration,
}

impl Keeper {
    /// Looks after the bridge that `watch` sees.
    #[must_use]
    pub fn new(watch: Watch, queue: Queue, client: Client, paging: Paging) -> Self {
        let (rhythm, now) = (Rhythm::default(), Instant::now());
        let alarms = Alarms::new(*watch.limits(), rhythm.hold);
        let direct = Direct::default();
        let latest = DateTime::UNIX_EPOCH;
        Self { watch, queue, client, paging, rhythm, alarms, began: now, probed: now, direct, latest }
    }

    /// The same in another rhythm. It is for one that has not looked yet: what that knew of alarms is forgotten.
    #[must_use]
    pub fn with_rhythm(self, rhythm: Rhythm) -> Self {
        let alarms = Alarms::new(*self.watch.limits(), rhythm.hold);
        Self { rhythm, alarms, ..self }
    }

    /// Looks again and again, for as long as it is polled.
    pub async fn run(mut self) -> Infallible {
        loop {
            sleep(self.rhythm.look).await;
            self.look().await;
        }
    }

    async fn look(&mut self) {
        if self.probed.elapsed() >= PROBING {
            // What came of it is told by the facts.
            let _ = self.queue.probe().await;
            self.probed = Instant::now();
        }
        let facts = self.watch.facts(Utc::now()).await;
        let mut troubles = judge(&facts, self.watch.limits());
        for cause in Cause::ALL {
            let trouble = troubles.iter().position(|trouble| trouble.cause == cause);
            let finding = finding(cause, trouble.map(|place| troubles.swap_remove(place)), &facts);
            let incident = self.incident(cause, facts.at).await;
            let Some(deed) = self.alarms.look(cause, &finding, incident, self.began.elapsed()) else { continue };
            if self.does(&deed, &facts).await {
                self.alarms.done(&deed, self.began.elapsed());
            }
        }
    }

    async fn incident(&self, cause: Cause, now: DateTime<Utc>) -> Incident {
        let Some(service_key) = self.paged(cause) else { return Incident::Closed };
        let incident_key = self.incident_key(cause);
        match self.queue.reader().incident(&incident_key, service_key).await {
            Ok(incident) if incident.is_open => Incident::Open,
            Ok(incident) if incident.died_at.is_some_and(|died| now - died < REFUSED) => Incident::Refused,
            Ok(_) => Incident::Closed,
            Err(_) => Incident::Unknown,
        }
    }

    fn paged(&self, cause: Cause) -> Option<&ServiceKey> {
        self.paging.service_key.as_ref().filter(|_| cause.is_paged())
    }

    fn incident_key(&self, cause: Cause) -> IncidentKey {
        cause.incident_key(&self.paging.prefix)
    }

    /// Says whether it is done, or given up.
    async fn does(&mut self, deed: &Deed, facts: &Facts) -> bool {
        let cause = deed.cause();
        self.latest = self.latest.max(facts.at);
        let Some(service_key) = self.paged(cause).cloned() else {
            match deed {
                Deed::Raise(trouble) => warn!(alarm = cause.name(); "{}", trouble.sentence),
                Deed::Resolve(_) => info!(alarm = cause.name(); "this trouble is over"),
            }
            return true;
        };
        let notice = Notice { service_key, incident_key: self.incident_key(cause), at: self.latest };
        match deed {
            Deed::Raise(trouble) if cause == Cause::Storage => {
                self.sends(notice.trigger(trouble, facts), trouble).await
            }
            Deed::Raise(trouble) => {
                let trigger = Incoming::event(NewEvent::new(notice.trigger(trouble, facts), self.latest));
                self.queues(trigger, cause, &trouble.sentence).await
            }
            Deed::Resolve(_) => {
                self.direct = Direct::default();
                // The queue does not know of an incident that it did not open.
                let resolve = if cause == Cause::Storage {
                    Incoming::event(NewEvent::new(notice.resolve(), self.latest))
                } else {
                    Incoming::follow_up(notice.follow_up(), self.latest)
                };
                self.queues(resolve, cause, "this trouble is over").await
            }
        }
    }

    async fn queues(&self, incoming: Incoming, cause: Cause, sentence: &str) -> bool {
        let alarm = cause.name();
        match self.queue.receive(incoming).await {
            Ok(Reception::Queued(events)) => {
                let event = events.first().map_or(0, |event| event.id.get());
                warn!(alarm, event; "{sentence}");
                true
            }
            Ok(Reception::Repeated | Reception::Replayed | Reception::Outdated | Reception::NothingOpen) => {
                info!(alarm; "{sentence}");
                true
            }
            Err(QueueError::Closed) => false,
            Err(error) => {
                let line = repeats::line(repeats::Cause::NoAlarm, Level::Error);
                log!(line.level, alarm; "this alarm cannot be queued: {error}{line}");
                false
            }
        }
    }

    /// Sends an alarm past the queue.
    async fn sends(&mut self, event: WireEvent, trouble: &Trouble) -> bool {
        let alarm = trouble.cause.name();
        let now = self.began.elapsed();
        if now < self.direct.not_before {
            return false;
        }
        if self.direct.attempts == 0 {
            error!(alarm; "{}", trouble.sentence);
        }
        self.direct.attempts += 1;
        self.alarms.tried(trouble.cause);
        self.direct.not_before = now + DIRECT_PAUSE * 2_u32.pow(self.direct.attempts.min(DIRECT_ATTEMPTS));
        let key = event.service_key().clone();
        match self.client.send(&key, event.into_body()).await {
            Outcome::Delivered { .. } => true,
            Outcome::Refused { reason } => {
                error!(alarm; "PagerDuty does not take this alarm for the service key {key}: {reason}");
                true
            }
            Outcome::Throttled { reason, .. }
            | Outcome::Trouble { reason, .. }
            | Outcome::Dropped { reason }
            | Outcome::Untrusted { reason } => {
                warn!(alarm, attempt = self.direct.attempts; "PagerDuty did not take this alarm: {reason}");
                self.direct.attempts >= DIRECT_ATTEMPTS
            }
        }
    }
}

/// What the facts say of a cause. That no trouble is seen is no proof that there is none.
fn finding(cause: Cause, trouble: Option<Trouble>, facts: &Facts) -> Finding {
    let can_tell = match cause {
        Cause::Waiting | Cause::DeadLetters => facts.attention.is_ok(),
        // Wrong ones are not counted over a restart; only a right one is a proof.
        Cause::Signatures => facts.metrics.last_webhook_at.is_some_and(|last| last >= facts.started_at),
        Cause::Storage => facts.queue.is_ok() && facts.attention.is_ok(),
        Cause::Silence | Cause::Untrusted => true,
    };
    match trouble {
        Some(trouble) => Finding::Trouble(trouble),
        None if can_tell => Finding::Nothing,
        None => Finding::Unknown,
    }
}
