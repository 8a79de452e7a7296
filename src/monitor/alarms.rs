//! When an alarm is raised and resolved, so that it does not flap, and what its events contain. Pure.
//!
//! An action is returned by every update until it is [done](Alarms::done). Whether an incident is open is read from the
//! queue and not remembered here, so that a restart changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use strum::VariantArray;

use super::checks::{Cause, Trouble, TroubleLimits};
use super::hysteresis::{Assessment, Hysteresis, Phase};
use super::snapshot::Snapshot;
use crate::backoff::Backoff;
use crate::canary::CanaryProgress;
use crate::pagerduty::Description;
use crate::pagerduty::event::{BRIDGE_CLIENT, Detail, Details, EventAction, HAPPENED_AT, Trigger};
use crate::queue::IncidentSummary;

/// How long an alarm that PagerDuty rejected is not raised again on the same service key. If the key has accepted an event
/// since, it is this backoff, which begins with the second rejection: each rejection makes a dead letter, and without a
/// pause there would be one for every alert delivered. Otherwise it is the ceiling.
const REJECTED: Backoff = Backoff { first: Duration::from_mins(1), ceiling: Duration::from_hours(24) };

/// The interval at which the storage alarm is sent again while its trouble lasts, if other bridges share the queue. PagerDuty
/// adds it to the incident while that is open.
const REPEAT: Duration = Duration::from_mins(5);

/// Assesses a cause, from a snapshot and the trouble that was found in it, if any. That no trouble was found does not prove
/// that there is none.
pub(super) fn assess(cause: Cause, trouble: Option<Trouble>, snapshot: &Snapshot) -> Assessment<Trouble> {
    let is_known = match cause {
        Cause::Waiting | Cause::DeadLetters => snapshot.backlog.is_ok(),
        // A crash loses the last seconds of the count of wrong signatures; only an authenticated webhook, or a held
        // webhook that a secret verified, proves that there is no trouble.
        Cause::Signatures => snapshot.metrics.since_webhook.is_some() || snapshot.metrics.is_verified,
        Cause::Storage => snapshot.queue.is_ok() && snapshot.backlog.is_ok(),
        Cause::Canary => match &snapshot.canary {
            Some(Ok(status)) => status.progress != CanaryProgress::Unknown,
            Some(Err(_)) => false,
            None => true,
        },
        Cause::Proof => snapshot.proof.as_ref().is_none_or(|proof| proof.failures.is_ok()),
        Cause::Silence | Cause::Untrusted | Cause::Secrets | Cause::Bridges | Cause::Delivery => true,
    };
    match trouble {
        Some(trouble) => Assessment::Trouble(trouble),
        None if is_known => Assessment::Clear,
        None => Assessment::Unknown,
    }
}

/// What the queue knows about the incident of a cause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum IncidentStatus {
    /// It is open, or will be once what waits is delivered.
    Open,
    /// PagerDuty rejected its trigger, and there is no reason to expect that it would accept another.
    Rejected,
    /// PagerDuty rejected its trigger, but may accept another: the key has accepted an event since, or there is another
    /// key.
    Retry,
    /// It is not open.
    Closed,
    /// The queue cannot be read.
    Unknown,
}

/// What has to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum AlarmAction {
    /// Open an incident.
    Raise(Trouble),
    /// Resolve it wherever it is open.
    Resolve(Cause),
}

impl AlarmAction {
    /// The cause of the alarm.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Raise(trouble) => trouble.cause,
            Self::Resolve(cause) => *cause,
        }
    }
}

/// The alarms of one run of the bridge. Times are counted from its start, by the monotonic clock.
#[derive(Debug)]
pub(super) struct Alarms {
    limits: TroubleLimits,
    resolve_after: Duration,
    /// Whether the queue is shared with other bridges, which raise the storage alarm as the same incident.
    is_shared_by_bridges: bool,
    by_cause: BTreeMap<Cause, Alarm>,
}

#[derive(Debug)]
struct Alarm {
    course: Hysteresis,
    /// Whether it was raised and not resolved yet.
    is_raised: bool,
    /// Whether it may have been raised: PagerDuty may have accepted an event that it did not answer.
    may_be_raised: bool,
    /// When PagerDuty accepted it last, if it was sent directly; `None` if it is not repeated.
    accepted_at: Option<Duration>,
}

