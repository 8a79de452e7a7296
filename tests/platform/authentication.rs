//! Authentication of webhooks by a signature, by a token, by both and by neither.

use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::AUTHORIZATION;
use actix_web::web::Data;
use actix_web::{App, test};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use chrono::Utc;
use futures_util::future::join_all;
use hmac::{Hmac, KeyInit, Mac};
use sentry_pagerduty_bridge::config::Config;
use sentry_pagerduty_bridge::delivery::DeliveryView;
use sentry_pagerduty_bridge::ingest::Ingest;
use sentry_pagerduty_bridge::metrics::Metrics;
use sentry_pagerduty_bridge::monitor::{Monitor, TroubleLimits};
use sentry_pagerduty_bridge::queue::held::MAX_HELD;
use sentry_pagerduty_bridge::queue::{HeldSender, HeldSummary, Queue};
use sentry_pagerduty_bridge::web::auth::webhook::Authentication;
use sentry_pagerduty_bridge::web::{AppState, Endpoints, routes};
use serde_json::Value;
use sha2::Sha256;
use tempfile::TempDir;
use tokio::sync::watch;

const TOKEN: &str = "token-of-the-webhook";
const OLD: &str = "old-client-secret-of-the-integration";
const NEW: &str = "new-client-secret-of-the-integration";
const EVENT_ALERT: &[u8] = include_bytes!("../../fixtures/platform/event-alert-26.json");
const LEGACY: &[u8] = include_bytes!("../../fixtures/legacy-9.1/plain-message.json");
const MAX_BODY: usize = 1024 * 1024;

/// The HTTP part of a bridge, whose queue is not delivered.
struct Web {
    shared: Data<AppState>,
    _folder: TempDir,
}

impl Web {
    /// Starts a bridge with the token and the client secrets; an empty text means none.
    async fn start(token: &str, secrets: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let queue = Queue::open(&folder.path().join("queue.db")).await.unwrap();
        let config = Config::from_vars([
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", "00000000000000000000000000000001"),
            ("BRIDGE_WEBHOOK_TOKEN", token),
            ("BRIDGE_SENTRY_CLIENT_SECRET", secrets),
        ])
        .unwrap();
        let ingest = Ingest::from(&config);
        let metrics = Metrics::new();
        let (_, delivery) = watch::channel(DeliveryView::default());
        let limits = TroubleLimits::from(&config);
        let monitor = Monitor::new(Utc::now(), queue.clone(), delivery, metrics.clone(), limits, "");
        let authentication = Authentication::new(config.webhook_token, config.sentry_client_secret);
        Self {
            shared: Data::new(AppState::new(authentication, ingest, queue, MAX_BODY, metrics, monitor)),
            _folder: folder,
        }
    }

