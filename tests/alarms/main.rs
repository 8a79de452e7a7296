//! The bridge's own alarms, as they arrive in the sandbox, and what the status and metrics show meanwhile. The bridge is
//! the real binary where its health, status page and metrics are compared, and runs in the test process, with shorter
//! intervals, where many alarms have to be awaited.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]

mod chat;
mod dead_letters;
mod fallback;
mod in_process;
mod observation;
mod pagerduty_failures;
mod proof;
mod rejected_alarms;
mod restarts;
mod retried_dead_letters;
mod several_bridges;
mod storage;
#[path = "../bridge/support/mod.rs"]
#[allow(dead_code, unused_imports, reason = "shared with tests/bridge, which needs more of it")]
mod support;
#[path = "../faults/tls_proxy.rs"]
#[allow(dead_code, reason = "shared with tests/faults, which needs more of it")]
mod tls_proxy;
mod untrusted_certificate;
mod webhooks;

use std::fmt::Write as _;
use std::net::SocketAddr;

use hmac::{Hmac, KeyInit, Mac};
use pagerduty_sandbox::{Incident, IncidentState};
use sha2::Sha256;

use self::support::{OTHER_KEY, PagerDuty, post};

const ON: (&str, &str) = ("BRIDGE_ALARMS", "on");

/// Sends alarms to another service key than alerts.
const ALARM_KEY: (&str, &str) = ("BRIDGE_ALARM_SERVICE_KEY", OTHER_KEY);

/// The Client Secret of the integration.
const SECRET: &str = "client-secret-of-the-integration";

fn incident_key(cause: &str) -> String {
    format!("sentry-pagerduty-bridge/{cause}")
}

/// Waits until the incident of a cause is triggered, and returns it.
#[track_caller]
fn wait_for_alarm(pagerduty: &PagerDuty, service_key: &str, cause: &str) -> Incident {
    wait_for_state(pagerduty, service_key, cause, IncidentState::Triggered)
}

/// Waits until it is resolved, and asserts that it was opened once and that there is no other one of this cause.
#[track_caller]
fn wait_until_resolved(pagerduty: &PagerDuty, service_key: &str, cause: &str) {
    let incident = wait_for_state(pagerduty, service_key, cause, IncidentState::Resolved);
    assert_eq!((incident.opened, incident.events), (1, 2), "{incident:#?}");
    let incidents = pagerduty.incidents();
    let alarms: Vec<_> = incidents.iter().filter(|incident| incident.incident_key == incident_key(cause)).collect();
    assert_eq!(alarms.len(), 1, "{alarms:#?}");
}

#[track_caller]
fn wait_for_state(pagerduty: &PagerDuty, service_key: &str, cause: &str, state: IncidentState) -> Incident {
    let key = incident_key(cause);
    let mut found = None;
    pagerduty.wait_for(&format!("the incident {key} as {state:?}"), |records| {
        found = records.incident(service_key, &key).filter(|incident| incident.state == state).cloned();
        found.is_some()
    });
    found.unwrap()
}

/// The causes of all alarms that PagerDuty received.
fn causes(pagerduty: &PagerDuty) -> Vec<String> {
    let incidents = pagerduty.incidents();
    let names = incidents.iter().filter_map(|incident| incident.incident_key.strip_prefix("sentry-pagerduty-bridge/"));
    names.map(str::to_owned).collect()
}

/// Posts an issue alert of the integration platform, signed with `secret`, and returns the status of the response.
fn post_signed(address: SocketAddr, secret: &str) -> u16 {
    post_signed_to(address, "/sentry", secret)
}

/// Like [`post_signed`], to this path.
fn post_signed_to(address: SocketAddr, path: &str, secret: &str) -> u16 {
    let body = include_bytes!("../../fixtures/platform/event-alert-26.json");
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body);
    let mut signature = String::new();
    for byte in mac.finalize().into_bytes() {
        write!(signature, "{byte:02x}").unwrap();
    }
    let headers = [("Sentry-Hook-Resource", "event_alert"), ("Sentry-Hook-Signature", signature.as_str())];
    post(address, path, &headers, body).status
}

/// Posts webhooks that are signed with another secret, as many as it takes to raise the alarm.
#[track_caller]
fn post_wrong_signatures(address: SocketAddr) {
    for _ in 0..5 {
        assert_eq!(post_signed(address, "the-secret-that-sentry-has-since-today"), 401);
    }
}
