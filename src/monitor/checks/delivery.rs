//! Whether events get through to PagerDuty: those that wait, and what keeps them; dead letters; and what PagerDuty accepts but
//! does not carry out.

use std::time::Duration;

use chrono::{DateTime, Utc};
use humantime::format_duration;

use super::{Cause, Health, Trouble, TroubleLimits, rounded, since};
use crate::delivery::KeyView;
use crate::metrics::Failing;
use crate::monitor::snapshot::Snapshot;
use crate::pagerduty::{OutcomeKind, ProofState, ServiceKey};
use crate::queue::DeadLetters;

/// An event that has waited for this long is not just in transit.
pub(in crate::monitor) const TRANSIT: Duration = Duration::from_mins(1);

/// If PagerDuty has accepted nothing for a service key for this long, the next attempt is not expected to succeed.
const OUTAGE: Duration = Duration::from_mins(1);

/// Why events wait for some service keys: how the attempts fail, and since when.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::monitor) struct FailingDeliveries<'a> {
    /// How they fail; if in several ways, the one that says most about PagerDuty.
    pub(in crate::monitor) kind: OutcomeKind,
    /// Since when, for the key that has failed longest.
    pub(in crate::monitor) since: DateTime<Utc>,
    /// The service keys whose attempts fail.
    pub(in crate::monitor) keys: Vec<&'a ServiceKey>,
    /// Whether PagerDuty has accepted an event of another key since.
    pub(in crate::monitor) others_pass: bool,
}

impl<'a> FailingDeliveries<'a> {
    /// Returns the failures that hold up events, if there are any. Failures other than throttling take precedence over
    /// throttling.
    pub(in crate::monitor) fn of(snapshot: &'a Snapshot) -> Option<Self> {
        let failing = |throttled: bool| {
            let failing = snapshot.metrics.failing.iter();
            failing
                .filter(move |(_, failing)| (failing.kind == OutcomeKind::Throttled) == throttled)
                .filter(|(key, _)| has_waiting(snapshot, key))
                .collect::<Vec<_>>()
        };
        let found = Some(failing(false)).filter(|found| !found.is_empty()).unwrap_or_else(|| failing(true));
        let since = found.iter().map(|(_, failing)| failing.since).min()?;
        let worst = found.iter().min_by_key(|(_, failing)| severity(failing.kind)).map(|(_, failing)| failing.kind)?;
        let keys: Vec<_> = found.into_iter().map(|(key, _)| key).collect();
        let others = snapshot.metrics.delivered.iter().filter(|(key, _)| !keys.contains(key));
        let others_pass = others.map(|(_, at)| *at).max() > Some(since);
        Some(Self { kind: worst, since: since.min(snapshot.at), keys, others_pass })
    }
}

/// Formats a service key for a sentence, with its name if it has one.
pub(in crate::monitor) fn named(key: &ServiceKey, snapshot: &Snapshot) -> String {
    let name = snapshot.key_names.get(key);
    name.map_or_else(|| format!("the service key {key}"), |name| format!("{name} ({key})"))
}

/// The rank of an outcome: the lowest is the worst.
fn severity(kind: OutcomeKind) -> u8 {
    match kind {
        OutcomeKind::Untrusted => 0,
        OutcomeKind::NetworkError | OutcomeKind::Timeout | OutcomeKind::Dropped => 1,
        OutcomeKind::ServerError => 2,
        OutcomeKind::Throttled | OutcomeKind::Refused | OutcomeKind::Delivered => 3,
    }
}

pub(super) fn waiting(snapshot: &Snapshot, limits: &TroubleLimits) -> Option<Trouble> {
    let oldest = snapshot.backlog.as_ref().ok()?.oldest()?;
    let age = since(oldest.since, snapshot.at);
    if age < limits.waiting {
        return None;
    }
    let attempt = oldest
        .reason
        .as_ref()
        .map_or_else(|| "it has not been tried yet".to_owned(), |reason| format!("last attempt: {reason}"));
    let sentence = format!(
        "event {} for {} has been waiting for {}, and BRIDGE_WAITING_ALARM is {} ({attempt}): check \
         PagerDuty's status page, and the connection with `check`",
        oldest.id,
        named(&oldest.service_key, snapshot),
        rounded(age),
        format_duration(limits.waiting),
    );
    Some(Trouble::failing(Cause::Waiting, sentence))
}

