//! Issues, and the alerts that fired for them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Deserializer};
use serde_json::Value;

use super::{maybe_id, text_of_id};

/// A half-open span of time: it includes `from` and excludes `until`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TimeWindow {
    /// The start, inclusive.
    pub from: DateTime<Utc>,
    /// The end, exclusive.
    pub until: DateTime<Utc>,
}

/// The endpoint at which a Sentry serves a single issue.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IssueRoute {
    /// `issues/{id}/`, the only one in 9.1.
    Global,
    /// `organizations/{org}/issues/{id}/`, from 10.0 on.
    Organization,
}

/// An issue.
#[derive(Clone, Debug, PartialEq)]
pub struct SentryIssue {
    /// Its number, as text. For an issue that was merged into another, Sentry returns that other issue.
    pub id: String,
    /// Its title.
    pub title: String,
    /// `unresolved`, `resolved`, `ignored`, or the name of a change in progress, such as `pending_deletion`.
    pub status: String,
    /// The slug of its project.
    pub project: Option<String>,
    /// The time of its first event.
    pub first_seen: Option<DateTime<Utc>>,
    /// The time of its newest event.
    pub last_seen: Option<DateTime<Utc>>,
    /// When it was last resolved, by Sentry's clock; `None` if its activity does not say.
    pub resolved_at: Option<DateTime<Utc>>,
    /// The URL of its page.
    pub permalink: Option<String>,
    /// The whole issue, as Sentry sent it.
    pub raw: Value,
}

impl SentryIssue {
    /// Whether it is neither resolved nor archived nor about to be deleted.
    #[must_use]
    pub fn is_unresolved(&self) -> bool {
        self.status == "unresolved"
    }

    /// Whether it is resolved.
    #[must_use]
    pub fn is_resolved(&self) -> bool {
        self.status == "resolved"
    }
}

/// An issue for which alerts fired within a window: what Sentry says of one alert, and what catch-up adds to it.
#[derive(Clone, Debug, Deserialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Firing {
    /// The issue, as it is now.
    #[serde(rename = "group")]
    pub issue: SentryIssue,
    /// When an alert last fired for it, by Sentry's clock.
    #[serde(rename = "lastTriggered")]
    pub at: DateTime<Utc>,
    /// The id of the event for which it last fired, if known. If it fired for an activity, this is the number of the
    /// activity, which is not the id of an event.
    #[serde(default, deserialize_with = "maybe_id")]
    pub event_id: Option<String>,
    /// The names of the alerts.
    #[serde(skip)]
    pub alerts: Vec<String>,
    /// Whether Sentry recorded the firing; otherwise it is a guess from the list of issues.
    #[serde(skip)]
    pub is_exact: bool,
    /// Whether the legacy plugin would have sent it.
    #[serde(skip)]
    pub by_plugin: bool,
}

impl<'de> Deserialize<'de> for SentryIssue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let raw = Value::deserialize(deserializer)?;
        let id = text_of_id(&raw["id"]).ok_or_else(|| serde::de::Error::custom("the issue has no id"))?;
        let text = |value: &Value| value.as_str().filter(|text| !text.is_empty()).map(str::to_owned);
        let activity = raw["activity"].as_array().into_iter().flatten();
        let resolved = activity
            .filter(|entry| entry["type"].as_str().is_some_and(|kind| kind.starts_with("set_resolved")))
            .filter_map(|entry| time(&entry["dateCreated"]));
        Ok(Self {
            id,
            title: text(&raw["title"]).unwrap_or_default(),
            status: text(&raw["status"]).unwrap_or_default(),
            project: text(&raw["project"]["slug"]),
            first_seen: time(&raw["firstSeen"]),
            last_seen: time(&raw["lastSeen"]),
            resolved_at: resolved.max(),
            permalink: text(&raw["permalink"]),
            raw,
        })
    }
}

fn time(value: &Value) -> Option<DateTime<Utc>> {
    value.as_str()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_issue_tells_when_it_was_resolved_last() {
        let issue: SentryIssue = serde_json::from_value(json!({
            "id": 7, "title": "x", "status": "resolved", "project": {"slug": "shop"}, "permalink": null,
            "firstSeen": "2026-11-26T10:00:00.123456Z",
            "activity": [
                {"type": "set_resolved_by_age", "dateCreated": "2026-11-26T12:00:00Z"},
                {"type": "set_regression", "dateCreated": "2026-11-26T11:30:00Z"},
                {"type": "set_resolved", "dateCreated": "2026-11-26T11:00:00Z"},
                {"type": "first_seen", "dateCreated": "2026-11-26T10:00:00Z"},
            ],
        }))
        .unwrap();
        assert_eq!((issue.id.as_str(), issue.is_resolved(), issue.is_unresolved()), ("7", true, false));
        assert_eq!(issue.resolved_at, "2026-11-26T12:00:00Z".parse().ok());
        assert!(serde_json::from_value::<SentryIssue>(json!({"title": "x"})).is_err());
    }

    #[test]
    fn the_event_of_a_firing_may_be_missing_or_the_number_of_an_activity() {
        let fired = |event: Value| {
            let row =
                json!({"group": {"id": "7"}, "count": 2, "lastTriggered": "2026-11-26T10:00:00Z", "eventId": event});
            serde_json::from_value::<Firing>(row).unwrap().event_id
        };
        assert_eq!(fired(json!(null)), None);
        assert_eq!(fired(json!(12)).as_deref(), Some("12"));
        assert_eq!(fired(json!("0123")).as_deref(), Some("0123"));
    }
}
