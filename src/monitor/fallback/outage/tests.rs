//! When the fallback webhook is notified of an outage, and how often that is tried.

use super::*;
use crate::canary::CanaryLimits;
use crate::cluster::BridgeView;
use crate::delivery::{DeliveryView, KeyView};
use crate::metrics::Failing;
use crate::monitor::checks::troubles;
use crate::pagerduty::{OutcomeKind, ServiceKey};
use crate::queue::{Backlog, BridgeId, EventId, FirstWaiting, Overview, QueueError, ServiceKeyCounts};

const INTERVALS: Intervals = Intervals {
    check: Duration::from_secs(2),
    resolve_after: Duration::from_secs(15),
    outage_after: Duration::from_mins(1),
    fallback_pause: Duration::from_secs(2),
};

const LIMITS: TroubleLimits = TroubleLimits {
    silence: None,
    waiting: Duration::from_mins(15),
    signatures: 5,
    unverified: Duration::from_mins(5),
    canary: CanaryLimits::USUAL,
};

fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + chrono::TimeDelta::minutes(30_000_000 + minutes)
}

/// A snapshot at minute 60: one event has been waiting since minute `since`, for a key whose last attempt failed for
/// `reason`.
fn waiting(since: i64, reason: Option<&str>) -> Snapshot {
    let service_key = ServiceKey::parse("0123456789abcdef0123456789abWXYZ").unwrap();
    let reason = reason.map(str::to_owned);
    let view = KeyView {
        service_key: service_key.clone(),
        allowed: 120,
        rate: 120,
        in_flight: 0,
        backs_off_until: None,
        last_failure: reason.clone(),
        is_permanent: false,
        is_throttled: false,
        last_delivered_at: None,
    };
    let waits = ServiceKeyCounts {
        service_key: service_key.clone(),
        waiting: 1,
        dead: 0,
        delivered: 0,
        oldest_waiting: Some(at(since)),
    };
    let first = FirstWaiting { id: EventId::new(7), service_key, since: at(since), is_requeued: false, reason };
    Snapshot {
        queue: Ok(Overview { waiting: 1, service_keys: vec![waits], ..Overview::default() }),
        backlog: Ok(Backlog { first: vec![first], dead: Vec::new() }),
        delivery: DeliveryView { keys: vec![view], ..DeliveryView::default() },
        ..Snapshot::empty(at(60), at(0))
    }
}

fn assessed(snapshot: &Snapshot, unsent_alarm: Option<&str>) -> Assessment<Outage> {
    assess(snapshot, &troubles(snapshot, &LIMITS), unsent_alarm)
}

#[track_caller]
fn is_outage(snapshot: &Snapshot, cause: OutageCause, part: &str) {
    let Assessment::Trouble(outage) = assessed(snapshot, None) else { panic!("no outage: {snapshot:?}") };
    assert_eq!((outage.cause, outage.since), (cause, at(snapshot_since(snapshot))));
    assert!(outage.sentence.contains(part), "{outage:?}");
}

fn snapshot_since(snapshot: &Snapshot) -> i64 {
    (snapshot.backlog.as_ref().unwrap().first[0].since - at(0)).num_minutes()
}

#[test]
fn pagerduty_takes_no_events_when_attempts_fail_and_throttling_is_no_failure() {
    is_outage(&waiting(59, Some("no connection")), OutageCause::Unreachable, "last attempt: no connection");
    let mut throttled = waiting(59, Some("answered 429"));
    throttled.delivery.keys[0].is_throttled = true;
    throttled.delivery.keys[0].allowed = 60;
    assert_eq!(assessed(&throttled, None), Assessment::Clear);
    let mut rejected = waiting(59, Some("answered 400"));
    rejected.delivery.keys[0].is_permanent = true;
    assert_eq!(assessed(&rejected, None), Assessment::Clear);
    assert_eq!(assessed(&waiting(59, None), None), Assessment::Clear, "it is just in transit");
}

#[test]
fn an_event_that_waits_too_long_is_an_outage_whatever_it_waits_for() {
    is_outage(&waiting(45, None), OutageCause::Waiting, "BRIDGE_WAITING_ALARM is 15m");
    assert_eq!(assessed(&waiting(46, None), None), Assessment::Clear);
}

#[test]
fn a_certificate_that_is_not_trusted_is_named_first() {
    let mut snapshot = waiting(30, Some("TLS: expired"));
    snapshot.delivery.untrusted = Some("TLS: expired".to_owned());
    is_outage(&snapshot, OutageCause::Untrusted, "not trusted (TLS: expired)");
}

