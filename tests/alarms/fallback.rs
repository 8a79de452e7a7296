//! The fallback webhook is notified when PagerDuty does not accept events.

use std::fs;
use std::time::Duration;

use pagerduty_sandbox::{Fault, FaultRule};
use sentry_pagerduty_bridge::monitor::Intervals;
use serde_json::{Value, json};
use temporary_postgres::PostgresCluster;

use crate::chat::{Chat, Reply, SECRET};
use crate::in_process::{INTERVALS, InProcessBridge};
use crate::observation::{ADMIN_TOKEN, Observation, wait_for};
use crate::support::{Bridge, ClosedPort, KEY, OTHER_KEY, PagerDuty, ROUTES, alert, alert_of_level, run};
use crate::tls_proxy::{Authority, TlsProxy};

const ADMIN: (&str, &str) = ("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN);

fn with<'a>(url: &'a str, more: &[(&'a str, &'a str)]) -> Vec<(&'a str, &'a str)> {
    [&[("BRIDGE_FALLBACK_URL", url), ADMIN], more].concat()
}

fn text(message: &Value) -> &str {
    message["text"].as_str().unwrap()
}

/// Asserts that a message reports an outage of this cause, with `part` in its sentence.
#[track_caller]
fn assert_outage(message: &Value, cause: &str, part: &str) {
    assert_eq!((&message["status"], &message["cause"]), (&json!("outage"), &json!(cause)), "{message:#}");
    let sentence = message["sentence"].as_str().unwrap();
    assert!(sentence.contains(part), "{message:#}");
    assert!(text(message).contains("alerts do not reach PagerDuty: "), "{message:#}");
    assert!(!message.to_string().contains(KEY) && !message.to_string().contains(SECRET), "{message:#}");
}

/// Waits for the message that the outage is over, and asserts that there were no others than these two.
#[track_caller]
fn assert_over(chat: &Chat) {
    let messages = chat.wait_for(2);
    assert_eq!(messages[1]["status"], "over", "{messages:#?}");
    assert!(text(&messages[1]).contains(": over after "), "{messages:#?}");
    assert_eq!(messages.len(), 2, "{messages:#?}");
}

#[test]
fn that_pagerduty_is_down_is_told_once_and_so_is_its_end() {
    let (chat, port) = (Chat::start(), ClosedPort::new());
    let bridge = InProcessBridge::start(&port.url(), &with(&chat.url(), &[]));
    bridge.queue(&alert(1, "Disk full"));
    let messages = chat.wait_for(1);
    assert_outage(&messages[0], "unreachable", "last attempt: no connection");
    assert_eq!(messages[0]["waiting"], 1);
    let observed =
        wait_for(bridge.address, "the outage", |observed| !observed.status["fallback"]["outage_since"].is_null());
    assert_eq!(observed.sample("bridge_fallback_outage"), 1);
    let pagerduty = port.open();
    assert_over(&chat);
    assert!(text(&chat.requests()[1]).contains("PagerDuty takes events again"));
    pagerduty.wait_for_accepted(1);
    let observed =
        wait_for(bridge.address, "the end", |observed| observed.status["fallback"]["outage_since"].is_null());
    assert_eq!((observed.sample("bridge_fallback_outage"), observed.sample("bridge_fallback_failing")), (0, 0));
    assert!(observed.status["fallback"]["last_told_at"].is_string(), "{observed:#?}");
}

#[test]
fn that_pagerduty_answers_with_errors_is_told_and_every_outage_anew() {
    let chat = Chat::start();
    let pagerduty = PagerDuty::with_fault(FaultRule::new(Fault::status(503)));
    let bridge = InProcessBridge::start(&pagerduty.url(), &with(&chat.url(), &[]));
    bridge.queue(&alert(1, "Disk full"));
    assert_outage(&chat.wait_for(1)[0], "unreachable", "answered 503");
    pagerduty.clear_faults();
    assert_over(&chat);
    pagerduty.inject(FaultRule::new(Fault::status(502))).unwrap();
    bridge.queue(&alert(2, "Disk full"));
    assert_outage(&chat.wait_for(3)[2], "unreachable", "answered 502");
}

