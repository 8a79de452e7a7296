//! What the queue stores about incidents: where they are open, the dedup window, and resolves that overtook their triggers.
//! On a real database.

use std::time::Duration;

use chrono::{DateTime, Utc};
use futures_util::future::join_all;
use sentry_pagerduty_bridge::config::{IncidentScope, ResolveScope};
use sentry_pagerduty_bridge::ingest::{Decision, IgnoreReason, Ingest, Policy, Webhook};
use sentry_pagerduty_bridge::pagerduty::{EventType, ServiceKey};
use sentry_pagerduty_bridge::queue::{
    BeginRequest, Disposition, Editor, EnqueueRequest, Enqueued, EventId, Queue, RejectedWebhook, ResolvedTriggers,
    Retention, SettleRequest, State,
};
use sentry_pagerduty_bridge::routing::Routes;
use serde_json::{Value, json};

use crate::database::{IS_POSTGRES, TestDatabase, send_together};

const DEFAULT: &str = "0123456789abcdef0123456789abcdef";
const A: &str = "0000000000000000000000000000000a";
const B: &str = "0000000000000000000000000000000b";
const C: &str = "0000000000000000000000000000000c";

const DAY: i64 = 24 * 3600;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

/// The request of a webhook with this body that came at second `came` and was sent at second `sent`.
fn webhook(resource: Option<&str>, body: &Value, resolve: ResolveScope, came: i64, sent: i64) -> EnqueueRequest {
    let routes = format!("team,a,{A}\nteam,b,{B}");
    let routes = Routes::new(ServiceKey::parse(DEFAULT).unwrap(), &routes).unwrap();
    let ingest = Ingest::new(routes, Policy { resolve, acknowledge: true, ..Policy::default() });
    let body = body.to_string();
    let sent_at = Some(at(sent));
    match ingest.decide(&Webhook { resource, sent_at, ..Webhook::of_body(body.as_bytes(), at(came)) }) {
        Decision::Enqueue(enqueue) => *enqueue,
        other => panic!("{other:?}"),
    }
}

/// An alert of the legacy plugin for `team`: Sentry received the event at second `received`, and the webhook came at second
/// `came`.
fn alert(team: &str, received: i64, came: i64) -> EnqueueRequest {
    alert_of_a_client(team, received, received, came)
}

/// Like [`alert`], with the time by the client's clock.
fn alert_of_a_client(team: &str, timestamp: i64, received: i64, came: i64) -> EnqueueRequest {
    let event = json!({ "event_id": format!("{received:032x}"), "timestamp": at(timestamp).timestamp(),
                        "received": at(received).timestamp(), "title": "Full", "tags": [["team", team]] });
    webhook(None, &json!({ "id": "42", "event": event }), ResolveScope::Opened, came, came)
}

/// Like [`alert`], without any time by Sentry's clock.
fn alert_without_times(team: &str, came: i64) -> EnqueueRequest {
    let event = json!({ "event_id": format!("{came:032x}"), "title": "Full", "tags": [["team", team]] });
    webhook(None, &json!({ "id": "42", "event": event }), ResolveScope::Opened, came, came)
}

/// Like [`alert`], by the integration platform.
pub(crate) fn event_alert(team: &str, received: i64, came: i64) -> EnqueueRequest {
    let event = json!({ "event_id": format!("{received:032x}"), "timestamp": at(received).timestamp(),
                        "received": at(received).timestamp(), "title": "Full", "tags": [["team", team]],
                        "issue_id": "42" });
    let body = json!({ "action": "triggered", "data": { "event": event } });
    webhook(Some("event_alert"), &body, ResolveScope::Opened, came, came)
}

/// A change of the issue that was sent at second `sent` and came at second `came`.
fn issue_sent(action: &str, sent: i64, came: i64) -> EnqueueRequest {
    let body = json!({ "action": action, "data": { "issue": { "id": "42", "title": "Full" } } });
    webhook(Some("issue"), &body, ResolveScope::Opened, came, sent)
}

pub(crate) fn issue(action: &str, came: i64) -> EnqueueRequest {
    issue_sent(action, came, came)
}

/// A resolve that goes to the default key if the incident is unknown.
fn resolve_anyway(came: i64) -> EnqueueRequest {
    let body = json!({ "action": "resolved", "data": { "issue": { "id": "42", "title": "Full" } } });
    webhook(Some("issue"), &body, ResolveScope::All, came, came)
}

async fn open() -> (TestDatabase, Queue) {
    let database = TestDatabase::new();
    let queue = Queue::open(&database).await.unwrap();
    (database, queue)
}

async fn reopen(queue: Queue, database: &TestDatabase) -> Queue {
    queue.close().await.unwrap();
    Queue::open(database).await.unwrap()
}

/// Enqueues it and returns the ids of its events; empty if it was ignored.
async fn receive(queue: &Queue, incoming: EnqueueRequest) -> Vec<EventId> {
    match queue.enqueue(incoming).await.unwrap() {
        Enqueued::Queued(accepted) => accepted.into_iter().map(|accepted| accepted.id).collect(),
        Enqueued::Ignored(_) => Vec::new(),
    }
}

