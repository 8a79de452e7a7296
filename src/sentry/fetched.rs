//! Turns an issue and its event, as Sentry's API shows them, into the alert that a webhook would have made.
//!
//! The API shows both as a service hook sends them, so the same parser serves both. Differences from other webhooks
//! (source: `EventSerializer` in Sentry's `api/serializers/models/event.py`): ids are `eventID` and `groupID`, level,
//! environment and logger are tags, message and exceptions are in `entries`, and tags have lost the prefix `sentry:`.

use chrono::{DateTime, Utc};
use serde_json::{Value, json};

use super::body::WebhookBody;
use super::issue::IssueChange;
use super::json;
use crate::alert::{Alert, IncidentAction};

/// The tags that the legacy plugin names with the prefix `sentry:`, as they are stored; the API strips it.
///
/// Source: `INTERNAL_TAG_KEYS` in Sentry's `tagstore/base.py`.
const INTERNAL_TAGS: [&str; 5] = ["release", "dist", "user", "filename", "function"];

/// Makes the alert of an event that rules fired for or, without an event (Sentry may have deleted it), that of its issue.
///
/// `rules` are the names of the rules that fired. `by_plugin` is whether the legacy plugin would have sent the webhook; its
/// tags have other names. `fired_at` is the time of an event that has none. Returns `None` when nothing names the issue.
#[must_use]
pub fn fetched_alert(
    issue: &Value,
    event: Option<&Value>,
    rules: Vec<String>,
    by_plugin: bool,
    fired_at: DateTime<Utc>,
) -> Option<Alert> {
    let empty = json!({});
    let body = json!({"project": issue["project"], "group": issue, "event": event.unwrap_or(&empty)});
    // serde_json has written the body, so it is valid JSON.
    let body = json::read::<Box<WebhookBody>>(body.to_string().as_bytes()).ok()??;
    let mut alert = body.into_alert_of_service_hook(fired_at)?;
    alert.rules = rules;
    if by_plugin {
        for (name, _) in &mut alert.tags {
            if INTERNAL_TAGS.contains(&name.as_str()) {
                name.insert_str(0, "sentry:");
            }
        }
    }
    Some(alert)
}

/// Makes the alert of a resolved issue, as from the webhook `issue.resolved`. Returns `None` when the issue has no id.
#[must_use]
pub fn resolved_alert(issue: &Value, resolved_at: DateTime<Utc>) -> Option<Alert> {
    let data = json!({"issue": issue});
    let change = json::read::<Box<IssueChange>>(data.to_string().as_bytes()).ok()??;
    change.into_alert(IncidentAction::Resolve, resolved_at)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alert::{Subject, TriggerKind};

    fn issue() -> Value {
        json!({
            "id": "42", "title": "Oops: it broke", "level": "error", "culprit": "a in b", "status": "unresolved",
            "permalink": "https://sentry.example.test/organizations/acme/issues/42/",
            "project": {"id": "2", "name": "Shop", "slug": "shop"},
        })
    }

    #[test]
    fn an_event_of_the_api_makes_the_alert_of_its_webhook() {
        let event = json!({
            "id": "0123456789abcdef0123456789abcdef", "eventID": "0123456789abcdef0123456789abcdef", "groupID": "42",
            "title": "Oops: it broke", "dateCreated": "2026-11-26T10:00:00Z", "dateReceived": "2026-11-26T10:00:01Z",
            "release": {"version": "shop@1"}, "platform": "python",
            "tags": [{"key": "environment", "value": "production"}, {"key": "release", "value": "shop@1"}],
            "entries": [{"type": "exception", "data": {"values": [{"type": "Oops", "value": "it broke"}]}}],
        });
        let fired_at = Utc::now();
        let alert = fetched_alert(&issue(), Some(&event), vec!["Page".to_owned()], true, fired_at).unwrap();
        assert_eq!((alert.subject.name(), alert.action), ("42", IncidentAction::Trigger(TriggerKind::Alert)));
        assert_eq!(alert.event_id.as_deref(), Some("0123456789abcdef0123456789abcdef"));
        assert_eq!(alert.received_by_sentry_at.map(|at| at.to_rfc3339()).as_deref(), Some("2026-11-26T10:00:01+00:00"));
        assert_eq!((alert.environment.as_deref(), alert.release.as_deref()), (Some("production"), Some("shop@1")));
        assert_eq!(alert.exceptions[0].kind.as_deref(), Some("Oops"));
        assert_eq!((alert.project.slug.as_deref(), alert.rules.as_slice()), (Some("shop"), &["Page".to_owned()][..]));
        assert_eq!(alert.link.unwrap().root, "https://sentry.example.test");
        let names: Vec<_> = alert.tags.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["environment", "sentry:release"], "as the plugin names them");
        let alert = fetched_alert(&issue(), Some(&event), Vec::new(), false, fired_at).unwrap();
        assert_eq!(alert.tags[1].0, "release", "as the platform names it");
    }

    #[test]
    fn without_an_event_the_issue_says_what_is_known() {
        let fired_at = Utc::now();
        let alert = fetched_alert(&issue(), None, Vec::new(), false, fired_at).unwrap();
        assert_eq!((alert.title.as_deref(), alert.level.as_deref()), (Some("Oops: it broke"), Some("error")));
        assert_eq!((alert.occurred_at, alert.received_by_sentry_at, alert.event_id), (fired_at, None, None));
        assert_eq!(fetched_alert(&json!({}), None, Vec::new(), false, fired_at), None);
    }

    #[test]
    fn a_resolved_issue_makes_the_alert_of_its_webhook() {
        let at = Utc::now();
        let alert = resolved_alert(&issue(), at).unwrap();
        assert_eq!((alert.action, alert.occurred_at), (IncidentAction::Resolve, at));
        assert!(matches!(alert.subject, Subject::Issue(id) if id.as_str() == "42"));
    }
}
