//! The bridge verifies with PagerDuty's REST API that each delivery opened or resolved an incident, and raises an alarm if
//! not.

use std::fs;
use std::time::{Duration, Instant};

use chrono::{TimeDelta, Utc};
use pagerduty_sandbox::{
    EventType, Fault, FaultRule, IncidentState, Options, Records, RestAnswer, RestOptions, RestServiceStatus,
    ServiceOptions,
};
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, IncidentKey, ProofState, ServiceKey};
use sentry_pagerduty_bridge::proof::sample::BUDGET;
use sentry_pagerduty_bridge::queue::{Envelope, EventId, Proof};
use serde_json::{Value, json};

use crate::in_process::{GIVEN_UP, InProcessBridge};
use crate::observation::{ADMIN_TOKEN, wait_for};
use crate::support::{Connection, KEY, OTHER_KEY, PATIENCE, PagerDuty, TOKEN, alert, get_with, post};
use crate::{ALARM_KEY, causes, wait_for_alarm};

const API_TOKEN: &str = "u+3rdPartyRestApiKey";

/// A PagerDuty with a service for alerts, changed by `change`, and one for alarms.
fn pagerduty(change: impl FnOnce(&mut ServiceOptions)) -> PagerDuty {
    let pagerduty = PagerDuty::start();
    let mut payments = ServiceOptions::new("PPAY", "Payments", KEY);
    change(&mut payments);
    let services = vec![payments, ServiceOptions::new("POPS", "Operations", OTHER_KEY)];
    // The sandbox rejects every request above the budget of the bridge.
    let rest = RestOptions {
        token: Some(API_TOKEN.to_owned()),
        read_only: true,
        limit: BUDGET,
        services,
        ..Default::default()
    };
    pagerduty.set_options(Options { rest, ..pagerduty.options() });
    pagerduty
}

