//! Tests of the headline.

use std::time::Duration;

use super::*;
use crate::metrics::{Failing, MetricsSnapshot};
use crate::monitor::{Health, TroubleLimits, troubles};
use crate::pagerduty::KeyNames;
use crate::queue::{Backlog, DeadLetters, EventId, FirstWaiting, Overview, QueueError, ServiceKeyCounts};

const LIMITS: TroubleLimits = TroubleLimits {
    silence: Some(Duration::from_hours(2)),
    waiting: Duration::from_mins(15),
    signatures: 5,
    unverified: Duration::from_mins(5),
    canary: crate::canary::CanaryLimits::USUAL,
};

fn now() -> DateTime<Utc> {
    "2026-11-26T02:26:00Z".parse().unwrap()
}

fn ago(seconds: i64) -> DateTime<Utc> {
    now() - TimeDelta::seconds(seconds)
}

fn key(end: &str) -> ServiceKey {
    ServiceKey::parse(&format!("0123456789abcdef0123456789ab{end}")).unwrap()
}

fn well() -> Snapshot {
    let metrics = MetricsSnapshot { last_webhook_at: Some(ago(5)), ..MetricsSnapshot::default() };
    Snapshot { metrics, ..Snapshot::empty(now(), ago(7_200)) }
}

/// A snapshot in which `events` events wait for a service key, the oldest of them for `seconds`.
fn with_waiting(end: &str, events: u64, alerts: Option<u64>, seconds: i64) -> Snapshot {
    let oldest_waiting = Some(ago(seconds));
    let destination =
        ServiceKeyCounts { service_key: key(end), waiting: events, dead: 0, delivered: 0, oldest_waiting };
    let queue = Overview { waiting: events, oldest_waiting, service_keys: vec![destination], ..Overview::default() };
    let reason = Some("no connection".to_owned());
    let first =
        FirstWaiting { id: EventId::new(7), service_key: key(end), since: ago(seconds), is_requeued: false, reason };
    let backlog = Ok(Backlog { first: vec![first], dead: Vec::new() });
    Snapshot { queue: Ok(queue), backlog, waiting_alerts: alerts, ..well() }
}

fn failing(snapshot: &mut Snapshot, end: &str, kind: OutcomeKind, seconds: i64) {
    snapshot.metrics.failing.insert(key(end), Failing { kind, since: ago(seconds) });
}

fn line(snapshot: &Snapshot) -> (Health, Option<String>) {
    let troubles = troubles(snapshot, &LIMITS);
    (Health::of(&troubles), Headline::of(snapshot, &troubles).map(|headline| headline.text(now())))
}

#[test]
fn without_trouble_there_is_no_headline() {
    assert_eq!(line(&well()), (Health::Healthy, None));
}

#[test]
fn an_outage_is_named_with_its_beginning_and_with_what_waits() {
    let mut snapshot = with_waiting("WXYZ", 60, Some(54), 720);
    failing(&mut snapshot, "WXYZ", OutcomeKind::NetworkError, 720);
    let said = "PagerDuty has not answered since 02:14 UTC; 54 alerts wait, the oldest for 12 min";
    assert_eq!(line(&snapshot), (Health::Failing, Some(said.to_owned())));
    snapshot.waiting_alerts = None;
    assert!(line(&snapshot).1.unwrap().contains("; 60 events wait, "), "too many to tell alerts from resolves");
    failing(&mut snapshot, "WXYZ", OutcomeKind::ServerError, 720);
    assert!(line(&snapshot).1.unwrap().starts_with("PagerDuty has answered with errors only since 02:14 UTC; "));
}

#[test]
fn an_outage_is_failing_from_its_first_minute_on_and_throttling_is_not() {
    let health = |kind, seconds| {
        let mut snapshot = with_waiting("WXYZ", 1, Some(1), 100);
        failing(&mut snapshot, "WXYZ", kind, seconds);
        line(&snapshot).0
    };
    assert_eq!(health(OutcomeKind::Timeout, 59), Health::Degraded);
    assert_eq!(health(OutcomeKind::Timeout, 60), Health::Failing);
    assert_eq!(health(OutcomeKind::Throttled, 600), Health::Degraded);
    let mut elsewhere = with_waiting("WXYZ", 1, Some(1), 10);
    failing(&mut elsewhere, "OTHR", OutcomeKind::Timeout, 600);
    assert_eq!(line(&elsewhere), (Health::Healthy, None), "nothing waits for that key");
}

