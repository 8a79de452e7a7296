//! When somebody is paged, and when the alarm is resolved.

use chrono::TimeDelta;

use super::*;
use crate::canary::CanaryLimits;
use crate::monitor::checks::Health;

const LIMITS: TroubleLimits = TroubleLimits {
    silence: Some(Duration::from_hours(2)),
    waiting: Duration::from_secs(5),
    signatures: 5,
    unverified: Duration::from_mins(5),
    canary: CanaryLimits::USUAL,
};

/// Alarms, and a queue that knows what they did.
struct Bridge {
    alarms: Alarms,
    incident: IncidentStatus,
    began: u64,
    actions: Vec<(u64, &'static str)>,
}

impl Bridge {
    fn new() -> Self {
        Self { alarms: alarms(), incident: IncidentStatus::Closed, began: 0, actions: Vec::new() }
    }

    /// Restarts the bridge; what an earlier run opened stays open.
    fn restart(&mut self, now: u64) {
        self.alarms = alarms();
        self.began = now;
    }

    fn update(&mut self, cause: Cause, finding: &Assessment<Trouble>, now: u64) -> Option<AlarmAction> {
        self.alarms.update(cause, finding, self.incident, Duration::from_secs(now - self.began))
    }

    fn done(&mut self, action: &AlarmAction, now: u64) {
        self.alarms.done(action, Duration::from_secs(now - self.began));
    }

