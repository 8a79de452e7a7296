//! Whether webhooks come from Sentry: their signatures, the canary, and silence.

use humantime::format_duration;

use super::{Cause, Trouble, TroubleLimits, rounded, since};
use crate::canary::CanaryProgress;
use crate::metrics::Senders;
use crate::monitor::snapshot::Snapshot;
use crate::sentry_api::connect::CANARY;

/// Whether webhooks with a wrong signature are a trouble: the Client Secret was changed in Sentry, or somebody else sends them.
///
/// A held webhook is lost unless the bridge is given the new secret, so a single one is a trouble. It is not a trouble if a
/// correct signature came after it, if within the last day a correct signature ended a series of wrong ones that had lasted
/// for `unverified` or longer, or if it is younger than `unverified`. In any case, `signatures` or more wrong signatures in a
/// row over at least `unverified` are a trouble, and so is a held webhook with a right token that is that old.
pub(super) fn signatures(snapshot: &Snapshot, limits: &TroubleLimits) -> Option<Trouble> {
    let metrics = &snapshot.metrics;
    let queue = snapshot.queue.as_ref().ok();
    let held = queue.map_or(0, |queue| queue.held);
    let with_token = queue.and_then(|queue| queue.held_with_token_since).map(|first| since(first, snapshot.at));
    let (wrong, lasted) = (metrics.wrong_signatures, metrics.wrong_signatures_for);
    let is_row = wrong >= limits.signatures && lasted >= limits.unverified;
    let is_by_token = with_token.is_some_and(|age| age >= limits.unverified);
    let is_disproved = !limits.unverified.is_zero() && metrics.disproved_for >= limits.unverified;
    // For webhooks held since before the start, it is not known how many came in a row.
    let row_for = since(metrics.wrong_signatures_since.unwrap_or(snapshot.at), snapshot.at);
    let unverified_for = if wrong > 0 { row_for } else { since(snapshot.started_at, snapshot.at) };
    let is_unverified = wrong > 0 || !metrics.is_verified;
    let is_held = held > 0 && is_unverified && unverified_for >= limits.unverified && !is_disproved;
    if !(is_row || is_by_token || is_held) {
        return None;
    }
    let what = match (wrong, with_token) {
        (0, Some(age)) => format!("a webhook with a right token had a wrong signature {} ago", rounded(age)),
        (0, None) => "webhooks had a wrong signature before the bridge started".to_owned(),
        (1, _) => format!("a webhook had a wrong signature {} ago", rounded(row_for)),
        _ => format!("{wrong} webhooks in a row, within {}, had a wrong signature", rounded(lasted)),
    };
    let held = match held {
        0 => "answered 401; none is held".to_owned(),
        1 => "answered 401; 1 is held and is delivered once a secret verifies it, at most 24 hours after it came"
            .to_owned(),
        held => format!(
            "answered 401; {held} are held and are delivered once a secret verifies them, at most 24 hours after they came"
        ),
    };
    let from = if wrong == 0 { String::new() } else { format!(", sent {}", origin(&metrics.wrong_signatures_from)) };
    let sentence = format!(
        "{what} ({held}){from}: if that was Sentry or the proxy in front of the bridge, and the Client Secret was changed in \
         Sentry, set BRIDGE_SENTRY_CLIENT_SECRET to the new secret, a comma and the old one; otherwise somebody else sends them"
    );
    Some(Trouble::failing(Cause::Signatures, sentence))
}

fn origin(senders: &Senders) -> String {
    if senders.first.is_empty() {
        return "from unknown addresses".to_owned();
    }
    let addresses: Vec<_> = senders.first.iter().map(ToString::to_string).collect();
    format!("from {}{}", addresses.join(", "), if senders.has_more { " and others" } else { "" })
}

/// The sentence first says which half of the way is interrupted, because what to check differs.
pub(super) fn canary(snapshot: &Snapshot) -> Option<Trouble> {
    let status = snapshot.canary.as_ref()?.as_ref().ok()?;
    let last = status.last.map_or_else(
        || "none has come back so far".to_owned(),
        |last| format!("the last one came back {} ago", rounded(since(last.returned_at, snapshot.at))),
    );
    let sentence = match &status.progress {
        CanaryProgress::Unknown | CanaryProgress::Returns => return None,
        CanaryProgress::NotTaken { since: first, reason } => format!(
            "Sentry does not take the canary's events, for {} now: {reason}; other events of applications may be lost as \
             well, and {last}",
            rounded(since(*first, snapshot.at))
        ),
        CanaryProgress::Lost { sent_at } => format!(
            "Sentry took the canary {} ago, and its webhook did not come: alerts may not come either, and {last}; check \
             that Sentry's workers run, that the alert \"{CANARY}\" is there and on (`audit`, `connect --canary`), that the \
             canary's issue is not archived, and that Sentry reaches the bridge",
            rounded(since(*sent_at, snapshot.at))
        ),
    };
    Some(Trouble::failing(Cause::Canary, sentence))
}

pub(super) fn silence(snapshot: &Snapshot, limits: &TroubleLimits) -> Option<Trouble> {
    let limit = limits.silence?;
    let last = snapshot.metrics.last_webhook_at;
    let quiet = since(last.unwrap_or(snapshot.started_at), snapshot.at);
    if quiet < limit {
        return None;
    }
    let what = match last {
        Some(_) => format!("no webhook came for {}", rounded(quiet)),
        None => format!("no webhook came since the bridge started, for {}", rounded(quiet)),
    };
    let sentence = format!(
        "{what}, and BRIDGE_SILENCE_ALARM is {}: check in Sentry that the alert rules notify the bridge and that its URL \
         is right, and send a test from there",
        format_duration(limit),
    );
    Some(Trouble::failing(Cause::Silence, sentence))
}