/// The waiting events in order: the team or `default`, and the event type.
async fn waiting(queue: &Queue) -> Vec<String> {
    let mut events = Vec::new();
    let mut ids = queue.reader().ids(State::Waiting, u64::MAX).await.unwrap();
    ids.sort();
    for id in ids {
        let event = queue.reader().get(id).await.unwrap().unwrap();
        let key = match event.summary.service_key.expose() {
            A => "a",
            B => "b",
            C => "c",
            _ => "default",
        };
        events.push(format!("{key} {}", event.summary.event_type));
    }
    events
}

/// Settles all waiting events with the same disposition.
async fn settle(queue: &Queue, settlement: &Disposition, seconds: i64) {
    let mut ids = queue.reader().ids(State::Waiting, u64::MAX).await.unwrap();
    ids.sort();
    for id in ids {
        queue.settle(SettleRequest::new(id, settlement.clone(), at(seconds))).await.unwrap();
    }
}

fn nothing_open(event_type: EventType) -> Enqueued {
    Enqueued::Ignored(IgnoreReason::NothingOpen(event_type))
}

async fn deliver(queue: &Queue) {
    settle(queue, &Disposition::Delivered { note: None }, 0).await;
}

/// A signed resolve of an issue with this number of events.
fn signed_resolve(events: u32, came: i64) -> EnqueueRequest {
    let body = json!({ "action": "resolved", "data": { "issue": { "id": "42", "count": events.to_string() } } });
    let ingest = Ingest::new(Routes::new(ServiceKey::parse(DEFAULT).unwrap(), "").unwrap(), Policy::default());
    let body = body.to_string();
    let webhook =
        Webhook { resource: Some("issue"), is_signature_verified: true, ..Webhook::of_body(body.as_bytes(), at(came)) };
    let Decision::Enqueue(follow_up) = ingest.decide(&webhook) else { panic!("no follow-up") };
    *follow_up
}

#[tokio::test]
async fn a_follow_up_goes_wherever_the_incident_is_open_also_after_a_restart() {
    let (database, queue) = open().await;
    receive(&queue, alert("a", 0, 0)).await;
    deliver(&queue).await;
    receive(&queue, alert("b", 1, 1)).await;
    let queue = reopen(queue, &database).await;
    assert_eq!(receive(&queue, issue("assigned", 2)).await.len(), 2);
    assert_eq!(receive(&queue, issue("resolved", 3)).await.len(), 2);
    assert_eq!(waiting(&queue).await, ["b trigger", "a acknowledge", "b acknowledge", "a resolve", "b resolve"]);
    // A waiting resolve closes an incident as well as a delivered one.
    assert_eq!(queue.enqueue(issue("resolved", 4)).await.unwrap(), nothing_open(EventType::Resolve));
    deliver(&queue).await;
    let queue = reopen(queue, &database).await;
    assert_eq!(queue.enqueue(issue("resolved", 5)).await.unwrap(), nothing_open(EventType::Resolve));
    assert_eq!(queue.enqueue(issue("assigned", 5)).await.unwrap(), nothing_open(EventType::Acknowledge));
}

#[tokio::test]
async fn an_issue_that_comes_back_opens_its_incident_wherever_it_was_and_only_there() {
    let (_database, queue) = open().await;
    assert_eq!(queue.enqueue(issue("unresolved", 0)).await.unwrap(), nothing_open(EventType::Trigger));
    receive(&queue, alert("a", 1, 1)).await;
    receive(&queue, issue("resolved", 2)).await;
    deliver(&queue).await;
    receive(&queue, issue("unresolved", 3)).await;
    assert_eq!(waiting(&queue).await, ["a trigger"]);
    receive(&queue, issue("resolved", 4)).await;
    assert_eq!(waiting(&queue).await, ["a trigger", "a resolve"]);
}

#[tokio::test]
async fn a_resolve_of_an_unknown_incident_goes_to_the_default_key_and_makes_none_known() {
    let (_database, queue) = open().await;
    assert_eq!(receive(&queue, resolve_anyway(0)).await.len(), 1);
    assert_eq!(queue.enqueue(issue("unresolved", 1)).await.unwrap(), nothing_open(EventType::Trigger));
    assert_eq!(waiting(&queue).await, ["default resolve"]);
    deliver(&queue).await;
    assert_eq!(queue.enqueue(issue("unresolved", 2)).await.unwrap(), nothing_open(EventType::Trigger));

    receive(&queue, alert("a", 100, 100)).await;
    receive(&queue, resolve_anyway(101)).await;
    assert_eq!(waiting(&queue).await, ["a trigger", "a resolve"], "it is known, so there is no need to guess");
}

#[tokio::test]
async fn what_comes_together_is_done_in_its_order() {
    let (_database, queue) = open().await;
    let all = [
        alert("a", 0, 10),
        alert("b", 1, 10),
        alert("a", 2, 10),
        issue_sent("resolved", 5, 10),
        alert("a", 6, 10),
        alert("a", 7, 10),
    ];
    let (receptions, commits) = send_together(&queue, join_all(all.map(|incoming| queue.enqueue(incoming)))).await;
    assert_eq!(commits, 1, "they were not in one commit");
    let counts: Vec<Vec<u32>> = receptions
        .into_iter()
        .map(|reception| match reception.unwrap() {
            Enqueued::Queued(accepted) => accepted.iter().map(|accepted| accepted.count).collect(),
            Enqueued::Ignored(reason) => panic!("{reason:?}"),
        })
        .collect();
    assert_eq!(counts, [vec![1], vec![1], vec![2], vec![1, 1], vec![1], vec![2]]);
    assert_eq!(waiting(&queue).await, ["a trigger", "b trigger", "a resolve", "b resolve", "a trigger"]);
}

