//! The store endpoint, where applications send their events, and the webhooks that alerts send for them.
//!
//! Sources: 9.1.2, `web/api.py`, `rules/processor.py` and `plugins/sentry_webhooks/plugin.py`; Sentry's main branch of
//! 2026, `sentry_apps/` and `workflow_engine/`. The webhooks of an event are sent before its response, unless the world
//! holds them; Sentry sends them after it.

use std::time::Instant;

use serde_json::{Value, json};

use crate::reply::TwinReply;
use crate::world::{OutgoingWebhook, SentryGeneration, World};

/// An event that was accepted, with its issue.
struct AcceptedEvent<'a> {
    event: &'a Value,
    project: u64,
    slug: String,
    issue: u64,
    is_new: bool,
}

/// Answers `POST /api/{project}/store/`.
pub(crate) fn answer(world: &mut World, project: &str, auth: &str, body: &[u8]) -> TwinReply {
    take(world, project, auth, body).unwrap_or_else(|refusal| refusal)
}

fn take(world: &mut World, project: &str, auth: &str, body: &[u8]) -> Result<TwinReply, TwinReply> {
    let refuse = |status: u16, why: &str| TwinReply {
        headers: vec![("X-Sentry-Error", why.to_owned())],
        ..TwinReply::json(status, json!({"error": why}))
    };
    let fields =
        auth.strip_prefix("Sentry ").ok_or_else(|| refuse(401, "Unable to find authentication information"))?;
    let field = |name: &str| {
        fields.split(',').find_map(|field| field.trim().strip_prefix(name)?.strip_prefix('=')).unwrap_or_default()
    };
    if field("sentry_version") != "7" {
        return Err(refuse(400, "Client using unsupported server protocol version"));
    }
    if field("sentry_client").is_empty() {
        return Err(refuse(400, "Client did not send 'client' identifier"));
    }
    let found = world.projects.iter().find(|one| one.id.to_string() == project && one.key() == field("sentry_key"));
    let found = found.ok_or_else(|| refuse(401, "Invalid api key"))?;
    if !found.key_enabled {
        return Err(refuse(403, "Project key disabled"));
    }
    let (project, slug) = (found.id, found.slug.clone());
    let event: Value = serde_json::from_slice(body).map_err(|_| refuse(400, "Invalid JSON"))?;
    let id = event["event_id"].as_str().unwrap_or_default().to_owned();
    if id.len() != 32 || !id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Err(refuse(400, "Beyond: an event without an id of 32 digits"));
    }
    if world.events.contains(&id) {
        return Err(refuse(403, "An event with the same ID already exists"));
    }
    world.events.push(id.clone());
    let fingerprint = (project, event["fingerprint"].to_string());
    let known = world.issues.iter().find(|(of, _)| *of == fingerprint).map(|(_, issue)| *issue);
    let issue = known.unwrap_or_else(|| world.take_id());
    if known.is_none() {
        world.issues.push((fingerprint, issue));
    }
    let taken = AcceptedEvent { event: &event, project, slug, issue, is_new: known.is_none() };
    let deliveries = webhooks(world, &taken);
    let reply = TwinReply::json(200, json!({"id": id}));
    if world.holds_webhooks {
        world.held.extend(deliveries);
        return Ok(reply);
    }
    Ok(TwinReply { deliveries, ..reply })
}