impl Alarms {
    /// Alarms of a bridge that starts now, which are resolved once their trouble has been gone for `resolve_after`.
    /// `is_shared_by_bridges`: whether other bridges share the queue.
    pub(super) fn new(limits: TroubleLimits, resolve_after: Duration, is_shared_by_bridges: bool) -> Self {
        let by_cause = Cause::VARIANTS.iter().map(|cause| (*cause, Alarm::new(Duration::ZERO))).collect();
        Self { limits, resolve_after, is_shared_by_bridges, by_cause }
    }

    /// Starts over at `now`, because another bridge raises and resolves the alarms, except the storage alarm. When this
    /// one leads later, the queue says which incidents are open.
    pub(super) fn not_leading(&mut self, now: Duration) {
        for (_, alarm) in self.by_cause.iter_mut().filter(|(cause, _)| **cause != Cause::Storage) {
            *alarm = Alarm::new(now);
        }
    }

    /// Records that PagerDuty accepted an alarm that was sent directly.
    pub(super) fn accepted(&mut self, cause: Cause, now: Duration) {
        if let Some(alarm) = self.by_cause.get_mut(&cause) {
            alarm.accepted_at = Some(now);
        }
    }

    /// Returns what has to be done after a check at `now`.
    pub(super) fn update(
        &mut self,
        cause: Cause,
        assessment: &Assessment<Trouble>,
        incident: IncidentStatus,
        now: Duration,
    ) -> Option<AlarmAction> {
        let (pending_for, resolve_after) = (self.pending_for(cause), self.resolve_after);
        let is_shared_by_bridges = self.is_shared_by_bridges;
        let alarm = self.by_cause.get_mut(&cause)?;
        let resolve_after = alarm.resolve_after(cause, resolve_after, now);
        alarm.course.advance(assessment, pending_for, resolve_after, now);
        match (alarm.course.phase(), assessment) {
            // The queue does not know the trigger of the storage alarm, which is sent directly.
            (Phase::Firing, Assessment::Trouble(trouble))
                if incident == IncidentStatus::Retry && cause != Cause::Storage =>
            {
                Some(AlarmAction::Raise(trouble.clone()))
            }
            // Another bridge for which the storage works again may have resolved the incident, which all share.
            (Phase::Firing, Assessment::Trouble(trouble)) if is_shared_by_bridges && alarm.is_repeated(now) => {
                Some(AlarmAction::Raise(trouble.clone()))
            }
            (Phase::Firing, Assessment::Trouble(trouble)) if !alarm.is_raised => match incident {
                // An earlier run raised it.
                IncidentStatus::Open | IncidentStatus::Rejected => {
                    alarm.raised(now);
                    None
                }
                // A queue that cannot be read cannot accept an alarm either; only the storage alarm bypasses it.
                IncidentStatus::Unknown if cause != Cause::Storage => None,
                IncidentStatus::Closed | IncidentStatus::Retry | IncidentStatus::Unknown => {
                    Some(AlarmAction::Raise(trouble.clone()))
                }
            },
            (Phase::Inactive(since), Assessment::Clear) => {
                let is_left_open = now.saturating_sub(since) >= resolve_after && incident == IncidentStatus::Open;
                (alarm.is_raised || alarm.may_be_raised || is_left_open).then_some(AlarmAction::Resolve(cause))
            }
            _ => None,
        }
    }

    /// Records that an alarm was sent directly, bypassing the queue, and that it is not known whether it arrived.
    pub(super) fn attempted(&mut self, cause: Cause) {
        if let Some(alarm) = self.by_cause.get_mut(&cause) {
            alarm.may_be_raised = true;
        }
    }

    /// Records that an action was done, or given up.
    pub(super) fn done(&mut self, action: &AlarmAction, now: Duration) {
        let Some(alarm) = self.by_cause.get_mut(&action.cause()) else { return };
        match action {
            // It is raised again after a rejection, or repeated; the trouble did not come back. A repetition that is still
            // due was given up.
            AlarmAction::Raise(_) if alarm.is_raised => {
                if alarm.is_repeated(now) {
                    alarm.accepted_at = None;
                }
            }
            AlarmAction::Raise(_) => alarm.raised(now),
            AlarmAction::Resolve(_) => {
                (alarm.is_raised, alarm.may_be_raised, alarm.accepted_at) = (false, false, None);
            }
        }
    }