#[tokio::test]
async fn everything_new_in_line_is_announced_and_what_was_folded_is_not() {
    let (_database, queue) = open().await;
    let mut arrivals = queue.arrivals();
    let all =
        [alert("a", 0, 10), issue_sent("resolved", 5, 10), alert("b", 2, 10), alert("a", 6, 10), alert("a", 7, 10)];
    send_together(&queue, join_all(all.map(|incoming| queue.enqueue(incoming)))).await;
    let mut announced = Vec::new();
    while let Some(arrival) = arrivals.try_recv() {
        announced.push(arrival.id.get());
    }
    assert_eq!(announced, [1, 2, 3, 4, 5]);
    assert_eq!(waiting(&queue).await, ["a trigger", "a resolve", "b trigger", "b resolve", "a trigger"]);
}

#[tokio::test]
async fn a_trigger_that_a_resolve_of_the_last_minute_overtook_is_resolved_also_after_a_restart() {
    let (database, queue) = open().await;
    assert_eq!(queue.enqueue(issue("resolved", 100)).await.unwrap(), nothing_open(EventType::Resolve));
    let queue = reopen(queue, &database).await;
    assert_eq!(receive(&queue, alert("a", 99, 159)).await.len(), 2);
    assert_eq!(receive(&queue, alert("b", 98, 160)).await.len(), 2);
    assert_eq!(waiting(&queue).await, ["a trigger", "a resolve", "b trigger", "b resolve"]);
    deliver(&queue).await;
    receive(&queue, alert("a", 97, 161)).await;
    assert_eq!(waiting(&queue).await, ["a trigger"], "a resolve of more than a minute ago closes nothing");
}

#[tokio::test]
async fn a_trigger_that_happened_after_a_resolve_stays_open_whatever_comes_late() {
    let (_database, queue) = open().await;
    receive(&queue, issue("resolved", 100)).await;
    receive(&queue, alert("a", 101, 102)).await;
    receive(&queue, alert("a", 99, 103)).await;
    assert_eq!(waiting(&queue).await, ["a trigger"], "the issue is open again since second 101");
}

#[tokio::test]
async fn an_issue_that_comes_back_before_any_alert_of_it_leaves_the_late_alert_open() {
    let (_database, queue) = open().await;
    receive(&queue, issue("resolved", 100)).await;
    assert_eq!(queue.enqueue(issue("unresolved", 101)).await.unwrap(), nothing_open(EventType::Trigger));
    receive(&queue, alert("a", 99, 102)).await;
    assert_eq!(waiting(&queue).await, ["a trigger"]);
}

#[tokio::test]
async fn an_issue_that_comes_back_twice_within_a_second_ends_as_sentry_has_it() {
    let (_database, queue) = open().await;
    receive(&queue, alert("a", 0, 0)).await;
    receive(&queue, issue("resolved", 100)).await;
    deliver(&queue).await;
    receive(&queue, issue_sent("unresolved", 99, 101)).await;
    assert_eq!(waiting(&queue).await, ["a trigger", "a resolve"], "it was resolved after it came back");
    deliver(&queue).await;
    receive(&queue, issue("unresolved", 102)).await;
    receive(&queue, alert("a", 98, 103)).await;
    assert_eq!(waiting(&queue).await, ["a trigger"], "it is open again since second 102");
}

#[tokio::test]
async fn a_new_firing_right_after_the_last_one_stays_open() {
    let (_database, queue) = open().await;
    let metric = |action: &str, sent: i64, came: i64| {
        let metric = json!({ "identifier": "7", "organization_id": "5", "title": "Latency",
                             "date_started": at(sent - 3_600).to_rfc3339() });
        let body = json!({ "action": action, "data": { "metric_alert": metric } });
        webhook(Some("metric_alert"), &body, ResolveScope::Opened, came, sent)
    };
    receive(&queue, metric("resolved", 100, 100)).await;
    assert_eq!(receive(&queue, metric("critical", 99, 101)).await.len(), 2);
    assert_eq!(receive(&queue, metric("critical", 130, 130)).await.len(), 1);
}

#[tokio::test]
async fn an_old_webhook_that_is_read_again_takes_nothing_from_a_newer_resolve() {
    let (database, queue) = open().await;
    receive(&queue, issue("resolved", DAY)).await;
    let body = b"{}".to_vec();
    let rejected = RejectedWebhook { received_at: at(0), body, ..RejectedWebhook::default() };
    let id = queue.reject(rejected).await.unwrap();
    let mut editor = Editor::open(&database).await.unwrap();
    let readmitted = editor.readmit(id, issue("resolved", 0)).await.unwrap();
    assert_eq!(readmitted, Some(nothing_open(EventType::Resolve)));
    editor.close().await.unwrap();
    assert_eq!(receive(&queue, alert("a", DAY - 1, DAY + 1)).await.len(), 2);
}

