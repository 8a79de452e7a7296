//! The Events API v2, and incidents that are open while `BRIDGE_PAGERDUTY_EVENTS_API` changes.

use pagerduty_sandbox::{EventsApiVersion, Fault, FaultRule, IncidentState, Options, ThrottleOptions, Verdict};
use serde_json::{Value, json};

use crate::support::{
    Bridge, ClosedPort, KEY, OTHER_KEY, PagerDuty, ROUTES, TOKEN, alert_of_level, post, run, run_with_input,
};

const V2: (&str, &str) = ("BRIDGE_PAGERDUTY_EVENTS_API", "v2");

/// Posts a change of an issue as the integration platform does, without a signature, because no client secret is set.
#[track_caller]
fn change(bridge: &Bridge, issue: u64, action: &str) {
    let body = json!({ "action": action, "data": { "issue": { "id": issue.to_string(), "title": "Disk full" } } });
    let sent_at = chrono::Utc::now().timestamp().to_string();
    let headers =
        [("Content-Type", "application/json"), ("Sentry-Hook-Resource", "issue"), ("Sentry-Hook-Timestamp", &sent_at)];
    let (status, said) =
        post(bridge.address, &format!("/sentry/{TOKEN}"), &headers, body.to_string().as_bytes()).status_and_json();
    assert_eq!((status, &said["status"]), (202, &Value::from("queued")), "{said}");
}

fn open(pagerduty: &PagerDuty) -> Vec<String> {
    let incidents = pagerduty.incidents().into_iter();
    incidents
        .filter(|incident| incident.state != IncidentState::Resolved)
        .map(|incident| incident.incident_key)
        .collect()
}

/// The API and the type of every applied event.
fn applied(pagerduty: &PagerDuty) -> Vec<(EventsApiVersion, String)> {
    let applied = pagerduty.journal().into_iter().filter(|entry| matches!(entry.verdict, Verdict::Accepted { .. }));
    applied.map(|entry| (entry.api.unwrap(), entry.event_type().unwrap().to_owned())).collect()
}

#[test]
fn a_key_takes_events_by_the_api_of_its_setting_or_its_route() {
    let pagerduty = PagerDuty::start();
    let routes = ("BRIDGE_PAGERDUTY_ROUTES", &*format!("level,fatal,{OTHER_KEY},v1"));
    let severity = ("BRIDGE_SEVERITY", "level,info,critical");
    let bridge = Bridge::start_with(&pagerduty.url(), &[V2, routes, severity]);
    for (issue, level) in [(1, "warning"), (2, "info"), (3, "fatal")] {
        bridge.queue(&alert_of_level(level, issue, "Disk full"));
        pagerduty.wait_for_accepted(issue);
    }
    let journal = pagerduty.journal();
    let event = |number: usize| journal[number].event.clone().unwrap();
    assert_eq!(journal.iter().map(|entry| entry.status.unwrap()).collect::<Vec<_>>(), [202, 202, 200]);
    assert_eq!((&event(0)["routing_key"], &event(0)["dedup_key"]), (&json!(KEY), &json!("1")));
    let payload = &event(0)["payload"];
    assert_eq!((&payload["summary"], &payload["severity"]), (&json!("Disk full"), &json!("warning")));
    assert_eq!((&payload["source"], &payload["component"]), (&json!("checkout"), &json!("shop")));
    assert_eq!(event(1)["payload"]["severity"], "critical", "by BRIDGE_SEVERITY");
    assert_eq!((&event(2)["service_key"], &event(2)["event_type"]), (&json!(OTHER_KEY), &json!("trigger")));
    let counters = pagerduty.counters();
    assert_eq!((counters.opened, counters.warnings, counters.violations, counters.refused), (3, 0, 0, 0));
}

