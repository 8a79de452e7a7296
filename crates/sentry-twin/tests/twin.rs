//! The twin is as strict as its documentation says.

#![allow(clippy::unwrap_used, reason = "these are tests, helpers of tests included")]

use awc::http::Method;
use sentry_twin::{SentryGeneration, TOKEN, Twin, TwinFaultKind, World};
use serde_json::{Value, json};

struct Answer {
    status: u16,
    link: Option<String>,
    body: Value,
}

async fn call(twin: &Twin, token: &str, method: Method, path: &str, body: Option<Value>) -> Answer {
    let request = awc::Client::default()
        .request(method, format!("{}/api/0/{path}", twin.url()))
        .insert_header(("Authorization", format!("Bearer {token}")));
    let sending = match body {
        Some(body) => request.send_json(&body),
        None => request.send(),
    };
    let mut response = sending.await.unwrap();
    let link = response.headers().get("Link").map(|link| link.to_str().unwrap().to_owned());
    let body = response.body().await.unwrap();
    Answer { status: response.status().as_u16(), link, body: serde_json::from_slice(&body).unwrap_or_default() }
}

async fn get(twin: &Twin, path: &str) -> Answer {
    call(twin, TOKEN, Method::GET, path, None).await
}

fn twin(generation: SentryGeneration) -> Twin {
    let mut world = World::new(generation);
    for slug in ["admin", "shop", "web"] {
        world.add_project(slug);
    }
    Twin::start(world).unwrap()
}

#[actix_web::test]
async fn strangers_and_tokens_without_the_scope_are_refused() {
    let twin = twin(SentryGeneration::Apps);
    twin.world(|world| world.add_token("reader", None, &["org:read", "org:write"]));
    assert_eq!(call(&twin, "nobody", Method::GET, "organizations/acme/projects/", None).await.status, 401);
    assert_eq!(call(&twin, "reader", Method::GET, "organizations/acme/projects/", None).await.status, 200);
    assert_eq!(call(&twin, "reader", Method::GET, "projects/acme/shop/rules/", None).await.status, 403);
    let body = json!({"organization": "acme", "name": "x", "scopes": [], "isInternal": true});
    let made = call(&twin, "reader", Method::POST, "sentry-apps/", Some(body)).await;
    assert_eq!(made.status, 403, "a token that is nobody's makes no integration");
    assert_eq!(get(&twin, "organizations/acme/projects").await.status, 404, "Beyond: without the last slash");
    assert_eq!(get(&twin, "organizations/elsewhere/projects/").await.status, 404);
}

#[actix_web::test]
async fn pages_are_linked_to_both_sides_whether_there_is_anything_or_not() {
    let twin = twin(SentryGeneration::Plugin);
    let first = get(&twin, "organizations/acme/projects/?per_page=2").await;
    let link = first.link.unwrap();
    assert!(link.contains("rel=\"previous\"; results=\"false\""), "{link}");
    assert!(link.contains("rel=\"next\"; results=\"true\"; cursor=\"0:2:0\""), "{link}");
    let last = get(&twin, "organizations/acme/projects/?per_page=2&cursor=0:2:0").await;
    assert_eq!(last.body.as_array().unwrap().len(), 1);
    assert!(last.link.unwrap().contains("rel=\"next\"; results=\"false\""));
    assert_eq!(get(&twin, "organizations/acme/projects/?per_page=101").await.status, 500, "9.1.2 fails");
}

#[actix_web::test]
async fn each_generation_has_what_it_has_and_nothing_else() {
    let expected = [
        (SentryGeneration::Plugin, [200, 200, 404, 404, 404]),
        (SentryGeneration::Apps, [200, 200, 404, 200, 404]),
        (SentryGeneration::Workflows, [410, 404, 200, 200, 200]),
    ];
    for (generation, statuses) in expected {
        let twin = twin(generation);
        let paths = [
            "projects/acme/shop/rules/",
            "projects/acme/shop/plugins/webhooks/",
            "organizations/acme/workflows/",
            "organizations/acme/sentry-apps/",
            "projects/acme/shop/legacy-webhooks/",
        ];
        for (path, status) in paths.into_iter().zip(statuses) {
            assert_eq!(get(&twin, path).await.status, status, "{generation:?} {path}");
        }
    }
}

#[actix_web::test]
async fn a_secret_is_shown_once_it_is_asked_for_by_a_member_and_only_on_the_first_day() {
    let twin = twin(SentryGeneration::Workflows);
    let body = json!({
        "organization": "acme", "name": "pager", "isInternal": true, "isAlertable": true, "verifyInstall": false,
        "webhookUrl": "https://bridge.example.com/sentry", "events": ["issue"], "scopes": ["event:read"], "schema": {},
    });
    let made = call(&twin, TOKEN, Method::POST, "sentry-apps/", Some(body)).await;
    assert_eq!((made.status, made.body.get("clientSecret")), (201, None));
    let path = format!("sentry-apps/{}/", made.body["slug"].as_str().unwrap());
    assert!(!get(&twin, &path).await.body["clientSecret"].as_str().unwrap().contains('*'));
    assert!(
        get(&twin, "organizations/acme/sentry-apps/").await.body[0]["clientSecret"].as_str().unwrap().contains('*')
    );
    twin.world(|world| world.shows_secrets = false);
    assert_eq!(get(&twin, &path).await.body["clientSecret"], Value::Null);
}

#[actix_web::test]
async fn a_fault_acts_as_often_as_it_was_told_to() {
    let twin = twin(SentryGeneration::Plugin);
    twin.world(|world| world.inject("/rules/", 1, TwinFaultKind::Throttled(3)));
    assert_eq!(get(&twin, "projects/acme/shop/rules/").await.status, 429);
    assert_eq!(get(&twin, "projects/acme/shop/rules/").await.status, 200);
    let statuses: Vec<u16> = twin.calls().iter().map(|call| call.status).collect();
    assert_eq!(statuses, [429, 200]);
}