/// Events that wait because PagerDuty throttles or fails, or for more than a minute, but not yet for too long. While
/// PagerDuty throttles, it still accepts some events; when it has accepted none for a minute, alerts reach nobody.
pub(super) fn delivery(snapshot: &Snapshot) -> Option<Trouble> {
    let key = delayed(snapshot).max_by_key(|key| key.last_failure.is_some());
    let sentence = key
        .map(|key| why_delayed(key, snapshot))
        .or_else(|| delayed_elsewhere(snapshot, |_| true))
        .or_else(|| long_in_transit(snapshot))?;
    let is_outage = snapshot.metrics.failing.iter().any(|(key, failing)| {
        failing.kind != OutcomeKind::Throttled
            && since(failing.since, snapshot.at) >= OUTAGE
            && has_waiting(snapshot, key)
    });
    Some(if is_outage {
        Trouble::failing(Cause::Delivery, sentence)
    } else {
        Trouble::degraded(Cause::Delivery, sentence)
    })
}

/// As [`why_delayed`], for a service key that another bridge delivers for and whose attempts fail in such a way.
fn delayed_elsewhere(snapshot: &Snapshot, fails: impl Fn(OutcomeKind) -> bool) -> Option<String> {
    if snapshot.cluster.bridges.is_empty() {
        return None;
    }
    let is_own = |key: &ServiceKey| snapshot.delivery.keys.iter().any(|view| view.service_key == *key);
    let mut failing = snapshot.metrics.failing.iter().filter(|(_, failing)| fails(failing.kind));
    let (key, Failing { kind, .. }) = failing.find(|(key, _)| !is_own(key) && has_waiting(snapshot, key))?;
    let accepted = last_accepted(key, snapshot);
    let why = if *kind == OutcomeKind::Throttled { "PagerDuty throttles" } else { "attempts fail" };
    Some(format!(
        "events for {} are waiting and will be retried by another bridge ({why}; its log says more); \
         {accepted}",
        named(key, snapshot)
    ))
}

/// Whether an event waits that could be sent if PagerDuty did not throttle or fail.
pub(crate) fn is_delayed(snapshot: &Snapshot) -> bool {
    delayed(snapshot).next().is_some()
}

/// The service keys whose events could be sent if PagerDuty did not throttle or fail. A failure whose event is gone
/// delays nothing.
fn delayed(snapshot: &Snapshot) -> impl Iterator<Item = &KeyView> {
    let fails = |key: &&KeyView| {
        let failed = key.last_failure.is_some() && !key.is_permanent;
        key.allowed < key.rate || key.backs_off_until.is_some() || failed
    };
    snapshot.delivery.keys.iter().filter(fails).filter(|key| has_waiting(snapshot, &key.service_key))
}

/// Why events wait, if attempts fail for another reason than throttling: PagerDuty does not answer, or only with
/// errors.
pub(in crate::monitor) fn unreachable(snapshot: &Snapshot) -> Option<String> {
    let fails = |key: &&KeyView| key.last_failure.is_some() && !key.is_permanent && !key.is_throttled;
    let own = delayed(snapshot).find(fails).map(|key| why_delayed(key, snapshot));
    own.or_else(|| delayed_elsewhere(snapshot, |kind| kind != OutcomeKind::Throttled))
}

/// Whether events wait for a service key; `true` if the queue cannot be read, because some may.
fn has_waiting(snapshot: &Snapshot, service_key: &ServiceKey) -> bool {
    let Ok(queue) = &snapshot.queue else { return true };
    queue.service_keys.iter().any(|destination| destination.service_key == *service_key && destination.waiting > 0)
}

fn why_delayed(key: &KeyView, snapshot: &Snapshot) -> String {
    let last = last_accepted(&key.service_key, snapshot);
    let why = match &key.last_failure {
        Some(reason) => format!("last attempt: {reason}"),
        None if key.allowed < key.rate => {
            format!("PagerDuty throttles: {} of {} events a minute may be sent", key.allowed, key.rate)
        }
        None => "backing off after failed attempts".to_owned(),
    };
    let service = named(&key.service_key, snapshot);
    format!("events for {service} are waiting and will be retried ({why}); {last}")
}

fn last_accepted(key: &ServiceKey, snapshot: &Snapshot) -> String {
    snapshot.last_delivered_at(key).map_or_else(
        || "PagerDuty has accepted none for it yet".to_owned(),
        |at| format!("PagerDuty accepted the last one for it {} ago", rounded(since(at, snapshot.at))),
    )
}

