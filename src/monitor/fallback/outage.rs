//! Whether PagerDuty takes events, when the fallback webhook is notified, and how often that is tried. Pure.

use std::time::Duration;

use chrono::{DateTime, Utc};
use strum::IntoStaticStr;
use thiserror::Error;

use crate::backoff::Backoff;
use crate::monitor::Intervals;
use crate::monitor::checks::delivery::unreachable;
use crate::monitor::checks::{Cause, Trouble, TroubleLimits};
use crate::monitor::hysteresis::{Assessment, Hysteresis, Phase};
use crate::monitor::snapshot::Snapshot;

/// Why a message was not accepted. Contains nothing of the server's response, because an error page may repeat the
/// address and with it the secret.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{reason}")]
pub struct FallbackError {
    /// What happened and what to do.
    pub reason: String,
    /// The wait that the server asked for, a minute at most.
    pub retry_after: Option<Duration>,
    /// Whether the message may have arrived all the same.
    pub may_have_arrived: bool,
}

/// The maximum number of attempts to send one notice; with the pauses in between they take about an hour and a half.
const MAX_ATTEMPTS: u32 = 24;

/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_mins(5);

/// PagerDuty takes no events, or not soon enough.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Outage {
    /// Why.
    pub(super) cause: OutageCause,
    /// What happened and what to do, as a sentence for the operator. Service keys are masked.
    pub(super) sentence: String,
    /// Since when the oldest waiting event waits; if none waits, when the outage was noticed.
    pub(super) since: DateTime<Utc>,
}

/// Why PagerDuty takes no events.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, PartialEq)]
#[strum(serialize_all = "snake_case")]
pub(super) enum OutageCause {
    /// The TLS certificate at its address is not trusted.
    Untrusted,
    /// It does not answer, or only with errors.
    Unreachable,
    /// An event has waited for longer than `BRIDGE_WAITING_ALARM`, such as when PagerDuty throttles.
    Waiting,
}

/// Finds an outage in a snapshot and its troubles. `unsent_alarm`: why an alarm that bypasses the queue could not be
/// sent.
pub(super) fn assess(snapshot: &Snapshot, troubles: &[Trouble], unsent_alarm: Option<&str>) -> Assessment<Outage> {
    let trouble = |cause: Cause| troubles.iter().find(|trouble| trouble.cause == cause);
    let of_trouble = |cause: Cause| trouble(cause).map(|trouble| trouble.sentence.clone());
    let unsent = || {
        let reason = unsent_alarm?;
        let alarm = of_trouble(Cause::Storage)?;
        Some(format!("an alarm cannot be sent to PagerDuty ({reason}): {alarm}"))
    };
    let found = of_trouble(Cause::Untrusted)
        .map(|sentence| (OutageCause::Untrusted, sentence))
        .or_else(|| unreachable(snapshot).or_else(unsent).map(|sentence| (OutageCause::Unreachable, sentence)))
        .or_else(|| of_trouble(Cause::Waiting).map(|sentence| (OutageCause::Waiting, sentence)));
    match found {
        Some((cause, sentence)) => {
            let oldest = snapshot.backlog.as_ref().ok().and_then(|backlog| backlog.oldest());
            let since = oldest.map_or(snapshot.at, |oldest| oldest.since);
            Assessment::Trouble(Outage { cause, sentence, since })
        }
        None if snapshot.queue.is_ok() && snapshot.backlog.is_ok() => Assessment::Clear,
        None => Assessment::Unknown,
    }
}

/// What the webhook has to be notified of.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Notice {
    /// An outage began.
    Outage(Outage),
    /// It is over.
    Over,
}

/// The outages of one run of the bridge. Times are counted from its start, by the monotonic clock.
#[derive(Debug)]
pub(super) struct Outages {
    course: Hysteresis,
    /// How long PagerDuty has to take no events before the webhook is notified.
    outage_after: Duration,
    resolve_after: Duration,
    /// The pause after the first failed attempt.
    pause: Duration,
    /// Whether a notice of the outage may have reached the webhook although the attempt failed.
    may_be_told: bool,
    last_delivered_at: Option<DateTime<Utc>>,
    attempts: NoticeAttempts,
}

