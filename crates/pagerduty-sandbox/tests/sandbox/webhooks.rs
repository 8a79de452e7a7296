//! Webhooks V3, as a subscriber receives them.

use actix_web::rt::time::timeout;
use pagerduty_sandbox::{Options, RestOptions, Subscription};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::rest::{TOKEN, get};
use super::{DEADLINE, event, post, start};

/// Accepts one request, answers it with 200, and returns it as text.
async fn received(listener: &TcpListener) -> String {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut request = Vec::new();
    // The body ends with the object of the event.
    while !request.ends_with(b"}}") {
        let length = stream.read_buf(&mut request).await.unwrap();
        assert!(length > 0, "the request ended early: {}", String::from_utf8_lossy(&request));
    }
    stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await.unwrap();
    String::from_utf8(request).unwrap()
}

/// The names are those of PagerDuty's webhook documentation.
#[actix_web::test]
async fn a_webhook_has_the_headers_of_pagerduty() {
    let subscriber = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/pagerduty", subscriber.local_addr().unwrap());
    let webhooks = vec![Subscription { url, secrets: vec!["s3cret".to_owned()] }];
    let sandbox = start(Options { webhooks, ..Options::default() });
    post(&sandbox, &event("trigger")).await;
    let request = timeout(DEADLINE, received(&subscriber)).await.unwrap();
    let (head, body) = request.split_once("\r\n\r\n").unwrap();
    let head = head.to_ascii_lowercase();
    for header in [
        "content-type: application/json",
        "user-agent: pagerduty-webhook/v3.0",
        "x-pagerduty-signature: v1=",
        "x-webhook-id: 01",
        "x-webhook-subscription: p",
    ] {
        assert!(head.contains(&format!("\r\n{header}")), "{header}: {head}");
    }
    assert!(body.contains("\"event_type\":\"incident.triggered\""), "{body}");
}

#[actix_web::test]
async fn a_webhook_and_the_rest_api_say_the_same_of_an_incident() {
    let subscriber = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/pagerduty", subscriber.local_addr().unwrap());
    let webhooks = vec![Subscription { url, secrets: vec!["s3cret".to_owned()] }];
    let rest = RestOptions { token: Some(TOKEN.to_owned()), ..RestOptions::default() };
    let sandbox = start(Options { webhooks, rest, ..Options::default() });
    let mut ids = Vec::new();
    for event_type in ["trigger", "resolve", "trigger"] {
        post(&sandbox, &event(event_type)).await;
        let request = timeout(DEADLINE, received(&subscriber)).await.unwrap();
        let said: Value = serde_json::from_str(request.split_once("\r\n\r\n").unwrap().1).unwrap();
        let said = &said["event"]["data"];
        let (_, found) = get(&sandbox, "/incidents?incident_key=42&date_range=all").await;
        let found = &found["incidents"][0];
        for (member, same) in [("number", "incident_number")]
            .into_iter()
            .chain(["id", "html_url", "status", "title", "incident_key", "created_at"].map(|member| (member, member)))
        {
            assert_eq!(said[member], found[same], "{member}");
        }
        for member in ["id", "summary"] {
            assert_eq!(said["service"][member], found["service"][member], "{member} of the service");
        }
        ids.push(said["id"].clone());
    }
    assert_eq!(ids[0], ids[1]);
    assert_ne!(ids[1], ids[2], "one that is opened after it was resolved is another one");
}