    /// Checks every second from `from` until before `to`, performs the actions, and returns them with their times.
    fn live(&mut self, cause: Cause, finding: &Assessment<Trouble>, from: u64, to: u64) -> Vec<(u64, &'static str)> {
        self.actions.clear();
        for now in from..to {
            let Some(action) = self.update(cause, finding, now) else { continue };
            self.done(&action, now);
            self.incident = match action {
                AlarmAction::Raise(_) => IncidentStatus::Open,
                AlarmAction::Resolve(_) => IncidentStatus::Closed,
            };
            self.actions.push((now, if self.incident == IncidentStatus::Open { "page" } else { "resolve" }));
        }
        self.actions.clone()
    }
}

fn alarms() -> Alarms {
    Alarms::new(LIMITS, Duration::from_secs(15), false)
}

fn trouble(cause: Cause) -> Assessment<Trouble> {
    Assessment::Trouble(Trouble { cause, health: Health::Failing, sentence: "it is bad".to_owned() })
}

#[test]
fn each_trouble_is_one_page_and_one_resolve() {
    for (cause, patience, hold) in [
        (Cause::DeadLetters, 0, 15),
        (Cause::Signatures, 0, 15),
        (Cause::Waiting, 5, 15),
        (Cause::Storage, 10, 15),
        (Cause::Untrusted, 0, 0),
        (Cause::Silence, 60, 0),
        (Cause::Canary, 60, 0),
    ] {
        let mut bridge = Bridge::new();
        assert_eq!(bridge.live(cause, &Assessment::Clear, 0, 100), []);
        assert_eq!(bridge.live(cause, &trouble(cause), 100, 1000), [(100 + patience, "page")], "{cause:?}");
        assert_eq!(bridge.live(cause, &Assessment::Clear, 1000, 2000), [(1000 + hold, "resolve")], "{cause:?}");
    }
}

#[test]
fn a_canary_that_is_on_its_way_neither_raises_nor_resolves_an_alarm() {
    let mut bridge = Bridge::new();
    assert_eq!(bridge.live(Cause::Canary, &Assessment::Unknown, 0, 1000), []);
    assert_eq!(bridge.live(Cause::Canary, &trouble(Cause::Canary), 1000, 1100), [(1060, "page")]);
    bridge.restart(1100);
    assert_eq!(bridge.live(Cause::Canary, &Assessment::Unknown, 1100, 3000), []);
    assert_eq!(bridge.live(Cause::Canary, &Assessment::Clear, 3000, 3100), [(3000, "resolve")]);
}

#[test]
fn what_is_gone_before_its_patience_pages_nobody() {
    let mut bridge = Bridge::new();
    for begin in [0, 20, 40] {
        assert_eq!(bridge.live(Cause::Waiting, &trouble(Cause::Waiting), begin, begin + 5), []);
        assert_eq!(bridge.live(Cause::Waiting, &Assessment::Clear, begin + 5, begin + 20), []);
    }
}

#[test]
fn what_comes_back_before_it_is_over_is_the_same_trouble() {
    let mut bridge = Bridge::new();
    assert_eq!(bridge.live(Cause::DeadLetters, &trouble(Cause::DeadLetters), 0, 10), [(0, "page")]);
    for begin in [10, 30, 50] {
        assert_eq!(bridge.live(Cause::DeadLetters, &Assessment::Clear, begin, begin + 15), []);
        assert_eq!(bridge.live(Cause::DeadLetters, &trouble(Cause::DeadLetters), begin + 15, begin + 20), []);
    }
}

#[test]
fn what_comes_back_often_has_to_be_gone_for_longer_each_time() {
    let mut bridge = Bridge::new();
    let (cause, mut now) = (Cause::Signatures, 0);
    for hold in [15, 30, 60, 120, 240, 480, 480] {
        assert_eq!(bridge.live(cause, &trouble(cause), now, now + 1), [(now, "page")]);
        assert_eq!(bridge.live(cause, &Assessment::Clear, now + 1, now + hold + 10), [(now + 1 + hold, "resolve")]);
        now += hold + 10;
    }
    now += 3600;
    assert_eq!(bridge.live(cause, &trouble(cause), now, now + 1), [(now, "page")]);
    assert_eq!(bridge.live(cause, &Assessment::Clear, now + 1, now + 100), [(now + 16, "resolve")]);
}

#[test]
fn a_restart_does_not_page_again_and_what_is_over_by_then_is_resolved() {
    let mut bridge = Bridge::new();
    let cause = Cause::DeadLetters;
    assert_eq!(bridge.live(cause, &trouble(cause), 0, 10), [(0, "page")]);
    bridge.restart(10);
    assert_eq!(bridge.live(cause, &trouble(cause), 10, 100), []);
    bridge.restart(100);
    assert_eq!(bridge.live(cause, &Assessment::Clear, 100, 200), [(115, "resolve")]);
    bridge.restart(200);
    assert_eq!(bridge.live(cause, &Assessment::Clear, 200, 300), []);
}

#[test]
fn an_alarm_that_pagerduty_refused_is_not_repeated_by_every_restart() {
    let mut bridge = Bridge::new();
    bridge.incident = IncidentStatus::Rejected;
    assert_eq!(bridge.live(Cause::DeadLetters, &trouble(Cause::DeadLetters), 0, 100), []);
}

#[test]
fn an_alarm_that_pagerduty_refused_is_raised_again_once_there_is_reason_to_believe_that_it_is_taken() {
    for restart in [false, true] {
        let mut bridge = Bridge::new();
        let cause = Cause::DeadLetters;
        assert_eq!(bridge.live(cause, &trouble(cause), 0, 1), [(0, "page")]);
        bridge.incident = IncidentStatus::Rejected;
        assert_eq!(bridge.live(cause, &trouble(cause), 1, 100), []);
        if restart {
            bridge.restart(100);
        }
        bridge.incident = IncidentStatus::Retry;
        assert_eq!(bridge.live(cause, &trouble(cause), 100, 200), [(100, "page")]);
        // The trouble did not come back, so it is over as soon as if the alarm had not been rejected.
        assert_eq!(bridge.live(cause, &Assessment::Clear, 200, 300), [(215, "resolve")]);
    }
}

#[test]
fn what_the_queue_knows_raises_no_alarm_again_that_went_past_it() {
    let mut bridge = Bridge::new();
    let cause = Cause::Storage;
    assert_eq!(bridge.live(cause, &trouble(cause), 0, 20), [(10, "page")]);
    // The resolve of an earlier incident was rejected.
    bridge.incident = IncidentStatus::Retry;
    assert_eq!(bridge.live(cause, &trouble(cause), 20, 100), []);
}

#[test]
fn a_action_that_failed_is_asked_for_again() {
    let mut bridge = Bridge::new();
    let cause = Cause::DeadLetters;
    for now in 0..3 {
        let action = bridge.update(cause, &trouble(cause), now).unwrap();
        assert_eq!(action.cause(), cause);
        assert!(matches!(action, AlarmAction::Raise(_)));
    }
    assert_eq!(bridge.live(cause, &trouble(cause), 3, 4), [(3, "page")]);
    for now in 4..19 {
        assert_eq!(bridge.update(cause, &Assessment::Clear, now), None);
    }
    for now in 19..22 {
        assert_eq!(bridge.update(cause, &Assessment::Clear, now), Some(AlarmAction::Resolve(cause)));
    }
}

#[test]
fn what_perhaps_came_through_is_resolved_as_what_did() {
    let mut bridge = Bridge::new();
    let cause = Cause::Storage;
    assert_eq!(bridge.update(cause, &trouble(cause), 0), None);
    assert!(matches!(bridge.update(cause, &trouble(cause), 10), Some(AlarmAction::Raise(_))));
    bridge.alarms.attempted(cause);
    assert_eq!(bridge.live(cause, &Assessment::Clear, 11, 100), [(26, "resolve")]);
}

#[test]
fn what_nobody_can_tell_changes_nothing() {
    let mut bridge = Bridge::new();
    let cause = Cause::Waiting;
    assert_eq!(bridge.live(cause, &trouble(cause), 0, 10), [(5, "page")]);
    assert_eq!(bridge.live(cause, &Assessment::Unknown, 10, 1000), []);
    bridge.restart(1000);
    assert_eq!(bridge.live(cause, &Assessment::Unknown, 1000, 2000), []);
}

#[test]
fn only_the_storage_alarm_is_raised_while_the_queue_cannot_be_read() {
    let mut bridge = Bridge::new();
    bridge.incident = IncidentStatus::Unknown;
    for now in 0..100 {
        assert_eq!(bridge.update(Cause::DeadLetters, &trouble(Cause::DeadLetters), now), None);
    }
    assert_eq!(bridge.update(Cause::Storage, &trouble(Cause::Storage), 100), None);
    assert!(matches!(bridge.update(Cause::Storage, &trouble(Cause::Storage), 110), Some(AlarmAction::Raise(_))));
}

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::seconds(seconds)
}

