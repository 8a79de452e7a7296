//! The strict local PagerDuty, over real sockets.

#![allow(clippy::unwrap_used, reason = "clippy takes only test functions for tests, not what they share")]

mod control;
mod faults;
mod pipeline;
mod rest;
mod throttle;
mod v2;
mod validation;
mod webhooks;

use std::net::TcpListener;
use std::time::Duration;

use pagerduty_sandbox::{Options, PATH, Sandbox};
use serde_json::{Value, json};

/// Nothing here takes that long unless it is broken.
const DEADLINE: Duration = Duration::from_secs(20);

const KEY: &str = "73af7a305bd7012d7c06002500d5d1a6";

fn listener() -> TcpListener {
    TcpListener::bind("127.0.0.1:0").unwrap()
}

fn start(options: Options) -> Sandbox {
    Sandbox::start(options, listener(), None).unwrap()
}

fn client() -> awc::Client {
    awc::Client::builder().timeout(DEADLINE).disable_redirects().finish()
}

fn event(event_type: &str) -> Value {
    json!({"service_key": KEY, "event_type": event_type, "incident_key": "42", "description": "Disk full"})
}

/// A response, read to its end.
#[derive(Debug)]
struct Answer {
    status: u16,
    headers: awc::http::header::HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }
}

async fn send(request: awc::ClientRequest, body: impl Into<Vec<u8>>) -> Result<Answer, String> {
    let mut response = request.send_body(body.into()).await.map_err(|error| error.to_string())?;
    let body = response.body().limit(64 << 20).await.map_err(|error| error.to_string())?.to_vec();
    Ok(Answer { status: response.status().as_u16(), headers: response.headers().clone(), body })
}

async fn try_post(sandbox: &Sandbox, event: &Value) -> Result<Answer, String> {
    let request = client().post(format!("{}{PATH}", sandbox.url())).content_type("application/json");
    send(request, event.to_string()).await
}

async fn post(sandbox: &Sandbox, event: &Value) -> Answer {
    try_post(sandbox, event).await.unwrap()
}