#[tokio::test]
async fn what_was_told_is_repeated_within_a_commit_and_after_it_and_not_for_ever() {
    let (_database, queue) = open().await;
    let all = [event_alert("a", 0, 0), event_alert("a", 0, 0), alert("a", 0, 0), event_alert("b", 0, 0)];
    let (receptions, _) = send_together(&queue, join_all(all.map(|incoming| queue.enqueue(incoming)))).await;
    let repeated: Vec<_> = receptions
        .into_iter()
        .map(|reception| reception.unwrap() == Enqueued::Ignored(IgnoreReason::Repeated))
        .collect();
    assert_eq!(repeated, [false, true, true, false]);
    assert_eq!(waiting(&queue).await, ["a trigger", "b trigger"]);
    assert_eq!(queue.enqueue(alert("a", 0, 1_199)).await.unwrap(), Enqueued::Ignored(IgnoreReason::Repeated));
    assert_eq!(receive(&queue, alert("a", 0, 1_200)).await.len(), 1);
}

#[tokio::test]
async fn what_could_not_be_committed_may_come_again() {
    let (database, queue) = open().await;
    database.refuse_bodies("no body").await;
    let twice = [event_alert("a", 0, 0), event_alert("a", 0, 0)].map(|incoming| queue.enqueue(incoming));
    for answer in send_together(&queue, join_all(twice)).await.0 {
        answer.expect_err("it was answered as if it were committed");
    }
    database.allow().await;
    assert_eq!(receive(&queue, event_alert("a", 0, 1)).await.len(), 1);
    assert_eq!(queue.enqueue(event_alert("a", 0, 2)).await.unwrap(), Enqueued::Ignored(IgnoreReason::Repeated));
}

#[tokio::test]
async fn a_resolve_that_could_not_be_committed_overtook_nothing() {
    let (database, queue) = open().await;
    database.refuse_bodies("no body").await;
    queue.enqueue(resolve_anyway(100)).await.expect_err("it was committed");
    database.allow().await;
    assert_eq!(receive(&queue, alert("a", 99, 101)).await.len(), 1);
}

#[tokio::test]
async fn an_incident_is_known_for_longer_than_the_events_that_opened_it() {
    let (_database, queue) = open().await;
    receive(&queue, alert("a", 0, 0)).await;
    deliver(&queue).await;
    let history = Retention { age: Duration::from_secs(DAY as u64), rows: 1_000 };
    assert_eq!(queue.prune(history, at(180 * DAY)).await.unwrap(), 1);
    assert_eq!(receive(&queue, issue("resolved", 180 * DAY)).await.len(), 1);
    assert_eq!(waiting(&queue).await, ["a resolve"]);
    // Incidents with waiting events are known, however old they are.
    queue.prune(history, at(181 * DAY)).await.unwrap();
    settle(&queue, &Disposition::Dead { reason: "no".to_owned() }, 181 * DAY).await;
    assert_eq!(receive(&queue, issue("resolved", 181 * DAY)).await.len(), 1, "what is open is not forgotten by age");
    settle(&queue, &Disposition::Delivered { note: None }, 181 * DAY).await;
    queue.prune(history, at(362 * DAY)).await.unwrap();
    assert_eq!(
        queue.enqueue(issue("unresolved", 362 * DAY)).await.unwrap(),
        nothing_open(EventType::Trigger),
        "it was closed"
    );
}

#[tokio::test]
async fn only_what_pagerduty_took_or_may_yet_take_is_open() {
    let (database, queue) = open().await;
    let dead = Disposition::Dead { reason: "no such service key".to_owned() };
    let [trigger] = receive(&queue, alert("a", 0, 0)).await[..] else { panic!("no single event") };
    settle(&queue, &dead, 1).await;
    assert_eq!(queue.enqueue(issue("resolved", 100)).await.unwrap(), nothing_open(EventType::Resolve));
    assert_eq!(queue.enqueue(issue("unresolved", 200)).await.unwrap(), nothing_open(EventType::Trigger));

    let mut editor = Editor::open(&database).await.unwrap();
    editor.requeue(&[trigger], ResolvedTriggers::Skip).await.unwrap();
    receive(&queue, issue("resolved", 300)).await;
    assert_eq!(waiting(&queue).await, ["a trigger", "a resolve"], "it is requeued");

    // A resolve that PagerDuty rejected has closed nothing.
    queue.settle(SettleRequest::new(trigger, Disposition::Delivered { note: None }, at(301))).await.unwrap();
    settle(&queue, &dead, 302).await;
    receive(&queue, issue("resolved", 400)).await;
    assert_eq!(waiting(&queue).await, ["a resolve"]);

    // A trigger that was deleted before it was sent has opened nothing.
    deliver(&queue).await;
    let [trigger] = receive(&queue, alert("b", 500, 500)).await[..] else { panic!("no single event") };
    editor.discard(State::Waiting, &[trigger]).await.unwrap();
    assert_eq!(queue.enqueue(issue("resolved", 501)).await.unwrap(), nothing_open(EventType::Resolve));
}

