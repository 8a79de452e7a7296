//! Triggers and resolves are ordered by Sentry's clock, never by the client's clock, by this machine's clock, or by the
//! unsigned header of a replayed webhook.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use pagerduty_sandbox::{EventType, Fault, FaultBody, FaultRule, IncidentState, Records};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::support::{Answer, Bridge, KEY, PagerDuty, TOKEN, execute_sql, post, run_with_input};

const SECRET: &str = "client-secret-of-the-integration";

/// A webhook of the integration platform.
struct Sent {
    resource: &'static str,
    body: Vec<u8>,
    /// The time in the header at which it was sent.
    at: DateTime<Utc>,
}

impl Sent {
    #[track_caller]
    fn post(&self, bridge: &Bridge) -> Answer {
        self.post_with(bridge, &[])
    }

    #[track_caller]
    fn post_with(&self, bridge: &Bridge, further: &[(&str, &str)]) -> Answer {
        let at = self.at.timestamp().to_string();
        let mut mac = Hmac::<Sha256>::new_from_slice(SECRET.as_bytes()).unwrap();
        mac.update(&self.body);
        let signature = hex(&mac.finalize().into_bytes());
        let headers = [
            ("Content-Type", "application/json"),
            ("Sentry-Hook-Resource", self.resource),
            ("Sentry-Hook-Timestamp", &at),
            ("Sentry-Hook-Signature", &signature),
        ];
        post(bridge.address, &format!("/sentry/{TOKEN}"), &[&headers, further].concat(), &self.body)
    }

    /// Posts it and asserts that it was queued as an event of this type.
    #[track_caller]
    fn queue(&self, bridge: &Bridge, event_type: &str) {
        let queued = json!({"status": "queued", "incident_key": "42", "event_type": event_type});
        assert_eq!(self.post(bridge).status_and_json(), (202, queued));
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

fn seconds(at: DateTime<Utc>) -> String {
    format!("{}.{:06}", at.timestamp(), at.timestamp_subsec_micros())
}

/// An alert of issue 42 whose event Sentry received at this time.
fn alert(event: u64, received: DateTime<Utc>) -> Sent {
    let event = json!({
        "event_id": format!("{event:032x}"), "issue_id": "42", "title": format!("Disk full {event}"),
        "timestamp": received.timestamp(), "received": seconds(received).parse::<f64>().unwrap(),
    });
    let body = json!({"action": "triggered", "data": {"event": event, "triggered_rule": "Page somebody"}});
    Sent { resource: "event_alert", body: body.to_string().into_bytes(), at: received }
}

/// A change of issue 42 at a time when it has this number of events.
fn issue(action: &str, substatus: Option<&str>, events: u64, at: DateTime<Utc>) -> Sent {
    let issue = json!({"id": "42", "title": "Disk full", "substatus": substatus, "count": events.to_string()});
    let body = json!({"action": action, "data": {"issue": issue}});
    Sent { resource: "issue", body: body.to_string().into_bytes(), at }
}

fn resolved(events: u64, at: DateTime<Utc>) -> Sent {
    issue("resolved", None, events, at)
}

/// A recorded body with its times replaced: each `before` by `after`.
fn recorded(body: &str, times: &[(&str, DateTime<Utc>)]) -> Vec<u8> {
    let body = times.iter().fold(body.to_owned(), |body, (recorded, at)| {
        assert!(body.contains(recorded));
        body.replace(recorded, &seconds(*at))
    });
    body.into_bytes()
}

fn start(pagerduty: &PagerDuty) -> Bridge {
    Bridge::start_with(&pagerduty.url(), &[("BRIDGE_SENTRY_CLIENT_SECRET", SECRET)])
}

/// The state of the only incident.
#[track_caller]
fn state(pagerduty: &PagerDuty) -> IncidentState {
    let [incident] = &pagerduty.incidents()[..] else { panic!("not one incident") };
    incident.state
}

fn queue(bridge: &Bridge, args: &[&str]) -> crate::support::Run {
    let database = bridge.database_url();
    let settings = [
        ("BRIDGE_DATABASE_URL", &*database),
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
        ("BRIDGE_WEBHOOK_TOKEN", TOKEN),
        ("BRIDGE_SENTRY_CLIENT_SECRET", SECRET),
    ];
    run_with_input(&[&["queue"], args].concat(), &settings, b"")
}

#[test]
fn a_regression_recorded_from_sentry_23_stays_open_although_its_client_is_behind() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty);
    let now = Utc::now();
    let ago = |milliseconds| now - TimeDelta::milliseconds(milliseconds);
    // The offsets of the recording: 2.5 s, 1.8 s and 0 s ago.
    let before = [("1795697370.297469", ago(2_500)), ("1795696770.2965", ago(602_500))];
    let after = [("1795697372.82153", now), ("1795697352.815407", ago(20_000))];
    let before = recorded(include_str!("../../fixtures/regression-23.7/alert-before.json"), &before);
    let after = recorded(include_str!("../../fixtures/regression-23.7/alert-after.json"), &after);
    let resolved = include_bytes!("../../fixtures/regression-23.7/resolved.json").to_vec();
    for (resource, body, at, event_type) in [
        ("event_alert", before, ago(2_500), "trigger"),
        ("issue", resolved, ago(1_800), "resolve"),
        ("event_alert", after, now, "trigger"),
    ] {
        let queued = json!({"status": "queued", "incident_key": "256", "event_type": event_type});
        assert_eq!(Sent { resource, body, at }.post(&bridge).status_and_json(), (202, queued));
    }
    pagerduty.wait_for_accepted(3);
    let records = bridge.end();
    assert_eq!(records.len(), 3, "{records:#?}");
    assert_eq!(state(&pagerduty), IncidentState::Triggered);
}