#[test]
fn a_key_that_fails_while_others_pass_is_named() {
    let mut snapshot = with_waiting("WXYZ", 1, Some(1), 300);
    failing(&mut snapshot, "WXYZ", OutcomeKind::Timeout, 300);
    snapshot.metrics.delivered.insert(key("OTHR"), ago(400));
    assert!(line(&snapshot).1.unwrap().starts_with("PagerDuty has not answered since 02:21 UTC; 1 alert waits, "));
    snapshot.metrics.delivered.insert(key("OTHR"), ago(10));
    let said = line(&snapshot).1.unwrap();
    assert!(said.starts_with("PagerDuty has not answered for the service key …WXYZ since 02:21 UTC; "), "{said}");
}

#[test]
fn throttling_names_the_key() {
    let mut snapshot = with_waiting("WXYZ", 12, Some(12), 90);
    failing(&mut snapshot, "WXYZ", OutcomeKind::Throttled, 80);
    let said = "PagerDuty has throttled the service key …WXYZ since 02:24 UTC; 12 alerts wait, the oldest for 1 min";
    assert_eq!(line(&snapshot), (Health::Degraded, Some(said.to_owned())));
    snapshot.key_names = KeyNames::new([(key("WXYZ"), "Payments".to_owned())]);
    let said = line(&snapshot).1.unwrap();
    assert!(said.starts_with("PagerDuty has throttled Payments (…WXYZ) since 02:24 UTC; "), "{said}");
}

#[test]
fn the_beginning_of_another_day_is_told_with_its_date() {
    let mut snapshot = with_waiting("WXYZ", 2, Some(2), 9_000);
    failing(&mut snapshot, "WXYZ", OutcomeKind::NetworkError, 9_000);
    let said = "PagerDuty has not answered since 2026-11-25 23:56 UTC; 2 alerts wait, the oldest for 2 h";
    assert_eq!(line(&snapshot), (Health::Failing, Some(said.to_owned())));
}

#[test]
fn dead_letters_are_the_trouble_or_are_added_to_it() {
    let dead = DeadLetters {
        service_key: key("WXYZ"),
        number: 3,
        newest: EventId::new(9),
        died_at: ago(600),
        reason: Some("answered 400".to_owned()),
    };
    let mut snapshot = well();
    snapshot.queue = Ok(Overview { dead: 3, ..Overview::default() });
    snapshot.backlog = Ok(Backlog { first: Vec::new(), dead: vec![dead.clone()] });
    let said = "3 events could not be delivered and are dead letters; the last was given up at 02:16 UTC";
    assert_eq!(line(&snapshot).1.unwrap(), said);
    let mut outage = with_waiting("WXYZ", 1, Some(1), 70);
    failing(&mut outage, "WXYZ", OutcomeKind::NetworkError, 65);
    outage.metrics.delivered.insert(key("WXYZ"), ago(66));
    let queue = outage.queue.as_mut().unwrap();
    queue.dead = 3;
    outage.backlog.as_mut().unwrap().dead = vec![dead];
    let said = line(&outage).1.unwrap();
    assert!(said.ends_with("the oldest for 1 min; 3 dead letters"), "{said}");
}

#[test]
fn other_troubles_say_what_and_since_when() {
    let full = || QueueError::Full { database: "bridge.db".to_owned() };
    let storage = Snapshot { storage: Err(full()), storage_since: Some(ago(60)), ..well() };
    assert_eq!(line(&storage).1.unwrap(), "Alerts cannot be stored and are answered 503 since 02:25 UTC");
    let mut silence = well();
    silence.metrics.last_webhook_at = Some(ago(7_200));
    assert_eq!(line(&silence).1.unwrap(), "No webhook has come since 00:26 UTC");
    let mut signatures = well();
    (signatures.metrics.wrong_signatures, signatures.metrics.wrong_signatures_for) = (9, Duration::from_mins(6));
    signatures.metrics.wrong_signatures_since = Some(ago(360));
    let said = "Webhooks have had wrong signatures and were answered 401 since 02:20 UTC";
    assert_eq!(line(&signatures).1.unwrap(), said);
}

#[test]
fn lengths_of_time_are_rounded_down_to_their_largest_unit() {
    let rough = [-5, 59, 60, 3_599, 7_200, 172_799, 172_800].map(|seconds| rough(TimeDelta::seconds(seconds)));
    assert_eq!(rough, ["0 s", "59 s", "1 min", "59 min", "2 h", "47 h", "2 d"]);
}
