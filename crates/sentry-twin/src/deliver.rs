//! The webhooks that Sentry sends on demand, to test a setup.

use std::fmt::Write as _;

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::reply::{Reply, Request};
use crate::rules::check_rule_action;
use crate::workflows::check_action;
use crate::world::{Delivery, Generation, Project, World};

/// The test button of the WebHooks plugin: it posts a sample, and does not report how that was answered.
pub(crate) fn test_plugin(project: &Project) -> Reply {
    let body = json!({
        "id": "1", "project": project.slug, "project_name": project.slug, "project_slug": project.slug, "logger": null,
        "level": "error", "culprit": "raven.scripts.runner in main", "message": "This is an example Python exception",
        "url": format!("http://twin/acme/{}/issues/1/?referrer=webhooks_plugin", project.slug), "triggering_rules": [],
        "event": {
            "event_id": "0123456789abcdef0123456789abcdef", "platform": "python", "level": "error",
            "title": "This is an example Python exception", "tags": [["level", "error"]], "timestamp": 1_795_353_671.0,
            "logentry": {"formatted": "This is an example Python exception"},
        },
    })
    .to_string();
    let deliveries =
        project.urls.iter().map(|url| Delivery { url: url.clone(), headers: Vec::new(), body: body.clone() });
    Reply { deliveries: deliveries.collect(), ..Reply::json(200, json!({"detail": "No errors returned"})) }
}

/// `test-fire-actions/`: fires each action with a sample event of the first project.
pub(crate) fn test_actions(world: &World, request: &Request) -> Result<Reply, Reply> {
    if world.generation != Generation::Workflows {
        return Err(Reply::missing());
    }
    request.needs(&["alerts:write", "org:write", "org:admin"])?;
    request.needs_member()?;
    request.body_knows(&["actions"])?;
    let mut deliveries = Vec::new();
    for action in request.body["actions"].as_array().into_iter().flatten() {
        check_action(world, action)?;
        let target = action["config"]["targetIdentifier"].as_str().unwrap_or_default();
        match action["type"].as_str() {
            Some("sentry_app") => {
                let found = world.apps.iter().find(|app| app["sentryAppId"].as_u64() == target.parse().ok());
                deliveries.extend(found.map(signed));
            }
            Some("webhook") => {
                let project = world.projects.iter().min_by_key(|project| &project.slug);
                deliveries.extend(project.map(test_plugin).into_iter().flat_map(|reply| reply.deliveries));
            }
            _ => {}
        }
    }
    let failed =
        Some((400, json!({"actions": ["An unexpected error occurred. Please ensure your settings are correct."]})));
    Ok(Reply { deliveries, unless_delivered: failed, ..Reply::empty(200) })
}

/// `rule-actions/` of a project: fires each action with a sample event, and does not report how that was answered. Source:
/// 23.7.1, `project_rule_actions.py`.
pub(crate) fn test_rule_actions(world: &World, request: &Request, project: &str) -> Result<Reply, Reply> {
    request.needs(&["project:write", "project:admin", "alerts:write"])?;
    request.body_knows(&["actions"])?;
    let actions = request.body["actions"].as_array().filter(|actions| !actions.is_empty());
    let actions = actions.ok_or_else(|| Reply::invalid("actions", "No actions to perform."))?;
    let mut deliveries = Vec::new();
    for action in actions {
        check_rule_action(world, action)?;
        match action["service"].as_str() {
            Some("webhooks") => {
                let project = world.projects.iter().find(|one| one.slug == project);
                deliveries.extend(project.map(test_plugin).into_iter().flat_map(|reply| reply.deliveries));
            }
            service => deliveries.extend(world.apps.iter().find(|app| app["slug"].as_str() == service).map(signed)),
        }
    }
    Ok(Reply { deliveries, ..Reply::empty(200) })
}

/// A sample `event_alert`, signed with the integration's secret.
fn signed(app: &Value) -> Delivery {
    let event = json!({
        "event_id": "fedcba9876543210fedcba9876543210", "issue_id": "1", "project": 1, "level": "error", "platform": "python",
        "title": "This is an example Python exception", "culprit": "main", "tags": [["level", "error"]],
        "url": "http://twin/api/0/projects/acme/shop/events/fedcba9876543210fedcba9876543210/",
        "web_url": "http://twin/organizations/acme/issues/1/events/fedcba9876543210fedcba9876543210/",
        "issue_url": "http://twin/api/0/organizations/acme/issues/1/", "datetime": "2026-11-26T00:00:00.000000Z",
        "logentry": {"formatted": "This is an example Python exception"},
    });
    hook(app, "event_alert", "triggered", &json!({"event": event, "triggered_rule": "Test Alert"}))
}

/// A webhook of the integration platform, signed with the integration's secret.
pub(crate) fn hook(app: &Value, resource: &str, action: &str, data: &Value) -> Delivery {
    let body = json!({
        "action": action, "installation": {"uuid": app["uuid"]}, "data": data,
        "actor": {"type": "application", "id": "sentry", "name": "Sentry"},
    })
    .to_string();
    let secret = app["clientSecret"].as_str().unwrap_or_default();
    // HMAC takes keys of any length.
    let mac =
        Hmac::<Sha256>::new_from_slice(secret.as_bytes()).map(|mac| mac.chain_update(&body).finalize().into_bytes());
    let mut signature = String::new();
    for byte in mac.unwrap_or_default() {
        // Writing to a String cannot fail.
        let _ = write!(signature, "{byte:02x}");
    }
    Delivery {
        url: app["webhookUrl"].as_str().unwrap_or_default().to_owned(),
        headers: vec![
            ("Sentry-Hook-Resource", resource.to_owned()),
            ("Sentry-Hook-Timestamp", "1795353671".to_owned()),
            ("Sentry-Hook-Signature", signature),
            ("Request-ID", "00000000000040008000000000000001".to_owned()),
        ],
        body,
    }
}
