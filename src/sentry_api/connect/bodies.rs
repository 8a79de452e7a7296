//! The JSON of the objects that `connect` creates.

use serde_json::{Value, json};

use super::super::audit::reach::{CANARY, NAME, SERVICE_ACTION, WEBHOOKS};
use super::super::types::{AppReference, JsonObject};
use crate::ingest::canary::TAG;

/// The smallest scope that lets an integration subscribe to issues and errors.
pub(super) const SCOPE: &str = "event:read";

/// The minutes for which a rule does not fire again for an issue after it fired; the minimum that Sentry accepts.
const FREQUENCY: u32 = 5;

/// An internal integration.
pub(super) fn app(name: &str, url: &str, events: &[String]) -> Value {
    json!({
        "name": name, "isInternal": true, "isAlertable": true, "webhookUrl": url, "events": events, "scopes": [SCOPE],
        "schema": {}, "verifyInstall": false,
    })
}

/// The action with which a rule calls the integration, or legacy webhooks if `app` is `None`.
pub(super) fn rule_action(app: Option<&AppReference>) -> Value {
    json!({"id": SERVICE_ACTION, "service": app.map_or(WEBHOOKS, |app| app.slug.as_str())})
}

/// The bridge's own rule, which fires for new issues and regressions.
pub(super) fn rule(action: &Value, filters: bool) -> Value {
    let mut rule = json!({
        "name": NAME, "actionMatch": "any", "frequency": FREQUENCY, "actions": [action],
        "conditions": [
            {"id": "sentry.rules.conditions.first_seen_event.FirstSeenEventCondition"},
            {"id": "sentry.rules.conditions.regression_event.RegressionEventCondition"},
        ],
    });
    if filters {
        rule["filterMatch"] = json!("all");
        rule["filters"] = json!([]);
    }
    rule
}

/// A rule that fires for every canary with this tag and for nothing else, by means of a condition, which is what Sentry
/// 9.1 and 10.0 have. A Sentry with filters rejects this condition; a Sentry without filters would ignore a filter and
/// fire for everything.
pub(super) fn canary_rule(action: &Value, tag: &str) -> Value {
    json!({
        "name": CANARY, "actionMatch": "all", "frequency": FREQUENCY, "actions": [action],
        "conditions": [
            {"id": "sentry.rules.conditions.every_event.EveryEventCondition"},
            {"id": "sentry.rules.conditions.tagged_event.TaggedEventCondition", "key": TAG, "match": "eq", "value": tag},
        ],
    })
}

/// The same by means of a filter, for Sentry 20.12 and later.
pub(super) fn filtered_canary_rule(action: &Value, tag: &str) -> Value {
    json!({
        "name": CANARY, "actionMatch": "all", "filterMatch": "all", "frequency": FREQUENCY, "actions": [action],
        "conditions": [{"id": "sentry.rules.conditions.every_event.EveryEventCondition"}],
        "filters": [{"id": "sentry.rules.filters.tagged_event.TaggedEventFilter", "key": TAG, "match": "eq", "value": tag}],
    })
}

/// A workflow that fires for every canary with this tag and for nothing else. Without triggers it evaluates every event,
/// and with a frequency of 0 it fires each time.
pub(super) fn canary_workflow(action: &Value, detector: &str, tag: &str) -> Value {
    json!({
        "name": CANARY, "enabled": true, "environment": null, "config": {"frequency": 0}, "detectorIds": [detector],
        "triggers": {"logicType": "any-short", "conditions": [], "actions": []},
        "actionFilters": [{
            "logicType": "all", "actions": [action],
            "conditions": [{
                "type": "tagged_event", "comparison": {"key": TAG, "match": "eq", "value": tag}, "conditionResult": true,
            }],
        }],
    })
}

/// The action with which a workflow calls the integration with this number, or legacy webhooks if `app` is `None`.
pub(super) fn workflow_action(app: Option<&str>) -> Value {
    match app {
        None => json!({"type": "webhook", "data": {}, "config": {"targetIdentifier": WEBHOOKS}, "status": "active"}),
        Some(id) => json!({
            "type": "sentry_app", "integrationId": null, "data": {}, "status": "active",
            "config": {"targetType": "sentry_app", "targetIdentifier": id, "targetDisplay": null},
        }),
    }
}

/// The bridge's own workflow, with the triggers that open incidents and, if the action can report resolved issues
/// (`closes`), the trigger that closes them.
pub(super) fn workflow(action: &Value, detectors: &[String], closes: bool) -> Value {
    let mut triggers = vec!["first_seen_event", "regression_event", "reappeared_event"];
    if closes {
        triggers.push("issue_resolved_trigger");
    }
    let condition = |kind: &str| json!({"type": kind, "comparison": true, "conditionResult": true});
    let conditions: Vec<Value> = triggers.into_iter().map(condition).collect();
    json!({
        "name": NAME, "enabled": true, "environment": null, "config": {"frequency": FREQUENCY}, "detectorIds": detectors,
        "triggers": {"logicType": "any-short", "conditions": conditions, "actions": []},
        "actionFilters": [{"logicType": "all", "conditions": [], "actions": [action]}],
    })
}

/// Adds an action to a rule.
pub(super) fn with_rule_action(mut raw: JsonObject, action: Value) -> JsonObject {
    if let Some(actions) = raw.entry("actions").or_insert_with(|| json!([])).as_array_mut() {
        actions.push(action);
    }
    raw
}

/// Adds an action to a workflow, in its first filter.
pub(super) fn with_workflow_action(mut raw: JsonObject, action: Value) -> JsonObject {
    let filters = raw.entry("actionFilters").or_insert_with(|| json!([]));
    if let Some(filters) = filters.as_array_mut() {
        if filters.is_empty() {
            filters.push(json!({"logicType": "all", "conditions": [], "actions": []}));
        }
        if let Some(actions) = filters.first_mut().and_then(|filter| filter["actions"].as_array_mut()) {
            actions.push(action);
        }
    }
    raw
}
