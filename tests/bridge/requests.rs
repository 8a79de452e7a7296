//! Authentication of webhooks by token, and the responses to requests that are not alerts. The bridge accepts alerts after
//! each.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::support::{Answer, Bridge, Connection, PagerDuty, TOKEN, alert, alert_of_level, get, post};

const NEW_TOKEN: &str = "the-token-that-comes-after-it";

fn basic(user: &str, password: &str) -> String {
    format!("Basic {}", STANDARD.encode(format!("{user}:{password}")))
}

/// Asserts the status and the JSON of an error.
#[track_caller]
fn is_error(answer: &Answer, status: u16, part: &str) {
    let (found, said) = answer.status_and_json();
    let reason = said["reason"].as_str().unwrap_or_default();
    assert_eq!((found, &said["status"]), (status, &Value::from("error")), "{said}");
    assert!(reason.contains(part), "{reason}");
    assert_eq!(said.as_object().unwrap().len(), 2, "{said}");
}

#[track_caller]
fn still_takes_alerts(bridge: &Bridge, pagerduty: &PagerDuty) {
    let requests = pagerduty.counters().requests;
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for_requests(requests + 1);
    let described = |(_, description): (String, String)| description;
    assert_eq!(pagerduty.triggers().pop().map(described), Some("Disk full".to_owned()));
    assert_eq!(pagerduty.counters().requests, requests + 1);
}

#[test]
fn any_of_the_tokens_opens_the_webhook_and_nothing_else_does() {
    let pagerduty = PagerDuty::start();
    let tokens = format!("{TOKEN},{NEW_TOKEN}");
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_WEBHOOK_TOKEN", &tokens)]);
    let tries = [
        (202, format!("/sentry/{TOKEN}"), None),
        (202, format!("/sentry/{NEW_TOKEN}"), None),
        (401, format!("/sentry/{tokens}"), None),
        (401, format!("/sentry/{}", &TOKEN[1..]), None),
        (401, format!("/sentry/{TOKEN}x"), None),
        (401, format!("/sentry/{}", TOKEN.to_uppercase()), None),
        (401, "/sentry/wrong".to_owned(), Some(basic("sentry", TOKEN))),
        (401, "/sentry/%ff%00".to_owned(), None),
        (401, "/sentry".to_owned(), None),
        (202, "/sentry".to_owned(), Some(basic("sentry", TOKEN))),
        (202, "/sentry".to_owned(), Some(basic("", NEW_TOKEN))),
        (401, "/sentry".to_owned(), Some(basic("sentry", "wrong"))),
        (401, "/sentry".to_owned(), Some(basic(TOKEN, ""))),
        (202, "/sentry".to_owned(), Some(format!("Bearer {TOKEN}"))),
        (202, "/sentry".to_owned(), Some(format!("bearer  {NEW_TOKEN}"))),
        (401, "/sentry".to_owned(), Some(format!("Bearer {TOKEN}x"))),
        (401, "/sentry".to_owned(), Some("Bearer ".to_owned())),
        (401, "/sentry".to_owned(), Some(format!("Token {TOKEN}"))),
        (401, "/sentry/wrong".to_owned(), Some(format!("Bearer {TOKEN}"))),
        (202, format!("/sentry/{TOKEN}/"), None),
        (202, "/sentry/".to_owned(), Some(format!("Bearer {TOKEN}"))),
        (401, "/sentry/".to_owned(), None),
        (401, "/sentry/wrong/".to_owned(), None),
        (401, "/sentry".to_owned(), Some("Basic !".to_owned())),
        (401, "/sentry".to_owned(), Some("Basic".to_owned())),
    ];
    let mut taken = 0;
    for (issue, (status, path, authorization)) in (1..).zip(tries) {
        let headers: Vec<_> = authorization.iter().map(|value| ("Authorization", value.as_str())).collect();
        let answer = post(bridge.address, &path, &headers, &alert(issue, "Disk full"));
        assert_eq!(answer.status, status, "{path} {authorization:?}");
        if status == 401 {
            is_error(&answer, 401, "BRIDGE_WEBHOOK_TOKEN");
        } else {
            taken += 1;
        }
    }
    pagerduty.wait_for_accepted(taken);
    assert_eq!(pagerduty.counters().requests, taken);
    still_takes_alerts(&bridge, &pagerduty);
}

#[test]
fn the_body_of_a_stranger_is_not_waited_for() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    for path in ["/sentry/wrong", "/sentry"] {
        let mut connection = Connection::open(bridge.address);
        connection.send(format!("POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n").as_bytes());
        is_error(&connection.answer(), 401, "token");
        assert!(connection.is_closed());
    }
    still_takes_alerts(&bridge, &pagerduty);
}