fn long_in_transit(snapshot: &Snapshot) -> Option<String> {
    let oldest = snapshot.backlog.as_ref().ok()?.oldest()?;
    let age = since(oldest.since, snapshot.at);
    let why = oldest.reason.as_ref().map_or_else(
        || "more events came than may be sent in a minute".to_owned(),
        |reason| format!("last attempt: {reason}"),
    );
    (age >= TRANSIT).then(|| {
        format!(
            "event {} for {} has been waiting for {} ({why})",
            oldest.id,
            named(&oldest.service_key, snapshot),
            rounded(age)
        )
    })
}

pub(super) fn untrusted(snapshot: &Snapshot) -> Option<Trouble> {
    let reason = snapshot.delivery.untrusted.as_ref()?;
    let sentence = format!(
        "nothing is sent, because the TLS certificate at PagerDuty's address is not trusted ({reason}): check for a proxy \
         in between, and check BRIDGE_PAGERDUTY_URL and BRIDGE_PAGERDUTY_CA_FILE"
    );
    Some(Trouble::failing(Cause::Untrusted, sentence))
}

/// Dead letters by themselves do not keep other events from being delivered, so there is time to look at them. If no
/// event of the service key was delivered since the newest of them, the next alert is unlikely to be delivered either.
pub(super) fn dead_letters(snapshot: &Snapshot) -> Option<Trouble> {
    let dead = &snapshot.backlog.as_ref().ok()?.dead;
    let number: u64 = dead.iter().map(|letters| letters.number).sum();
    let worst = dead.iter().max_by_key(|letters| (!delivered_since(snapshot, letters), letters.died_at))?;
    let (health, others) = if delivered_since(snapshot, worst) {
        (Health::Degraded, "")
    } else {
        (Health::Failing, ", and PagerDuty has accepted no event for that key since")
    };
    let (noun, such_as) =
        if number == 1 { ("event is a dead letter", ": ") } else { ("events are dead letters", ", such as ") };
    let reason = worst.reason.as_deref().unwrap_or("without a reason");
    let sentence = format!(
        "{number} {noun}{such_as}event {} for {} ({reason}){others}; see `queue list --state dead`, then \
         retry or discard",
        worst.newest,
        named(&worst.service_key, snapshot)
    );
    Some(Trouble { cause: Cause::DeadLetters, health, sentence })
}

/// Whether PagerDuty accepted an event for that service key after the newest dead letter.
fn delivered_since(snapshot: &Snapshot, letters: &DeadLetters) -> bool {
    snapshot.last_delivered_at(&letters.service_key).is_some_and(|delivered| delivered > letters.died_at)
}

/// Whether PagerDuty carries out the events that it accepts.
///
/// A token that PagerDuty refuses does not affect alerts, but the proof that the operator wanted is missing.
pub(super) fn proof(snapshot: &Snapshot) -> Option<Trouble> {
    let view = snapshot.proof.as_ref()?;
    let failures = view.failures.as_ref().map_or(&[][..], Vec::as_slice);
    let Some(newest) = failures.first() else {
        let error = view.status.failure.as_ref().filter(|_| view.status.is_refused)?;
        let sentence = format!("whether PagerDuty does what it accepts is not known: {error}");
        return Some(Trouble::degraded(Cause::Proof, sentence));
    };
    let (id, key) = (newest.event, snapshot.key_names.show(&newest.service_key));
    let (ago, reason) =
        (rounded(since(newest.delivered_at, snapshot.at)), newest.reason.as_deref().unwrap_or_default());
    let others = match failures.len() {
        1 => String::new(),
        2 => "; the same happened to one earlier event".to_owned(),
        number => format!("; the same happened to {} earlier events", number - 1),
    };
    let sentence = if newest.state == ProofState::LeftOpen {
        let number = newest.incident_number.unwrap_or_default();
        let place = newest.incident_url.as_ref().map_or_else(String::new, |url| format!(" at {url}"));
        format!(
            "incident #{number} for {key} is open although event {id} resolved it {ago} ago ({reason}): resolve it by \
             hand{place}{others}"
        )
    } else {
        format!(
            "PagerDuty accepted event {id} for {key} {ago} ago and no incident exists, so that nobody was notified: {reason}; \
             look at the alert in Sentry{others}"
        )
    };
    Some(Trouble::failing(Cause::Proof, sentence))
}