fn webhooks(world: &mut World, taken: &AcceptedEvent<'_>) -> Vec<OutgoingWebhook> {
    let mut sent = subscriptions(world, taken);
    let alerts: Vec<(String, Value)> = if world.generation == SentryGeneration::Workflows {
        let firing = world.workflows.iter().filter(|workflow| is_workflow_firing(world, workflow, taken));
        firing.map(|workflow| (format!("workflow {}", workflow["id"]), workflow.clone())).collect()
    } else {
        let rules = world.projects.iter().filter(|one| one.id == taken.project).flat_map(|one| &one.rules);
        let firing = rules.filter(|rule| is_rule_firing(rule, taken));
        firing.map(|rule| (format!("rule {}", rule["id"]), rule.clone())).collect()
    };
    for (key, alert) in alerts {
        let minutes = alert["frequency"].as_u64().or_else(|| alert["config"]["frequency"].as_u64()).unwrap_or(0);
        let quiet = world.minute * u32::try_from(minutes).unwrap_or(u32::MAX);
        let key = (key, taken.issue);
        let fired = world.fired.iter_mut().find(|(of, _)| *of == key);
        match fired {
            Some((_, at)) if at.elapsed() < quiet => continue,
            Some((_, at)) => *at = Instant::now(),
            None => world.fired.push((key, Instant::now())),
        }
        let name = alert["name"].as_str().unwrap_or_default();
        let actions = match alert["actionFilters"].as_array() {
            Some(filters) => filters.iter().flat_map(|one| one["actions"].as_array().into_iter().flatten()).collect(),
            None => alert["actions"].as_array().into_iter().flatten().collect::<Vec<_>>(),
        };
        for action in actions {
            sent.extend(perform(world, action, name, taken));
        }
    }
    sent
}

/// The webhooks that integrations get by their subscriptions, without any alert.
fn subscriptions(world: &World, taken: &AcceptedEvent<'_>) -> Vec<OutgoingWebhook> {
    let hears = |app: &Value, event: &str| {
        let names = |member: &str| app[member].as_array().is_some_and(|all| all.iter().any(|one| one == event));
        names("events") || names("webhookEvents")
    };
    let mut sent = Vec::new();
    for app in &world.apps {
        if taken.is_new
            && (hears(app, "issue") && world.generation == SentryGeneration::Apps || hears(app, "issue.created"))
        {
            let issue = json!({
                "id": taken.issue.to_string(), "shortId": "SHOP-1", "title": taken.event["message"], "culprit": "",
                "logger": taken.event["logger"], "level": taken.event["level"], "platform": "other", "type": "default",
                "status": "unresolved", "project": {"id": taken.project.to_string(), "slug": taken.slug, "name": taken.slug},
                "metadata": {"title": taken.event["message"]}, "count": "1", "userCount": 0, "permalink": null,
            });
            sent.push(OutgoingWebhook::signed(app, "issue", "created", &json!({"issue": issue})));
        }
        if hears(app, "error") || hears(app, "error.created") {
            sent.push(OutgoingWebhook::signed(app, "error", "created", &json!({"error": event_of(taken)})));
        }
    }
    sent
}

fn perform(world: &World, action: &Value, alert: &str, taken: &AcceptedEvent<'_>) -> Vec<OutgoingWebhook> {
    let service = action["service"].as_str();
    let target = action["config"]["targetIdentifier"].as_str().unwrap_or_default();
    let is_legacy = service == Some("webhooks")
        || action["id"] == "sentry.rules.actions.notify_event.NotifyEventAction"
        || action["type"] == "webhook" && target == "webhooks";
    if is_legacy {
        let project = world.projects.iter().find(|one| one.id == taken.project && one.hook_enabled);
        let urls = project.into_iter().flat_map(|project| &project.urls);
        let body = legacy(alert, taken).to_string();
        return urls.map(|url| OutgoingWebhook { url: url.clone(), headers: Vec::new(), body: body.clone() }).collect();
    }
    let app = world.apps.iter().find(|app| {
        service.is_some_and(|slug| app["slug"] == slug)
            || action["type"] == "sentry_app" && app["sentryAppId"].as_u64() == target.parse().ok()
    });
    let data = json!({"event": event_of(taken), "triggered_rule": alert});
    app.map(|app| OutgoingWebhook::signed(app, "event_alert", "triggered", &data)).into_iter().collect()
}

fn tags(taken: &AcceptedEvent<'_>) -> Vec<Value> {
    let own = taken.event["tags"].as_object().into_iter().flatten();
    let mut tags: Vec<Value> = own.map(|(name, value)| json!([name, value])).collect();
    tags.extend(["level", "logger"].map(|name| json!([name, taken.event[name]])));
    tags
}