#[test]
fn no_incident_stays_open_because_the_setting_changed_meanwhile() {
    // PagerDuty does not document whether its two APIs share their incidents.
    for separate_apis in [false, true] {
        let pagerduty = PagerDuty::start();
        let throttle = ThrottleOptions { limit: 100_000, ..ThrottleOptions::default() };
        pagerduty.set_options(Options { separate_apis, throttle, ..Options::default() });
        let mut bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_ACKNOWLEDGE", "on")]);
        for issue in [1, 2] {
            bridge.queue(&alert_of_level("error", issue, "Disk full"));
        }
        pagerduty.wait_for_accepted(2);
        assert_eq!(bridge.terminate("TERM").code(), Some(0));

        bridge.set(V2.0, V2.1);
        bridge.restart();
        change(&bridge, 1, "assigned");
        pagerduty.wait_for("the acknowledge", |records| records.counters().acknowledged == 1);
        change(&bridge, 1, "resolved");
        // Another alert of an incident that was opened by v1 is sent by v2.
        let mut again: Value = serde_json::from_slice(&alert_of_level("error", 2, "Disk full again")).unwrap();
        again["event"]["event_id"] = json!("f".repeat(32));
        bridge.queue(again.to_string().as_bytes());
        change(&bridge, 2, "resolved");
        // Its two resolves, one by each API, and one of the other incident.
        pagerduty.wait_for_accepted(2 + 1 + 1 + 1 + 2);
        assert_eq!(open(&pagerduty), Vec::<String>::new(), "{:#?}", pagerduty.journal());

        change(&bridge, 1, "unresolved");
        pagerduty.wait_for_accepted(8);
        assert_eq!(
            applied(&pagerduty).last(),
            Some(&(EventsApiVersion::V2, "trigger".to_owned())),
            "what is set by now"
        );
        change(&bridge, 1, "resolved");
        pagerduty.wait_for_accepted(9);
        assert_eq!(applied(&pagerduty).last(), Some(&(EventsApiVersion::V2, "resolve".to_owned())));
        assert_eq!(open(&pagerduty), Vec::<String>::new());
        let counters = pagerduty.counters();
        assert_eq!((counters.refused, counters.warnings, counters.violations), (0, 0, 0));
    }
}

#[test]
fn what_waits_is_sent_by_the_api_that_it_was_made_for() {
    let nobody = ClosedPort::new();
    let mut bridge = Bridge::start(&nobody.url());
    bridge.queue(&alert_of_level("error", 1, "Disk full"));
    bridge.wait_for_log("not delivered yet");
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    let pagerduty = nobody.open();
    bridge.set(V2.0, V2.1);
    bridge.restart();
    bridge.queue(&alert_of_level("error", 2, "Disk full"));
    pagerduty.wait_for_accepted(2);
    let mut sent = applied(&pagerduty);
    sent.sort();
    assert_eq!(sent, [(EventsApiVersion::V1, "trigger".to_owned()), (EventsApiVersion::V2, "trigger".to_owned())]);
}

#[test]
fn throttling_and_refusals_of_v2_are_what_they_are_for_v1() {
    let throttled = FaultRule::new(Fault::Throttled {
        status: pagerduty_sandbox::ThrottleStatus::TooManyRequests,
        retry_after: None,
    });
    let pagerduty = PagerDuty::with_fault(throttled.times(1));
    let bridge = Bridge::start_with(&pagerduty.url(), &[V2]);
    bridge.queue(&alert_of_level("error", 1, "Disk full"));
    pagerduty.wait_for_accepted(1);
    let journal = pagerduty.journal();
    assert_eq!(journal.iter().map(|entry| entry.status.unwrap()).collect::<Vec<_>>(), [429, 202]);
    assert_eq!(journal[0].request.body, journal[1].request.body);

    pagerduty.inject(FaultRule::new(Fault::status(400)).times(1)).unwrap();
    bridge.queue(&alert_of_level("error", 2, "Disk full"));
    bridge.wait_for_log("dead letter");
    assert_eq!(open(&pagerduty), ["1"]);
}