#[tokio::test]
async fn what_sentry_received_after_a_resolve_stays_open_whatever_the_clock_of_its_client_says() {
    for timestamp in [-3_600, 80, 101, 500] {
        let (_database, queue) = open().await;
        receive(&queue, alert("a", 0, 0)).await;
        receive(&queue, issue("resolved", 100)).await;
        deliver(&queue).await;
        receive(&queue, alert_of_a_client("a", timestamp, 101, 102)).await;
        assert_eq!(waiting(&queue).await, ["a trigger"], "by the client it happened at second {timestamp}");
    }
    // An event that Sentry received before the resolve is closed, whatever the client's clock says.
    let (_database, queue) = open().await;
    receive(&queue, issue("resolved", 100)).await;
    receive(&queue, alert_of_a_client("a", 500, 99, 102)).await;
    assert_eq!(waiting(&queue).await, ["a trigger", "a resolve"]);
}

#[tokio::test]
async fn a_resolve_that_comes_after_an_alert_which_sentry_received_later_leaves_its_page_open() {
    for is_delivered in [false, true] {
        let (database, queue) = open().await;
        receive(&queue, alert("a", 0, 0)).await;
        deliver(&queue).await;
        receive(&queue, alert("a", 105, 106)).await;
        if is_delivered {
            deliver(&queue).await;
        }
        let before = waiting(&queue).await;
        let queue = reopen(queue, &database).await;
        // Sentry does not deliver webhooks in order: this one took longer.
        receive(&queue, issue_sent("resolved", 101, 110)).await;
        assert_eq!(waiting(&queue).await, before, "the issue is open again since second 105");
        // It is not remembered for alerts that come later, either.
        receive(&queue, alert("b", 100, 111)).await;
        assert!(!waiting(&queue).await.contains(&"b resolve".to_owned()));
        receive(&queue, issue("resolved", 112)).await;
        assert_eq!(waiting(&queue).await.last().unwrap(), "b resolve");
        assert!(waiting(&queue).await.contains(&"a resolve".to_owned()), "this one is newer");
    }
}

#[tokio::test]
async fn an_alert_that_tells_no_time_of_sentrys_is_closed_by_every_later_resolve_and_by_no_earlier_one() {
    let (_database, queue) = open().await;
    receive(&queue, issue("resolved", 100)).await;
    receive(&queue, alert_without_times("a", 101)).await;
    assert_eq!(waiting(&queue).await, ["a trigger"]);
    receive(&queue, issue_sent("resolved", 101, 102)).await;
    assert_eq!(waiting(&queue).await, ["a trigger", "a resolve"]);
}

#[tokio::test]
async fn after_the_machines_clock_was_set_back_no_resolve_of_the_time_before_closes_an_alert() {
    // The machine's clock was an hour ahead of Sentry's, or Sentry's was ahead as well.
    for sent in [0, 3_600] {
        let (database, queue) = open().await;
        receive(&queue, alert("a", -60, 3_540)).await;
        receive(&queue, issue_sent("resolved", sent, 3_600)).await;
        deliver(&queue).await;
        let queue = reopen(queue, &database).await;
        for came in [10, 70, 1_000, 3_590] {
            receive(&queue, alert("a", came, came)).await;
            assert_eq!(waiting(&queue).await, ["a trigger"], "closed at second {came}");
            deliver(&queue).await;
        }
    }
}

#[tokio::test]
async fn after_the_machines_clock_was_set_back_resolves_close_what_was_opened_before() {
    let (_database, queue) = open().await;
    receive(&queue, alert("a", 3_600, 3_600)).await;
    deliver(&queue).await;
    receive(&queue, issue("resolved", 10)).await;
    assert_eq!(waiting(&queue).await, ["a resolve"]);
    // An alert that the resolve overtook after the clock was set back is resolved as well.
    receive(&queue, alert("b", 9, 11)).await;
    assert_eq!(waiting(&queue).await, ["a resolve", "b trigger", "b resolve"]);
}

#[tokio::test]
async fn after_the_machines_clock_was_set_back_no_new_alert_is_taken_for_a_repetition_of_the_future() {
    let (_database, queue) = open().await;
    receive(&queue, event_alert("a", 0, 7_200)).await;
    assert_eq!(queue.enqueue(event_alert("a", 0, 7_260)).await.unwrap(), Enqueued::Ignored(IgnoreReason::Repeated));
    assert_eq!(
        receive(&queue, event_alert("a", 0, 60)).await.len(),
        1,
        "nobody knows what the clock showed in between"
    );
    assert_eq!(queue.enqueue(event_alert("a", 0, 120)).await.unwrap(), Enqueued::Ignored(IgnoreReason::Repeated));
}

#[tokio::test]
async fn a_step_of_the_clock_by_half_a_year_and_more_forgets_no_open_incident() {
    let (_database, queue) = open().await;
    receive(&queue, alert("a", 0, 0)).await;
    deliver(&queue).await;
    let history = Retention { age: Duration::from_secs(DAY as u64), rows: 1_000 };
    for days in [181, 182, 4_000] {
        queue.prune(history, at(days * DAY)).await.unwrap();
    }
    receive(&queue, issue("resolved", 60)).await;
    assert_eq!(waiting(&queue).await, ["a resolve"]);
}