fn rejected(dead: u64) -> IncidentSummary {
    IncidentSummary { is_open: false, died_at: Some(at(0)), dead }
}

#[test]
fn a_key_that_refused_an_alarm_may_take_it_once_it_took_something_else_or_a_day_later() {
    let fresh = IncidentSummary { is_open: false, died_at: None, dead: 0 };
    assert!(may_accept(&fresh, None, at(0)));
    assert!(!may_accept(&rejected(1), None, at(86_399)));
    assert!(!may_accept(&rejected(1), Some(at(-1)), at(86_399)));
    assert!(may_accept(&rejected(1), Some(at(1)), at(1)));
    assert!(may_accept(&rejected(1), None, at(86_400)));
}

#[test]
fn an_alarm_that_is_refused_over_and_over_is_raised_less_and_less_often() {
    for (dead, pause) in [(2, 60), (3, 120), (4, 240), (12, 61_440), (13, 86_400), (u64::MAX, 86_400)] {
        assert!(!may_accept(&rejected(dead), Some(at(1)), at(pause - 1)), "{dead}");
        assert!(may_accept(&rejected(dead), Some(at(1)), at(pause)), "{dead}");
    }
}

#[test]
fn a_bridge_that_leads_again_pages_what_began_meanwhile() {
    let (mut bridge, cause) = (Bridge::new(), Cause::DeadLetters);
    assert_eq!(bridge.live(cause, &trouble(cause), 0, 10), [(0, "page")]);
    // Another bridge leads, and resolves it.
    bridge.alarms.not_leading(Duration::from_secs(100));
    bridge.incident = IncidentStatus::Closed;
    assert_eq!(bridge.live(cause, &trouble(cause), 100, 110), [(100, "page")]);
    // Or it does not.
    bridge.alarms.not_leading(Duration::from_secs(200));
    assert_eq!(bridge.live(cause, &trouble(cause), 200, 300), []);
    assert_eq!(bridge.live(cause, &Assessment::Clear, 300, 400), [(315, "resolve")]);
}

#[test]
fn the_storage_alarm_goes_on_whoever_leads() {
    let (mut bridge, cause) = (Bridge::new(), Cause::Storage);
    assert_eq!(bridge.live(cause, &trouble(cause), 0, 20), [(10, "page")]);
    bridge.alarms.not_leading(Duration::from_secs(20));
    assert_eq!(bridge.live(cause, &trouble(cause), 20, 100), []);
    assert_eq!(bridge.live(cause, &Assessment::Clear, 100, 200), [(115, "resolve")]);
}

/// When the storage alarm is sent during 20 minutes of trouble. PagerDuty accepts only what is sent before `accepts_to`.
fn storage_alarms(is_shared_by_bridges: bool, accepts_to: u64) -> Vec<u64> {
    let mut bridge =
        Bridge { alarms: Alarms::new(LIMITS, Duration::from_secs(15), is_shared_by_bridges), ..Bridge::new() };
    let (cause, mut sent) = (Cause::Storage, Vec::new());
    for now in 0..1200 {
        let Some(action) = bridge.update(cause, &trouble(cause), now) else { continue };
        sent.push(now);
        if now < accepts_to {
            bridge.alarms.accepted(cause, Duration::from_secs(now));
        }
        bridge.done(&action, now);
    }
    sent
}

#[test]
fn where_bridges_share_the_queue_the_storage_alarm_is_repeated_because_another_may_resolve_it() {
    assert_eq!(storage_alarms(true, 1200), [10, 310, 610, 910]);
    assert_eq!(storage_alarms(true, 310), [10, 310], "it was given up");
    assert_eq!(storage_alarms(true, 0), [10], "it was given up");
    assert_eq!(storage_alarms(false, 1200), [10]);
}