#[test]
fn explain_shows_the_events_of_both_apis_and_why_an_alert_is_that_severe() {
    let settings = [("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY), ("BRIDGE_WEBHOOK_TOKEN", TOKEN), ROUTES];
    let explain = |args: &[&str], more: &[(&str, &str)], level: &str| {
        let body = alert_of_level(level, 7, "Disk full");
        let explained = run_with_input(&[&["explain"], args, &["-"]].concat(), &[&settings, more].concat(), &body);
        assert_eq!((explained.code, explained.stderr.as_str()), (Some(0), ""));
        assert!(!explained.stdout.contains(KEY), "{}", explained.stdout);
        explained.stdout
    };
    let both = explain(&["--api", "both"], &[], "warning");
    assert!(both.contains(" bytes by the Events API v1:") && both.contains(" bytes by the Events API v2:"), "{both}");
    let low = "  severity warning, by the level warning; of low urgency where the service notifies by severity: nobody is woken";
    assert!(both.contains(low), "{both}");
    assert!(both.contains("\"service_key\": \"…00A1\"") && both.contains("\"routing_key\": \"…00A1\""), "{both}");
    let ruled = explain(&[], &[V2, ("BRIDGE_SEVERITY", "level,warning,error")], "warning");
    assert!(ruled.contains("  severity error, by line 1 of BRIDGE_SEVERITY\n"), "{ruled}");
    assert!(ruled.contains("\"severity\": \"error\"") && !ruled.contains("service_key"), "{ruled}");
    let template = ("BRIDGE_DESCRIPTION", "[{project}/{environment}] {title}");
    let described = explain(&[], &[template], "error");
    assert!(described.contains("  template [{project}/{environment}] {title}\n"), "{described}");
    assert!(described.contains("\"description\": \"[shop/] Disk full\""), "{described}");
    let lines = explain(&["--json", "--api", "both"], &[], "fatal");
    let events: Vec<Value> = lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!((events.len(), &events[1]["payload"]["severity"]), (2, &json!("critical")));
}

#[test]
fn check_warns_of_every_key_that_takes_events_by_v2_and_reaches_each_api_in_use() {
    let pagerduty = PagerDuty::start();
    let home = tempfile::tempdir().unwrap();
    let (url, database) = (pagerduty.url(), format!("sqlite:{}", home.path().join("bridge.db").display()));
    let check = |args: &[&str], routes: &str, api: &str| {
        let settings = [
            ("BRIDGE_PAGERDUTY_URL", url.as_str()),
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
            ("BRIDGE_WEBHOOK_TOKEN", TOKEN),
            ("BRIDGE_DATABASE_URL", &database),
            ("BRIDGE_PAGERDUTY_ROUTES", routes),
            ("BRIDGE_PAGERDUTY_EVENTS_API", api),
        ];
        let checked = run(&[&["check"], args].concat(), &settings);
        assert_eq!(checked.code, Some(0), "{checked:?}");
        let lines = checked.stdout.lines().filter(|line| line.starts_with("note") || line.contains(" PagerDuty: "));
        lines.map(|line| line.split([',', ':']).take(2).collect::<String>()).collect::<Vec<_>>()
    };
    let routes = format!("level,fatal,{OTHER_KEY},v2");
    let note = |key: &str| format!("note    Events API v2 the key {key} is sent severities");
    let (mixed, v2) = (check(&[], &routes, "v1"), check(&["--page"], &routes, "v2"));
    assert_eq!(mixed.len(), 3, "{mixed:?}");
    assert_eq!(mixed[0], note("…00B2"));
    assert_eq!(&v2[..2], [note("…00B2"), note("…00A1")]);
    assert_eq!(v2.len(), 3, "{v2:?}");
    assert_eq!(check(&[], "", "v1").len(), 1);
    let paths: Vec<_> =
        pagerduty.journal().into_iter().map(|entry| (entry.request.method, entry.api.unwrap())).collect();
    let (get, post) = (|api| ("GET".to_owned(), api), |api| ("POST".to_owned(), api));
    let (v1, v2) = (EventsApiVersion::V1, EventsApiVersion::V2);
    assert_eq!(paths, [get(v1), get(v2), get(v2), post(v2), post(v2), get(v1)]);
}