#[tokio::test]
async fn a_trigger_that_was_given_up_while_in_doubt_is_resolved_all_the_same() {
    let (database, queue) = open().await;
    let [trigger] = receive(&queue, alert("a", 0, 0)).await[..] else { panic!("no single event") };
    let retry = |reason: &str| Disposition::Retry {
        reason: reason.to_owned(),
        next_attempt_at: at(60),
        blamed: Duration::from_secs(30),
    };
    for seconds in [1, 2] {
        queue.begin(BeginRequest::new(trigger, at(seconds))).await.unwrap();
        queue.settle(SettleRequest::new(trigger, retry("no answer within 10 s"), at(seconds))).await.unwrap();
    }
    let given_up = Disposition::Dead { reason: "given up".to_owned() };
    queue.settle(SettleRequest::new(trigger, given_up, at(3))).await.unwrap();
    let queue = reopen(queue, &database).await;
    receive(&queue, issue("resolved", 100)).await;
    assert_eq!(waiting(&queue).await, ["a resolve"], "PagerDuty may have taken it");
}

#[tokio::test]
async fn a_trigger_that_was_refused_after_an_attempt_that_never_ended_is_resolved_all_the_same() {
    let (database, mut queue) = open().await;
    let [trigger] = receive(&queue, alert("a", 0, 0)).await[..] else { panic!("no single event") };
    let refused = Disposition::Dead { reason: "refused".to_owned() };
    for seconds in [1, 2] {
        // The bridge was killed while the first attempt was under way, or could not store how it ended.
        queue.begin(BeginRequest::new(trigger, at(seconds))).await.unwrap();
        queue = reopen(queue, &database).await;
    }
    queue.settle(SettleRequest::new(trigger, refused, at(3))).await.unwrap();
    receive(&queue, issue("resolved", 100)).await;
    assert_eq!(waiting(&queue).await, ["a resolve"], "PagerDuty may have taken it");
}

#[tokio::test]
async fn a_trigger_that_is_refused_each_time_it_is_requeued_opens_nothing() {
    let (database, queue) = open().await;
    let [trigger] = receive(&queue, alert("a", 0, 0)).await[..] else { panic!("no single event") };
    let mut editor = Editor::open(&database).await.unwrap();
    for seconds in [10, 20, 30] {
        queue.begin(BeginRequest::new(trigger, at(seconds))).await.unwrap();
        let refused = Disposition::Dead { reason: "refused".to_owned() };
        queue.settle(SettleRequest::new(trigger, refused, at(seconds + 1))).await.unwrap();
        assert_eq!(editor.requeue(&[trigger], ResolvedTriggers::Skip).await.unwrap(), [trigger]);
    }
    queue.begin(BeginRequest::new(trigger, at(40))).await.unwrap();
    let refused = Disposition::Dead { reason: "refused".to_owned() };
    queue.settle(SettleRequest::new(trigger, refused, at(41))).await.unwrap();
    let outcome = queue.enqueue(issue("resolved", 100)).await.unwrap();
    assert_eq!(outcome, nothing_open(EventType::Resolve));
}

#[tokio::test]
async fn a_trigger_that_was_discarded_after_an_attempt_is_resolved_all_the_same() {
    let (database, queue) = open().await;
    let [trigger] = receive(&queue, alert("a", 0, 0)).await[..] else { panic!("no single event") };
    queue.begin(BeginRequest::new(trigger, at(1))).await.unwrap();
    let mut editor = Editor::open(&database).await.unwrap();
    assert_eq!(editor.discard(State::Waiting, &[trigger]).await.unwrap(), [trigger]);
    receive(&queue, issue("resolved", 100)).await;
    assert_eq!(waiting(&queue).await, ["a resolve"], "its attempt may have reached PagerDuty");
}

#[tokio::test]
async fn a_dead_trigger_whose_issue_was_resolved_since_waits_again_only_for_who_insists() {
    let dead = Disposition::Dead { reason: "no such service key".to_owned() };
    let (database, queue) = open().await;
    // One that was dead when the resolve came, one that became dead after it, one that the resolve had overtaken, and one
    // that Sentry received after the resolve.
    let [first] = receive(&queue, alert("a", 0, 0)).await[..] else { panic!("no single event") };
    settle(&queue, &dead, 1).await;
    let [second] = receive(&queue, alert("b", 1, 1)).await[..] else { panic!("no single event") };
    receive(&queue, issue("resolved", 100)).await;
    let [third, _] = receive(&queue, alert("a", 99, 101)).await[..] else { panic!("it was not overtaken") };
    let [fourth] = receive(&queue, alert("a", 101, 102)).await[..] else { panic!("it was overtaken") };
    settle(&queue, &dead, 103).await;
    queue.prune(Retention { age: Duration::ZERO, rows: 0 }, at(104)).await.unwrap();
    let queue = reopen(queue, &database).await;

    let mut editor = Editor::open(&database).await.unwrap();
    let all = [first, second, third, fourth];
    assert_eq!(editor.requeue(&all, ResolvedTriggers::Skip).await.unwrap(), [fourth]);
    assert_eq!(waiting(&queue).await, ["a trigger"]);
    assert_eq!(editor.requeue(&[first, second], ResolvedTriggers::Requeue).await.unwrap(), [first, second]);
    assert_eq!(waiting(&queue).await, ["a trigger", "b trigger", "a trigger"]);
    // After the issue was reopened, its trigger is needed again.
    receive(&queue, issue("unresolved", 200)).await;
    assert_eq!(editor.requeue(&[third], ResolvedTriggers::Skip).await.unwrap(), [third]);
}