#[test]
fn an_alert_that_its_resolve_overtook_is_answered_logged_and_shown_as_what_it_is() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty);
    let now = Utc::now();
    assert_eq!(resolved(1, now).post(&bridge).status_and_json().1["status"], "ignored");
    let (status, answer) = alert(1, now - TimeDelta::seconds(5)).post(&bridge).status_and_json();
    let queued = json!({"status": "queued", "incident_key": "42", "event_type": "trigger", "followed_by": "resolve"});
    assert_eq!((status, answer), (202, queued));
    pagerduty.wait_for_accepted(2);
    assert_eq!(state(&pagerduty), IncidentState::Resolved);
    bridge.wait_for_log("resolve queued");
    let triggers = bridge.process.stderr.all().iter().filter(|line| line.contains("trigger queued")).count();
    assert_eq!(triggers, 1);
    let shown: Value = serde_json::from_str(&queue(&bridge, &["show", "2", "--json"]).stdout).unwrap();
    assert_eq!(shown["event_type"], "resolve");
    assert!(shown["description"].as_str().unwrap().starts_with("Sentry resolved this"), "{shown}");
    assert_eq!(shown["event"]["description"], shown["description"]);
}

#[test]
fn a_resolve_that_was_on_its_way_for_longer_than_a_newer_alert_closes_nothing() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty);
    let now = Utc::now();
    alert(1, now - TimeDelta::seconds(60)).queue(&bridge, "trigger");
    alert(2, now).queue(&bridge, "trigger");
    pagerduty.wait_for_accepted(1);
    let (status, answer) = resolved(1, now - TimeDelta::seconds(2)).post(&bridge).status_and_json();
    assert_eq!((status, &answer["status"]), (202, &json!("ignored")));
    assert!(answer["reason"].as_str().unwrap().contains("open again"), "{answer}");
    let records = bridge.end();
    assert!(records.iter().all(|record| record.summary.event_type.as_str() == "trigger"), "{records:#?}");
    assert_eq!(state(&pagerduty), IncidentState::Triggered);
}

#[test]
fn a_clock_that_was_set_back_by_an_hour_closes_no_new_alert() {
    let pagerduty = PagerDuty::start();
    let mut bridge = start(&pagerduty);
    let now = Utc::now();
    alert(1, now - TimeDelta::seconds(5)).queue(&bridge, "trigger");
    resolved(1, now).queue(&bridge, "resolve");
    pagerduty.wait_for_accepted(2);
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    // The values that a bridge whose clock is an hour ahead would have stored. A Sentry on the same machine has the same
    // clock.
    for sql in [
        "UPDATE resolves SET happened_at = happened_at + 3600000, received_at = received_at + 3600000 WHERE ? IS NOT NULL",
        "UPDATE incidents SET changed_at = changed_at + 3600000 WHERE ? IS NOT NULL",
        "UPDATE events SET received_at = received_at + 3600000, first_seen = first_seen + 3600000, \
         finished_at = finished_at + 3600000 WHERE ? IS NOT NULL",
    ] {
        execute_sql(&bridge, sql, b"");
    }
    bridge.restart();
    alert(2, Utc::now()).queue(&bridge, "trigger");
    pagerduty.wait_for_accepted(3);
    assert_eq!(state(&pagerduty), IncidentState::Triggered);
    assert_eq!(bridge.end().len(), 3);
}

