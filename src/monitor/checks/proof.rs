//! Whether PagerDuty carries out the events that it accepts.

use super::{Cause, Trouble, rounded, since};
use crate::monitor::snapshot::Snapshot;
use crate::pagerduty::ProofState;

/// A token that PagerDuty refuses does not affect alerts, but the proof that the operator wanted is missing.
pub(super) fn check(snapshot: &Snapshot) -> Option<Trouble> {
    let view = snapshot.pagerduty.proof.as_ref()?;
    let failures = view.failures.as_ref().map_or(&[][..], Vec::as_slice);
    let Some(newest) = failures.first() else {
        let error = view.status.failure.as_ref().filter(|_| view.status.is_refused)?;
        let sentence = format!("whether PagerDuty does what it accepts is not known: {error}");
        return Some(Trouble::degraded(Cause::Proof, sentence));
    };
    let (id, key) = (newest.event, snapshot.pagerduty.names.show(&newest.service_key));
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