#[tokio::test]
async fn a_signed_resolve_is_taken_once_until_many_others_came_whatever_the_clock_shows() {
    let (database, queue) = open().await;
    receive(&queue, signed_resolve(1, 0)).await;
    for came in [1, 100 * DAY, -100 * DAY] {
        assert_eq!(
            queue.enqueue(signed_resolve(1, came)).await.unwrap(),
            Enqueued::Ignored(IgnoreReason::Replayed),
            "at second {came}"
        );
    }
    let queue = reopen(queue, &database).await;
    let others = |first: u32, last: u32| {
        let digest = if IS_POSTGRES { "CAST(CAST(number AS text) AS bytea)" } else { "CAST(number AS BLOB)" };
        format!(
            "WITH RECURSIVE others (number) AS (SELECT {first} UNION ALL SELECT number + 1 FROM others WHERE number < {last})
             INSERT INTO seen_webhooks (digest, incident_key, event_type)
             SELECT {digest}, '7', 'resolve' FROM others"
        )
    };
    database.execute_sql(&others(1, 199_998)).await;
    receive(&queue, signed_resolve(2, 2)).await;
    assert_eq!(
        queue.enqueue(signed_resolve(1, 3)).await.unwrap(),
        Enqueued::Ignored(IgnoreReason::Replayed),
        "the 200,000th from the end"
    );
    receive(&queue, signed_resolve(3, 4)).await;
    queue.prune(Retention { age: Duration::from_hours(1), rows: 9 }, at(4)).await.unwrap();
    assert_eq!(queue.enqueue(signed_resolve(1, 5)).await.unwrap(), nothing_open(EventType::Resolve), "it is forgotten");
    assert_eq!(queue.enqueue(signed_resolve(3, 5)).await.unwrap(), Enqueued::Ignored(IgnoreReason::Replayed));
}

#[tokio::test]
async fn a_signed_resolve_that_could_not_be_committed_may_come_again() {
    let (database, queue) = open().await;
    receive(&queue, alert("a", 0, 0)).await;
    database.refuse_bodies("no body").await;
    queue.enqueue(signed_resolve(1, 1)).await.expect_err("it was committed");
    database.allow().await;
    assert_eq!(receive(&queue, signed_resolve(1, 2)).await.len(), 1);
}

/// An ingest with this default key and incident scope.
fn shop(default: &str, incident_scope: IncidentScope) -> Ingest {
    let routes = format!("team,a,{A}\nteam,b,{B}");
    let routes = Routes::new(ServiceKey::parse(default).unwrap(), &routes).unwrap();
    Ingest::new(routes, Policy { incident_scope, ..Policy::default() })
}

fn decided(ingest: &Ingest, resource: Option<&str>, body: &Value, came: i64) -> EnqueueRequest {
    let body = body.to_string();
    match ingest.decide(&Webhook { resource, sent_at: Some(at(came)), ..Webhook::of_body(body.as_bytes(), at(came)) }) {
        Decision::Enqueue(enqueue) => *enqueue,
        other => panic!("{other:?}"),
    }
}

/// An alert of an issue of the project for `team`.
fn fired(ingest: &Ingest, issue: u64, team: &str, came: i64) -> EnqueueRequest {
    let event = json!({ "event_id": format!("{came:032x}"), "timestamp": at(came).timestamp(),
                        "received": at(came).timestamp(), "title": "Full", "tags": [["team", team]] });
    let body = json!({ "id": issue.to_string(), "project_slug": "shop", "triggering_rules": ["Page"], "event": event });
    decided(ingest, None, &body, came)
}

/// A change of an issue of the project.
fn changed(ingest: &Ingest, issue: u64, action: &str, came: i64) -> EnqueueRequest {
    let issue = json!({ "id": issue.to_string(), "title": "Full", "project": { "slug": "shop" } });
    decided(ingest, Some("issue"), &json!({ "action": action, "data": { "issue": issue } }), came)
}

/// Delivers the waiting events, and returns them as [`waiting`] does, each with its incident key.
async fn delivered(queue: &Queue) -> Vec<String> {
    let mut ids = queue.reader().ids(State::Waiting, u64::MAX).await.unwrap();
    ids.sort();
    let mut events = waiting(queue).await;
    for (event, id) in events.iter_mut().zip(ids) {
        let incident_key = queue.reader().get(id).await.unwrap().unwrap().summary.incident_key;
        *event = format!("{event} {}", incident_key.as_str());
    }
    deliver(queue).await;
    events
}