#[test]
fn a_clock_that_steps_over_half_a_year_forgets_no_open_incident() {
    let pagerduty = PagerDuty::start();
    let settings = [("BRIDGE_SENTRY_CLIENT_SECRET", SECRET), ("RUST_LOG", "debug")];
    let mut bridge = Bridge::start_with(&pagerduty.url(), &settings);
    alert(1, Utc::now()).queue(&bridge, "trigger");
    pagerduty.wait_for_accepted(1);
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    for sql in [
        "UPDATE incidents SET changed_at = changed_at - 15638400000 WHERE ? IS NOT NULL",
        "UPDATE events SET finished_at = finished_at - 15638400000 WHERE ? IS NOT NULL",
    ] {
        execute_sql(&bridge, sql, b"");
    }
    bridge.restart();
    bridge.wait_for_log("1 delivered events were forgotten");
    resolved(1, Utc::now()).queue(&bridge, "resolve");
    pagerduty.wait_for_accepted(2);
    assert_eq!(state(&pagerduty), IncidentState::Resolved);
}

#[test]
fn a_captured_resolve_closes_nothing_when_it_is_sent_again() {
    let pagerduty = PagerDuty::start();
    let mut bridge = start(&pagerduty);
    let now = Utc::now();
    alert(1, now - TimeDelta::seconds(30)).queue(&bridge, "trigger");
    let mut captured = resolved(1, now - TimeDelta::seconds(20));
    captured.queue(&bridge, "resolve");
    alert(2, now - TimeDelta::seconds(10)).queue(&bridge, "trigger");
    pagerduty.wait_for_accepted(3);
    // Whoever replays it can choose the headers, which are not signed.
    captured.at = Utc::now();
    for key in ["6a7b", "8c9d"] {
        let (status, answer) = captured.post_with(&bridge, &[("Idempotency-Key", key)]).status_and_json();
        assert_eq!((status, &answer["status"]), (202, &json!("ignored")), "{answer}");
        assert!(answer["reason"].as_str().unwrap().contains("duplicate of an earlier resolve"), "{answer}");
        assert_eq!(bridge.terminate("TERM").code(), Some(0));
        bridge.restart();
    }
    assert_eq!(state(&pagerduty), IncidentState::Triggered);
    // The next resolve that Sentry sends counts the event that came since.
    resolved(2, Utc::now()).queue(&bridge, "resolve");
    pagerduty.wait_for_accepted(4);
    assert_eq!(state(&pagerduty), IncidentState::Resolved);
}

#[test]
fn a_resolve_that_is_the_same_because_nothing_but_people_touched_the_issue_closes_it_again() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty);
    let now = Utc::now();
    let ago = |seconds| now - TimeDelta::seconds(seconds);
    alert(1, ago(60)).queue(&bridge, "trigger");
    resolved(1, ago(50)).queue(&bridge, "resolve");
    issue("unresolved", Some("ongoing"), 1, ago(40)).queue(&bridge, "trigger");
    resolved(1, ago(30)).queue(&bridge, "resolve");
    // A regression adds an event, so a copy of the earlier resolve is recognised.
    issue("unresolved", Some("regressed"), 2, ago(20)).queue(&bridge, "trigger");
    assert_eq!(resolved(1, ago(10)).post(&bridge).status_and_json().1["status"], "ignored");
    // A copy of a change that a person made does not reopen it, either.
    issue("unresolved", Some("ongoing"), 1, ago(5)).queue(&bridge, "trigger");
    assert_eq!(resolved(1, ago(4)).post(&bridge).status_and_json().1["status"], "ignored");
    pagerduty.wait_for("the last trigger", |records| records.counters().opened >= 3);
    assert_eq!(state(&pagerduty), IncidentState::Triggered);
}

#[test]
fn a_trigger_that_was_given_up_although_pagerduty_had_opened_it_is_resolved_with_its_issue() {
    let fault = Fault::Answer { status: 500, body: FaultBody::Json, headers: BTreeMap::new(), apply: true };
    let only = FaultRule {
        incident_key: Some("42".to_owned()),
        event_type: Some(EventType::Trigger),
        ..FaultRule::new(fault)
    };
    let pagerduty = PagerDuty::with_fault(only);
    let settings = [("BRIDGE_SENTRY_CLIENT_SECRET", SECRET), ("BRIDGE_GIVE_UP_AFTER", "1s")];
    let bridge = Bridge::start_with(&pagerduty.url(), &settings);
    alert(1, Utc::now()).queue(&bridge, "trigger");
    bridge.deliver_others_until_given_up(|number| {
        bridge.queue(&crate::support::alert(100 + number, "Disk full"));
        let issue = (100 + number).to_string();
        pagerduty.wait_for("another incident", |records| records.incident(KEY, &issue).is_some());
    });
    bridge.wait_for_log("dead letter");
    let open = |records: &Records| {
        records.incident(KEY, "42").is_some_and(|incident| incident.state == IncidentState::Triggered)
    };
    assert!(pagerduty.read(open), "PagerDuty took it, whatever it answered");
    resolved(1, Utc::now()).queue(&bridge, "resolve");
    pagerduty.wait_for("the resolve", |records| !open(records));
}

