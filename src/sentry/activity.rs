//! `activity_alert`: an alert on the activity of an issue. Such an alert may watch status changes, which open and close
//! incidents, and many activities that do neither.

use chrono::{DateTime, Utc};

use super::issue::IssueChange;
use super::lenient::{Text, members, non_blank};
use super::resource::NotAnAlert;
use super::tags::Tags;
use crate::alert::{Action, Alert, Opening};

/// The members of `data` beside the issue.
#[derive(Debug, Default)]
pub(super) struct ActivityAlert {
    activity: Option<Activity>,
    alert: Option<Rule>,
}

members!(ActivityAlert { "activity" => activity, "alert" => alert });

/// What was done to the issue.
#[derive(Debug, Default)]
struct Activity {
    kind: Option<Text>,
}

members!(Activity { "type" => kind });

/// The alert that watches it.
#[derive(Debug, Default)]
struct Rule {
    title: Option<Text>,
    settings: Option<Tags>,
}

members!(Rule { "title" => title, "settings" => settings });

impl ActivityAlert {
    pub(super) fn is_present(&self) -> bool {
        self.activity.is_some()
    }

    /// The alert; `Ok(None)` when the issue has no id.
    pub(super) fn into_alert(self, issue: IssueChange, sent_at: DateTime<Utc>) -> Result<Option<Alert>, NotAnAlert> {
        let kind = non_blank(self.activity.and_then(|activity| activity.kind)).unwrap_or_default();
        let action = incident_action(&kind)?;
        let rule = self.alert.unwrap_or_default();
        Ok(issue.into_alert(action, sent_at).map(|mut alert| {
            alert.facts.push(("activity", kind));
            Alert {
                rules: non_blank(rule.title).into_iter().collect(),
                settings: rule.settings.map_or_else(Vec::new, |Tags(settings)| settings),
                ..alert
            }
        }))
    }
}

/// What an activity does to the incident.
///
/// Source: `activity_registry/sentry_app.py` in Sentry, August 2026. There is one `status_resolved…` for each way of resolving
/// an issue.
fn incident_action(kind: &str) -> Result<Action, NotAnAlert> {
    match kind {
        _ if kind.starts_with("status_resolved") => Ok(Action::Resolve),
        "status_regression" | "status_unresolved" | "status_escalating" => Ok(Action::Reopen(Opening::Alert)),
        "status_ignored" => Err(NotAnAlert::Archived),
        _ => Err(NotAnAlert::OtherActivity),
    }
}
