//! `metric_alert`: a metric passed a threshold, or returned to normal.

use chrono::{DateTime, Utc};

use strum::EnumString;

use super::event::SentryEvent;
use super::lenient::{members, non_blank};
use super::link;
use super::tags::ActionSettings;
use crate::alert::{Alert, IncidentAction, Project, SentryId, Subject, TriggerKind};

/// The current status of the metric alert, which is the action of the webhook.
#[derive(Clone, Copy, Debug, Eq, EnumString, PartialEq)]
#[strum(serialize_all = "lowercase")]
pub(super) enum MetricStatus {
    Critical,
    Warning,
    /// Critical or warning: the metric alert says which.
    Open,
    Resolved,
}

impl MetricStatus {
    pub(super) fn parse(action: &str) -> Option<Self> {
        action.parse().ok()
    }

    fn is_called(self, label: &str) -> bool {
        Self::parse(label) == Some(self)
    }

    fn title(self) -> &'static str {
        match self {
            Self::Critical => "Critical",
            Self::Warning => "Warning",
            Self::Open => "Open",
            Self::Resolved => "Resolved",
        }
    }

    /// The level; for `open` it follows from Sentry's number of the status in the metric alert.
    fn level(self, number: Option<i128>) -> Option<&'static str> {
        match (self, number) {
            (Self::Critical, _) | (Self::Open, Some(20)) => Some("critical"),
            (Self::Warning, _) | (Self::Open, Some(10)) => Some("warning"),
            (Self::Open | Self::Resolved, _) => None,
        }
    }
}

/// The members of `data`.
#[derive(Debug, Default)]
pub(super) struct MetricChange {
    metric_alert: Option<MetricAlert>,
    /// Such as `Critical: Too many errors`.
    title: Option<String>,
    /// Such as `100 events in the last 10 minutes`.
    text: Option<String>,
    /// The alert's page.
    page: Option<String>,
}

members!(MetricChange {
    "metric_alert" => metric_alert,
    "description_title" => title,
    "description_text" => text,
    "web_url" => page,
});

/// One firing of a metric alert.
#[derive(Debug, Default)]
struct MetricAlert {
    id: Option<SentryId>,
    identifier: Option<SentryId>,
    organization_id: Option<SentryId>,
    projects: Option<Vec<String>>,
    rule: Option<MetricRule>,
    status: Option<i128>,
    title: Option<String>,
    date_started: Option<DateTime<Utc>>,
    date_detected: Option<DateTime<Utc>>,
    date_created: Option<DateTime<Utc>>,
}

members!(MetricAlert {
    "id" => id,
    "identifier" => identifier,
    "organization_id" => organization_id,
    "projects" => projects,
    "alert_rule" => rule,
    "status" => status,
    "title" => title,
    "date_started" => date_started,
    "date_detected" => date_detected,
    "date_created" => date_created,
});

/// The alert rule.
#[derive(Debug, Default)]
struct MetricRule {
    name: Option<String>,
    organization_id: Option<SentryId>,
    query: Option<String>,
    aggregate: Option<String>,
    dataset: Option<String>,
    time_window: Option<String>,
    environment: Option<String>,
    threshold_type: Option<i128>,
    resolve_threshold: Option<String>,
    triggers: Option<Vec<Threshold>>,
}

members!(MetricRule {
    "name" => name,
    "organization_id" => organization_id,
    "query" => query,
    "aggregate" => aggregate,
    "dataset" => dataset,
    "time_window" => time_window,
    "environment" => environment,
    "threshold_type" => threshold_type,
    "resolve_threshold" => resolve_threshold,
    "triggers" => triggers,
});

/// The threshold of `critical` or `warning`.
#[derive(Debug, Default)]
struct Threshold {
    label: Option<String>,
    value: Option<String>,
    actions: Option<Vec<ActionSettings>>,
}

members!(Threshold { "label" => label, "alert_threshold" => value, "actions" => actions });

impl MetricChange {
    pub(super) fn is_present(&self) -> bool {
        self.metric_alert.is_some()
    }