#[test]
fn an_alarm_that_pagerduty_does_not_take_is_told_elsewhere() {
    let full = || QueueError::Full { database: "bridge.db".to_owned() };
    let mut snapshot = waiting(60, None);
    (snapshot.storage, snapshot.queue, snapshot.backlog) = (Err(full()), Err(full()), Err(full()));
    snapshot.delivery = DeliveryView::default();
    assert_eq!(assessed(&snapshot, None), Assessment::Unknown);
    let Assessment::Trouble(outage) = assessed(&snapshot, Some("no connection")) else { panic!("no outage") };
    assert_eq!((outage.cause, outage.since), (OutageCause::Unreachable, at(60)));
    let beginning = "an alarm cannot be sent to PagerDuty (no connection): alerts cannot be committed";
    assert!(outage.sentence.starts_with(beginning), "{outage:?}");
}

/// [`waiting`] for a key of another bridge, whose attempts fail like this.
fn waiting_elsewhere(kind: OutcomeKind) -> Snapshot {
    let mut snapshot = waiting(59, Some("no connection"));
    let key = snapshot.delivery.keys.remove(0).service_key;
    let other = BridgeView {
        id: BridgeId::new(2),
        name: "other".to_owned(),
        version: String::new(),
        fingerprint: String::new(),
        last_seen: at(60),
        is_alive: true,
        is_self: false,
        is_leader: false,
        reaches_pagerduty: true,
        keys: vec![key.clone()],
    };
    snapshot.cluster.bridges = vec![other];
    snapshot.metrics.failing.insert(key, Failing { kind, since: at(59) });
    snapshot
}

#[test]
fn attempts_of_another_bridge_that_fail_are_an_outage_as_well() {
    is_outage(&waiting_elsewhere(OutcomeKind::NetworkError), OutageCause::Unreachable, "retried by another bridge");
    assert_eq!(assessed(&waiting_elsewhere(OutcomeKind::Throttled), None), Assessment::Clear);
    let mut delivered = waiting_elsewhere(OutcomeKind::NetworkError);
    delivered.queue = Ok(Overview::default());
    assert_eq!(assessed(&delivered, None), Assessment::Clear, "nothing waits");
}

/// Outages, and a webhook that accepts notices or fails.
struct Bridge {
    outages: Outages,
    is_told: bool,
    error: Option<FallbackError>,
    delivered_at: Option<DateTime<Utc>>,
    started: u64,
}

impl Bridge {
    fn new() -> Self {
        let outages = Outages::new(INTERVALS, &LIMITS);
        Self { outages, is_told: false, error: None, delivered_at: None, started: 0 }
    }

    /// Checks every second from `from` until before `to`, and returns what was sent, and when.
    fn live(&mut self, assessment: &Assessment<Outage>, from: u64, to: u64) -> Vec<(u64, &'static str)> {
        let mut sent = Vec::new();
        for second in from..to {
            let now = Duration::from_secs(second - self.started);
            let Some(notice) = self.outages.update(assessment, self.is_told, self.delivered_at, now) else { continue };
            let is_over = notice == Notice::Over;
            sent.push((second, if is_over { "over" } else { "outage" }));
            if let Some(error) = &self.error {
                let is_given_up = self.outages.failed(error, now);
                self.is_told &= !(is_over && is_given_up);
            } else {
                self.outages.told();
                self.is_told = !is_over;
            }
        }
        sent
    }
}

fn outage() -> Assessment<Outage> {
    assessed(&waiting(59, Some("no connection")), None)
}

fn error(may_have_arrived: bool, retry_after: Option<u64>) -> FallbackError {
    FallbackError { reason: "failed".to_owned(), retry_after: retry_after.map(Duration::from_secs), may_have_arrived }
}

#[test]
fn an_outage_is_told_once_when_it_has_lasted_for_a_minute_and_so_is_its_end() {
    let mut bridge = Bridge::new();
    assert_eq!(bridge.live(&outage(), 10, 60), []);
    assert_eq!(bridge.live(&Assessment::Clear, 60, 70), [], "it was over too soon to tell");
    assert_eq!(bridge.live(&outage(), 70, 1_000), [(130, "outage")]);
    assert_eq!(bridge.live(&Assessment::Unknown, 1_000, 2_000), [], "nothing is known");
    assert_eq!(bridge.live(&Assessment::Clear, 2_000, 2_010), []);
    assert_eq!(bridge.live(&outage(), 2_010, 3_000), [], "it was not over");
    assert_eq!(bridge.live(&Assessment::Clear, 3_000, 4_000), [(3_015, "over")]);
}

#[test]
fn what_comes_back_has_to_be_gone_for_longer_each_time() {
    let mut bridge = Bridge::new();
    let mut ends = Vec::new();
    for start in [0, 400, 800, 1_200] {
        assert_eq!(bridge.live(&outage(), start, start + 100), [(start + 60, "outage")]);
        ends.extend(bridge.live(&Assessment::Clear, start + 100, start + 400));
    }
    assert_eq!(ends, [(115, "over"), (530, "over"), (960, "over"), (1_420, "over")]);
}