#[test]
fn a_dead_trigger_whose_issue_was_resolved_is_sent_only_for_who_insists() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_with(
        &pagerduty.url(),
        &[("BRIDGE_SENTRY_CLIENT_SECRET", SECRET), ("BRIDGE_ADMIN_TOKEN", "admin-token-for-tests-alone-0001")],
    );
    pagerduty.inject(FaultRule::new(Fault::status(400)).times(1)).unwrap();
    alert(1, Utc::now()).queue(&bridge, "trigger");
    bridge.wait_for_log("dead letter");
    assert_eq!(resolved(1, Utc::now()).post(&bridge).status_and_json().1["status"], "ignored", "nothing is open");

    for args in [&["retry", "1"][..], &["retry", "--all"]] {
        let run = queue(&bridge, args);
        assert_eq!((run.code, &*run.stdout), (Some(1), ""), "{run:?}");
        assert!(run.stderr.contains("1: not retried, because its incident was resolved since"), "{}", run.stderr);
    }
    let api = |path: &str| {
        let headers = [("Authorization", "Bearer admin-token-for-tests-alone-0001")];
        post(bridge.address, path, &headers, b"").status_and_json()
    };
    let (status, answer) = api("/api/events/1/retry");
    assert!(status == 409 && answer["reason"].as_str().unwrap().contains("resolved since"), "{answer}");
    assert_eq!(api("/api/events/1/retry?force=perhaps").0, 400);
    let shown: Value = serde_json::from_str(&queue(&bridge, &["show", "1", "--json"]).stdout).unwrap();
    assert!(shown["resolved_at"].is_string(), "{shown}");

    assert_eq!(queue(&bridge, &["retry", "--force", "1"]).stdout, "1: requeued\n");
    pagerduty.wait_for_accepted(1);
    assert_eq!(state(&pagerduty), IncidentState::Triggered);
}

#[test]
fn a_webhook_that_is_mapped_again_has_the_headers_it_came_with() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty);
    let now = Utc::now();
    let ago = |seconds| now - TimeDelta::seconds(seconds);
    // Two deliveries of one alert, a resolve that happened before the newer alert, and an event that came by another
    // webhook.
    let broken = |resource, at| Sent { resource, body: b"{".to_vec(), at };
    for key in ["6a7b", "6a7b"] {
        let answer = broken("event_alert", ago(60)).post_with(&bridge, &[("Idempotency-Key", key)]);
        assert_eq!(answer.status, 400);
    }
    assert_eq!(broken("issue", ago(40)).post(&bridge).status, 400);
    assert_eq!(broken("event_alert", ago(20)).post(&bridge).status, 400);
    bridge.wait_for_log("it is kept as r4");
    alert(2, ago(20)).queue(&bridge, "trigger");
    pagerduty.wait_for_accepted(1);
    bridge.wait_for_log("delivered");
    // Metric alerts and issues have no id that distinguishes the first two from new ones: only the header does.
    let change = issue("unresolved", Some("regressed"), 1, ago(60));
    execute_sql(&bridge, "UPDATE rejected SET resource = 'issue', body = ? WHERE id IN (1, 2)", &change.body);
    execute_sql(&bridge, "UPDATE rejected SET body = ? WHERE id = 3", &resolved(1, ago(40)).body);
    execute_sql(&bridge, "UPDATE rejected SET body = ? WHERE id = 4", &alert(2, ago(20)).body);

    let run = queue(&bridge, &["retry", "r1", "r2", "r3", "r4"]);
    assert_eq!(run.code, Some(0), "{run:?}");
    let lines: Vec<_> = run.stdout.lines().collect();
    assert_eq!(lines[0], "r1: queued as event 2 of incident 42");
    assert!(lines[1].starts_with("r2: ignored and deleted: duplicate of a"), "{run:?}");
    assert!(lines[2].starts_with("r3: ignored and deleted: Sentry received an alert after"), "{run:?}");
    assert!(lines[3].starts_with("r4: ignored and deleted: duplicate of a"), "{run:?}");
    assert_eq!(lines.len(), 4, "{run:?}");
    pagerduty.wait_for_accepted(2);
    assert_eq!(state(&pagerduty), IncidentState::Triggered);
}
