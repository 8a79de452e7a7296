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
use super::{Cause, Facts, Limits, Rhythm, Trouble, Watch, judge};
use crate::logging::repeats;
use crate::pagerduty::client::Client;
use crate::pagerduty::outcome::Outcome;
use crate::pagerduty::{IncidentKey, ServiceKey};
use crate::queue::{Enqueue, Enqueued, Envelope, IncidentState, Queue, QueueError};

/// How often a bridge that has nothing to do tries whether it could commit an alert.
const PROBING: Duration = Duration::from_mins(1);

/// How often an alarm that cannot be queued is sent; with the pauses between them that takes 17 minutes.
const DIRECT_ATTEMPTS: u32 = 9;

/// The pause after the first of these attempts; it doubles with each.
const DIRECT_PAUSE: Duration = Duration::from_secs(2);

/// For so long an alarm that PagerDuty has refused is not raised again on the same service key, unless that has taken
/// something since.
const REFUSED: TimeDelta = TimeDelta::days(1);

/// The pause before an alarm that was refused twice on a service key is raised there for the third time; it doubles with
/// each refusal, up to [`REFUSED`]. Each is a dead letter, and were there none, one for every alert that passes.
const REFUSED_TWICE: TimeDelta = TimeDelta::minutes(1);

/// Where alarms go, and whether they do.
#[derive(Clone, Debug)]
pub struct Paging {
    /// The integrations: the first one is paged, and where that refuses an alarm the next. None: troubles are logged, and
    /// nobody is paged.
    pub service_keys: Vec<ServiceKey>,
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
    /// Where PagerDuty has, or may have, taken it.
    sent_to: Option<ServiceKey>,
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
        let watch = self.watch.with_limits(Limits { unverified: rhythm.unverified, ..*self.watch.limits() });
        let alarms = Alarms::new(*watch.limits(), rhythm.hold);
        Self { watch, rhythm, alarms, ..self }
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
            if cause == Cause::Delivery {
                // The attempts that fail are in the log, and what lasts is paged for as `waiting`.
                continue;
            }
            let trouble = troubles.iter().position(|trouble| trouble.cause == cause);
            let finding = finding(cause, trouble.map(|place| troubles.swap_remove(place)), &facts);
            let (incident, service_key) = self.incident(cause, &facts).await;
            let Some(deed) = self.alarms.look(cause, &finding, incident, self.began.elapsed()) else { continue };
            if self.does(&deed, service_key, &facts).await {
                self.alarms.done(&deed, self.began.elapsed());
            }
        }
    }

    /// What the queue knows of the incident of a cause, and which integration to page for it, if any.
    async fn incident(&self, cause: Cause, facts: &Facts) -> (Incident, Option<ServiceKey>) {
        let incident_key = self.incident_key(cause);
        let (mut is_refused, mut paged) = (false, None);
        for service_key in self.paged(cause) {
            match self.queue.reader().incident(&incident_key, service_key).await {
                Ok(incident) if incident.is_open => return (Incident::Open, Some(service_key.clone())),
                Ok(incident) => {
                    is_refused |= incident.died_at.is_some();
                    let passed = facts.last_delivered_at(service_key);
                    if paged.is_none() && may_take(&incident, passed, facts.at) {
                        paged = Some(service_key.clone());
                    }
                }
                Err(_) => return (Incident::Unknown, self.paged(cause).first().cloned()),
            }
        }
        match (&paged, is_refused) {
            (_, false) => (Incident::Closed, paged),
            (Some(_), true) => (Incident::Again, paged),
            (None, true) => (Incident::Refused, None),
        }
    }

    fn paged(&self, cause: Cause) -> &[ServiceKey] {
        if cause.is_paged() { &self.paging.service_keys } else { &[] }
    }

    fn incident_key(&self, cause: Cause) -> IncidentKey {
        cause.incident_key(&self.paging.prefix)
    }

    /// Says whether it is done, or given up.
    async fn does(&mut self, deed: &Deed, service_key: Option<ServiceKey>, facts: &Facts) -> bool {
        let cause = deed.cause();
        self.latest = self.latest.max(facts.at);
        let Some(service_key) = service_key.or_else(|| self.paged(cause).first().cloned()) else {
            match deed {
                Deed::Raise(trouble) => warn!(alarm = cause.name(); "{}", trouble.sentence),
                Deed::Resolve(_) => info!(alarm = cause.name(); "this trouble is over"),
            }
            return true;
        };
        let mut notice = Notice { service_key, incident_key: self.incident_key(cause), at: self.latest };
        match deed {
            Deed::Raise(trouble) if cause == Cause::Storage => self.sends(&notice, trouble, facts).await,
            Deed::Raise(trouble) => {
                let trigger = Enqueue::event(Envelope::new(notice.trigger(trouble, facts), self.latest));
                self.queues(trigger, cause, &trouble.sentence).await
            }
            Deed::Resolve(_) => {
                let Direct { sent_to, .. } = std::mem::take(&mut self.direct);
                notice.service_key = sent_to.unwrap_or(notice.service_key);
                // The queue does not know of an incident that it did not open.
                let resolve = if cause == Cause::Storage {
                    Enqueue::event(Envelope::new(notice.resolve(), self.latest))
                } else {
                    Enqueue::follow_up(notice.follow_up(), self.latest)
                };
                self.queues(resolve, cause, "this trouble is over").await
            }
        }
    }

    async fn queues(&self, incoming: Enqueue, cause: Cause, sentence: &str) -> bool {
        let alarm = cause.name();
        match self.queue.enqueue(incoming).await {
            Ok(Enqueued::Queued(events)) => {
                let event = events.first().map_or(0, |event| event.id.get());
                warn!(alarm, event; "{sentence}");
                true
            }
            Ok(Enqueued::Repeated | Enqueued::Replayed | Enqueued::Outdated | Enqueued::NothingOpen) => {
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

    /// Sends an alarm past the queue: to the next integration where one refuses it.
    async fn sends(&mut self, notice: &Notice, trouble: &Trouble, facts: &Facts) -> bool {
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
        for key in self.paged(trouble.cause).to_vec() {
            let event = Notice { service_key: key.clone(), ..notice.clone() }.trigger(trouble, facts);
            match self.client.send(&key, event.into_body()).await {
                Outcome::Delivered { .. } => {
                    self.direct.sent_to = Some(key);
                    return true;
                }
                Outcome::Refused { reason } => {
                    error!(alarm; "PagerDuty does not take this alarm for the service key {key}: {reason}");
                }
                Outcome::Throttled { reason, .. }
                | Outcome::Trouble { reason, .. }
                | Outcome::Dropped { reason }
                | Outcome::Untrusted { reason } => {
                    warn!(alarm, attempt = self.direct.attempts; "PagerDuty did not take this alarm: {reason}");
                    self.direct.sent_to = Some(key);
                    break;
                }
            }
        }
        self.direct.attempts >= DIRECT_ATTEMPTS
    }
}

/// Whether an integration that took its last event at `passed` may take an alarm whose incident is not open.
fn may_take(incident: &IncidentState, passed: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    let Some(died_at) = incident.died_at else { return true };
    let pause = match u32::try_from(incident.dead.saturating_sub(2)) {
        _ if incident.dead < 2 => TimeDelta::zero(),
        Ok(doublings) => REFUSED_TWICE * 2_i32.pow(doublings.min(11)),
        Err(_) => REFUSED,
    };
    // A dead letter of the future is one of before the clock was set back.
    let age = (now - died_at).abs();
    age >= REFUSED || age >= pause && passed > Some(died_at)
}

/// What the facts say of a cause. That no trouble is seen is no proof that there is none.
fn finding(cause: Cause, trouble: Option<Trouble>, facts: &Facts) -> Finding {
    let can_tell = match cause {
        Cause::Waiting | Cause::DeadLetters => facts.attention.is_ok(),
        // Wrong ones are not counted over a restart; only a right one is a proof.
        Cause::Signatures => facts.metrics.since_webhook.is_some(),
        Cause::Storage => facts.queue.is_ok() && facts.attention.is_ok(),
        Cause::Silence | Cause::Untrusted | Cause::Delivery => true,
    };
    match trouble {
        Some(trouble) => Finding::Trouble(trouble),
        None if can_tell => Finding::Nothing,
        None => Finding::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds)
    }

    fn refused(dead: u64) -> IncidentState {
        IncidentState { is_open: false, died_at: Some(at(0)), dead }
    }

    #[test]
    fn a_key_that_refused_an_alarm_may_take_it_once_it_took_something_else_or_a_day_later() {
        let fresh = IncidentState { is_open: false, died_at: None, dead: 0 };
        assert!(may_take(&fresh, None, at(0)));
        assert!(!may_take(&refused(1), None, at(86_399)));
        assert!(!may_take(&refused(1), Some(at(-1)), at(86_399)));
        assert!(may_take(&refused(1), Some(at(1)), at(1)));
        assert!(may_take(&refused(1), None, at(86_400)));
    }

    #[test]
    fn an_alarm_that_is_refused_over_and_over_is_raised_less_and_less_often() {
        for (dead, pause) in [(2, 60), (3, 120), (4, 240), (12, 61_440), (13, 86_400), (u64::MAX, 86_400)] {
            assert!(!may_take(&refused(dead), Some(at(1)), at(pause - 1)), "{dead}");
            assert!(may_take(&refused(dead), Some(at(1)), at(pause)), "{dead}");
        }
    }
}