/// The attempts to send one notice.
#[derive(Debug, Default)]
struct NoticeAttempts {
    is_end: bool,
    number: u32,
    not_before: Duration,
}

impl Outages {
    pub(super) fn new(intervals: Intervals, limits: &TroubleLimits) -> Self {
        let Intervals { outage_after, resolve_after, fallback_pause, .. } = intervals;
        Self {
            course: Hysteresis::new(Duration::ZERO),
            outage_after: outage_after.min(limits.waiting),
            resolve_after,
            pause: fallback_pause,
            may_be_told: false,
            last_delivered_at: None,
            attempts: NoticeAttempts::default(),
        }
    }

    /// Starts over at `now`, because another bridge notifies the webhook. When this one leads later, it has to find out
    /// by itself that there is an outage, or none.
    pub(super) fn not_leading(&mut self, now: Duration) {
        (self.course, self.attempts) = (Hysteresis::new(now), NoticeAttempts::default());
    }

    /// Returns the notice to send after a check at `now`, if an attempt is due. `is_told`: the webhook was notified of
    /// an outage, in this run or an earlier one, and not yet of its end.
    pub(super) fn update(
        &mut self,
        assessment: &Assessment<Outage>,
        is_told: bool,
        delivered_at: Option<DateTime<Utc>>,
        now: Duration,
    ) -> Option<Notice> {
        let has_delivered = std::mem::replace(&mut self.last_delivered_at, delivered_at) != delivered_at;
        let resolve_after = self.course.resolve_after(self.resolve_after, now);
        let before = self.course.phase();
        // An event was delivered, so attempts fail only for some service keys and PagerDuty can be reached.
        if has_delivered && matches!(assessment, Assessment::Trouble(Outage { cause: OutageCause::Unreachable, .. })) {
            self.course.restart_pending(now);
        }
        self.course.advance(assessment, self.outage_after, resolve_after, now);
        let phase = self.course.phase();
        if phase == Phase::Firing && !matches!(before, Phase::Firing | Phase::Clearing(_)) {
            self.course.raised(now);
        }
        let notice = match (phase, assessment) {
            (Phase::Firing, Assessment::Trouble(outage)) if !is_told => Notice::Outage(outage.clone()),
            (Phase::Inactive(since), Assessment::Clear)
                if (is_told || self.may_be_told) && now.saturating_sub(since) >= resolve_after =>
            {
                Notice::Over
            }
            (Phase::Inactive(_), Assessment::Clear) => {
                self.attempts = NoticeAttempts::default();
                return None;
            }
            _ => return None,
        };
        let is_end = notice == Notice::Over;
        if self.attempts.is_end != is_end {
            self.attempts = NoticeAttempts { is_end, ..NoticeAttempts::default() };
        }
        (!self.is_given_up() && now >= self.attempts.not_before).then_some(notice)
    }

    /// Records that the webhook was notified.
    pub(super) fn told(&mut self) {
        self.may_be_told = false;
        self.attempts = NoticeAttempts { is_end: self.attempts.is_end, ..NoticeAttempts::default() };
    }

    /// Records a failed attempt. Returns whether it was the last one.
    pub(super) fn failed(&mut self, error: &FallbackError, now: Duration) -> bool {
        let attempts = &mut self.attempts;
        attempts.number += 1;
        let pause = Backoff { first: self.pause, ceiling: LONGEST_PAUSE }.pause(attempts.number);
        attempts.not_before = now + pause.max(error.retry_after.unwrap_or_default());
        self.may_be_told = if attempts.is_end {
            // After the last attempt, neither the outage nor its end is sent again.
            self.may_be_told && attempts.number < MAX_ATTEMPTS
        } else {
            self.may_be_told || error.may_have_arrived
        };
        self.is_given_up()
    }

    /// Whether all attempts to send this notice have failed.
    pub(super) fn is_given_up(&self) -> bool {
        self.attempts.number >= MAX_ATTEMPTS
    }
}

#[cfg(test)]
mod tests;
