//! When an alarm is raised and when it is over, so that nothing flaps. Pure: findings and a time go in, deeds come out.
//!
//! A deed is asked for again and again until it is [done](Alarms::done), and whether an incident is open is asked of
//! the queue and not remembered here, so that a restart changes nothing.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Cause, Limits, Trouble};

/// How often [`Rhythm::hold`](super::Rhythm::hold) is doubled at most: usually to eight minutes.
const DOUBLINGS: u32 = 5;

/// A trouble that comes back within this time has to be gone for twice as long.
const LATELY: Duration = Duration::from_hours(1);

/// What is known of a cause.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Finding {
    /// It is there.
    Trouble(Trouble),
    /// It is not.
    Nothing,
    /// Nobody can tell, such as when the queue cannot be read.
    Unknown,
}

/// What the queue knows of the incident of a cause.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Incident {
    /// It is open, or will be once what waits is delivered.
    Open,
    /// PagerDuty has refused its trigger a short while ago, and there is no reason to believe that it would take another.
    Refused,
    /// PagerDuty has refused its trigger, and there is one: that key has taken something since, or there is another key.
    Again,
    /// It is not open.
    Closed,
    /// The queue cannot be read.
    Unknown,
}

/// What is to be done.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Deed {
    /// Page for it.
    Raise(Trouble),
    /// Resolve its incident wherever it is open.
    Resolve(Cause),
}

impl Deed {
    /// What it is about.
    #[must_use]
    pub fn cause(&self) -> Cause {
        match self {
            Self::Raise(trouble) => trouble.cause,
            Self::Resolve(cause) => *cause,
        }
    }
}

/// The alarms of one run of the bridge. Times are counted from its start, by a clock that never goes back.
#[derive(Debug)]
pub struct Alarms {
    limits: Limits,
    hold: Duration,
    by_cause: BTreeMap<Cause, Alarm>,
}

#[derive(Debug)]
struct Alarm {
    phase: Phase,
    /// Whether somebody was told that it has begun, and not yet that it is over.
    told: bool,
    /// Whether somebody was perhaps told that it has begun: PagerDuty may have taken what it did not answer.
    tried: bool,
    /// How often it was raised lately.
    raises: u32,
    raised_at: Duration,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// No trouble since then.
    Quiet(Duration),
    /// Trouble since then, too short to page for.
    Suspected(Duration),
    /// Trouble.
    Raised,
    /// It was raised, and since then there is no trouble.
    Easing(Duration),
}

impl Alarms {
    /// Alarms of a bridge that starts now, for troubles that have to be gone for `hold` before they are over.
    #[must_use]
    pub fn new(limits: Limits, hold: Duration) -> Self {
        let quiet = || Alarm {
            phase: Phase::Quiet(Duration::ZERO),
            told: false,
            tried: false,
            raises: 0,
            raised_at: Duration::ZERO,
        };
        Self { limits, hold, by_cause: Cause::ALL.into_iter().map(|cause| (cause, quiet())).collect() }
    }

    /// Takes what was found of a cause at `now`, and says what is to be done about it.
    pub fn look(&mut self, cause: Cause, finding: &Finding, incident: Incident, now: Duration) -> Option<Deed> {
        let (patience, hold) = (self.patience(cause), self.hold);
        let alarm = self.by_cause.get_mut(&cause)?;
        let hold = alarm.hold(cause, hold, now);
        alarm.turn(finding, patience, hold, now);
        match (alarm.phase, finding) {
            // The trigger of an alarm past the queue is none that the queue could know of.
            (Phase::Raised, Finding::Trouble(trouble)) if incident == Incident::Again && cause != Cause::Storage => {
                Some(Deed::Raise(trouble.clone()))
            }
            (Phase::Raised, Finding::Trouble(trouble)) if !alarm.told => match incident {
                // An earlier run has told of it.
                Incident::Open | Incident::Refused => {
                    alarm.raised(now);
                    None
                }
                // What cannot be read cannot be committed either, and then nobody else tells.
                Incident::Unknown if cause != Cause::Storage => None,
                Incident::Closed | Incident::Again | Incident::Unknown => Some(Deed::Raise(trouble.clone())),
            },
            (Phase::Quiet(since), Finding::Nothing) => {
                let is_over = now.saturating_sub(since) >= hold && incident == Incident::Open;
                (alarm.told || alarm.tried || is_over).then_some(Deed::Resolve(cause))
            }
            _ => None,
        }
    }

    /// It was tried to page for a cause past the queue, and nobody knows whether that came through.
    pub fn tried(&mut self, cause: Cause) {
        if let Some(alarm) = self.by_cause.get_mut(&cause) {
            alarm.tried = true;
        }
    }

    /// A deed was done, or it is given up.
    pub fn done(&mut self, deed: &Deed, now: Duration) {
        let Some(alarm) = self.by_cause.get_mut(&deed.cause()) else { return };
        match deed {
            // Raised once more after it was refused, it did not come back.
            Deed::Raise(_) if alarm.told => {}
            Deed::Raise(_) => alarm.raised(now),
            Deed::Resolve(_) => (alarm.told, alarm.tried) = (false, false),
        }
    }

    /// How long a trouble has to last before somebody is paged. A backlog after a start may be gone soon, and so may a
    /// lock on the database.
    fn patience(&self, cause: Cause) -> Duration {
        const MINUTE: Duration = Duration::from_mins(1);
        match cause {
            Cause::Silence => self.limits.silence.unwrap_or(MINUTE).min(MINUTE),
            Cause::Waiting => self.limits.waiting.min(MINUTE),
            Cause::Delivery => MINUTE,
            Cause::Storage => Duration::from_secs(10),
            Cause::Untrusted | Cause::Signatures | Cause::DeadLetters => Duration::ZERO,
        }
    }
}

impl Alarm {
    fn turn(&mut self, finding: &Finding, patience: Duration, hold: Duration, now: Duration) {
        let lasted = |since: Duration, long: Duration| now.saturating_sub(since) >= long;
        let is_trouble = match finding {
            Finding::Trouble(_) => true,
            Finding::Nothing => false,
            Finding::Unknown => return,
        };
        self.phase = match (self.phase, is_trouble) {
            (Phase::Quiet(_), true) if patience.is_zero() => Phase::Raised,
            (Phase::Quiet(_), true) => Phase::Suspected(now),
            (Phase::Suspected(since), true) if lasted(since, patience) => Phase::Raised,
            (Phase::Easing(_), true) => Phase::Raised,
            (Phase::Suspected(_), false) => Phase::Quiet(now),
            (Phase::Raised, false) if hold.is_zero() => Phase::Quiet(now),
            (Phase::Raised, false) => Phase::Easing(now),
            (Phase::Easing(since), false) if lasted(since, hold) => Phase::Quiet(since),
            (phase, _) => phase,
        };
    }

    fn raised(&mut self, now: Duration) {
        self.raises = if self.came_back(now) { self.raises.saturating_add(1) } else { 1 };
        self.raised_at = now;
        self.told = true;
    }

    fn came_back(&self, now: Duration) -> bool {
        now.saturating_sub(self.raised_at) < LATELY
    }

    fn hold(&self, cause: Cause, first: Duration, now: Duration) -> Duration {
        // A webhook ends the silence, and it takes the whole time of the setting until there is silence again. For others
        // nobody is paged.
        if cause == Cause::Silence || !cause.is_paged() {
            return Duration::ZERO;
        }
        let returns = if self.came_back(now) { self.raises.saturating_sub(1) } else { 0 };
        first * 2_u32.pow(returns.min(DOUBLINGS))
    }
}