/// The body of the plugin, as 9.1.2 writes it.
fn legacy(alert: &str, taken: &AcceptedEvent<'_>) -> Value {
    let event = taken.event;
    json!({
        "id": taken.issue.to_string(), "project": taken.slug, "project_name": taken.slug, "project_slug": taken.slug,
        "logger": event["logger"], "level": event["level"], "culprit": "", "message": event["message"],
        "url": format!("http://twin/acme/{}/issues/{}/?referrer=webhooks_plugin", taken.slug, taken.issue),
        "triggering_rules": [alert],
        "event": {
            "event_id": event["event_id"], "platform": "other", "level": event["level"], "logger": event["logger"],
            "title": event["message"], "tags": tags(taken), "project": taken.project, "type": "default",
            "logentry": {"formatted": event["message"]}, "metadata": {"title": event["message"]},
            "fingerprint": event["fingerprint"],
        },
    })
}

/// The event as the integration platform sends it.
fn event_of(taken: &AcceptedEvent<'_>) -> Value {
    let (event, issue) = (taken.event, taken.issue);
    let id = event["event_id"].as_str().unwrap_or_default();
    json!({
        "event_id": id, "issue_id": issue.to_string(), "project": taken.project, "level": event["level"],
        "platform": "other", "title": event["message"], "message": event["message"], "culprit": "", "tags": tags(taken),
        "logger": event["logger"], "datetime": "2026-11-26T00:00:00.000000Z", "type": "default",
        "url": format!("http://twin/api/0/projects/acme/{}/events/{id}/", taken.slug),
        "web_url": format!("http://twin/organizations/acme/issues/{issue}/events/{id}/"),
        "issue_url": format!("http://twin/api/0/organizations/acme/issues/{issue}/"),
        "logentry": {"formatted": event["message"]},
    })
}

fn has_tag(node: &Value, taken: &AcceptedEvent<'_>) -> bool {
    let (name, value) = (node["key"].as_str().unwrap_or_default(), &node["value"]);
    node["match"] == "eq" && tags(taken).iter().any(|tag| tag[0] == name && tag[1] == *value)
}

fn is_rule_firing(rule: &Value, taken: &AcceptedEvent<'_>) -> bool {
    let holds = |condition: &Value| match condition["id"].as_str().and_then(|id| id.rsplit('.').next()) {
        Some("EveryEventCondition") => true,
        Some("FirstSeenEventCondition") => taken.is_new,
        Some("TaggedEventCondition" | "TaggedEventFilter") => has_tag(condition, taken),
        _ => false,
    };
    let conditions = rule["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    let matches = if rule["actionMatch"] == "any" {
        conditions.iter().any(holds)
    } else {
        !conditions.is_empty() && conditions.iter().all(holds)
    };
    let is_active = rule.get("status").is_none_or(|status| status == "active");
    is_active && matches && rule["filters"].as_array().into_iter().flatten().all(holds)
}

fn is_workflow_firing(world: &World, workflow: &Value, taken: &AcceptedEvent<'_>) -> bool {
    let project = taken.project.to_string();
    let mut detectors = world.detectors.iter().filter(|one| one["projectId"] == project.as_str());
    let connected = workflow["detectorIds"].as_array().map(Vec::as_slice).unwrap_or_default();
    let triggers = workflow["triggers"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    // A workflow without triggers fires for every event.
    let is_triggered =
        triggers.is_empty() || triggers.iter().any(|one| one["type"] == "first_seen_event" && taken.is_new);
    let passes = |filter: &Value| {
        let mut conditions = filter["conditions"].as_array().into_iter().flatten();
        conditions.all(|one| one["type"] == "tagged_event" && has_tag(&one["comparison"], taken))
    };
    workflow["enabled"] == true
        && detectors.any(|one| connected.contains(&one["id"]))
        && is_triggered
        && workflow["actionFilters"].as_array().is_some_and(|filters| filters.iter().all(passes))
}