#[test]
fn throttling_is_no_outage_before_an_event_has_waited_too_long() {
    let chat = Chat::start();
    let pagerduty = PagerDuty::with_fault(FaultRule::new(Fault::status(403)));
    // With alarms off, as well.
    let settings = [("BRIDGE_WAITING_ALARM", "1s"), ("BRIDGE_ALARMS", "off")];
    let bridge = InProcessBridge::start(&pagerduty.url(), &with(&chat.url(), &settings));
    bridge.queue(&alert(1, "Disk full"));
    assert_outage(&chat.wait_for(1)[0], "waiting", "BRIDGE_WAITING_ALARM is 1s");
    pagerduty.clear_faults();
    assert_over(&chat);
}

#[test]
fn that_pagerduty_is_not_trusted_is_told_to_a_webhook_that_is() {
    let (chat, pagerduty) = (Chat::start(), PagerDuty::start());
    let behind = pagerduty.url().trim_start_matches("http://").parse().unwrap();
    let authority = Authority::named("The authority that is trusted");
    let pagerduty_proxy = TlsProxy::start(behind, Authority::named("Somebody else").issue("127.0.0.1", 2999));
    let chat_proxy = TlsProxy::start(chat.address(), authority.issue("127.0.0.1", 2999));
    let (ca_file, url) = (authority.file(), format!("{}/hooks/{SECRET}", chat_proxy.url()));
    let ca_file = ca_file.to_str().unwrap();
    let settings = [("BRIDGE_PAGERDUTY_CA_FILE", ca_file), ("BRIDGE_FALLBACK_CA_FILE", ca_file)];
    let bridge = InProcessBridge::start(&pagerduty_proxy.url(), &with(&url, &settings));
    bridge.queue(&alert(1, "Disk full"));
    assert_outage(&chat.wait_for(1)[0], "untrusted", "the TLS certificate at PagerDuty's address is not trusted");
    pagerduty_proxy.set_behaviour(authority.issue("127.0.0.1", 2999));
    assert_over(&chat);
    pagerduty.wait_for_accepted(1);
}

#[test]
fn an_alarm_that_cannot_be_sent_past_the_queue_is_told_to_the_webhook() {
    let home = tempfile::tempdir().unwrap();
    let (folder, away) = (home.path().join("queue"), home.path().join("away"));
    fs::create_dir(&folder).unwrap();
    let (chat, port) = (Chat::start(), ClosedPort::new());
    let (url, database) = (chat.url(), format!("sqlite:{}", folder.join("bridge.db").display()));
    let _bridge = InProcessBridge::start(&port.url(), &with(&url, &[("BRIDGE_DATABASE_URL", &database)]));
    fs::rename(&folder, &away).unwrap();
    let messages = chat.wait_for(1);
    assert_outage(&messages[0], "unreachable", "an alarm cannot be sent to PagerDuty (no connection");
    assert!(!text(&messages[0]).contains("0 events"), "{messages:#?}");
    fs::rename(&away, &folder).unwrap();
    let pagerduty = port.open();
    assert_over(&chat);
    drop(pagerduty);
}

