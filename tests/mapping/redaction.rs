//! Redacted fields are in no event and no stored text.

use sentry_pagerduty_bridge::ingest::{Ingest, Policy, Webhook};
use sentry_pagerduty_bridge::redaction::Redaction;
use serde_json::{Value, json};

use crate::{ingest_of, opened, received_at};

const KEY: &str = "0000000000000000000000000000000a";

fn body() -> String {
    let user = json!({ "id": "HIDDEN", "email": "HIDDEN", "username": "HIDDEN", "ip_address": "HIDDEN" });
    let frames = json!({ "frames": [{ "filename": "HIDDEN", "function": "HIDDEN" }] });
    json!({
        "id": "42", "project": "HIDDEN", "project_name": "HIDDEN", "project_slug": "HIDDEN", "culprit": "HIDDEN",
        "level": "HIDDEN", "logger": "HIDDEN", "message": "HIDDEN", "url": "https://HIDDEN.test/o/p/issues/42/",
        "triggering_rules": ["HIDDEN"],
        "event": {
            "event_id": "HIDDEN", "title": "HIDDEN", "platform": "HIDDEN", "release": "HIDDEN",
            "environment": "HIDDEN", "server_name": "HIDDEN", "transaction": "HIDDEN", "timestamp": 1.0, "user": user,
            "exception": [{ "type": "HIDDEN", "value": "HIDDEN", "stacktrace": frames }],
            "tags": [["sentry:user", "HIDDEN"], ["customer", "HIDDEN"], ["team", "shop"]],
            "occurrence": { "subtitle": "HIDDEN", "evidenceDisplay": [{ "name": "Query", "value": "HIDDEN" }] },
        },
    })
    .to_string()
}

fn event(redact: &str, routes: &str) -> Value {
    serde_json::from_slice(&opened(ingest_by(redact, routes).decide(&webhook(&body()))).unwrap().body).unwrap()
}

fn ingest_by(redact: &str, routes: &str) -> Ingest {
    ingest_of(routes, Policy { redaction: Redaction::parse(redact), ..Policy::default() })
}

fn webhook(body: &str) -> Webhook<'_> {
    Webhook::of_body(body.as_bytes(), received_at())
}

#[test]
fn every_detail_and_text_can_be_taken_out() {
    let all = "message,title,event_id,project,release,platform,culprit,url,level,environment,logger,server_name,\
               transaction,rules,user,exception,frames,evidence,subtitle,customer";
    let (ingest, body) = (ingest_by(all, ""), body());
    let webhook = webhook(&body);
    let printed = format!("{:?} {:?}", ingest.decide(&webhook), ingest.trigger_of(&webhook));
    assert!(!printed.contains("HIDDEN"), "{printed}");
    let event = event(all, "");
    assert!(!event.to_string().contains("HIDDEN"), "{event}");
    assert_eq!(event["description"], "Sentry issue 42");
    assert_eq!(event["details"]["tags"], json!({ "team": "shop" }));
    assert_eq!(event["details"]["datetime"], "1970-01-01T00:00:01.000000Z");
}

#[test]
fn a_name_takes_out_what_it_names_and_nothing_else() {
    let whole = event("", "")["details"].clone();
    let gone = |redact: &str| -> Vec<String> {
        let details = event(redact, "")["details"].clone();
        let mut gone = Vec::new();
        for (name, value) in whole.as_object().unwrap() {
            match &details[name] {
                Value::Object(members) => gone.extend(
                    value
                        .as_object()
                        .unwrap()
                        .keys()
                        .filter(|key| !members.contains_key(*key))
                        .map(|key| format!("{name}.{key}")),
                ),
                other if other != value => gone.push(name.clone()),
                _ => {}
            }
        }
        gone
    };
    assert_eq!(gone("customer"), ["tags.customer"]);
    assert_eq!(gone(" USER ,"), ["tags.sentry:user", "user"]);
    assert_eq!(gone("sentry:user"), ["tags.sentry:user", "user"]);
    assert_eq!(gone("user.email"), ["user.email"]);
    assert_eq!(gone("ip_address,username"), ["user.username", "user.ip_address"]);
    assert_eq!(gone("query"), ["evidence"]);
    assert_eq!(gone("tags"), ["tags.sentry:user", "tags.customer", "tags.team"]);
    assert_eq!(gone("release,culprit"), ["release", "culprit"]);
    assert_eq!(gone(""), Vec::<String>::new());
}

#[test]
fn what_people_filled_into_the_form_of_an_action_can_be_taken_out_by_name_or_whole() {
    let settings = json!([{ "name": "team", "value": "shop" }, { "name": "customer", "value": "HIDDEN" }]);
    let alert = json!({ "title": "Page", "settings": settings });
    let data = json!({ "event": { "issue_id": "42", "title": "x" }, "issue_alert": alert });
    let body = json!({ "action": "triggered", "data": data }).to_string();
    let settings = |redact: &str| {
        let envelope = opened(ingest_by(redact, "").decide(&webhook(&body))).unwrap();
        let event: Value = serde_json::from_slice(&envelope.body).unwrap();
        event["details"].get("settings").cloned()
    };
    assert_eq!(settings(""), Some(json!({ "customer": "HIDDEN", "team": "shop" })));
    assert_eq!(settings("customer"), Some(json!({ "team": "shop" })));
    assert_eq!(settings("settings"), None);
}

#[test]
fn routes_may_look_at_what_is_taken_out_and_people_may_ask_why() {
    let routes = format!("customer,HIDDEN,{KEY}");
    assert_eq!(event("customer", &routes)["service_key"], KEY);
    let (alert, _) = Webhook::of_body(body().as_bytes(), received_at()).parse().unwrap();
    assert!(alert.tags.contains(&("customer".to_owned(), "HIDDEN".to_owned())));
}
