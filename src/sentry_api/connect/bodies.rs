//! The JSON of what `connect` makes.

use serde_json::{Value, json};

use super::super::audit::reach::{CANARY, NAME, SERVICE_ACTION, WEBHOOKS};
use super::super::types::Object;
use crate::ingest::canary::TAG;

/// The smallest scope that lets an integration subscribe to issues and errors.
pub(super) const SCOPE: &str = "event:read";

/// Minutes of quiet about an issue after a rule fired; the least that Sentry takes.
const FREQUENCY: u32 = 5;

/// The integration, as alerts name it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct AppReference {
    pub(super) slug: String,
    /// Its number, which Sentrys with workflows tell.
    pub(super) id: Option<String>,
}

/// An internal integration.
pub(super) fn app(name: &str, url: &str, events: &[String]) -> Value {
    json!({
        "name": name, "isInternal": true, "isAlertable": true, "webhookUrl": url, "events": events, "scopes": [SCOPE],
        "schema": {}, "verifyInstall": false,
    })
}

/// The action of a rule that calls legacy webhooks, or the integration.
pub(super) fn rule_action(app: Option<&AppReference>) -> Value {
    json!({"id": SERVICE_ACTION, "service": app.map_or(WEBHOOKS, |app| app.slug.as_str())})
}

/// A rule of the bridge's own: new issues and regressions.
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

/// A rule that fires for every canary with this tag and for nothing else, by a condition: what Sentry 9.1 and 10.0 have. Where
/// a Sentry has filters, it refuses this condition; without filters, it would ignore one and fire for everything.
pub(super) fn canary_rule(action: &Value, tag: &str) -> Value {
    json!({
        "name": CANARY, "actionMatch": "all", "frequency": FREQUENCY, "actions": [action],
        "conditions": [
            {"id": "sentry.rules.conditions.every_event.EveryEventCondition"},
            {"id": "sentry.rules.conditions.tagged_event.TaggedEventCondition", "key": TAG, "match": "eq", "value": tag},
        ],
    })
}

/// The same by a filter: Sentry 20.12 and later.
pub(super) fn filtered_canary_rule(action: &Value, tag: &str) -> Value {
    json!({
        "name": CANARY, "actionMatch": "all", "filterMatch": "all", "frequency": FREQUENCY, "actions": [action],
        "conditions": [{"id": "sentry.rules.conditions.every_event.EveryEventCondition"}],
        "filters": [{"id": "sentry.rules.filters.tagged_event.TaggedEventFilter", "key": TAG, "match": "eq", "value": tag}],
    })
}

/// A workflow that fires for every canary with this tag and for nothing else. Without triggers it looks at every event, and
/// with a frequency of 0 it is never quiet.
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

/// The action of a workflow that calls legacy webhooks, or the integration by its number.
pub(super) fn workflow_action(app: Option<&str>) -> Value {
    match app {
        None => json!({"type": "webhook", "data": {}, "config": {"targetIdentifier": WEBHOOKS}, "status": "active"}),
        Some(id) => json!({
            "type": "sentry_app", "integrationId": null, "data": {}, "status": "active",
            "config": {"targetType": "sentry_app", "targetIdentifier": id, "targetDisplay": null},
        }),
    }
}

/// A workflow of the bridge's own: what opens incidents and, where the action carries that, what closes them.
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

/// A rule with one more action.
pub(super) fn with_rule_action(mut raw: Object, action: Value) -> Object {
    if let Some(actions) = raw.entry("actions").or_insert_with(|| json!([])).as_array_mut() {
        actions.push(action);
    }
    raw
}

/// A workflow with one more action, beside those of its first filter.
pub(super) fn with_workflow_action(mut raw: Object, action: Value) -> Object {
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