fn start(pagerduty: &PagerDuty) -> InProcessBridge {
    let api = pagerduty.rest_url();
    let settings = [
        ALARM_KEY,
        ("BRIDGE_PAGERDUTY_API_URL", api.as_str()),
        ("BRIDGE_PAGERDUTY_API_TOKEN", API_TOKEN),
        ("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN),
    ];
    InProcessBridge::start(&pagerduty.url(), &settings)
}

/// The response of `GET {path}`.
#[track_caller]
fn api(bridge: &InProcessBridge, path: &str) -> Value {
    let mut connection = Connection::open(bridge.address);
    let address = bridge.address;
    let request = format!(
        "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
    );
    connection.send(request.as_bytes());
    let (code, said) = connection.answer().status_and_json();
    assert_eq!(code, 200, "{said}");
    said
}

/// Waits until the metrics count `number` events with this proof state.
#[track_caller]
fn wait_for_proofs(bridge: &InProcessBridge, state: &str, number: u64) {
    let series = format!("bridge_event_proofs_total{{state=\"{state}\"}}");
    wait_for(bridge.address, &format!("{number} {state}"), |said| said.sample(&series) >= number);
}

/// The stored proof of an event.
fn proof(bridge: &InProcessBridge, event: i64) -> Option<Proof> {
    bridge.read_queue(async |reader| reader.proofs(&[EventId::new(event)]).await.unwrap().pop())
}

fn sentence(incident: &pagerduty_sandbox::Incident) -> &str {
    &incident.description
}

/// Posts that issue 1 is resolved.
#[track_caller]
fn resolve(bridge: &InProcessBridge) {
    let body = json!({"action": "resolved", "data": {"issue": {"id": "1", "title": "Disk full"}}}).to_string();
    let headers = [("Content-Type", "application/json"), ("Sentry-Hook-Resource", "issue")];
    let answer = post(bridge.address, &format!("/sentry/{TOKEN}"), &headers, body.as_bytes());
    assert_eq!(answer.status, 202, "{answer:?}");
}

#[test]
fn what_opened_an_incident_is_confirmed_with_its_number_and_address() {
    for creates_alerts in [false, true] {
        let pagerduty = pagerduty(|service| service.creates_alerts = creates_alerts);
        let bridge = start(&pagerduty);
        bridge.queue(&alert(1, "Disk full"));
        wait_for_proofs(&bridge, "confirmed", 1);
        let shown = api(&bridge, "/api/events/1");
        let incident = pagerduty.read(|records| records.incident(KEY, "1").unwrap().clone());
        let url = format!("https://sandbox.invalid/incidents/{}", incident.id());
        let expected = json!({"state": "confirmed", "incident_number": 1, "incident_url": url, "reason": null});
        assert_eq!((&shown["proof"], &shown["service"]), (&expected, &json!("Payments")), "{shown}");
        let listed = api(&bridge, "/api/events");
        assert_eq!(listed["events"][0]["proof"], expected, "{listed}");
        let status = api(&bridge, "/api/status");
        assert_eq!(status["destinations"][0]["name"], "Payments", "{status}");
        assert_eq!((&status["proof"], causes(&pagerduty)), (&json!({"trouble": null, "failures": 0}), vec![]));
    }
}

#[test]
fn what_was_accepted_and_dropped_is_alarmed_at_the_end_of_its_schedule_and_no_sooner() {
    let pagerduty = pagerduty(|_| {});
    let drops = FaultRule { service_key: Some(KEY.to_owned()), ..FaultRule::new(Fault::SilentDrop) };
    pagerduty.inject(drops.times(1)).unwrap();
    let bridge = start(&pagerduty);
    bridge.queue(&alert(1, "Disk full"));
    let alarm = wait_for_alarm(&pagerduty, OTHER_KEY, "proof");
    assert!(
        sentence(&alarm).contains("PagerDuty accepted event 1 for Payments (…00A1)")
            && sentence(&alarm).contains("no incident exists")
            && sentence(&alarm).contains("the service Payments is enabled"),
        "{alarm:#?}"
    );
    let dropped = proof(&bridge, 1).unwrap();
    assert_eq!(dropped.state, ProofState::NotOpened);
    let took = dropped.judged_at - dropped.delivered_at;
    assert!(took >= TimeDelta::from_std(GIVEN_UP).unwrap(), "given up after {took}");
    assert_eq!(api(&bridge, "/api/status")["proof"]["failures"], 1);

    // The next event is not dropped.
    bridge.queue(&alert(2, "Disk full"));
    pagerduty.wait_for("the next alert", |records| records.incident(KEY, "2").is_some());
    wait_for(bridge.address, "its proof", |_| {
        let events = api(&bridge, "/api/events?state=delivered");
        let events = events["events"].as_array().unwrap().clone();
        events.iter().any(|event| event["incident_key"] == "2" && event["proof"]["state"] == "confirmed")
    });
}

#[test]
fn a_service_that_opens_nothing_is_named_with_the_reason() {
    for (status, expected) in [
        (RestServiceStatus::Disabled, "the service Payments is disabled, so enable it in PagerDuty"),
        (RestServiceStatus::Maintenance, "the service Payments is in maintenance until 20"),
    ] {
        let pagerduty = pagerduty(|service| service.status = status);
        let bridge = start(&pagerduty);
        bridge.queue(&alert(1, "Disk full"));
        let alarm = wait_for_alarm(&pagerduty, OTHER_KEY, "proof");
        assert!(sentence(&alarm).contains(expected), "{alarm:#?}");
        let reason = proof(&bridge, 1).unwrap().reason.unwrap();
        assert!(reason.starts_with(expected), "{reason}");
    }
}

#[test]
fn an_alert_that_a_rule_suppresses_is_told_and_not_alarmed() {
    let pagerduty = pagerduty(|service| (service.creates_alerts, service.suppresses) = (true, true));
    let bridge = start(&pagerduty);
    bridge.queue(&alert(1, "Disk full"));
    wait_for_proofs(&bridge, "suppressed", 1);
    assert_eq!(api(&bridge, "/api/events/1")["proof"]["state"], "suppressed");
    assert_eq!(causes(&pagerduty), [""; 0]);
}

fn drops_resolves(times: Option<u64>) -> FaultRule {
    let of_alerts = FaultRule { service_key: Some(KEY.to_owned()), ..FaultRule::new(Fault::SilentDrop) };
    FaultRule { event_type: Some(EventType::Resolve), times, ..of_alerts }
}

#[test]
fn a_resolve_that_left_its_incident_open_is_sent_once_more() {
    let pagerduty = pagerduty(|_| {});
    pagerduty.inject(drops_resolves(Some(1))).unwrap();
    let bridge = start(&pagerduty);
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for_accepted(1);
    resolve(&bridge);
    pagerduty.wait_for("the end of the incident", |records| {
        records.incident(KEY, "1").is_some_and(|incident| incident.state == IncidentState::Resolved)
    });
    wait_for_proofs(&bridge, "confirmed", 2);
    wait_for_proofs(&bridge, "resent", 1);
    let resolves: Vec<_> =
        pagerduty.journal().into_iter().filter(|entry| entry.text("event_type") == Some("resolve")).collect();
    assert_eq!(resolves.len(), 2);
    assert_eq!(resolves[0].request.body, resolves[1].request.body);
    assert_eq!(causes(&pagerduty), [""; 0]);
}

#[test]
fn a_resolve_that_left_its_incident_open_twice_is_alarmed() {
    let pagerduty = pagerduty(|_| {});
    pagerduty.inject(drops_resolves(None)).unwrap();
    let bridge = start(&pagerduty);
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for_accepted(1);
    resolve(&bridge);
    let alarm = wait_for_alarm(&pagerduty, OTHER_KEY, "proof");
    assert!(
        sentence(&alarm).contains("incident #1 for Payments (…00A1) is open although event 3 resolved it")
            && sentence(&alarm).contains("resolve it by hand at https://sandbox.invalid/incidents/Q"),
        "{alarm:#?}"
    );
    let resolves = pagerduty.journal().into_iter().filter(|entry| entry.text("event_type") == Some("resolve")).count();
    assert_eq!(resolves, 2, "sent once more, and not again");
}

/// PagerDuty gives this response to every request to the REST API.
fn answers(pagerduty: &PagerDuty, status: u16, reset: Option<u32>) {
    let mut options = pagerduty.options();
    options.rest.answer = Some(RestAnswer { status, reset });
    pagerduty.set_options(options);
}

#[test]
fn a_token_that_pagerduty_refuses_is_alarmed_and_not_tried_again_at_once() {
    for (status, expected) in [(401, "PagerDuty does not know the token"), (403, "may not do GET /services (403)")] {
        let pagerduty = pagerduty(|_| {});
        answers(&pagerduty, status, None);
        let bridge = start(&pagerduty);
        let alarm = wait_for_alarm(&pagerduty, OTHER_KEY, "proof");
        assert!(sentence(&alarm).contains("whether PagerDuty does what it accepts is not known"), "{alarm:#?}");
        assert!(sentence(&alarm).contains(expected), "{alarm:#?}");
        bridge.queue(&alert(1, "Disk full"));
        pagerduty.wait_for("the alert", |records| records.incident(KEY, "1").is_some());
        assert_eq!(pagerduty.read(Records::rest_total), 1);
    }
}

#[test]
fn a_plan_without_the_api_is_told_and_not_alarmed() {
    let pagerduty = pagerduty(|_| {});
    answers(&pagerduty, 402, None);
    let bridge = start(&pagerduty);
    let said = wait_for(bridge.address, "the refusal", |said| !said.status["proof"]["trouble"].is_null());
    let trouble = said.status["proof"]["trouble"].as_str().unwrap();
    assert!(trouble.contains("the plan of this PagerDuty account does not include"), "{trouble}");
    assert_eq!(said.troubles(), [""; 0]);
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for("the alert", |records| records.incident(KEY, "1").is_some());
    assert_eq!((pagerduty.read(Records::rest_total), causes(&pagerduty)), (1, vec![]));
}

#[test]
fn a_token_that_is_replaced_in_its_file_is_used_for_the_next_look_up() {
    let pagerduty = pagerduty(|_| {});
    let home = tempfile::tempdir().unwrap();
    let [token, admin] = ["token", "admin"].map(|name| home.path().join(name));
    fs::write(&token, API_TOKEN).unwrap();
    fs::write(&admin, "the-admin-token-before").unwrap();
    let api = pagerduty.rest_url();
    let settings = [
        ALARM_KEY,
        ("BRIDGE_PAGERDUTY_API_URL", api.as_str()),
        ("BRIDGE_PAGERDUTY_API_TOKEN_FILE", token.to_str().unwrap()),
        ("BRIDGE_ADMIN_TOKEN_FILE", admin.to_str().unwrap()),
        // Not to be confused with it.
        ("BRIDGE_SENTRY_API_TOKEN", "the-token-for-the-api-of-sentry"),
    ];
    let bridge = InProcessBridge::start(&pagerduty.url(), &settings);
    bridge.queue(&alert(1, "Disk full"));
    let is_looked_up = |records: &Records, issue: u32| {
        let key = format!("incident_key={issue}&");
        records.rest_requests().any(|request| request.status == 200 && request.target.contains(&key))
    };
    pagerduty.wait_for("the look-up of the first event", |records| is_looked_up(records, 1));

    let mut options = pagerduty.options();
    options.rest.token = Some("y_NbAkKc66ryYTWUXYEu".to_owned());
    pagerduty.set_options(options);
    fs::write(&token, "y_NbAkKc66ryYTWUXYEu").unwrap();
    fs::write(&admin, ADMIN_TOKEN).unwrap();
    // Both are read at the same time, and used together.
    let (bearer, deadline) = (format!("Bearer {ADMIN_TOKEN}"), Instant::now() + PATIENCE);
    while get_with(bridge.address, "/api/status", &[("Authorization", &bearer)]).status != 200 {
        assert!(Instant::now() < deadline, "the files were not read again");
        std::thread::sleep(Duration::from_millis(50));
    }
    bridge.queue(&alert(2, "Disk full"));
    pagerduty.wait_for("the look-up of the second event", |records| is_looked_up(records, 2));
    let refused = pagerduty.read(|records| records.rest_requests().filter(|request| request.status == 401).count());
    assert_eq!((refused, causes(&pagerduty)), (0, vec![]));
}

#[test]
fn throttling_is_waited_for_as_pagerduty_says_and_nothing_is_given_up_meanwhile() {
    let pagerduty = pagerduty(|_| {});
    answers(&pagerduty, 429, Some(1));
    let bridge = start(&pagerduty);
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for("a second request", |records| records.rest_total() >= 2);
    let times: Vec<_> = pagerduty.read(|records| records.rest_requests().map(|request| request.at).collect());
    assert!(times[1] - times[0] >= TimeDelta::seconds(1), "{times:?}");
    let mut options = pagerduty.options();
    options.rest.answer = None;
    pagerduty.set_options(options);
    wait_for_proofs(&bridge, "confirmed", 1);
    assert_eq!(causes(&pagerduty), [""; 0]);
}

#[test]
fn a_restart_neither_repeats_nor_forgets_a_look_up() {
    let pagerduty = pagerduty(|_| {});
    let mut bridge = start(&pagerduty);
    bridge.queue(&alert(1, "Disk full"));
    wait_for_proofs(&bridge, "confirmed", 1);
    bridge.end();
    answers(&pagerduty, 500, None);
    bridge.restart();
    bridge.queue(&alert(2, "Disk full"));
    pagerduty.wait_for("the second alert", |records| records.incident(KEY, "2").is_some());
    bridge.end();
    let mut options = pagerduty.options();
    options.rest.answer = None;
    pagerduty.set_options(options);
    bridge.restart();
    wait_for_proofs(&bridge, "confirmed", 1);
    let asked = |key: &str| {
        let key = format!("incident_key={key}&");
        pagerduty.read(|records| records.rest_requests().filter(|request| request.target.contains(&key)).count())
    };
    assert_eq!((asked("1"), asked("2")), (1, 1));
}

/// The largest number of requests within any minute.
fn busiest_minute(pagerduty: &PagerDuty) -> usize {
    let times: Vec<_> = pagerduty.read(|records| records.rest_requests().map(|request| request.at).collect());
    let within = |from| times.iter().filter(|at| (from..from + TimeDelta::minutes(1)).contains(*at)).count();
    times.iter().map(|from| within(*from)).max().unwrap_or(0)
}

/// The integration key of one of many services.
fn key_of(number: usize) -> String {
    format!("one0key0for0every0project000{number:04}")
}

#[test]
fn a_storm_of_20000_events_stays_within_the_budget() {
    const KEYS: usize = 20;
    let pagerduty = pagerduty(|_| {});
    let mut options = pagerduty.options();
    options.rest.services.extend(
        (0..KEYS)
            .map(|number| ServiceOptions::new(&format!("P{number}"), &format!("Service {number}"), &key_of(number))),
    );
    pagerduty.set_options(options);
    let routes: Vec<_> = (0..KEYS).map(|number| format!("project,case-{number},{}", key_of(number))).collect();
    let (api, routes) = (pagerduty.rest_url(), routes.join("\n"));
    let settings = [
        ALARM_KEY,
        ("BRIDGE_PAGERDUTY_API_URL", api.as_str()),
        ("BRIDGE_PAGERDUTY_API_TOKEN", API_TOKEN),
        ("BRIDGE_PAGERDUTY_ROUTES", routes.as_str()),
        ("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN),
    ];
    let mut bridge = InProcessBridge::start(&pagerduty.url(), &settings);
    bridge.end();
    let envelope = |number: usize| {
        let (service_key, incident_key) = (key_of(number % KEYS), number.to_string());
        let event = json!({
            "service_key": service_key, "event_type": "trigger", "incident_key": incident_key, "description": "Disk full",
        });
        Envelope {
            service_key: ServiceKey::parse(&service_key).unwrap(),
            api: ApiVersion::V1,
            issue_key: None,
            incident_key: IncidentKey::parse(&incident_key).unwrap(),
            event_type: sentry_pagerduty_bridge::pagerduty::EventType::Trigger,
            description: "Disk full".to_owned(),
            body: event.to_string().into_bytes(),
            counts_at: None,
            received_at: Utc::now(),
        }
    };
    bridge.write_queue(async |queue| {
        let committed =
            futures_util::future::join_all((0..20_000).map(|number| queue.enqueue_event(envelope(number)))).await;
        assert!(committed.iter().all(Result::is_ok));
    });
    bridge.restart();
    for thousand in 1..=20 {
        let what = format!("{thousand},000 events");
        pagerduty.wait_for(&what, |records| records.counters().opened >= thousand * 1000);
    }
    // The keys take turns. The keys before this one may have used the budget of the first minute.
    for number in 0..KEYS {
        let service = format!("service_ids%5B%5D=P{number}");
        let is_asked = |request: &pagerduty_sandbox::RestRequest| request.target.ends_with(&service);
        pagerduty.wait_within(Duration::from_secs(150), &service, |records| records.rest_requests().any(is_asked));
    }
    let busiest = busiest_minute(&pagerduty);
    assert!(busiest > 0 && busiest <= BUDGET, "{busiest} requests in a minute");
    let refused = pagerduty.read(|records| records.rest_requests().filter(|request| request.status != 200).count());
    assert_eq!((refused, causes(&pagerduty)), (0, vec![]));
}
