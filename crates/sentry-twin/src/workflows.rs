//! Workflows and detectors of 2026. Source: Sentry's OpenAPI description of August 2026.

use serde_json::{Value, json};

use crate::reply::{TwinReply, TwinRequest};
use crate::world::World;

const READ: [&str; 5] = ["alerts:read", "alerts:write", "org:read", "org:write", "org:admin"];
const WRITE: [&str; 3] = ["alerts:write", "org:write", "org:admin"];
const FREQUENCIES: [u64; 8] = [0, 5, 10, 30, 60, 180, 720, 1440];
const TRIGGERS: [&str; 7] = [
    "first_seen_event",
    "issue_resolved_trigger",
    "reappeared_event",
    "regression_event",
    "seer_activity_trigger",
    "new_high_priority_issue",
    "existing_high_priority_issue",
];
const MEMBERS: [&str; 14] = [
    "id",
    "name",
    "enabled",
    "owner",
    "environment",
    "config",
    "detectorIds",
    "triggers",
    "actionFilters",
    "organizationId",
    "createdBy",
    "dateCreated",
    "dateUpdated",
    "lastTriggered",
];

pub(crate) fn answer(world: &mut World, request: &TwinRequest, path: &[&str]) -> Result<TwinReply, TwinReply> {
    if !world.has_workflows() {
        return Err(TwinReply::missing());
    }
    request.needs(if request.method == "GET" { &READ } else { &WRITE })?;
    match (request.method.as_str(), path) {
        ("GET", ["workflows"]) => {
            request.knows(&["per_page", "cursor", "project", "detector", "query", "sortBy"])?;
            let rows = world.workflows.clone();
            TwinReply::page(world, request, &rows)
        }
        ("GET", ["detectors"]) => {
            request.knows(&["per_page", "cursor", "project", "query", "sortBy"])?;
            let rows = world.detectors.clone();
            TwinReply::page(world, request, &rows)
        }
        // Beyond: the fields of the response, and that a rule without a workflow is answered with 404.
        ("GET", ["alert-rule-workflow"]) => {
            request.knows(&["rule_id"])?;
            let found = world.migrated.iter().find(|(rule, _)| Some(rule.as_str()) == request.parameter("rule_id"));
            let Some((rule, workflow)) = found else { return Err(TwinReply::missing()) };
            Ok(TwinReply::json(200, json!({"ruleId": rule, "alertRuleId": null, "workflowId": workflow})))
        }
        ("POST", ["workflows"]) => {
            let mut workflow = validated(world, request)?;
            workflow["id"] = json!(world.take_id().to_string());
            workflow["lastTriggered"] = Value::Null;
            world.workflows.push(workflow.clone());
            Ok(TwinReply::json(201, workflow))
        }
        ("GET", ["workflows", id, "group-history"]) => {
            if !world.workflows.iter().any(|workflow| workflow["id"] == *id) {
                return Err(TwinReply::missing());
            }
            crate::issues::history(world, request, id)
        }
        (method, ["workflows", id]) => {
            let put = if method == "PUT" { Some(validated(world, request)?) } else { None };
            let Some(place) = world.workflows.iter().position(|one| one["id"] == *id) else {
                return Err(TwinReply::missing());
            };
            match (method, put) {
                ("GET", _) => Ok(TwinReply::json(200, world.workflows[place].clone())),
                (_, Some(mut workflow)) => {
                    workflow["id"] = json!(id);
                    world.workflows[place] = workflow.clone();
                    Ok(TwinReply::json(200, workflow))
                }
                ("DELETE", _) => {
                    world.workflows.remove(place);
                    Ok(TwinReply::empty(204))
                }
                _ => Err(TwinReply::detail(405, "Method not allowed")),
            }
        }
        _ => Err(TwinReply::missing()),
    }
}

fn validated(world: &World, request: &TwinRequest) -> Result<Value, TwinReply> {
    request.body_knows(&MEMBERS)?;
    let body = &request.body;
    let name = body["name"].as_str().unwrap_or_default();
    if name.is_empty() || name.chars().count() > 256 {
        return Err(TwinReply::invalid("name", "Ensure this field has no more than 256 characters."));
    }
    if !body["enabled"].is_boolean() {
        return Err(TwinReply::invalid("enabled", "This field is required."));
    }
    let frequency = body["config"]["frequency"].as_u64().unwrap_or(0);
    if !FREQUENCIES.contains(&frequency) {
        return Err(TwinReply::invalid("config", "Invalid config"));
    }
    for detector in body["detectorIds"].as_array().into_iter().flatten() {
        if !world.detectors.iter().any(|one| one["id"] == *detector) {
            return Err(TwinReply::invalid(
                "detectorIds",
                "Some detectors do not exist or belong to another organization",
            ));
        }
    }
    let triggers = &body["triggers"];
    if triggers["logicType"] != "any-short" {
        return Err(TwinReply::invalid("triggers", "Invalid logicType"));
    }
    for condition in triggers["conditions"].as_array().into_iter().flatten() {
        let kind = condition["type"].as_str().unwrap_or_default();
        if !TRIGGERS.contains(&kind) || condition["conditionResult"] != true || condition["comparison"] != true {
            return Err(TwinReply::invalid("triggers", &format!("Invalid condition {kind}")));
        }
    }
    for filter in body["actionFilters"].as_array().into_iter().flatten() {
        if !matches!(filter["logicType"].as_str(), Some("all" | "any-short" | "none")) {
            return Err(TwinReply::invalid("actionFilters", "Invalid logicType"));
        }
        for condition in filter["conditions"].as_array().into_iter().flatten() {
            let comparison = &condition["comparison"];
            let is_text = |name: &str| comparison[name].as_str().is_some_and(|text| !text.is_empty());
            let is_tag = condition["type"] == "tagged_event" && is_text("key") && is_text("value") && is_text("match");
            if !is_tag || condition["conditionResult"] != true {
                return Err(TwinReply::invalid("actionFilters", "Beyond: a filter that is not by a tag"));
            }
        }
        for action in filter["actions"].as_array().into_iter().flatten() {
            check_action(world, action)?;
        }
    }
    Ok(body.clone())
}

/// 400 for an action that Sentry would not accept. New actions of plugins are rejected; existing ones may stay.
pub(crate) fn check_action(world: &World, action: &Value) -> Result<(), TwinReply> {
    let target = action["config"]["targetIdentifier"].as_str().unwrap_or_default();
    match action["type"].as_str().unwrap_or_default() {
        "sentry_app" => {
            let found = world.apps.iter().find(|app| app["sentryAppId"].as_u64() == target.parse().ok());
            let is_alertable = found.is_some_and(|app| app["isAlertable"] == true);
            if !is_alertable || action["config"]["targetType"] != "sentry_app" || !action["integrationId"].is_null() {
                return Err(TwinReply::invalid("actions", "Invalid sentry app action"));
            }
        }
        "webhook" => {
            let is_app = world.apps.iter().any(|app| app["slug"] == target);
            if target != "webhooks" && !is_app {
                return Err(TwinReply::invalid("actions", "Could not find the webhook's service"));
            }
        }
        "email" => {}
        "plugin" if action.get("id").is_some() => {}
        kind => return Err(TwinReply::invalid("actions", &format!("Actions of type {kind} cannot be made"))),
    }
    Ok(())
}
