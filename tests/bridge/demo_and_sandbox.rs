//! The commands `demo` and `sandbox`, which need no PagerDuty.

use std::net::SocketAddr;

use serde_json::Value;

use crate::support::{Bridge, KEY, Process, alert, get, post, program, run};

#[test]
fn the_demo_tells_what_happens_and_ends_with_everything_delivered() {
    let demo = run(&["demo", "--once"], &[]);
    assert_eq!(demo.code, Some(0), "{demo:?}");
    let told: Vec<_> = demo.stdout.lines().filter(|line| !line.is_empty() && !line.starts_with("  ")).collect();
    let begins = [
        "A shop has three services: ",
        "PagerDuty stops answering. ",
        "PagerDuty answers again. ",
        "PagerDuty throttles the service Payments: ",
        "PagerDuty takes the alerts of Payments again.",
        "PagerDuty rejects an alert of Warehouse for good: ",
        "Somebody presses Retry, ",
        "Somebody resolves an issue of Shop in Sentry. ",
        "20 webhooks posted, ",
    ];
    assert_eq!(told.len(), begins.len(), "{told:#?}");
    assert!(told.iter().zip(begins).all(|(told, begins)| told.starts_with(begins)), "{told:#?}");
    let (last, events) = (told[told.len() - 1], demo.stdout.lines().filter(|line| line.contains(" incident ")));
    assert!(last.ends_with(", 9 of 9 incidents opened, 0 waiting, 0 dead letters."), "{last}");
    let events: Vec<_> = events.collect();
    for (answer, event) in [
        (" 200 trigger ", " opened "),
        ("--- trigger ", "incident 5202"),
        (" 403 trigger ", "incident 5203"),
        (" 400 trigger ", "incident 6303"),
        (" 200 trigger ", "incident 6303"),
        (" 200 resolve ", "incident 4101"),
    ] {
        let is_there = |line: &&&str| line.contains(answer) && line.contains(event);
        assert!(events.iter().any(|line| is_there(&line)), "{answer} {event}: {events:#?}");
    }
}

#[test]
fn the_demo_serves_on_until_it_is_told_to_stop() {
    let home = tempfile::tempdir().unwrap();
    let mut demo = Process::spawn(program().args(["demo", "--pause", "0"]).current_dir(&home));
    let webhook = demo
        .stderr
        .wait_for("the webhook", |line| line.strip_prefix("bridge at http://")?.split(',').next().map(str::to_owned));
    let page =
        demo.stderr.wait_for("the status page", |line| line.strip_prefix("status page at http://").map(str::to_owned));
    demo.stderr.wait_for("the end of the story", |line| line.starts_with("Still serving").then_some(()));
    let (address, path) = webhook.split_once('/').unwrap();
    let answer = post(address.parse().unwrap(), &format!("/{path}"), &[], &alert(70_007, "Disk full"));
    assert_eq!(answer.status, 202);
    demo.stdout.wait_for("the alert's line", |line| line.contains("incident 70007").then_some(()));
    let (address, token) = page.split_once("/, admin token ").unwrap();
    let address = address.parse().unwrap();
    assert_eq!(get(address, "/").status, 401);
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    assert_eq!(post(address, "/login", &form, format!("token={token}").as_bytes()).status, 303);
    demo.signal("INT");
    assert_eq!(demo.exit().code(), Some(0), "{:#?}", demo.stderr.all());
}

#[test]
fn a_demo_started_where_a_bridge_is_configured_leaves_that_alone() {
    let demo = run(&["demo", "--once"], &[("BRIDGE_PAGERDUTY_URL", "http://127.0.0.1:1"), ("BRIDGE_NO_SETTING", "x")]);
    assert_eq!(demo.code, Some(0), "{demo:?}");
}

/// Starts `sandbox`; returns it with the addresses of the Events API and of the control port.
fn sandbox(args: &[&str]) -> (Process, String, SocketAddr) {
    let args = [&["sandbox", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0"], args].concat();
    let sandbox = Process::spawn(program().args(args));
    let url = sandbox.stderr.wait_for("the API's address", |line| {
        line.strip_prefix("The Events APIs v1 and v2 are served at ")?.split(';').next().map(str::to_owned)
    });
    let control = sandbox.stderr.wait_for("the control port's address", |line| {
        line.split_once("http://")?.1.split_once("/journal")?.0.parse().ok()
    });
    (sandbox, url, control)
}

#[test]
fn the_sandbox_prints_a_line_for_each_request_and_keeps_a_journal() {
    let (mut sandbox, url, control) = sandbox(&[]);
    let bridge = Bridge::start(&url);
    bridge.queue(&alert(7, "Disk full\u{1b}[31m"));
    let line = sandbox.stdout.wait_for("the event's line", |line| line.contains("incident 7").then(|| line.to_owned()));
    for part in [" 200 trigger ", " opened ", "key …00A1 ", "Disk full"] {
        assert!(line.contains(part), "{line}");
    }
    assert!(!line.contains(KEY) && !line.contains('\u{1b}'), "{line}");
    let (status, journal) = get(control, "/journal").status_and_json();
    assert_eq!((status, &journal[0]["event"]["incident_key"]), (200, &Value::from("7")));
    assert_eq!(get(control, "/incidents").status_and_json().1[0]["opened"], 1);
    sandbox.signal("TERM");
    assert_eq!(sandbox.exit().code(), Some(0));
}

#[test]
fn the_sandbox_fails_as_often_as_it_is_told_and_the_bridge_gets_through() {
    let (sandbox, url, control) = sandbox(&["--fail", "503", "--fail-first", "2"]);
    let bridge = Bridge::start(&url);
    bridge.queue(&alert(7, "Disk full"));
    sandbox.stdout.wait_for("the delivery", |line| line.contains(" 200 trigger ").then_some(()));
    let lines = sandbox.stdout.all();
    assert_eq!(lines.len(), 3, "{lines:#?}");
    assert!(lines[..2].iter().all(|line| line.contains(" 503 trigger ")), "{lines:#?}");
    let (_, counters) = get(control, "/counters").status_and_json();
    assert_eq!((&counters["faulted"], &counters["accepted"]), (&Value::from(2), &Value::from(1)));
}

#[test]
fn a_sandbox_that_cannot_be_is_wrong_usage() {
    let (_sandbox, url, _) = sandbox(&[]);
    let taken = url.replace("http://", "");
    let second = run(&["sandbox", "--listen", &taken, "--control", "127.0.0.1:0"], &[]);
    assert_eq!(second.code, Some(2), "{second:?}");
    assert!(
        second.stderr.starts_with(&format!("error: --listen: cannot listen on {taken}: the address is in use")),
        "{second:?}"
    );
    let args = ["sandbox", "--listen", "127.0.0.1:0", "--control", "127.0.0.1:0", "--fail", "99"];
    assert_eq!(run(&args, &[]).code, Some(2));
    assert_eq!(run(&["sandbox", "--fail-first", "2"], &[]).code, Some(2));
}