#[test]
fn a_wrong_method_is_told_the_right_one_and_an_unknown_path_that_it_is_unknown() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    for path in [&format!("/sentry/{TOKEN}"), "/sentry/wrong", "/sentry", "/sentry/"] {
        let answer = get(bridge.address, path);
        is_error(&answer, 405, "POST");
        assert_eq!(answer.header("allow"), Some("POST"), "{path}");
    }
    for path in ["/healthz", "/readyz"] {
        let answer = post(bridge.address, path, &[], b"");
        is_error(&answer, 405, "GET");
        assert_eq!(answer.header("allow"), Some("GET, HEAD"), "{path}");
    }
    for path in ["/", "/sentry//", &format!("/sentry/{TOKEN}/x"), "/generic/2010-04-15/create_event.json", "/api", "//"]
    {
        is_error(&get(bridge.address, path), 404, "/sentry/{token}");
        is_error(&post(bridge.address, path, &[], &alert(7, "Disk full")), 404, "/sentry/{token}");
    }
    still_takes_alerts(&bridge, &pagerduty);
}

#[test]
fn head_is_answered_like_get_without_a_body() {
    let bridge = Bridge::start_with("http://127.0.0.1:1", &[("BRIDGE_ADMIN_TOKEN", "admin-token-for-tests-alone")]);
    for (path, status) in [("/healthz", 200), ("/readyz", 200), ("/metrics", 200), ("/", 401)] {
        let mut connection = Connection::open(bridge.address);
        connection.send(format!("HEAD {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes());
        let answer = String::from_utf8(connection.rest()).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{path}: {answer}");
        assert!(answer.ends_with("\r\n\r\n"), "{path}: {answer}");
    }
}

#[test]
fn with_a_listener_for_admins_each_serves_its_own_endpoints_alone() {
    let pagerduty = PagerDuty::start();
    let settings = [("BRIDGE_ADMIN_LISTEN", "localhost:0"), ("BRIDGE_ADMIN_TOKEN", "admin-token-for-tests-alone")];
    let mut bridge = Bridge::start_with(&pagerduty.url(), &settings);
    let admin = bridge.process.stderr.wait_for("the address for admins", |line| {
        line.split_once("status page, API and metrics on http://")?.1.split('"').next()?.parse().ok()
    });
    let statuses = |address, paths: [&str; 5]| paths.map(|path| get(address, path).status);
    let paths = ["/healthz", "/readyz", "/metrics", "/", "/api/status"];
    assert_eq!(statuses(bridge.address, paths), [200, 200, 404, 404, 404]);
    assert_eq!(statuses(admin, paths), [200, 200, 200, 401, 401]);
    assert_eq!(post(admin, &format!("/sentry/{TOKEN}"), &[], &alert(7, "Disk full")).status, 404);
    still_takes_alerts(&bridge, &pagerduty);
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
}

#[test]
fn what_is_lost_under_sentry_by_a_typo_is_logged_without_the_token() {
    let pagerduty = PagerDuty::start();
    let mut bridge = Bridge::start(&pagerduty.url());
    for path in [format!("/sentry/{TOKEN}/x"), format!("/sentry//{TOKEN}"), "/sentry//".to_owned()] {
        is_error(&post(bridge.address, &path, &[], &alert(7, "Disk full")), 404, "/sentry/{token}");
    }
    bridge.wait_for_log("answered 404");
    is_error(&get(bridge.address, &format!("/sentry/{TOKEN}")), 405, "POST");
    is_error(&get(bridge.address, &format!("/sentry/{TOKEN}/")), 405, "POST");
    bridge.wait_for_log("answered 405");
    for _ in 0..100 {
        assert_eq!(get(bridge.address, &format!("/sentry/{TOKEN}/x")).status, 404);
    }
    assert_eq!(get(bridge.address, "/sentryx").status, 404, "which is no address of Sentry's");
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    let lines = bridge.process.stderr.all();
    let told = lines.iter().filter(|line| line.contains("answered 404")).count();
    assert!((1..20).contains(&told), "{told} of 103: {lines:#?}");
    assert!(lines.iter().all(|line| !line.contains(TOKEN)), "{lines:#?}");
}

#[test]
fn a_body_over_the_limit_is_refused_whether_or_not_its_length_is_told() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_MAX_BODY", "1KiB")]);
    let head = format!("POST /sentry/{TOKEN} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n");
    let refused = |request: &str| {
        let mut connection = Connection::open(bridge.address);
        connection.send(request.as_bytes());
        is_error(&connection.answer(), 413, "BRIDGE_MAX_BODY");
    };
    refused(&format!("{head}Content-Length: 1025\r\n\r\n"));
    refused(&format!("{head}Content-Length: 18446744073709551615\r\n\r\n"));
    refused(&format!("{head}Transfer-Encoding: chunked\r\n\r\n401\r\n{}\r\n", " ".repeat(1025)));

    let mut body = alert(2, "Disk full");
    body.resize(1024, b' ');
    bridge.queue(&body);
    pagerduty.wait_for_accepted(1);
    body.push(b' ');
    is_error(&bridge.post(&body), 413, "1024 bytes");
    still_takes_alerts(&bridge, &pagerduty);
}

#[test]
fn what_is_no_json_is_400_and_what_is_no_webhook_is_422() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    for body in
        ["", "hello", "{\"id\":\"1\"", "{\"id\":\"1\"} x", "project=shop&id=1", "\u{0}", "{'id': 1}", "[", "\u{feff}"]
    {
        is_error(&bridge.post(body.as_bytes()), 400, "JSON");
    }
    is_error(&bridge.post(b"{\"id\": \"\xff\""), 400, "JSON");
    for body in ["{}", "[]", "null", "42", "\"text\"", "[{\"id\":\"1\"}]", "{\"hello\":\"world\"}"] {
        is_error(&bridge.post(body.as_bytes()), 422, "not a Sentry webhook");
    }
    is_error(&bridge.post(br#"{"project":"shop","event":{},"message":"x"}"#), 422, "neither an issue");
    let deep = "[".repeat(100_000);
    assert_eq!(bridge.post(deep.as_bytes()).status_and_json().0, 400);
    still_takes_alerts(&bridge, &pagerduty);
}

#[test]
fn what_is_no_http_is_400_and_the_end_of_the_connection() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let requests: [&[u8]; 5] = [
        b"hello\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n",
        b"POST /sentry HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"GET /healthz HTTP/1.1\r\nbad header\r\n\r\n",
    ];
    for request in requests {
        let mut connection = Connection::open(bridge.address);
        connection.send(request);
        assert_eq!(connection.answer().status, 400, "{}", String::from_utf8_lossy(request));
        assert!(connection.is_closed(), "{}", String::from_utf8_lossy(request));
    }
    still_takes_alerts(&bridge, &pagerduty);
}

#[test]
fn a_body_that_breaks_off_is_no_alert() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let body = alert(7, "Disk full");
    for ends in [
        format!("Content-Length: {}\r\n\r\n{}", body.len() + 1, String::from_utf8_lossy(&body)),
        format!("Transfer-Encoding: chunked\r\n\r\n{:x}\r\n{}\r\n", body.len(), String::from_utf8_lossy(&body)),
    ] {
        let mut connection = Connection::open(bridge.address);
        connection.send(format!("POST /sentry/{TOKEN} HTTP/1.1\r\nHost: x\r\n{ends}").as_bytes());
        connection.end();
        is_error(&connection.answer(), 400, "incomplete");
    }
    // The client closes the connection without sending anything.
    let mut connection = Connection::open(bridge.address);
    connection.send(format!("POST /sentry/{TOKEN} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{").as_bytes());
    drop(connection);
    still_takes_alerts(&bridge, &pagerduty);
}

#[test]
fn a_chunked_body_without_a_content_type_is_an_alert_like_any_other() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let body = alert(7, "Disk full");
    let (one, other) = body.split_at(100);
    let mut connection = Connection::open(bridge.address);
    connection
        .send(format!("POST /sentry/{TOKEN} HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n").as_bytes());
    for chunk in [one, other, b""] {
        connection.send(&[format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat());
    }
    let queued = json!({"status": "queued", "incident_key": "7", "event_type": "trigger"});
    assert_eq!(connection.answer().status_and_json(), (202, queued));
    pagerduty.wait_for_accepted(1);
}

#[test]
fn an_alert_below_the_least_level_is_ignored_and_says_why() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_MIN_LEVEL", "error")]);
    let (status, said) = bridge.post(&alert_of_level("warning", 7, "Disk fills")).status_and_json();
    assert_eq!((status, &said["status"]), (202, &Value::from("ignored")));
    let reason = said["reason"].as_str().unwrap();
    assert!(reason.contains("warning") && reason.contains("BRIDGE_MIN_LEVEL"), "{reason}");
    still_takes_alerts(&bridge, &pagerduty);
}