    /// The alert of the new status; `None` when the firing has neither identifier nor id.
    ///
    /// The incident key is made from organization and identifier, not from the rule: if a rule is edited while it fires,
    /// the webhook about the end of the firing has another rule's id (sentry#66622).
    pub(super) fn into_alert(self, status: MetricStatus, sent_at: DateTime<Utc>) -> Option<Alert> {
        let mut firing = self.metric_alert?;
        let mut rule = firing.rule.take().unwrap_or_default();
        let organization = firing.organization_id.take().or_else(|| rule.organization_id.take());
        let identifier = firing.identifier.take().or_else(|| firing.id.take())?;
        let name = non_blank(rule.name.take()).or_else(|| non_blank(firing.title.take()));
        let title = non_blank(self.title).or_else(|| Some(format!("{}: {}", status.title(), name.as_ref()?)));
        let message = match (&title, non_blank(self.text)) {
            (Some(title), Some(text)) => Some(format!("{title} - {text}")),
            (None, text) => text,
            (Some(_), None) => None,
        };
        let action = if status == MetricStatus::Resolved {
            IncidentAction::Resolve
        } else {
            IncidentAction::Trigger(TriggerKind::Metric)
        };
        let started_at = firing.date_started.or(firing.date_detected).or(firing.date_created);
        let event = SentryEvent {
            message,
            title,
            level: status.level(firing.status).map(str::to_owned),
            environment: rule.environment.take(),
            // The end of a firing has no time of its own: its time is when Sentry sends it.
            timestamp: started_at.filter(|_| action != IncidentAction::Resolve),
            ..SentryEvent::default()
        };
        let mut slugs = firing.projects.unwrap_or_default().into_iter().filter_map(|slug| non_blank(Some(slug)));
        Some(Alert {
            project: Project { name: None, slug: slugs.next(), others: slugs.collect() },
            link: self.page.and_then(|page| link::issue_link(&page)),
            rules: name.into_iter().collect(),
            action_settings: rule.take_settings(status),
            facts: rule.facts(),
            ..event.into_alert(Subject::metric(organization.as_ref(), &identifier), action, sent_at)
        })
    }
}

impl MetricRule {
    /// Takes the settings that a user entered in the form of the action: those of the threshold of this status, or else of
    /// any threshold. Sentry does not say which action is the integration's, so the first one that has settings is used.
    fn take_settings(&mut self, status: MetricStatus) -> Vec<(String, String)> {
        let thresholds = self.triggers.iter_mut().flatten();
        let mut settings: Vec<_> = thresholds
            .flat_map(|threshold| {
                let is_of_status = threshold.label.as_ref().is_some_and(|label| status.is_called(label));
                let actions = threshold.actions.take().unwrap_or_default();
                actions.into_iter().filter_map(move |action| Some((is_of_status, action.settings?.0)))
            })
            .filter(|(_, settings)| !settings.is_empty())
            .collect();
        // The sort is stable: among equal candidates, the first one is used.
        settings.sort_by_key(|(is_of_status, _)| !is_of_status);
        settings.into_iter().next().map_or_else(Vec::new, |(_, settings)| settings)
    }

    fn facts(self) -> Vec<(&'static str, String)> {
        // Sentry's AlertRuleThresholdType: 0 is above, 1 is below.
        let side = match self.threshold_type {
            Some(0) => "above ",
            Some(1) => "below ",
            _ => "",
        };
        let thresholds = self.triggers.unwrap_or_default();
        let mut thresholds: Vec<_> = thresholds
            .into_iter()
            .filter_map(|threshold| {
                let name = match non_blank(threshold.label)?.as_str() {
                    "critical" => "critical_threshold",
                    "warning" => "warning_threshold",
                    _ => return None,
                };
                Some((name, Some(format!("{side}{}", non_blank(threshold.value)?))))
            })
            .collect();
        // Sentry sends one threshold of each kind.
        thresholds.sort_unstable();
        thresholds.dedup_by_key(|(name, _)| *name);
        let facts = [
            ("query", non_blank(self.query)),
            ("aggregate", non_blank(self.aggregate)),
            ("dataset", non_blank(self.dataset)),
            ("time_window", non_blank(self.time_window).map(|minutes| format!("{minutes} minutes"))),
        ];
        let resolve = ("resolve_threshold", non_blank(self.resolve_threshold));
        let facts = facts.into_iter().chain(thresholds).chain([resolve]);
        facts.filter_map(|(name, value)| Some((name, value?))).collect()
    }
}
