//! What is logged: every step of an alert, no secrets at any level, and texts of payloads only at levels more verbose than
//! `info`.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pagerduty_sandbox::{Fault, FaultBody, FaultRule};
use sentry_pagerduty_bridge::build_info::BuildInfo;
use serde_json::Value;

use crate::support::{
    Bridge, Connection, KEY, OTHER_KEY, PagerDuty, ROUTES, TOKEN, alert, alert_of_level, post, program,
};

/// A text that occurs only in a payload.
const TEXT: &str = "card number of Erika Mustermann";

/// Returns the log lines of a bridge on which everything is done that it logs, with all secrets in use.
fn log_lines_at(filter: &str) -> Vec<String> {
    // A proxy that repeats the request in its response.
    let echo = FaultBody::Text(format!("bad key {KEY}, try another"));
    let answer = |status| Fault::Answer { status, body: echo.clone(), headers: BTreeMap::new(), apply: false };
    let pagerduty = PagerDuty::start();
    for (incident_key, status) in [("1", 400), ("2", 500), ("3", 301), ("4", 204)] {
        let rule = FaultRule { incident_key: Some(incident_key.to_owned()), ..FaultRule::new(answer(status)) };
        pagerduty.inject(rule.times(1)).unwrap();
    }
    let settings = [ROUTES, ("RUST_LOG", filter), ("BRIDGE_MIN_LEVEL", "info"), ("BRIDGE_MAX_BODY", "10KiB")];
    let mut bridge = Bridge::start_with(&pagerduty.url(), &settings);

    for issue in 1..=5 {
        bridge.queue(&alert(issue, TEXT));
    }
    bridge.queue(&alert_of_level("fatal", 6, TEXT));
    let basic = format!("Basic {}", STANDARD.encode(format!("sentry:{TOKEN}")));
    let answer = post(bridge.address, "/sentry", &[("Authorization", &basic)], &alert(7, TEXT));
    assert_eq!(answer.status, 202);
    assert_eq!(bridge.post(&alert_of_level("debug", 8, TEXT)).status, 202);
    assert_eq!(bridge.post(format!("{{\"{TEXT}").as_bytes()).status, 400);
    assert_eq!(bridge.post(format!("{{\"{TEXT}\": 1}}").as_bytes()).status, 422);
    assert_eq!(bridge.post(TEXT.repeat(1000).as_bytes()).status, 413);
    for path in [format!("/sentry/{TOKEN}/"), format!("/sentry/{TOKEN}?{TOKEN}"), format!("/{TOKEN}")] {
        post(bridge.address, &path, &[], TEXT.as_bytes());
    }
    for request in
        [format!("POST /sentry/{TOKEN} HTTP/9\r\n\r\n"), format!("POST /sentry/{TOKEN}\x01 HTTP/1.1\r\n\r\n")]
    {
        let mut connection = Connection::open(bridge.address);
        connection.send(request.as_bytes());
        assert_eq!(connection.answer().status, 400);
    }
    // Of seven events one is rejected and two are retried. The one answered 204 is delivered, but not applied.
    pagerduty.wait_for_requests(9);
    // An event that PagerDuty has accepted may not be logged yet.
    let mut delivered = 0;
    bridge.process.stderr.wait_for("the last delivery", |line| {
        delivered += usize::from(line.contains(r#""message":"delivered"#));
        (delivered == 6).then_some(())
    });
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    bridge.process.stderr.all()
}

#[track_caller]
fn assert_not_logged(lines: &[String], secrets: &[&str]) {
    for secret in secrets {
        let telling: Vec<_> = lines.iter().filter(|line| line.contains(secret)).collect();
        assert!(telling.is_empty(), "{secret} is in {telling:#?}");
    }
}

#[test]
fn no_secret_is_logged_at_any_level() {
    let lines = log_lines_at("trace");
    let password = STANDARD.encode(format!("sentry:{TOKEN}"));
    assert_not_logged(&lines, &[TOKEN, KEY, OTHER_KEY, &password]);
    // The search works: masked keys are found, and lines of libraries are present at this level.
    assert!(lines.iter().any(|line| line.contains("bad key …00A1, try another")), "{lines:#?}");
    assert!(lines.iter().any(|line| line.contains("\"level\":\"trace\"")));
}

#[test]
fn no_text_of_a_payload_is_logged_unless_one_asks_for_more_than_info() {
    let lines = log_lines_at("info");
    assert_not_logged(&lines, &[TEXT, "Erika", TOKEN, KEY, OTHER_KEY]);
}

#[test]
fn the_log_follows_an_alert_from_the_webhook_to_pagerduty() {
    let lines = log_lines_at("info");
    let lines: Vec<Value> = lines.iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let about = |key: &str| -> Vec<_> {
        let event = lines.iter().find(|line| line["incident_key"] == key).map(|line| &line["event"]).unwrap();
        let lines = lines.iter().filter(|line| line["event"] == *event);
        let text = |line: &Value| format!("{} {}", line["level"].as_str().unwrap(), line["message"].as_str().unwrap());
        let mut lines: Vec<_> = lines.map(text).collect();
        // The webhook is answered by another thread than the one that delivers the event, so its line may come later.
        lines.sort_by_key(|line| !line.ends_with("queued"));
        lines
    };
    assert_eq!(about("5"), ["info trigger queued", "info delivered"]);
    let [queued, dead] = &about("1")[..] else { panic!("{lines:#?}") };
    assert_eq!(queued, "info trigger queued");
    assert!(dead.starts_with("error dead letter: PagerDuty answered 400: bad key …00A1, try another"), "{dead}");
    let [_, retried, delivered] = &about("3")[..] else { panic!("{lines:#?}") };
    assert!(retried.starts_with("warn not delivered yet: answered 301 with a redirect"), "{retried}");
    assert_eq!(delivered, "info delivered");
}

#[test]
fn the_first_line_names_the_build_and_the_settings() {
    let (pagerduty, database) = (PagerDuty::start(), Bridge::database_settings());
    let config = |drain: &str| {
        let database = database.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let settings: Vec<_> = database.chain([("BRIDGE_SHUTDOWN_DRAIN", drain)]).collect();
        let bridge = Bridge::start_with(&pagerduty.url(), &settings);
        let first: Value = serde_json::from_str(&bridge.process.stderr.all()[0]).unwrap();
        let config = first["config"].as_str().unwrap().to_owned();
        let line = format!("sentry-pagerduty-bridge {}, config {config}", BuildInfo::current());
        assert_eq!((&first["message"], &first["level"]), (&Value::from(line), &Value::from("info")));
        assert_eq!(first["version"], BuildInfo::current().to_string());
        config
    };
    assert_eq!(config("0s"), config("0ms"));
    assert_ne!(config("0s"), config("1ms"));
}

/// A process that is killed at the end of the test.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_log_that_nobody_reads_keeps_no_alert_out_and_no_bridge_from_ending() {
    run_without_reader("json");
}

#[test]
fn a_log_of_text_that_nobody_reads_keeps_no_alert_out_either() {
    run_without_reader("text");
}

/// Runs a bridge whose log is not read after its start.
#[track_caller]
fn run_without_reader(format: &str) {
    let (pagerduty, home) = (PagerDuty::start(), tempfile::tempdir().unwrap());
    let settings = [
        ("BRIDGE_PAGERDUTY_URL", pagerduty.url()),
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY.to_owned()),
        ("BRIDGE_WEBHOOK_TOKEN", TOKEN.to_owned()),
        ("BRIDGE_LISTEN", "127.0.0.1:0".to_owned()),
        ("BRIDGE_SHUTDOWN_DRAIN", "0s".to_owned()),
        ("BRIDGE_ALARMS", "off".to_owned()),
        ("RUST_LOG", "trace".to_owned()),
        ("BRIDGE_LOG_FORMAT", format.to_owned()),
    ];
    let mut program = program();
    program.current_dir(&home).envs(Bridge::database_settings()).envs(settings);
    let mut bridge = Ended(program.stderr(Stdio::piped()).spawn().unwrap());
    let mut log = BufReader::new(bridge.0.stderr.take().unwrap());
    let address = loop {
        let mut line = String::new();
        assert_ne!(log.read_line(&mut line).unwrap(), 0, "it ended");
        if let Some((_, address)) = line.split_once("listening on http://") {
            break address.split(['"', '\n']).next().unwrap().parse().unwrap();
        }
    };
    // More than the pipe and the buffer of the bridge can hold. Some of the lines are warnings, which are otherwise written
    // at once.
    for issue in 0..1_500 {
        assert_eq!(post(address, &format!("/sentry/{TOKEN}"), &[], &alert(issue % 10, TEXT)).status, 202);
        if issue % 100 == 0 {
            assert_eq!(post(address, "/sentry/wrong", &[], b"{}").status, 401);
        }
    }
    let kill = Command::new("sh").args(["-c", &format!("kill -TERM {}", bridge.0.id())]).status().unwrap();
    assert!(kill.success());
    assert_eq!(bridge.0.wait().unwrap().code(), Some(0));
    let mut rest = Vec::new();
    log.read_to_end(&mut rest).unwrap();
    assert!(rest.len() < 256 * 1024, "the pipe held {} bytes, so the log was never full", rest.len());
}
