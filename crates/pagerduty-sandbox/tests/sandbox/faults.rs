//! Injected faults.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use pagerduty_sandbox::{
    CloseMode, EventType, Fault, FaultBody, FaultRule, IncidentState, Options, PATH, Sandbox, Until, Verdict,
};
use serde_json::json;

use super::{DEADLINE, KEY, client, event, post, send, start, try_post};

/// Whether a body is the one that was asked for.
type IsRight = fn(&[u8]) -> bool;

/// Sends one request on a plain socket. Returns everything that is received, and how the connection ended.
fn raw(sandbox: &Sandbox, body: &str) -> (Vec<u8>, std::io::Result<usize>) {
    raw_within(DEADLINE, sandbox, body)
}

/// Like [`raw`], with a timeout for each read.
fn raw_within(deadline: Duration, sandbox: &Sandbox, body: &str) -> (Vec<u8>, std::io::Result<usize>) {
    let mut stream = TcpStream::connect(sandbox.url().trim_start_matches("http://")).unwrap();
    stream.set_read_timeout(Some(deadline)).unwrap();
    write!(
        stream,
        "POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
    .unwrap();
    let mut answer = Vec::new();
    let end = stream.read_to_end(&mut answer);
    (answer, end)
}

#[actix_web::test]
async fn errors_come_as_often_as_told_and_change_nothing() {
    let sandbox = start(Options::default());
    sandbox.inject(FaultRule::new(Fault::status(503)).times(2)).unwrap();
    for status in [503, 503, 200] {
        assert_eq!(post(&sandbox, &event("trigger")).await.status, status);
    }
    let counters = sandbox.counters();
    assert_eq!((counters.faulted, counters.opened, counters.logged), (2, 1, 0));
    let journal = sandbox.journal();
    assert_eq!((&journal[0].verdict, &journal[0].fault), (&Verdict::Faulted, &Some(Fault::status(503))));
}

#[actix_web::test]
async fn an_error_has_the_body_and_the_headers_it_is_told_to_have() {
    let sandbox = start(Options::default());
    let bodies: [(FaultBody, IsRight); 6] = [
        (FaultBody::Json, |body| serde_json::from_slice::<serde_json::Value>(body).unwrap()["errors"].is_array()),
        (FaultBody::Html, |body| body.starts_with(b"<html>")),
        (FaultBody::Empty, <[u8]>::is_empty),
        (FaultBody::Garbage, |body| std::str::from_utf8(body).is_err()),
        (FaultBody::Text("Invalid routing key".to_owned()), |body| body == b"Invalid routing key"),
        (FaultBody::Filler(10 << 20), |body| body.len() == 10 << 20),
    ];
    for (body, is_right) in bodies {
        let headers = BTreeMap::from([("X-Request-Id".to_owned(), "7".to_owned())]);
        let fault = Fault::Answer { status: 400, body: body.clone(), headers, apply: false };
        sandbox.inject(FaultRule::new(fault).times(1)).unwrap();
        let answer = post(&sandbox, &event("trigger")).await;
        assert_eq!((answer.status, answer.header("x-request-id")), (400, Some("7")));
        assert!(is_right(&answer.body), "{body:?}");
    }
    assert_eq!(sandbox.counters().opened, 0);
}

#[actix_web::test]
async fn a_fault_that_http_cannot_carry_is_refused() {
    let sandbox = start(Options::default());
    let header = |name: &str, value: &str| {
        let headers = BTreeMap::from([(name.to_owned(), value.to_owned())]);
        Fault::Answer { status: 500, body: FaultBody::Empty, headers, apply: false }
    };
    let faults = [
        Fault::status(199),
        Fault::status(600),
        header("a b", "c"),
        header("a", "b\r\nc"),
        Fault::success(200, FaultBody::Filler(usize::MAX)),
    ];
    for fault in faults {
        assert!(sandbox.inject(fault.clone()).is_err(), "{fault:?}");
    }
    assert!(sandbox.faults().is_empty());
}

#[actix_web::test]
async fn a_redirect_leads_to_another_listener_which_hears_only_from_those_who_follow() {
    let (sandbox, other) = (start(Options::default()), start(Options::default()));
    let location = format!("{}{PATH}", other.url());
    sandbox.inject(Fault::redirect(307, &location)).unwrap();
    let answer = post(&sandbox, &event("trigger")).await;
    assert_eq!((answer.status, answer.header("location")), (307, Some(location.as_str())));
    let following = awc::Client::builder().timeout(DEADLINE).finish();
    let request = following.post(format!("{}{PATH}", sandbox.url())).content_type("application/json");
    assert_eq!(send(request, event("trigger").to_string()).await.unwrap().status, 200);
    assert_eq!(other.counters().requests, 1);
}

#[actix_web::test]
async fn invalid_events_can_be_answered_500_while_valid_ones_pass() {
    let sandbox = start(Options::default());
    sandbox.inject(Fault::InvalidAs500).unwrap();
    let mut invalid = event("trigger");
    invalid["incident_key"] = 42.into();
    assert_eq!(post(&sandbox, &invalid).await.status, 500);
    assert_eq!(post(&sandbox, &event("trigger")).await.status, 200);
    assert_eq!(sandbox.counters().refused, 1);
}

#[actix_web::test]
async fn a_success_can_read_like_none_although_the_event_is_applied() {
    let sandbox = start(Options::default());
    let bodies =
        [(202, FaultBody::NotSuccess), (200, FaultBody::Garbage), (200, FaultBody::Truncated), (204, FaultBody::Empty)];
    for (status, body) in bodies {
        sandbox.inject(FaultRule::new(Fault::success(status, body.clone())).times(1)).unwrap();
        let answer = post(&sandbox, &event("trigger")).await;
        assert_eq!(answer.status, status);
        let said = serde_json::from_slice::<serde_json::Value>(&answer.body).map(|answer| answer["status"].clone());
        assert!(said.is_err() || said.is_ok_and(|status| status == "warning"), "{body:?}");
    }
    assert_eq!((sandbox.counters().opened, sandbox.counters().logged), (1, 3));
}

#[actix_web::test]
async fn an_event_can_vanish_behind_a_success() {
    let sandbox = start(Options::default());
    sandbox.inject(FaultRule::new(Fault::SilentDrop).times(1)).unwrap();
    assert_eq!(post(&sandbox, &event("trigger")).await.json()["status"], "success");
    assert_eq!((sandbox.incidents().len(), sandbox.counters().discarded), (0, 1));
}

#[actix_web::test]
async fn a_connection_can_end_without_an_answer_before_or_after_the_event_is_applied() {
    let sandbox = start(Options::default());
    for (apply, opened) in [(false, 0), (true, 1)] {
        sandbox.inject(FaultRule::new(Fault::Close { apply, cut: CloseMode::Silent }).times(1)).unwrap();
        let (answer, end) = raw(&sandbox, &event("trigger").to_string());
        assert_eq!((answer.len(), end.unwrap()), (0, 0));
        assert_eq!((sandbox.counters().opened, sandbox.journal().last().unwrap().status), (opened, None));
    }
    sandbox.inject(FaultRule::new(Fault::Close { apply: true, cut: CloseMode::Silent }).times(1)).unwrap();
    assert!(try_post(&sandbox, &event("trigger")).await.is_err());
    post(&sandbox, &event("trigger")).await;
    assert_eq!(sandbox.counters().opened, 1, "a retry adds to the incident");
}

#[actix_web::test]
async fn a_connection_can_be_reset() {
    let sandbox = start(Options::default());
    sandbox.inject(Fault::Close { apply: true, cut: CloseMode::Reset }).unwrap();
    let (answer, end) = raw(&sandbox, &event("trigger").to_string());
    assert_eq!((answer.len(), end.unwrap_err().kind()), (0, std::io::ErrorKind::ConnectionReset));
    assert_eq!(sandbox.counters().opened, 1);
}

#[actix_web::test]
async fn an_answer_can_end_in_its_middle() {
    let sandbox = start(Options::default());
    sandbox.inject(Fault::Close { apply: true, cut: CloseMode::Midway }).unwrap();
    let (answer, end) = raw(&sandbox, &event("trigger").to_string());
    let answer = String::from_utf8(answer).unwrap();
    end.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let whole = r#"{"status":"success","message":"Event processed","incident_key":"42"}"#;
    assert!(head.contains(&format!("content-length: {}", whole.len())), "{head}");
    assert_eq!(body, &whole[..whole.len() / 2]);
    assert_eq!(sandbox.counters().opened, 1);
}

#[actix_web::test]
async fn a_late_answer_finds_the_event_applied_long_since() {
    let sandbox = start(Options::default());
    sandbox.inject(Fault::Delay { by: DEADLINE }).unwrap();
    let impatient = awc::Client::builder().timeout(Duration::from_millis(50)).finish();
    let request = impatient.post(format!("{}{PATH}", sandbox.url())).content_type("application/json");
    assert!(send(request, event("trigger").to_string()).await.is_err());
    sandbox.wait_for(DEADLINE, |records| records.counters().opened == 1).await.unwrap();
    sandbox.clear_faults();
    sandbox.inject(Fault::Delay { by: Duration::from_millis(1) }).unwrap();
    assert_eq!(post(&sandbox, &event("trigger")).await.status, 200);
}

#[actix_web::test]
async fn a_request_can_hang_unseen_until_its_connection_ends() {
    let sandbox = start(Options::default());
    sandbox.inject(Fault::Hang { lasts: Duration::from_millis(1) }).unwrap();
    assert_eq!(raw(&sandbox, &event("trigger").to_string()).0, b"");
    assert_eq!((sandbox.counters().opened, sandbox.counters().faulted), (0, 1));
}

#[actix_web::test]
async fn an_answer_can_drip() {
    let sandbox = start(Options::default());
    sandbox.inject(Fault::Drip { pause: Duration::from_millis(1) }).unwrap();
    assert_eq!(post(&sandbox, &event("trigger")).await.json()["incident_key"], "42");
    sandbox.clear_faults();
    sandbox.inject(Fault::Drip { pause: DEADLINE }).unwrap();
    let response = client()
        .post(format!("{}{PATH}", sandbox.url()))
        .content_type("application/json")
        .send_body(event("trigger").to_string())
        .await
        .unwrap();
    assert_eq!(response.status().as_u16(), 200);
    assert!(response.timeout(Duration::from_millis(50)).body().await.is_err());
}

#[actix_web::test]
async fn a_copy_that_arrives_after_the_resolve_brings_the_incident_back() {
    let sandbox = start(Options::default());
    let rule = Fault::Late { until: Until::Resolved, hang: Duration::ZERO };
    sandbox.inject(FaultRule { event_type: Some(EventType::Trigger), ..FaultRule::new(rule).times(1) }).unwrap();
    assert!(try_post(&sandbox, &event("trigger")).await.is_err());
    assert!(sandbox.incidents().is_empty());
    let mut another = event("trigger");
    another["incident_key"] = "43".into();
    for event in [event("trigger"), another.clone()] {
        post(&sandbox, &event).await;
    }
    another["event_type"] = "resolve".into();
    post(&sandbox, &another).await;
    assert_eq!(sandbox.counters().opened, 2, "another incident's resolve releases nothing");
    assert_eq!(post(&sandbox, &event("resolve")).await.status, 200);
    let incident = sandbox.read(|records| records.incident(KEY, "42").cloned()).unwrap();
    assert_eq!((incident.state, incident.opened), (IncidentState::Triggered, 2));
    let journal = sandbox.journal();
    let late = journal.last().unwrap();
    assert_eq!(
        (late.late_of, &late.request.body, late.before),
        (Some(1), &journal[0].request.body, Some(IncidentState::Resolved))
    );
    let counters = sandbox.counters();
    assert_eq!((counters.requests, counters.held, counters.accepted), (5, 1, 5));
}

#[actix_web::test]
async fn a_held_event_is_applied_when_its_time_comes_or_when_told() {
    let sandbox = start(Options::default());
    for (until, opened) in [(Until::Ms(1), 1), (Until::Released, 3)] {
        sandbox.inject(FaultRule::new(Fault::Late { until, hang: Duration::ZERO }).times(1)).unwrap();
        let mut held = event("trigger");
        held["incident_key"] = opened.to_string().into();
        assert!(try_post(&sandbox, &held).await.is_err());
        if until == Until::Released {
            post(&sandbox, &held).await;
            held["event_type"] = "resolve".into();
            post(&sandbox, &held).await;
            assert_eq!(sandbox.counters().opened, 2, "a resolve releases only what waits for it");
            sandbox.release_held();
        }
        sandbox.wait_for(DEADLINE, |records| records.counters().opened == opened).await.unwrap();
    }
}

#[actix_web::test]
async fn an_idle_connection_can_be_closed_or_end_just_as_it_is_used_again() {
    let sandbox = start(Options::default());
    sandbox.inject(FaultRule::new(Fault::CloseIdle { after: Duration::from_millis(1) }).times(1)).unwrap();
    let (answer, end) = raw(&sandbox, &event("trigger").to_string());
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && end.is_ok());
    assert!(!String::from_utf8(answer).unwrap().contains("connection: close"));
    let close = Fault::Close { apply: false, cut: CloseMode::Silent };
    sandbox.inject(FaultRule { reused_connection: true, ..close.into() }).unwrap();
    let client = client();
    let again = async || {
        let request = client.post(format!("{}{PATH}", sandbox.url())).content_type("application/json");
        send(request, event("trigger").to_string()).await
    };
    assert_eq!((again().await.unwrap().status, again().await.is_err()), (200, true));
    assert_eq!(again().await.unwrap().status, 200, "a new connection works");
}

#[actix_web::test]
async fn an_idle_connection_ends_by_itself_after_the_time_that_is_set() {
    let sandbox = start(Options { keep_alive: Duration::from_millis(50), ..Options::default() });
    // Sooner than by actix-web's default, which is five seconds.
    let (answer, end) = raw_within(Duration::from_secs(4), &sandbox, &event("trigger").to_string());
    assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n") && end.is_ok());
}

#[actix_web::test]
async fn faults_strike_the_key_they_are_for_and_leave_the_others_alone() {
    let sandbox = start(Options::default());
    let rule = FaultRule { service_key: Some(KEY.to_owned()), ..Fault::status(502).into() };
    sandbox.inject(FaultRule { incident_key: Some("43".to_owned()), ..rule }).unwrap();
    let mut struck = event("trigger");
    struck["incident_key"] = json!("43");
    assert_eq!((post(&sandbox, &event("trigger")).await.status, post(&sandbox, &struck).await.status), (200, 502));
    let [standing] = &sandbox.faults()[..] else { panic!("one rule stands") };
    assert_eq!((standing.seen, standing.acted), (1, 1));
}
