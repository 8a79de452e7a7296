//! A model of PagerDuty and of the network.

use std::collections::VecDeque;
use std::time::Duration;

use chrono::DateTime;
use sentry_pagerduty_bridge::pagerduty::outcome::{EventsApiResponse, FailureCause, Outcome};

use crate::fault::{Content, Fault, Kind, PoisonFailure};
use crate::runner::service_key;

/// The period of PagerDuty's rate limit.
pub(crate) const WINDOW: Duration = Duration::from_mins(1);

/// A request that PagerDuty received.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ReceivedRequest {
    pub(crate) at: Duration,
    pub(crate) key: usize,
    pub(crate) number: usize,
    pub(crate) accepted: bool,
}

/// An attempt in flight.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) key: usize,
    pub(crate) number: usize,
    pub(crate) content: Content,
    /// Random numbers, which are the same for the same attempt of the same event in the same world, whatever else happens
    /// in it.
    pub(crate) random: [f64; 4],
}

/// Whether an attempt reaches PagerDuty.
#[derive(Clone, Debug)]
pub(crate) enum Transmission {
    /// It reaches PagerDuty after this time.
    Arrives(Duration),
    /// It does not reach PagerDuty; the outcome is known after this time.
    Fails(Duration, Outcome),
}

/// PagerDuty.
#[derive(Debug)]
pub(crate) struct PagerDuty {
    faults: Vec<Fault>,
    /// The longest travel time of a request or a response without faults.
    travel: Duration,
    timeout: Duration,
    /// The events that count for the rate limit of each key.
    counted: Vec<VecDeque<Duration>>,
    /// Accepted events per minute without faults.
    limit: usize,
    pub(crate) journal: Vec<ReceivedRequest>,
}

impl PagerDuty {
    pub(crate) fn new(faults: Vec<Fault>, keys: usize, travel: Duration, timeout: Duration, limit: usize) -> Self {
        let counted = vec![VecDeque::new(); keys];
        Self { faults, travel, timeout, counted, limit, journal: Vec::new() }
    }

    /// Decides what happens to a request that the bridge sends.
    pub(crate) fn send(&self, request: &Request, now: Duration) -> Transmission {
        let [travels, coin, _, luck] = request.random;
        let mut travel = self.travel.mul_f64(travels);
        for fault in self.faults.iter().filter(|fault| fault.concerns(now, request.key)) {
            match fault.kind {
                Kind::Refused => return Transmission::Fails(travel, network_error("no connection: refused")),
                Kind::BlackHole if coin < 0.5 => {
                    return Transmission::Fails(self.timeout / 2, network_error("no connection in time"));
                }
                Kind::BlackHole => return Transmission::Fails(self.timeout, timed_out()),
                Kind::Distrusted => {
                    return Transmission::Fails(travel, Outcome::Untrusted { reason: "TLS: expired".to_owned() });
                }
                Kind::Stale { part } if luck < part => return Transmission::Fails(travel, dropped()),
                Kind::Middlebox { status, body } => {
                    return Transmission::Fails(travel, middlebox(request.key, status, body));
                }
                // The response time is split between the request and the response.
                Kind::Slow { answer } => travel = answer.mul_f64(travels),
                Kind::Errors { .. }
                | Kind::Late { .. }
                | Kind::LostAnswers { .. }
                | Kind::Stale { .. }
                | Kind::Throttled { .. } => {}
            }
        }
        if travel >= self.timeout {
            Transmission::Fails(self.timeout, timed_out())
        } else {
            Transmission::Arrives(travel)
        }
    }

    /// Handles the arrival of a request; returns after what time the bridge knows the outcome, and the outcome.
    pub(crate) fn receive(&mut self, request: &Request, now: Duration) -> (Duration, Outcome) {
        let (delay, accepted, outcome) = self.handle(request, now);
        self.journal.push(ReceivedRequest { at: now, key: request.key, number: request.number, accepted });
        (delay, outcome)
    }

    fn handle(&mut self, request: &Request, now: Duration) -> (Duration, bool, Outcome) {
        let [_, coin, travels, luck] = request.random;
        let mut delay = self.travel.mul_f64(travels);
        let never = self.timeout;
        let (mut limit, mut counts_rejected, mut throttle_asks) = (self.limit, false, None);
        let mut ends = None;
        for fault in self.faults.iter().filter(|fault| fault.concerns(now, request.key)) {
            match fault.kind {
                Kind::Errors { part, retry_after } if luck < part => {
                    // One of ten was accepted before the failure.
                    let error = transient("answered 503: Service Unavailable", FailureCause::ServerError, retry_after);
                    ends = Some((delay, coin < 0.1, error));
                }
                Kind::LostAnswers { part } if luck < part && coin < 0.5 => ends = Some((never, true, timed_out())),
                Kind::LostAnswers { part } if luck < part => ends = Some((delay, true, dropped())),
                Kind::Slow { answer } => delay = answer.mul_f64(travels),
                Kind::Late { answer } => delay = answer,
                Kind::Throttled { limit: lowered, counts_rejected: counts, retry_after } => {
                    limit = limit.min(lowered);
                    counts_rejected |= counts;
                    throttle_asks = retry_after;
                }
                _ => {}
            }
        }
        let counted = &mut self.counted[request.key];
        while counted.front().is_some_and(|seen| *seen + WINDOW <= now) {
            counted.pop_front();
        }
        let throttled = counted.len() >= limit;
        if !throttled || counts_rejected {
            counted.push_back(now);
        }
        if throttled {
            let reason = "answered 403: Requests for this service are arriving too quickly.".to_owned();
            return (delay, false, Outcome::Throttled { reason, retry_after: throttle_asks });
        }
        if let Some(ends) = ends {
            return ends;
        }
        match request.content {
            Content::Invalid => {
                let reason = "answered 400: Event object is invalid".to_owned();
                (delay, false, Outcome::Refused { reason })
            }
            Content::Poison { until, how } if now < until => match how {
                PoisonFailure::Error => {
                    (delay, false, transient("answered 500: Internal Server Error", FailureCause::ServerError, None))
                }
                PoisonFailure::Timeout => (never, false, timed_out()),
                PoisonFailure::Reset => (delay, false, dropped()),
            },
            Content::Fine | Content::Poison { .. } => (delay, true, Outcome::Delivered { note: None }),
        }
    }
}

pub(crate) fn timed_out() -> Outcome {
    transient("no answer in time", FailureCause::Timeout, None)
}

fn dropped() -> Outcome {
    Outcome::Dropped { reason: "the connection ended before an answer".to_owned() }
}

/// The outcome of a middlebox's response, classified by the bridge.
fn middlebox(key: usize, status: u16, body: &str) -> Outcome {
    let answer = EventsApiResponse { status, retry_after: None, location: None, body: body.as_bytes() };
    Outcome::of_response(&answer, &service_key(key), DateTime::UNIX_EPOCH)
}

fn network_error(reason: &str) -> Outcome {
    transient(reason, FailureCause::NetworkError, None)
}

fn transient(reason: &str, cause: FailureCause, retry_after: Option<Duration>) -> Outcome {
    Outcome::Transient { reason: reason.to_owned(), cause, retry_after }
}
