//! How a request is handled, and what is recorded of it.

use std::net::TcpListener;

use pagerduty_sandbox::{Effect, Extent, IncidentState, Options, Oversize, PATH, Sandbox, UnknownKey, Verdict};
use serde_json::json;

use super::{DEADLINE, KEY, client, event, listener, post, send, start, try_post};

#[actix_web::test]
async fn an_incident_is_opened_logged_acknowledged_and_resolved() {
    let sandbox = start(Options::default());
    for event_type in ["resolve", "trigger", "trigger", "acknowledge", "trigger", "resolve", "acknowledge", "trigger"] {
        let answer = post(&sandbox, &event(event_type)).await;
        let expected = json!({"status": "success", "message": "Event processed", "incident_key": "42"});
        assert_eq!((answer.status, answer.json()), (200, expected));
        assert_eq!(answer.header("content-type"), Some("application/json; charset=utf-8"));
    }
    let effects: Vec<_> =
        sandbox.journal().into_iter().map(|entry| (entry.verdict, entry.before, entry.after)).collect();
    let (triggered, acknowledged) = (Some(IncidentState::Triggered), Some(IncidentState::Acknowledged));
    let resolved = Some(IncidentState::Resolved);
    let expected = [
        (Effect::Dropped, None, None),
        (Effect::Opened, None, triggered),
        (Effect::Logged, triggered, triggered),
        (Effect::Acknowledged, triggered, acknowledged),
        (Effect::Logged, acknowledged, acknowledged),
        (Effect::Resolved, acknowledged, resolved),
        (Effect::Dropped, resolved, resolved),
        (Effect::Opened, resolved, triggered),
    ]
    .map(|(effect, before, after)| (Verdict::Accepted { effect }, before, after));
    assert_eq!(effects, expected);
    let counters = sandbox.counters();
    assert_eq!((counters.accepted, counters.opened, counters.logged, counters.resolved), (8, 2, 2, 1));
    assert_eq!((counters.dropped_acknowledges, counters.dropped_resolves), (1, 1));
    let [incident] = &sandbox.incidents()[..] else { panic!("one incident") };
    assert_eq!(
        (incident.opened, incident.state, incident.description.as_str()),
        (2, IncidentState::Triggered, "Disk full")
    );
}

#[actix_web::test]
async fn a_trigger_without_an_incident_key_gets_one_of_its_own_each_time() {
    let sandbox = start(Options::default());
    let keyless = json!({"service_key": KEY, "event_type": "trigger", "description": "Disk full"});
    for _ in 0..2 {
        let answer = post(&sandbox, &keyless).await.json();
        let key = answer["incident_key"].as_str().unwrap();
        assert!(key.len() == 32 && key.bytes().all(|byte| byte.is_ascii_hexdigit()), "{key}");
        assert!(sandbox.read(|records| records.incident(KEY, key).is_some()));
    }
    assert_eq!((sandbox.incidents().len(), sandbox.counters().keyless), (2, 2));
}

#[actix_web::test]
async fn another_path_is_not_found_and_another_method_is_not_allowed() {
    let sandbox = start(Options::default());
    let client = client();
    for path in ["/", "/generic/2026-04-15/create_event.json", "/v2/change/enqueue"] {
        let request = client.post(format!("{}{path}", sandbox.url())).content_type("application/json");
        let answer = send(request, event("trigger").to_string()).await.unwrap();
        assert_eq!((answer.status, answer.json()), (404, json!({"status": "not found"})));
    }
    let answer = send(client.get(format!("{}{PATH}", sandbox.url())), "").await.unwrap();
    let message = "You must use HTTP POST to submit your event";
    assert_eq!((answer.status, answer.json()), (405, json!({"status": "invalid method", "message": message})));
    assert_eq!(answer.header("allow"), Some("POST"));
    assert_eq!((sandbox.counters().accepted, sandbox.counters().refused), (0, 4));
    assert!(sandbox.counters().violations >= 4);
}

#[actix_web::test]
async fn heads_that_pagerduty_lets_through_are_violations_and_refused_only_in_strict_mode() {
    let url = |sandbox: &Sandbox| format!("{}{PATH}", sandbox.url());
    for (strict, status) in [(true, 400), (false, 200)] {
        let sandbox = start(Options { strict, ..Options::default() });
        let client = client();
        let requests = [
            client.post(url(&sandbox)),
            client.post(url(&sandbox)).content_type("text/plain"),
            client.post(url(&sandbox)).content_type("application/json; charset=latin1"),
            client.post(url(&sandbox)).content_type("application/json").insert_header(("authorization", "Token x")),
            client.post(url(&sandbox) + "?x=1").content_type("application/json"),
        ];
        for request in requests {
            let answer = send(request, event("trigger").to_string()).await.unwrap();
            assert_eq!(answer.status, status, "{:?}", sandbox.journal().last());
        }
        assert_eq!(sandbox.counters().violations, 5);
        let request = client.post(url(&sandbox)).content_type("Application/JSON; charset=UTF-8");
        assert_eq!(send(request, event("trigger").to_string()).await.unwrap().status, 200);
        assert_eq!(sandbox.counters().violations, 5);
    }
}

