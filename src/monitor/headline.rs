//! The first line of the status page and of `/api/status`: the worst trouble, since when, and how many alerts have not
//! been delivered. Pure.

use chrono::{DateTime, TimeDelta, Utc};

use super::checks::delivery::{FailingDeliveries, TRANSIT, named};
use super::checks::{Cause, Trouble};
use super::snapshot::Snapshot;
use crate::canary::CanaryProgress;
use crate::pagerduty::{OutcomeKind, ProofState, ServiceKey};

/// The worst trouble in one line.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Headline {
    /// What is wrong, without a full stop: "PagerDuty has not answered".
    pub what: String,
    /// When it began or happened; `None` where that is not known.
    pub when: Option<When>,
    /// The alerts that wait; `None` when none waits, or only briefly.
    pub waiting: Option<Waiting>,
    /// How many dead letters there are, unless they are the trouble itself.
    pub dead: u64,
}

/// When a trouble began or happened.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum When {
    /// It has lasted since then.
    Since(DateTime<Utc>),
    /// It happened then.
    At(DateTime<Utc>),
}

impl When {
    /// The preposition that goes before the time.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Since(_) => "since",
            Self::At(_) => "at",
        }
    }

    /// The time.
    #[must_use]
    pub fn time(self) -> DateTime<Utc> {
        let (Self::Since(time) | Self::At(time)) = self;
        time
    }
}

/// What has not been delivered yet.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Waiting {
    /// How many alerts; `None` when so many events wait that the alerts among them are not counted.
    pub alerts: Option<u64>,
    /// How many events: alerts, acknowledges and resolves.
    pub events: u64,
    /// Since when the oldest waits.
    pub oldest: Option<DateTime<Utc>>,
}

impl Waiting {
    /// A number and what it counts, such as 54 and "alerts wait".
    #[must_use]
    pub fn counted(&self) -> (u64, &'static str) {
        match (self.alerts, self.events) {
            (Some(1), _) => (1, "alert waits"),
            (Some(alerts), _) if alerts > 0 => (alerts, "alerts wait"),
            (_, 1) => (1, "event waits"),
            (_, events) => (events, "events wait"),
        }
    }
}

impl Headline {
    /// The headline for troubles, worst first; `None` when there are none.
    #[must_use]
    pub fn of(snapshot: &Snapshot, troubles: &[Trouble]) -> Option<Self> {
        let cause = troubles.first()?.cause;
        let (what, when) = what(cause, snapshot);
        let waiting = waiting(troubles, snapshot);
        let dead = match cause {
            Cause::DeadLetters => 0,
            _ => snapshot.queue.as_ref().map_or(0, |queue| queue.dead),
        };
        Some(Self { what, when, waiting, dead })
    }

    /// The whole line as text, at `now`. Times are UTC.
    #[must_use]
    pub fn text(&self, now: DateTime<Utc>) -> String {
        let when = self.when.map(|when| format!(" {} {}", when.word(), clock(when.time(), now)));
        let waiting = self.waiting.as_ref().map(|waiting| {
            let oldest = waiting.oldest.map(|oldest| format!(", the oldest for {}", rough(now - oldest)));
            let (number, words) = waiting.counted();
            format!("; {number} {words}{}", oldest.unwrap_or_default())
        });
        let dead = match self.dead {
            0 => String::new(),
            1 => "; 1 dead letter".to_owned(),
            dead => format!("; {dead} dead letters"),
        };
        format!("{}{}{}{dead}", self.what, when.unwrap_or_default(), waiting.unwrap_or_default())
    }
}

/// Formats a time of day in UTC, with the date if it is not that of `now`.
#[must_use]
pub fn clock(at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let format = if at.date_naive() == now.date_naive() { "%H:%M UTC" } else { "%Y-%m-%d %H:%M UTC" };
    at.format(format).to_string()
}

/// Formats a duration, rounded down to its largest unit.
#[must_use]
pub fn rough(length: TimeDelta) -> String {
    let seconds = length.num_seconds().max(0);
    match seconds {
        ..60 => format!("{seconds} s"),
        60..3_600 => format!("{} min", seconds / 60),
        3_600..172_800 => format!("{} h", seconds / 3_600),
        _ => format!("{} d", seconds / 86_400),
    }
}