#[tokio::test]
async fn a_resolve_or_reopening_of_a_shared_incident_concerns_no_dead_letter_of_another_integration() {
    let (database, queue) = open().await;
    let shop = shop(DEFAULT, IncidentScope::Project);
    receive(&queue, fired(&shop, 1, "a", 0)).await;
    deliver(&queue).await;
    let lost = receive(&queue, fired(&shop, 2, "b", 1)).await;
    let die = async || settle(&queue, &Disposition::Dead { reason: "400".to_owned() }, 2).await;
    die().await;

    // The other issue is still open, so its trigger may be sent.
    assert_eq!(receive(&queue, changed(&shop, 1, "resolved", 10)).await.len(), 1);
    deliver(&queue).await;
    let mut editor = Editor::open(&database).await.unwrap();
    assert_eq!(editor.requeue(&lost, ResolvedTriggers::Skip).await.unwrap(), lost);
    die().await;

    // Once it is resolved, the reopening of the first issue does not change that.
    receive(&queue, changed(&shop, 2, "resolved", 20)).await;
    receive(&queue, changed(&shop, 1, "unresolved", 30)).await;
    deliver(&queue).await;
    assert_eq!(editor.requeue(&lost, ResolvedTriggers::Skip).await.unwrap(), []);
    receive(&queue, changed(&shop, 2, "unresolved", 40)).await;
    deliver(&queue).await;
    assert_eq!(editor.requeue(&lost, ResolvedTriggers::Skip).await.unwrap(), lost);
    editor.close().await.unwrap();
}

#[tokio::test]
async fn an_issue_that_comes_back_after_the_setting_changed_opens_one_incident_at_each_integration() {
    let (_database, queue) = open().await;
    let [own, shared] = [IncidentScope::Issue, IncidentScope::Project].map(|scope| shop(DEFAULT, scope));
    for (came, shop) in [(0, &own), (10, &shared)] {
        receive(&queue, fired(shop, 1, "none", came)).await;
        receive(&queue, changed(shop, 1, "resolved", came + 1)).await;
    }
    let before =
        ["default trigger 1", "default resolve 1", "default trigger project/shop", "default resolve project/shop"];
    assert_eq!(delivered(&queue).await, before);
    for (came, shop, incident) in [(20, &shared, "project/shop"), (30, &own, "1")] {
        receive(&queue, changed(shop, 1, "unresolved", came)).await;
        assert_eq!(delivered(&queue).await, [format!("default trigger {incident}")]);
        receive(&queue, changed(shop, 1, "resolved", came + 1)).await;
        assert_eq!(delivered(&queue).await, [format!("default resolve {incident}")]);
    }
    // An incident that is open is triggered again, by whichever setting it was opened.
    receive(&queue, fired(&shared, 1, "none", 40)).await;
    deliver(&queue).await;
    receive(&queue, changed(&own, 1, "unresolved", 41)).await;
    assert_eq!(delivered(&queue).await, ["default trigger 1", "default trigger project/shop"]);
    receive(&queue, changed(&own, 1, "resolved", 42)).await;
    deliver(&queue).await;

    // For an integration that knows only the earlier incident, that one is triggered.
    receive(&queue, fired(&own, 1, "a", 50)).await;
    receive(&queue, changed(&own, 1, "resolved", 51)).await;
    deliver(&queue).await;
    receive(&queue, changed(&shared, 1, "unresolved", 60)).await;
    assert_eq!(delivered(&queue).await, ["a trigger 1", "default trigger project/shop"]);
}

#[tokio::test]
async fn an_issue_that_comes_back_opens_no_incident_by_a_key_that_no_setting_names_any_more() {
    let (_database, queue) = open().await;
    let [before, after] = [DEFAULT, C].map(|default| shop(default, IncidentScope::Issue));
    receive(&queue, fired(&before, 1, "none", 0)).await;
    receive(&queue, changed(&before, 1, "resolved", 1)).await;
    deliver(&queue).await;
    receive(&queue, changed(&after, 1, "unresolved", 10)).await;
    assert_eq!(delivered(&queue).await, ["c trigger 1"]);
    receive(&queue, changed(&after, 1, "resolved", 11)).await;
    assert_eq!(delivered(&queue).await, ["c resolve 1"]);
    receive(&queue, changed(&after, 1, "unresolved", 12)).await;
    assert_eq!(delivered(&queue).await, ["c trigger 1"]);

    // Other integrations of the issue are triggered again, and so is an incident that is still open at the old key.
    receive(&queue, fired(&before, 2, "none", 20)).await;
    receive(&queue, fired(&before, 2, "a", 21)).await;
    receive(&queue, fired(&before, 3, "none", 22)).await;
    receive(&queue, changed(&before, 2, "resolved", 23)).await;
    deliver(&queue).await;
    receive(&queue, changed(&after, 2, "unresolved", 30)).await;
    assert_eq!(delivered(&queue).await, ["a trigger 2", "c trigger 2"]);
    receive(&queue, changed(&after, 3, "unresolved", 31)).await;
    assert_eq!(delivered(&queue).await, ["default trigger 3"]);
    // An issue that has opened no incident opens none now.
    assert_eq!(queue.enqueue(changed(&after, 4, "unresolved", 32)).await.unwrap(), nothing_open(EventType::Trigger));
}