    /// How long a trouble has to last before an alarm is raised. A backlog after a start may be gone soon, and so may a
    /// lock on the database.
    fn pending_for(&self, cause: Cause) -> Duration {
        const MINUTE: Duration = Duration::from_mins(1);
        match cause {
            Cause::Silence => self.limits.silence.unwrap_or(MINUTE).min(MINUTE),
            Cause::Waiting => self.limits.waiting.min(MINUTE),
            Cause::Canary => self.limits.canary.pending,
            Cause::Bridges | Cause::Delivery => MINUTE,
            Cause::Storage => Duration::from_secs(10),
            Cause::Untrusted | Cause::Signatures | Cause::Secrets | Cause::Proof | Cause::DeadLetters => Duration::ZERO,
        }
    }
}

impl Alarm {
    /// No trouble since `now`.
    fn new(now: Duration) -> Self {
        Self { course: Hysteresis::new(now), is_raised: false, may_be_raised: false, accepted_at: None }
    }

    /// Whether it was sent directly, and is due to be sent again.
    fn is_repeated(&self, now: Duration) -> bool {
        self.accepted_at.is_some_and(|at| now.saturating_sub(at) >= REPEAT)
    }

    fn raised(&mut self, now: Duration) {
        self.course.raised(now);
        self.is_raised = true;
    }

    fn resolve_after(&self, cause: Cause, first: Duration, now: Duration) -> Duration {
        // A webhook ends the silence, and the next silence has to last for the whole setting again; the same applies to
        // the canary. For causes that do not page, waiting would only delay the log line.
        if matches!(cause, Cause::Silence | Cause::Canary) || !cause.is_paged() {
            return Duration::ZERO;
        }
        self.course.resolve_after(first, now)
    }
}

/// Whether a service key that accepted its last event at `delivered_at` may accept an alarm whose incident is not open.
pub(super) fn may_accept(incident: &IncidentSummary, delivered_at: Option<DateTime<Utc>>, now: DateTime<Utc>) -> bool {
    let Some(died_at) = incident.died_at else { return true };
    let pause = match incident.dead.saturating_sub(1) {
        0 => Duration::ZERO,
        rejections => REJECTED.pause(u32::try_from(rejections).unwrap_or(u32::MAX)),
    };
    // A dead letter with a time in the future is from before the clock was set back.
    let age = (now - died_at).abs().to_std().unwrap_or_default();
    age >= REJECTED.ceiling || age >= pause && delivered_at > Some(died_at)
}

/// Returns the trigger that opens the incident of a trouble. `None` does not occur, because the description is never
/// blank.
pub(super) fn trigger(trouble: &Trouble, snapshot: &Snapshot, at: DateTime<Utc>) -> Option<EventAction> {
    let description = Description::new(&format!("{BRIDGE_CLIENT}: {}", trouble.sentence))?;
    Some(EventAction::Trigger(Trigger::of_bridge(description, details(trouble, snapshot, at))))
}

/// Returns the resolve for the incident of an alarm.
pub(super) fn resolve(at: DateTime<Utc>) -> EventAction {
    let line = format!("{BRIDGE_CLIENT}: alarm resolved at {}", time(at));
    EventAction::Resolve(Description::new(&line))
}

fn details(trouble: &Trouble, snapshot: &Snapshot, at: DateTime<Utc>) -> Details {
    let mut details = Details::new();
    let mut add = |name, detail| drop(details.insert(name, detail));
    add("cause", Detail::Text(trouble.cause.name().to_owned()));
    add(HAPPENED_AT, Detail::Text(time(at)));
    add("version", Detail::Text(env!("CARGO_PKG_VERSION").to_owned()));
    add("started_at", Detail::Text(time(snapshot.started_at)));
    if let Ok(queue) = &snapshot.queue {
        add("waiting", Detail::Number(queue.waiting));
        add("dead_letters", Detail::Number(queue.dead));
    }
    let oldest = snapshot.backlog.as_ref().ok().and_then(|backlog| backlog.oldest());
    for (name, moment) in [
        ("oldest_waiting", oldest.map(|oldest| oldest.since)),
        ("last_webhook_at", snapshot.metrics.last_webhook_at),
        ("last_delivered_at", snapshot.metrics.last_delivered_at),
    ] {
        if let Some(moment) = moment {
            add(name, Detail::Text(time(moment)));
        }
    }
    details
}

fn time(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

#[cfg(test)]
mod tests;