fn what(cause: Cause, snapshot: &Snapshot) -> (String, Option<When>) {
    let metrics = &snapshot.metrics;
    match cause {
        Cause::Storage if snapshot.storage.is_err() => {
            ("Alerts cannot be stored and are answered 503".to_owned(), snapshot.storage_since.map(When::Since))
        }
        Cause::Storage if snapshot.read_error().is_some() => {
            ("The queue cannot be read".to_owned(), snapshot.storage_since.map(When::Since))
        }
        Cause::Storage => ("Part of the database is damaged".to_owned(), None),
        Cause::Untrusted | Cause::Waiting | Cause::Delivery => undelivered(cause, snapshot),
        Cause::Signatures => {
            let began = metrics.wrong_signatures_since.map(When::Since);
            ("Webhooks have had wrong signatures and were answered 401".to_owned(), began)
        }
        Cause::Proof => unproved(snapshot),
        Cause::Canary => match snapshot.canary.as_ref().and_then(|canary| canary.as_ref().ok()) {
            Some(status) => match &status.progress {
                CanaryProgress::NotTaken { since: began, .. } => {
                    ("Sentry has not accepted the canary".to_owned(), Some(When::Since(*began)))
                }
                CanaryProgress::Lost { sent_at } => {
                    ("The canary has not come back from Sentry; it was sent".to_owned(), Some(When::At(*sent_at)))
                }
                CanaryProgress::Unknown | CanaryProgress::Returns => {
                    ("The canary has not come back from Sentry".to_owned(), None)
                }
            },
            None => ("The canary has not come back from Sentry".to_owned(), None),
        },
        Cause::Silence => match metrics.last_webhook_at {
            Some(at) => ("No webhook has come".to_owned(), Some(When::Since(at))),
            None => {
                ("No webhook has come since the bridge was started".to_owned(), Some(When::At(snapshot.started_at)))
            }
        },
        Cause::DeadLetters => dead_letters(snapshot),
        Cause::Secrets => ("A secret file cannot be used; the old secret stays in use".to_owned(), None),
        Cause::Bridges => ("One of the bridges needs attention".to_owned(), None),
    }
}

fn undelivered(cause: Cause, snapshot: &Snapshot) -> (String, Option<When>) {
    let outage = FailingDeliveries::of(snapshot);
    let since = outage.as_ref().map(|outage| When::Since(outage.since));
    if cause == Cause::Untrusted {
        return ("PagerDuty's TLS certificate has not been trusted".to_owned(), since);
    }
    let Some(outage) = outage else {
        let views = &snapshot.delivery.keys;
        let fails = views.iter().find(|view| view.last_failure.is_some() && !view.is_permanent && !view.is_throttled);
        let what = if let Some(view) = fails {
            format!("PagerDuty accepts no events for {}", named(&view.service_key, snapshot))
        } else if let Some(view) = views.iter().find(|view| view.allowed < view.rate) {
            format!("PagerDuty throttles {}", named(&view.service_key, snapshot))
        } else {
            "Alerts wait to be sent to PagerDuty".to_owned()
        };
        return (what, None);
    };
    let keys = keys(&outage.keys, snapshot);
    let scope = if outage.others_pass { format!(" for {keys}") } else { String::new() };
    let what = match outage.kind {
        OutcomeKind::Untrusted => "PagerDuty's TLS certificate has not been trusted".to_owned(),
        OutcomeKind::Throttled => format!("PagerDuty has throttled {keys}"),
        OutcomeKind::ServerError => format!("PagerDuty has answered with errors only{scope}"),
        _ => format!("PagerDuty has not answered{scope}"),
    };
    (what, since)
}

/// The headline for an event that PagerDuty accepted but did not carry out.
fn unproved(snapshot: &Snapshot) -> (String, Option<When>) {
    let failures = snapshot.proof.as_ref().and_then(|view| view.failures.as_ref().ok());
    match failures.and_then(|failures| failures.first()) {
        Some(newest) if newest.state == ProofState::LeftOpen => (
            "PagerDuty accepted a resolve and left the incident open; accepted".to_owned(),
            Some(When::At(newest.delivered_at)),
        ),
        Some(newest) => (
            "PagerDuty accepted an alert and opened no incident, so nobody was notified; accepted".to_owned(),
            Some(When::At(newest.delivered_at)),
        ),
        None => ("PagerDuty's REST API does not tell whether incidents were opened".to_owned(), None),
    }
}

fn keys(keys: &[&ServiceKey], snapshot: &Snapshot) -> String {
    match keys {
        [key] => named(key, snapshot),
        keys => format!("{} service keys", keys.len()),
    }
}

fn dead_letters(snapshot: &Snapshot) -> (String, Option<When>) {
    let dead = snapshot.backlog.as_ref().map_or(&[][..], |backlog| &backlog.dead);
    let number: u64 = dead.iter().map(|letters| letters.number).sum();
    let newest = dead.iter().map(|letters| letters.died_at).max();
    let what = if number == 1 {
        "1 event could not be delivered and is a dead letter; it was given up".to_owned()
    } else {
        format!("{number} events could not be delivered and are dead letters; the last was given up")
    };
    (what, newest.map(When::At))
}

/// The waiting events, if they matter: events that are only in transit are no trouble.
fn waiting(troubles: &[Trouble], snapshot: &Snapshot) -> Option<Waiting> {
    let queue = snapshot.queue.as_ref().ok().filter(|queue| queue.waiting > 0)?;
    let transit = TimeDelta::from_std(TRANSIT).unwrap_or(TimeDelta::zero());
    let is_old = queue.oldest_waiting.is_some_and(|oldest| snapshot.at - oldest >= transit);
    let keeps = |trouble: &Trouble| matches!(trouble.cause, Cause::Untrusted | Cause::Waiting | Cause::Delivery);
    (is_old || troubles.iter().any(keeps)).then_some(Waiting {
        alerts: snapshot.waiting_alerts,
        events: queue.waiting,
        oldest: queue.oldest_waiting,
    })
}

#[cfg(test)]
mod tests;