#[actix_web::test]
async fn a_body_that_is_no_object_is_answered_with_the_captured_bytes() {
    let sandbox = start(Options::default());
    let twice = event("trigger").to_string().replacen('{', r#"{"incident_key":"41","#, 1);
    let bodies = [&b""[..], b"{", b"null", b"[{}]", b"{} {}", b"{\"a\":\"\xff\"}", twice.as_bytes()];
    for body in bodies {
        let request = client().post(format!("{}{PATH}", sandbox.url())).content_type("application/json");
        let answer = send(request, body).await.unwrap();
        let expected = br#"{"errors":["JSON parse error"],"message":"Event object format is unrecognized","status":"Unrecognized object"}"#;
        assert_eq!((answer.status, &answer.body[..]), (400, &expected[..]), "{}", String::from_utf8_lossy(body));
    }
    let lax = Options { strict: false, ..Options::default() };
    sandbox.set_options(lax);
    let request = client().post(format!("{}{PATH}", sandbox.url())).content_type("application/json");
    assert_eq!(send(request, twice).await.unwrap().json()["incident_key"], "42");
}

#[actix_web::test]
async fn a_body_over_the_limit_is_refused_in_the_way_that_is_set() {
    for (oversize, status) in [(Oversize::Status413, 413), (Oversize::Json400, 400)] {
        let sandbox = start(Options { oversize, ..Options::default() });
        let mut large = event("trigger");
        large["details"] = json!({"x": ""});
        large["details"]["x"] = "x".repeat(512_000 - large.to_string().len()).into();
        assert_eq!(post(&sandbox, &large).await.status, 200);
        large["details"]["x"] = format!("{}x", large["details"]["x"].as_str().unwrap()).into();
        let answer = post(&sandbox, &large).await;
        assert_eq!(answer.status, status);
        match oversize {
            Oversize::Status413 => assert!(answer.body.is_empty()),
            Oversize::Json400 => assert_eq!(answer.json()["status"], "invalid event"),
        }
        let journal = sandbox.journal();
        let request = &journal[1].request;
        assert_eq!((request.body.len(), request.extent), (512_000, Extent::TooLarge));
        assert_eq!((sandbox.counters().accepted, &journal[1].verdict), (1, &Verdict::TooLarge));
    }
}

#[actix_web::test]
async fn a_key_that_nobody_has_is_refused_or_swallowed_as_set() {
    let options = Options { keys: Some([KEY.to_owned()].into()), ..Options::default() };
    let sandbox = start(options.clone());
    let mut stranger = event("trigger");
    stranger["service_key"] = "0".repeat(32).into();
    let answer = post(&sandbox, &stranger).await;
    assert_eq!((answer.status, &answer.body[..]), (400, &b"Invalid routing key"[..]));
    sandbox.set_options(Options { unknown_key: UnknownKey::Accept, ..options });
    assert_eq!(post(&sandbox, &stranger).await.json()["status"], "success");
    assert!(sandbox.incidents().is_empty());
    assert_eq!(post(&sandbox, &event("trigger")).await.status, 200);
    assert_eq!((sandbox.counters().refused, sandbox.counters().discarded, sandbox.counters().opened), (1, 1, 1));
}

#[actix_web::test]
async fn success_is_no_proof_where_events_are_dropped_silently() {
    let sandbox = start(Options { silent_drop: true, ..Options::default() });
    assert_eq!(post(&sandbox, &event("trigger")).await.json()["incident_key"], "42");
    assert_eq!((sandbox.incidents().len(), sandbox.counters().discarded), (0, 1));
}

#[actix_web::test]
async fn answers_can_name_their_members_the_other_way_round() {
    let sandbox = start(Options { reversed_keys: true, ..Options::default() });
    let answer = post(&sandbox, &event("trigger")).await;
    assert_eq!(answer.body, br#"{"incident_key":"42","message":"Event processed","status":"success"}"#);
}

#[actix_web::test]
async fn the_journal_keeps_the_bytes_the_head_and_the_connection_of_a_request() {
    let sandbox = start(Options::default());
    let client = client();
    let body = event("trigger").to_string();
    for _ in 0..2 {
        let request = client.post(format!("{}{PATH}", sandbox.url())).content_type("application/json");
        send(request.insert_header(("x-attempt", "1")), body.clone()).await.unwrap();
    }
    let journal = sandbox.journal();
    assert_eq!(journal.iter().map(|entry| entry.number).collect::<Vec<_>>(), [1, 2]);
    let request = &journal[1].request;
    assert_eq!((&request.body[..], request.target.as_str(), request.method.as_str()), (body.as_bytes(), PATH, "POST"));
    assert!(request.headers.contains(&("x-attempt".to_owned(), "1".to_owned())));
    assert_eq!((request.connection, request.on_connection), (1, 2));
    assert_eq!((journal[1].text("service_key"), journal[1].status), (Some(KEY), Some(200)));
    post(&sandbox, &event("trigger")).await;
    assert_eq!(sandbox.journal()[2].request.connection, 2);
}

#[actix_web::test]
async fn the_journal_forgets_the_oldest_and_the_counters_do_not() {
    let sandbox = start(Options { journal_entries: 2, ..Options::default() });
    for _ in 0..3 {
        post(&sandbox, &event("trigger")).await;
    }
    assert_eq!(sandbox.journal().iter().map(|entry| entry.number).collect::<Vec<_>>(), [2, 3]);
    assert_eq!(sandbox.counters().requests, 3);
    sandbox.set_options(Options { journal_bytes: 1, ..Options::default() });
    post(&sandbox, &event("trigger")).await;
    assert_eq!((sandbox.journal().len(), sandbox.counters().requests), (0, 4));
    sandbox.set_options(Options { journal_bytes: event("trigger").to_string().len(), ..Options::default() });
    for number in [5, 6] {
        post(&sandbox, &event("trigger")).await;
        assert_eq!(sandbox.journal().iter().map(|entry| entry.number).collect::<Vec<_>>(), [number]);
    }
}

#[actix_web::test]
async fn a_request_that_breaks_off_is_remembered_and_changes_nothing() {
    use std::io::Write;
    let sandbox = start(Options::default());
    let mut stream = std::net::TcpStream::connect(sandbox.url().trim_start_matches("http://")).unwrap();
    write!(stream, "POST {PATH} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 9\r\n\r\n{{")
        .unwrap();
    drop(stream);
    sandbox.wait_for(DEADLINE, |records| records.counters().broken == 1).await.unwrap();
    assert_eq!(sandbox.journal()[0].status, None);
}

#[actix_web::test]
async fn a_subscriber_hears_of_each_request_in_order() {
    let sandbox = start(Options::default());
    let mut entries = sandbox.subscribe();
    for event_type in ["trigger", "resolve"] {
        post(&sandbox, &event(event_type)).await;
    }
    for (number, event_type) in [(1, "trigger"), (2, "resolve")] {
        // The entry was sent before the response.
        let entry = entries.try_recv().unwrap();
        assert_eq!((entry.number, entry.text("event_type")), (number, Some(event_type)));
    }
}

#[actix_web::test]
async fn who_waits_in_vain_learns_how_far_it_came() {
    let sandbox = start(Options::default());
    post(&sandbox, &event("trigger")).await;
    let error =
        sandbox.wait_for(std::time::Duration::ZERO, |records| records.counters().opened == 2).await.unwrap_err();
    assert_eq!(error.counters.opened, 1);
}

#[actix_web::test]
async fn a_stopped_sandbox_is_gone_and_comes_back_on_the_same_port_with_all_it_knew() {
    let sandbox = start(Options::default());
    let (url, client) = (sandbox.url(), client());
    let send_by_the_old_connection = async || {
        let request = client.post(format!("{url}{PATH}")).content_type("application/json");
        send(request, event("trigger").to_string()).await
    };
    assert_eq!(send_by_the_old_connection().await.unwrap().status, 200);
    let stopped = sandbox.stop().await;
    assert!(send_by_the_old_connection().await.is_err());
    assert_eq!(stopped.read(|records| records.counters().requests), 1);
    let sandbox = stopped.restart().unwrap();
    assert_eq!(sandbox.url(), url);
    assert_eq!(send_by_the_old_connection().await.unwrap().status, 200);
    assert_eq!((sandbox.counters().opened, sandbox.counters().logged), (1, 1));
    let address = sandbox.stop().await.address();
    let fresh = Sandbox::start(Options::default(), TcpListener::bind(address).unwrap(), None).unwrap();
    assert_eq!((fresh.url(), fresh.counters().requests), (url.clone(), 0));
}

#[actix_web::test]
async fn a_dropped_sandbox_takes_nothing_more() {
    let sandbox = start(Options::default());
    let other = Sandbox::start(Options::default(), listener(), None).unwrap();
    let mut entries = sandbox.subscribe();
    let url = sandbox.url();
    drop(sandbox);
    TcpListener::bind(url.trim_start_matches("http://")).unwrap();
    let request = client().post(format!("{url}{PATH}")).content_type("application/json");
    assert!(send(request, event("trigger").to_string()).await.is_err());
    assert!(entries.try_recv().is_err());
    assert!(try_post(&other, &event("trigger")).await.is_ok());
}
