//! Alert rules of a project. Sources: 9.1.2 and 23.7.1, `rest_framework/rule.py`.

use serde_json::{Value, json};

use crate::reply::{PROJECT_WRITE, TwinReply, TwinRequest};
use crate::world::{SentryGeneration, World};

const TAG_CONDITION: &str = "sentry.rules.conditions.tagged_event.TaggedEventCondition";
const TAG_FILTER: &str = "sentry.rules.filters.tagged_event.TaggedEventFilter";

const CONDITIONS: [&str; 4] = [
    "sentry.rules.conditions.first_seen_event.FirstSeenEventCondition",
    "sentry.rules.conditions.regression_event.RegressionEventCondition",
    "sentry.rules.conditions.reappeared_event.ReappearedEventCondition",
    "sentry.rules.conditions.every_event.EveryEventCondition",
];

pub(crate) const SERVICE: &str = "sentry.rules.actions.notify_event_service.NotifyEventServiceAction";

const MEMBERS: [&str; 18] = [
    "id",
    "name",
    "actionMatch",
    "filterMatch",
    "conditions",
    "filters",
    "actions",
    "frequency",
    "environment",
    "owner",
    "dateCreated",
    "createdBy",
    "status",
    "snooze",
    "projects",
    "lastTriggered",
    "snoozeForEveryone",
    "snoozeCreatedBy",
];

pub(crate) fn answer(
    world: &mut World,
    request: &TwinRequest,
    project: &str,
    rest: &[&str],
) -> Result<TwinReply, TwinReply> {
    if world.generation == SentryGeneration::Workflows && !world.keeps_rules {
        return Err(TwinReply::withdrawn());
    }
    let reads: &[&str] = if world.generation == SentryGeneration::Plugin {
        &["project:read", "project:write", "project:admin"]
    } else {
        &["project:read", "project:write", "project:admin", "alerts:read", "alerts:write"]
    };
    let writes = if world.generation == SentryGeneration::Plugin {
        PROJECT_WRITE.to_vec()
    } else {
        [PROJECT_WRITE.as_slice(), &["alerts:write"]].concat()
    };
    request.needs(if request.method == "GET" { reads } else { &writes })?;
    match (request.method.as_str(), rest) {
        ("GET", []) => {
            request.knows(&["per_page", "cursor", "expand"])?;
            let rows = world.project(project).map(|project| project.rules.clone()).unwrap_or_default();
            TwinReply::page(world, request, &rows)
        }
        ("POST", []) => {
            let mut rule = validated(world, request)?;
            rule["id"] = json!(world.take_id().to_string());
            rule["dateCreated"] = json!("2026-11-26T00:00:00Z");
            if world.generation != SentryGeneration::Plugin {
                rule["status"] = json!("active");
            }
            if let Some(project) = world.project(project) {
                project.rules.push(rule.clone());
            }
            Ok(TwinReply::json(if world.generation == SentryGeneration::Plugin { 200 } else { 201 }, rule))
        }
        ("GET", [id, "group-history"]) if world.keeps_history => {
            if !world.project(project).is_some_and(|project| project.rules.iter().any(|rule| rule["id"] == *id)) {
                return Err(TwinReply::missing());
            }
            crate::issues::history(world, request, id)
        }
        (method, [id]) => {
            let put = if method == "PUT" { Some(validated(world, request)?) } else { None };
            let Some(project) = world.project(project) else { return Err(TwinReply::missing()) };
            let Some(place) = project.rules.iter().position(|rule| rule["id"] == *id) else {
                return Err(TwinReply::missing());
            };
            match (method, put) {
                ("GET", _) => Ok(TwinReply::json(200, project.rules[place].clone())),
                (_, Some(mut rule)) => {
                    rule["id"] = json!(id);
                    project.rules[place] = rule.clone();
                    Ok(TwinReply::json(200, rule))
                }
                ("DELETE", _) => {
                    project.rules.remove(place);
                    Ok(TwinReply::empty(if world.generation == SentryGeneration::Plugin { 204 } else { 202 }))
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
    if name.is_empty() || name.chars().count() > 64 {
        return Err(TwinReply::invalid("name", "Ensure this field has no more than 64 characters."));
    }
    if !matches!(body["actionMatch"].as_str(), Some("all" | "any" | "none")) {
        return Err(TwinReply::invalid("actionMatch", "This field is required."));
    }
    match body["frequency"].as_u64() {
        Some(5..=43_200) => {}
        _ => return Err(TwinReply::invalid("frequency", "Ensure this value is greater than or equal to 5.")),
    }
    let conditions =
        body["conditions"].as_array().ok_or_else(|| TwinReply::invalid("conditions", "This field is required."))?;
    if conditions.is_empty() && world.generation == SentryGeneration::Plugin {
        return Err(TwinReply::invalid("conditions", "Must select a condition"));
    }
    for condition in conditions {
        let id = condition["id"].as_str().unwrap_or_default();
        let is_tag = id == TAG_CONDITION && !world.rule_filters;
        if is_tag {
            check_tag("conditions", condition)?;
        } else if !CONDITIONS.contains(&id) {
            return Err(TwinReply::invalid("conditions", &format!("Invalid node. Could not find '{id}'")));
        }
    }
    let actions = body["actions"].as_array().ok_or_else(|| TwinReply::invalid("actions", "This field is required."))?;
    if actions.is_empty() {
        return Err(TwinReply::invalid("actions", "Must select an action"));
    }
    for action in actions {
        check_rule_action(world, action)?;
    }
    let mut rule = body.clone();
    if world.rule_filters {
        for filter in body["filters"].as_array().into_iter().flatten() {
            if filter["id"] != TAG_FILTER {
                return Err(TwinReply::invalid("filters", "Invalid node."));
            }
            check_tag("filters", filter)?;
        }
    } else if let Some(members) = rule.as_object_mut() {
        // A Sentry without filters drops these fields, so such a rule fires as if it had no filters.
        members.remove("filters");
        members.remove("filterMatch");
    }
    if rule.get("environment").is_none() {
        rule["environment"] = Value::Null;
    }
    Ok(rule)
}

fn check_tag(member: &str, node: &Value) -> Result<(), TwinReply> {
    let is_text = |name: &str| node[name].as_str().is_some_and(|text| !text.is_empty());
    if is_text("key") && is_text("value") && node["match"] == "eq" {
        Ok(())
    } else {
        Err(TwinReply::invalid(member, "This field is required."))
    }
}

/// 400 for an action that Sentry would not accept.
pub(crate) fn check_rule_action(world: &World, action: &Value) -> Result<(), TwinReply> {
    match action["id"].as_str().unwrap_or_default() {
        SERVICE => {
            let service = action["service"].as_str().unwrap_or_default();
            let is_app = world.apps.iter().any(|app| app["slug"] == service && app["isAlertable"] == true);
            if service == "webhooks" || is_app {
                Ok(())
            } else {
                Err(TwinReply::invalid("actions", "Select a valid choice."))
            }
        }
        "sentry.rules.actions.notify_event.NotifyEventAction" | "sentry.mail.actions.NotifyEmailAction" => Ok(()),
        id => Err(TwinReply::invalid("actions", &format!("Invalid node. Could not find '{id}'"))),
    }
}
