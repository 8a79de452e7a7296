//! Alert rules and workflows. They are written back as a whole: a PUT replaces the object, so fields that the bridge does
//! not know must be preserved.

use serde::de::Error;
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{JsonObject, member, text_of_id};

/// An alert rule of a project: how Sentry up to about 2025 decides whom to notify.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct AlertRule {
    /// Its number, as text.
    pub id: String,
    /// Its name.
    pub name: String,
    /// The environment it is limited to.
    pub environment: Option<String>,
    /// The minutes for which it does not fire again for an issue after it has fired for it.
    pub frequency: Option<u64>,
    /// Whether it is neither disabled nor muted for everybody. Sentry 9.1 does not say, so its rules count as active.
    pub active: bool,
    /// Its actions.
    pub actions: Vec<AlertRuleAction>,
    /// The whole rule as Sentry sent it, for writing it back.
    pub raw: JsonObject,
}

/// An action of a rule.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct AlertRuleAction {
    /// Its class in Sentry, such as `sentry.rules.actions.notify_event.NotifyEventAction`.
    pub id: String,
    /// `webhooks`, or the slug of an integration.
    pub service: Option<String>,
    /// The UUID of the installation, for an integration that has a form of its own.
    pub sentry_app_installation_uuid: Option<String>,
}

/// A workflow ("Alert" in Sentry's pages since 2026). Workflows replace alert rules.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Workflow {
    /// Its number, as text.
    pub id: String,
    /// Its name.
    pub name: String,
    /// Whether it is switched on.
    pub enabled: bool,
    /// The environment it is limited to.
    pub environment: Option<String>,
    /// The minutes for which it does not fire again for an issue after it has fired for it.
    pub frequency: Option<u64>,
    /// The detectors that it is connected to. If there are none, it never fires.
    pub detector_ids: Vec<String>,
    /// The types of its triggers; empty means every event.
    pub triggers: Vec<String>,
    /// When it last fired.
    pub last_triggered: Option<String>,
    /// The actions of all its filters.
    pub actions: Vec<WorkflowAction>,
    /// The whole workflow as Sentry sent it, for writing it back.
    pub raw: JsonObject,
}

/// An action of a workflow.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WorkflowAction {
    /// `sentry_app`, `webhook`, `plugin`, `email` and others.
    pub kind: String,
    /// `targetIdentifier`: for `sentry_app` the integration's number, for `webhook` a slug or `webhooks`.
    pub target: Option<String>,
    /// Whether its status is `active`, or absent.
    pub active: bool,
}

impl<'de> Deserialize<'de> for AlertRule {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = JsonObject::deserialize(deserializer)?;
        let status: Option<String> = member(&raw, "status")?;
        let snooze: Option<bool> = member(&raw, "snooze")?;
        let for_everyone: Option<bool> = member(&raw, "snoozeForEveryone")?;
        // A rule that only the token's owner has muted still fires for the others.
        let muted = snooze.unwrap_or(false) && for_everyone.unwrap_or(true);
        let actions: Option<Vec<AlertRuleAction>> = member(&raw, "actions")?;
        Ok(Self {
            id: raw.get("id").and_then(text_of_id).ok_or_else(|| D::Error::custom("the rule has no id"))?,
            name: member(&raw, "name")?,
            environment: member(&raw, "environment")?,
            frequency: raw.get("frequency").and_then(minutes),
            active: status.is_none_or(|status| status == "active") && !muted,
            actions: actions.unwrap_or_default(),
            raw,
        })
    }
}

impl<'de> Deserialize<'de> for Workflow {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = JsonObject::deserialize(deserializer)?;
        let enabled: Option<bool> = member(&raw, "enabled")?;
        let detector_ids: Option<Vec<Value>> = member(&raw, "detectorIds")?;
        let filters: Option<Vec<Value>> = member(&raw, "actionFilters")?;
        let conditions = raw.get("triggers").and_then(|triggers| triggers["conditions"].as_array());
        let triggers = conditions.into_iter().flatten().filter_map(|condition| condition["type"].as_str());
        let actions = filters.iter().flatten().filter_map(|filter| filter["actions"].as_array()).flatten();
        Ok(Self {
            id: raw.get("id").and_then(text_of_id).ok_or_else(|| D::Error::custom("the workflow has no id"))?,
            name: member(&raw, "name")?,
            enabled: enabled.unwrap_or(true),
            environment: member(&raw, "environment")?,
            frequency: raw.get("config").and_then(|config| minutes(&config["frequency"])),
            detector_ids: detector_ids.iter().flatten().filter_map(text_of_id).collect(),
            triggers: triggers.map(str::to_owned).collect(),
            last_triggered: member(&raw, "lastTriggered")?,
            actions: actions.map(WorkflowAction::of).collect(),
            raw,
        })
    }
}

impl WorkflowAction {
    fn of(action: &Value) -> Self {
        Self {
            kind: action["type"].as_str().unwrap_or_default().to_owned(),
            target: text_of_id(&action["config"]["targetIdentifier"]),
            active: action["status"].as_str().is_none_or(|status| status == "active"),
        }
    }
}

/// Parses whole minutes. Scripts have written fractions into Sentry's databases, and one odd rule must not hide the others.
fn minutes(value: &Value) -> Option<u64> {
    let minutes = match value {
        Value::String(text) => text.parse().ok()?,
        value => value.as_f64()?,
    };
    // Rounded up, so that no interval becomes 0.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a float is clamped into the type")]
    Some(minutes.ceil() as u64)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rule_is_read_with_what_scripts_and_old_versions_wrote() {
        let read = |rule: Value| serde_json::from_value::<AlertRule>(rule).unwrap();
        let odd = read(json!({"id": 7, "name": "x", "frequency": 0.001, "actions": [{"id": "a", "other": {}}]}));
        assert_eq!((odd.id.as_str(), odd.frequency, odd.active), ("7", Some(1), true));
        let muted = read(json!({"id": "7", "name": "x", "frequency": "30", "snooze": true}));
        assert_eq!((muted.frequency, muted.active), (Some(30), false));
        let by_me = json!({"id": "7", "name": "x", "snooze": true, "snoozeForEveryone": false, "status": "active"});
        assert!(read(by_me).active, "whoever muted it for themselves alone keeps it from nobody else");
    }

    #[test]
    fn what_the_bridge_does_not_know_of_a_workflow_survives() {
        let raw = json!({"id": "1", "name": "x", "detectorIds": [3, "4"], "ofTomorrow": {"a": [1]}, "config": {}});
        let workflow: Workflow = serde_json::from_value(raw.clone()).unwrap();
        assert_eq!(workflow.detector_ids, ["3", "4"]);
        assert_eq!(Value::Object(workflow.raw), raw);
    }
}