    async fn post(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> (StatusCode, Value) {
        let app = test::init_service(
            App::new().app_data(self.shared.clone()).configure(|config| routes(Endpoints::All, config)),
        )
        .await;
        let request = test::TestRequest::post().uri(path).set_payload(body.to_vec());
        let request = headers.iter().fold(request, |request, header| request.insert_header(*header));
        let answer = test::call_service(&app, request.to_request()).await;
        let status = answer.status();
        (status, serde_json::from_slice(&test::read_body(answer).await).unwrap())
    }

    /// Waits until so many webhooks are held: what cannot be held within a second is held after its answer.
    async fn held(&self, number: usize) -> Vec<HeldSummary> {
        for _ in 0..600 {
            let held = self.shared.queue.recount_held().await.unwrap();
            if held.len() >= number {
                assert_eq!(held.len(), number);
                return held;
            }
            actix_web::rt::time::sleep(Duration::from_millis(100)).await;
        }
        panic!("fewer than {number} webhooks are held");
    }

    async fn status(&self, path: &str, headers: &[(&str, &str)], body: &[u8]) -> u16 {
        self.post(path, headers, body).await.0.as_u16()
    }
}

fn with_token() -> String {
    format!("/sentry/{TOKEN}")
}

fn signature(secret: &str, body: &[u8]) -> String {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(body).finalize();
    mac.into_bytes().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"))
}

#[actix_web::test]
async fn only_the_signature_of_the_very_body_opens_the_door_to_webhooks_of_the_platform() {
    let web = Web::start(TOKEN, NEW).await;
    let right = signature(NEW, EVENT_ALERT);
    let wrong = signature(OLD, EVENT_ALERT);
    let upper = right.to_uppercase();
    let mut tampered = EVENT_ALERT.to_vec();
    let at = tampered.iter().position(|byte| *byte == b'z').unwrap();
    tampered[at] = b's';
    let written_again = serde_json::from_slice::<Value>(EVENT_ALERT).unwrap().to_string();
    let of_written_again = signature(NEW, written_again.as_bytes());
    for path in ["/sentry", &with_token()] {
        for (status, signature, body) in [
            (202, Some(&right), EVENT_ALERT),
            (401, Some(&right), &tampered),
            (401, Some(&right), b""),
            (401, Some(&wrong), EVENT_ALERT),
            (401, Some(&of_written_again), EVENT_ALERT),
            (401, Some(&upper), EVENT_ALERT),
            (401, Some(&String::new()), EVENT_ALERT),
            (401, None, EVENT_ALERT),
        ] {
            let signature = signature.map(|signature| ("Sentry-Hook-Signature", signature.as_str()));
            let headers: Vec<_> = signature.into_iter().chain([("Sentry-Hook-Resource", "event_alert")]).collect();
            let (found, said) = web.post(path, &headers, body).await;
            assert_eq!(found.as_u16(), status, "{path} {headers:?}");
            if status == 401 {
                assert!(said["reason"].as_str().unwrap().contains("BRIDGE_SENTRY_CLIENT_SECRET"), "{said}");
            } else {
                // The webhook that comes by the second path is a duplicate of the one that came by the first.
                assert_eq!(said["status"], if path == "/sentry" { "queued" } else { "ignored" });
            }
        }
    }
}

#[actix_web::test]
async fn while_rotating_the_old_secret_still_signs() {
    let body = EVENT_ALERT;
    for (secrets, old) in [(format!("{NEW},{OLD}"), 202), (NEW.to_owned(), 401)] {
        let web = Web::start("", &secrets).await;
        for (secret, status) in [(OLD, old), (NEW, 202)] {
            let signature = signature(secret, body);
            let headers = [("Sentry-Hook-Resource", "event_alert"), ("Sentry-Hook-Signature", signature.as_str())];
            assert_eq!(web.status("/sentry", &headers, body).await, status, "{secret}");
        }
    }
}

#[actix_web::test]
async fn a_signature_opens_no_address_of_a_token() {
    let signature = signature(NEW, EVENT_ALERT);
    let headers = [("Sentry-Hook-Resource", "event_alert"), ("Sentry-Hook-Signature", signature.as_str())];
    for token in [TOKEN, ""] {
        let web = Web::start(token, NEW).await;
        assert_eq!(web.status("/sentry/whatever", &headers, EVENT_ALERT).await, 401);
        assert_eq!(web.status("/sentry", &headers, EVENT_ALERT).await, 202);
    }
}

#[actix_web::test]
async fn without_the_platforms_headers_the_token_opens_for_both_generations() {
    let web = Web::start(TOKEN, NEW).await;
    let basic = format!("Basic {}", STANDARD.encode(format!("sentry:{TOKEN}")));
    for body in [LEGACY, EVENT_ALERT] {
        assert_eq!(web.status(&with_token(), &[], body).await, 202);
        assert_eq!(web.status("/sentry", &[(AUTHORIZATION.as_str(), &basic)], body).await, 202);
        assert_eq!(web.status("/sentry", &[], body).await, 401);
    }
    let resource = [(AUTHORIZATION.as_str(), basic.as_str()), ("Sentry-Hook-Resource", "event_alert")];
    assert_eq!(web.status("/sentry", &resource, EVENT_ALERT).await, 401, "the token does not stand in for it");
    // A body that is authenticated only by its signature may be of either generation.
    let signature = signature(NEW, LEGACY);
    assert_eq!(web.status("/sentry", &[("Sentry-Hook-Signature", &signature)], LEGACY).await, 202);
}

#[actix_web::test]
async fn where_no_secret_is_set_the_token_alone_opens() {
    let web = Web::start(TOKEN, "").await;
    let signature = signature(OLD, EVENT_ALERT);
    let headers = [("Sentry-Hook-Resource", "event_alert"), ("Sentry-Hook-Signature", signature.as_str())];
    assert_eq!(web.status(&with_token(), &headers, EVENT_ALERT).await, 202);
    assert_eq!(web.status("/sentry", &headers, EVENT_ALERT).await, 401);
}

#[actix_web::test]
async fn validation_requests_of_sentrys_own_pages_are_signed_too() {
    let web = Web::start(TOKEN, NEW).await;
    let fields: &[u8] = br#"{"fields": [{"name": "team", "value": "7"}]}"#;
    for body in [b"", fields] {
        let right = signature(NEW, body);
        let (status, said) = web.post("/sentry", &[("Sentry-App-Signature", &right)], body).await;
        assert_eq!((status.as_u16(), &said["status"]), (202, &Value::from("ignored")));
        let wrong = signature(OLD, body);
        assert_eq!(web.status("/sentry", &[("Sentry-App-Signature", &wrong)], body).await, 401);
        assert_eq!(web.status(&with_token(), &[("Sentry-App-Signature", &wrong)], body).await, 401);
    }
}

#[actix_web::test]
async fn validation_requests_are_answered_at_whatever_path_the_schema_of_the_integration_names() {
    let fields: &[u8] = br#"{"fields": [{"name": "team", "value": "7"}]}"#;
    let (right, wrong) = (signature(NEW, fields), signature(OLD, fields));
    let with_more = format!("{}/alert-action", with_token());
    let paths = ["/sentry/", "/sentry/alert-action", "/sentry/alert-action/", "/sentry/alerts/action/v1", &with_more];

    let web = Web::start(TOKEN, NEW).await;
    for path in paths {
        let (status, said) = web.post(path, &[("Sentry-App-Signature", &right)], fields).await;
        assert_eq!((status.as_u16(), &said["status"]), (202, &Value::from("ignored")), "{path}");
        assert_eq!(web.status(path, &[("Sentry-App-Signature", &wrong)], fields).await, 401, "{path}");
        let unsigned = web.status(path, &[], fields).await;
        assert!(unsigned == 401 || unsigned == 404, "{path}: {unsigned}");
    }

    let web = Web::start(TOKEN, "").await;
    assert_eq!(web.status(&with_more, &[("Sentry-App-Signature", &right)], fields).await, 202);
    assert_eq!(web.status("/sentry/alert-action", &[("Sentry-App-Signature", &right)], fields).await, 401);
}

#[actix_web::test]
async fn a_hundred_thousand_wrong_signatures_cost_bounded_room_and_push_out_nothing_that_was_held_before() {
    const STRANGERS: u32 = 100_000;
    let web = Web::start(TOKEN, NEW).await;
    let app =
        test::init_service(App::new().app_data(web.shared.clone()).configure(|config| routes(Endpoints::All, config)))
            .await;
    let post = async |path: &str, peer: String, body: Vec<u8>| {
        let signature = signature(OLD, &body);
        let request = test::TestRequest::post().uri(path).peer_addr(peer.parse().unwrap()).set_payload(body);
        let request = request.insert_header(("Sentry-Hook-Signature", signature));
        test::call_service(&app, request.to_request()).await.status().as_u16()
    };
    for number in 0..3 {
        assert_eq!(post("/sentry", "192.0.2.1:443".to_owned(), format!("early {number}").into_bytes()).await, 401);
        assert_eq!(post(&with_token(), "192.0.2.2:443".to_owned(), format!("token {number}").into_bytes()).await, 401);
    }
    let before = web.held(6).await;

    // A sender with one address, one with all addresses of a /64, and one with many networks.
    let noise = |number: u32| {
        let peer = match number % 3 {
            0 => "198.51.100.7:443".to_owned(),
            1 => format!("[2001:db8::{:x}:{:x}]:443", number >> 16, number & 0xffff),
            _ => format!("203.0.{}.{}:443", number >> 8 & 0xff, number & 0xff),
        };
        post("/sentry", peer, format!("noise {number} {}", "x".repeat(200)).into_bytes())
    };
    for first in (0..STRANGERS).step_by(250) {
        let statuses = join_all((first..first + 250).map(noise)).await;
        assert!(statuses.iter().all(|status| *status == 401), "{statuses:?}");
    }
    let held = web.held(usize::try_from(MAX_HELD).unwrap() + 3).await;
    assert_eq!(held[..6], before, "what was held before is held still, at its place");
    let strangers: Vec<_> = held.iter().filter(|held| held.sender != HeldSender::Token).collect();
    assert_eq!(strangers.len() as u64, MAX_HELD);
    let of = |network: &str| {
        let network = HeldSender::Network(network.parse().unwrap());
        strangers.iter().filter(|held| held.sender == network).count() as u64
    };
    assert_eq!((of("198.51.100.7"), of("2001:db8::")), (MAX_HELD / 4, MAX_HELD / 4));
    assert_eq!(post(&with_token(), "192.0.2.2:443".to_owned(), b"token".to_vec()).await, 401);
    // A token has room of its own.
    web.held(held.len() + 1).await;
}

#[actix_web::test]
async fn strangers_fill_their_own_share_of_the_memory_and_nobody_elses() {
    let web = Web::start(TOKEN, NEW).await;
    let signature = signature(NEW, EVENT_ALERT);
    let headers = [("Sentry-Hook-Resource", "event_alert"), ("Sentry-Hook-Signature", signature.as_str())];
    let large = 112 * 1024 * 1024;
    let small = 64 * 1024;
    let memory = &web.shared.body_memory;
    let mut strangers = vec![memory.open(false)];
    strangers[0].grow_to(large).await.unwrap();
    for _ in 0..16 * 1024 * 1024 / small {
        strangers.push(memory.open(false));
        strangers.last_mut().unwrap().grow_to(small).await.unwrap();
    }
    let leave = async {
        let oldest = strangers.remove(0);
        oldest.evicted().await;
    };
    let (status, ()) = tokio::join!(web.status("/sentry", &headers, EVENT_ALERT), leave);
    assert_eq!(status, 202, "the oldest stranger made room for it");
    assert_eq!(web.status(&with_token(), &headers, EVENT_ALERT).await, 202);
    drop(strangers);
    assert_eq!(memory.open(true).grow_to(large).await, Ok(()), "what was read is given back");
}

#[actix_web::test]
async fn a_resolve_of_an_incident_nobody_knows_is_ignored_in_words() {
    let web = Web::start(TOKEN, "").await;
    let body = include_bytes!("../../fixtures/platform/issue-resolved-26.json");
    let (status, said) = web.post(&with_token(), &[("Sentry-Hook-Resource", "issue")], body).await;
    assert_eq!((status.as_u16(), &said["status"]), (202, &Value::from("ignored")));
    assert_eq!(said["reason"], "the bridge knows of no open incident for it, so there is nothing to resolve");
}