#[test]
fn while_anything_is_delivered_pagerduty_can_be_reached_and_an_event_that_waits_too_long_is_told_all_the_same() {
    let mut bridge = Bridge::new();
    for minute in 0..10_i64 {
        bridge.delivered_at = Some(at(minute));
        let second = 50 * u64::try_from(minute).unwrap();
        assert_eq!(bridge.live(&outage(), second, second + 50), []);
    }
    let too_long = assessed(&waiting(45, None), None);
    bridge.delivered_at = Some(at(11));
    assert_eq!(bridge.live(&too_long, 500, 600), [(510, "outage")]);
}

#[test]
fn a_restart_in_the_middle_tells_nothing_twice() {
    let mut bridge = Bridge::new();
    assert_eq!(bridge.live(&outage(), 0, 100), [(60, "outage")]);
    bridge = Bridge { is_told: true, started: 100, ..Bridge::new() };
    assert_eq!(bridge.live(&outage(), 100, 300), []);
    bridge = Bridge { is_told: true, started: 300, ..Bridge::new() };
    assert_eq!(bridge.live(&Assessment::Clear, 300, 400), [(315, "over")]);
    bridge = Bridge { started: 400, ..Bridge::new() };
    assert_eq!(bridge.live(&Assessment::Clear, 400, 500), []);
}

#[test]
fn a_webhook_that_fails_is_tried_again_ever_more_seldom_and_in_the_end_not_at_all() {
    let mut bridge = Bridge { error: Some(error(false, None)), ..Bridge::new() };
    let sent = bridge.live(&outage(), 0, 20_000);
    let pauses: Vec<_> = sent.windows(2).map(|pair| pair[1].0 - pair[0].0).collect();
    assert_eq!(pauses[..9], [2, 4, 8, 16, 32, 64, 128, 256, 300]);
    assert_eq!((sent.len(), pauses.iter().max()), (24, Some(&300)));
    // The end of an outage that the webhook was never notified of is not sent, and the next outage is a new one.
    bridge.error = None;
    assert_eq!(bridge.live(&Assessment::Clear, 20_000, 21_000), []);
    assert_eq!(bridge.live(&outage(), 21_000, 22_000), [(21_060, "outage")]);
}

#[test]
fn an_end_that_cannot_be_told_is_given_up_and_does_not_hide_the_next_outage() {
    let mut bridge = Bridge::new();
    assert_eq!(bridge.live(&outage(), 0, 100), [(60, "outage")]);
    bridge.error = Some(error(true, None));
    assert_eq!(bridge.live(&Assessment::Clear, 100, 20_000).len(), 24);
    bridge.error = None;
    assert_eq!(bridge.live(&Assessment::Clear, 20_000, 20_100), []);
    assert_eq!(bridge.live(&outage(), 20_100, 20_200), [(20_160, "outage")]);
}

#[test]
fn what_may_have_arrived_is_told_to_be_over() {
    for (may_have_arrived, expected) in [(true, vec![(115, "over")]), (false, vec![])] {
        let mut bridge = Bridge { error: Some(error(may_have_arrived, None)), ..Bridge::new() };
        assert!(!bridge.live(&outage(), 0, 100).is_empty());
        bridge.error = None;
        assert_eq!(bridge.live(&Assessment::Clear, 100, 1_000), expected);
    }
}

#[test]
fn a_wait_that_the_webhook_asks_for_is_kept() {
    let mut bridge = Bridge { error: Some(error(false, Some(30))), ..Bridge::new() };
    let sent: Vec<_> = bridge.live(&outage(), 0, 200).into_iter().map(|(second, _)| second).collect();
    assert_eq!(sent, [60, 90, 120, 150, 180]);
}

#[test]
fn a_bridge_that_becomes_the_leader_waits_before_it_tells_the_end() {
    let mut bridge = Bridge { is_told: true, ..Bridge::new() };
    for second in 0..1_000 {
        bridge.outages.not_leading(Duration::from_secs(second));
    }
    assert_eq!(bridge.live(&Assessment::Clear, 1_000, 1_010), []);
    assert_eq!(bridge.live(&outage(), 1_010, 2_000), [], "it is told already");
    assert_eq!(bridge.live(&Assessment::Clear, 2_000, 3_000), [(2_015, "over")]);
}

#[test]
fn a_bridge_that_leads_again_counts_attempts_from_the_start() {
    let mut bridge = Bridge { error: Some(error(false, None)), ..Bridge::new() };
    assert_eq!(bridge.live(&outage(), 0, 10_000).len(), 24);
    bridge.outages.not_leading(Duration::from_secs(10_000));
    bridge.error = None;
    assert_eq!(bridge.live(&outage(), 10_000, 11_000), [(10_060, "outage")]);
}
