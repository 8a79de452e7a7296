//! The webhooks that Sentry sends on demand, to test a setup.

use serde_json::{Value, json};

use crate::reply::{TwinReply, TwinRequest};
use crate::rules::check_rule_action;
use crate::workflows::check_action;
use crate::world::{OutgoingWebhook, SentryGeneration, TwinProject, World};

/// The test button of the WebHooks plugin: it posts a sample, and does not report how that was answered.
pub(crate) fn test_plugin(project: &TwinProject) -> TwinReply {
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
        project.urls.iter().map(|url| OutgoingWebhook { url: url.clone(), headers: Vec::new(), body: body.clone() });
    TwinReply { deliveries: deliveries.collect(), ..TwinReply::json(200, json!({"detail": "No errors returned"})) }
}

/// `test-fire-actions/`: fires each action with a sample event of the first project.
pub(crate) fn test_actions(world: &World, request: &TwinRequest) -> Result<TwinReply, TwinReply> {
    if world.generation != SentryGeneration::Workflows {
        return Err(TwinReply::missing());
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
    Ok(TwinReply { deliveries, unless_delivered: failed, ..TwinReply::empty(200) })
}

/// `rule-actions/` of a project: fires each action with a sample event, and does not report how that was answered. Source:
/// 23.7.1, `project_rule_actions.py`.
pub(crate) fn test_rule_actions(world: &World, request: &TwinRequest, project: &str) -> Result<TwinReply, TwinReply> {
    request.needs(&["project:write", "project:admin", "alerts:write"])?;
    request.body_knows(&["actions"])?;
    let actions = request.body["actions"].as_array().filter(|actions| !actions.is_empty());
    let actions = actions.ok_or_else(|| TwinReply::invalid("actions", "No actions to perform."))?;
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
    Ok(TwinReply { deliveries, ..TwinReply::empty(200) })
}

/// A sample `event_alert`, signed with the integration's secret.
fn signed(app: &Value) -> OutgoingWebhook {
    let event = json!({
        "event_id": "fedcba9876543210fedcba9876543210", "issue_id": "1", "project": 1, "level": "error", "platform": "python",
        "title": "This is an example Python exception", "culprit": "main", "tags": [["level", "error"]],
        "url": "http://twin/api/0/projects/acme/shop/events/fedcba9876543210fedcba9876543210/",
        "web_url": "http://twin/organizations/acme/issues/1/events/fedcba9876543210fedcba9876543210/",
        "issue_url": "http://twin/api/0/organizations/acme/issues/1/", "datetime": "2026-11-26T00:00:00.000000Z",
        "logentry": {"formatted": "This is an example Python exception"},
    });
    OutgoingWebhook::signed(app, "event_alert", "triggered", &json!({"event": event, "triggered_rule": "Test Alert"}))
}