#[test]
fn an_alarm_that_cannot_be_sent_past_postgresql_is_told_to_the_webhook_although_nobody_leads() {
    let (chat, port, cluster) = (Chat::start(), ClosedPort::new(), PostgresCluster::shared());
    let (url, database) = (chat.url(), cluster.database().unwrap());
    let name = database.rsplit('/').next().unwrap();
    let allow = |allowed: bool| {
        cluster.psql("postgres", &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS {allowed}")).unwrap();
        let ended = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname =";
        cluster.psql("postgres", &format!("{ended} '{name}'")).unwrap();
    };
    // The shorter the attempts, the shorter the leases: they end before the outage has lasted for `outage_after`.
    let settings = [("BRIDGE_DATABASE_URL", database.as_str()), ("BRIDGE_PAGERDUTY_TIMEOUT", "100ms")];
    let intervals = Intervals { outage_after: Duration::from_secs(5), ..INTERVALS };
    let _bridge = InProcessBridge::start_in(intervals, Duration::ZERO, &port.url(), &with(&url, &settings));
    allow(false);
    let messages = chat.wait_for(1);
    assert_outage(&messages[0], "unreachable", "an alarm cannot be sent to PagerDuty (no connection");
    allow(true);
    let pagerduty = port.open();
    assert_over(&chat);
    drop(pagerduty);
}

#[test]
fn a_webhook_that_is_not_trusted_is_told_nothing() {
    let (chat, port) = (Chat::start(), ClosedPort::new());
    let proxy = TlsProxy::start(chat.address(), Authority::named("Somebody else").issue("127.0.0.1", 2999));
    let authority = Authority::named("The authority that is trusted");
    let (ca_file, url) = (authority.file(), format!("{}/hooks/{SECRET}", proxy.url()));
    let settings = [("BRIDGE_FALLBACK_CA_FILE", ca_file.to_str().unwrap())];
    let bridge = InProcessBridge::start(&port.url(), &with(&url, &settings));
    bridge.queue(&alert(1, "Disk full"));
    let failing = |observed: &Observation| observed.status["fallback"]["trouble"].is_string();
    let observed = wait_for(bridge.address, "the failure", failing);
    assert!(observed.status["fallback"]["trouble"].as_str().unwrap().starts_with("127.0.0.1: TLS: "), "{observed:#?}");
    assert_eq!(chat.requests(), [Value::Null; 0]);
    proxy.set_behaviour(authority.issue("127.0.0.1", 2999));
    chat.wait_for(1);
}

#[test]
fn an_outage_goes_on_over_a_restart_and_is_told_once() {
    let (chat, port) = (Chat::start(), ClosedPort::new());
    let mut bridge = InProcessBridge::start(&port.url(), &with(&chat.url(), &[]));
    bridge.queue(&alert(1, "Disk full"));
    assert_outage(&chat.wait_for(1)[0], "unreachable", "no connection");
    let is_told = |observed: &Observation| !observed.status["fallback"]["outage_since"].is_null();
    wait_for(bridge.address, "the outage", is_told);
    bridge.end();
    bridge.restart();
    wait_for(bridge.address, "the outage", is_told);
    wait_for(bridge.address, "a failed attempt", |observed| observed.outcomes() == ["unreachable"]);
    let pagerduty = port.open();
    assert_over(&chat);
    pagerduty.wait_for_accepted(1);
}

#[test]
fn a_webhook_that_fails_is_tried_again_and_shown_as_failing_meanwhile() {
    let failure = || Reply::Status(500, String::new());
    let (chat, port) = (Chat::answering([failure(), failure(), Reply::Held]), ClosedPort::new());
    let bridge = InProcessBridge::start(&port.url(), &with(&chat.url(), &[]));
    bridge.queue(&alert(1, "Disk full"));
    chat.wait_for(3);
    let observed = Observation::of(bridge.address);
    assert_eq!(observed.status["fallback"]["trouble"], "127.0.0.1: answered 500", "{observed:#?}");
    assert_eq!(observed.sample("bridge_fallback_failing"), 1);
    chat.release();
    let observed =
        wait_for(bridge.address, "the outage", |observed| observed.status["fallback"]["outage_since"].is_string());
    assert_eq!(
        (observed.status["fallback"]["trouble"].is_null(), observed.sample("bridge_fallback_failing")),
        (true, 0)
    );
    let pagerduty = port.open();
    let messages = chat.wait_for(4);
    assert!(messages[..3].iter().all(|message| message["status"] == "outage"), "{messages:#?}");
    assert_eq!(messages[3]["status"], "over", "{messages:#?}");
    drop(pagerduty);
}

#[test]
fn a_redirect_is_not_followed() {
    let (elsewhere, port) = (Chat::start(), ClosedPort::new());
    let redirect = Reply::Status(307, format!("Location: {}\r\n", elsewhere.url()));
    let chat = Chat::answering([redirect, Reply::Held]);
    let bridge = InProcessBridge::start(&port.url(), &with(&chat.url(), &[]));
    bridge.queue(&alert(1, "Disk full"));
    chat.wait_for(2);
    let observed = Observation::of(bridge.address);
    let trouble = observed.status["fallback"]["trouble"].as_str().unwrap();
    assert!(trouble.starts_with("127.0.0.1: answered 307, a redirect, which is not followed"), "{trouble}");
    assert_eq!(elsewhere.requests(), [Value::Null; 0]);
    chat.release();
}

#[test]
fn where_the_members_for_programs_are_refused_the_text_is_sent_alone() {
    let (chat, port) = (Chat::answering([Reply::Status(400, String::new())]), ClosedPort::new());
    let bridge = InProcessBridge::start(&port.url(), &with(&chat.url(), &[]));
    bridge.queue(&alert(1, "Disk full"));
    let messages = chat.wait_for(2);
    assert_outage(&messages[0], "unreachable", "no connection");
    assert_eq!(messages[1], json!({ "text": text(&messages[0]) }));
    wait_for(bridge.address, "the outage", |observed| observed.status["fallback"]["outage_since"].is_string());
}

#[test]
fn while_the_webhook_does_not_answer_alerts_are_taken_and_delivered() {
    let chat = Chat::answering([Reply::Held]);
    let fails = FaultRule { service_key: Some(KEY.to_owned()), ..FaultRule::new(Fault::status(503)) };
    let pagerduty = PagerDuty::with_fault(fails);
    let bridge = InProcessBridge::start(&pagerduty.url(), &with(&chat.url(), &[ROUTES]));
    bridge.queue(&alert(1, "Disk full"));
    chat.wait_for(1);
    for issue in 2..22 {
        bridge.queue(&alert_of_level("fatal", issue, "Disk full"));
    }
    pagerduty.wait_for_accepted(20);
    let observed = Observation::of(bridge.address);
    assert_eq!(observed.status["fallback"]["outage_since"], Value::Null, "it was answered: {observed:#?}");
    assert!(pagerduty.incidents().iter().all(|incident| incident.service_key == OTHER_KEY));
    chat.release();
    wait_for(bridge.address, "the outage", |observed| observed.status["fallback"]["outage_since"].is_string());
}

#[test]
fn the_secret_in_its_address_is_in_no_log_line_of_any_level() {
    let refuses = || Reply::Status(404, String::new());
    let (chat, port) = (Chat::answering([refuses(), refuses()]), ClosedPort::new());
    let url = chat.url();
    let settings = with(&url, &[("BRIDGE_WAITING_ALARM", "1s"), ("RUST_LOG", "trace")]);
    let mut bridge = Bridge::start_with(&port.url(), &settings);
    bridge.queue(&alert(1, "Disk full"));
    bridge.wait_for_log("the fallback webhook is not told yet that PagerDuty takes no events: 127.0.0.1: answered 404");
    bridge.wait_for_log("the fallback webhook was told that PagerDuty takes no events");
    bridge.terminate("TERM");
    let lines = bridge.process.stderr.all();
    assert!(lines.iter().all(|line| !line.contains(SECRET)), "{:#?}", lines.iter().find(|line| line.contains(SECRET)));
    assert_eq!(chat.requests().len(), 3);
}

#[test]
fn check_sends_it_a_test_message_if_that_is_wanted_and_nothing_otherwise() {
    let (chat, pagerduty) = (Chat::start(), PagerDuty::start());
    let (url, root) = (chat.url(), pagerduty.url());
    let check = |args: &[&str]| {
        let settings = [
            ("BRIDGE_PAGERDUTY_URL", root.as_str()),
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
            ("BRIDGE_WEBHOOK_TOKEN", crate::support::TOKEN),
            ("BRIDGE_FALLBACK_URL", &url),
        ];
        let checked = run(&[&["check"], args].concat(), &settings);
        assert!(!format!("{checked:?}").contains(SECRET), "{checked:?}");
        let line = checked.stdout.lines().find(|line| line.contains(" fallback webhook: ")).unwrap().to_owned();
        (checked.code, line)
    };
    let (code, line) = check(&[]);
    assert_eq!(code, Some(0));
    assert_eq!(
        line,
        "ok      fallback webhook: 127.0.0.1 is told when PagerDuty itself takes no events; --page sends it a test message"
    );
    assert_eq!(chat.requests(), [Value::Null; 0]);
    let (code, line) = check(&["--page"]);
    assert_eq!(
        (code, line.starts_with("ok      fallback webhook: 127.0.0.1 accepted a test message")),
        (Some(0), true)
    );
    assert_eq!(chat.requests()[0]["status"], "test");
    let gone = Chat::answering([Reply::Status(410, String::new())]);
    let settings = [
        ("BRIDGE_PAGERDUTY_URL", root.as_str()),
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
        ("BRIDGE_WEBHOOK_TOKEN", crate::support::TOKEN),
        ("BRIDGE_FALLBACK_URL", &gone.url()),
    ];
    let checked = run(&["check", "--page"], &settings);
    assert_eq!(checked.code, Some(1));
    let line = "FAILED  fallback webhook: 127.0.0.1: answered 410: check BRIDGE_FALLBACK_URL";
    assert!(checked.stdout.contains(line) && !format!("{checked:?}").contains(SECRET), "{checked:?}");
}
