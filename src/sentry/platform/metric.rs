//! `metric_alert`: a number went over a threshold, or came back.

use chrono::{DateTime, Utc};

use crate::alert::{Action, Alert, Opening, Project, Subject};
use crate::sentry::event::{Event, said};
use crate::sentry::id::Id;
use crate::sentry::lenient::{Integer, List, Moment, Text, members};
use crate::sentry::link;

/// One firing of a metric alert.
#[derive(Debug, Default)]
pub(super) struct MetricAlert {
    id: Option<Id>,
    identifier: Option<Id>,
    organization_id: Option<Id>,
    projects: Option<List<Text>>,
    rule: Option<Rule>,
    status: Option<Integer>,
    title: Option<Text>,
    date_started: Option<Moment>,
    date_detected: Option<Moment>,
    date_created: Option<Moment>,
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

/// What is watched.
#[derive(Debug, Default)]
struct Rule {
    name: Option<Text>,
    organization_id: Option<Id>,
    query: Option<Text>,
    aggregate: Option<Text>,
    dataset: Option<Text>,
    time_window: Option<Text>,
    environment: Option<Text>,
    threshold_type: Option<Integer>,
    resolve_threshold: Option<Text>,
    triggers: Option<List<Threshold>>,
}

members!(Rule {
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

/// From where on the status is `critical` or `warning`.
#[derive(Debug, Default)]
struct Threshold {
    label: Option<Text>,
    threshold: Option<Text>,
}

members!(Threshold { "label" => label, "alert_threshold" => threshold });

/// What stands beside the metric alert, which Sentry wrote for people.
pub(super) struct Words<'a> {
    /// The action: `critical`, `warning`, `open` or `resolved`.
    pub(super) status: &'a str,
    /// Such as `Critical: Too many errors`.
    pub(super) title: Option<Text>,
    /// Such as `100 events in the last 10 minutes`.
    pub(super) text: Option<Text>,
    /// The alert's page.
    pub(super) page: Option<Text>,
}

impl MetricAlert {
    /// The alert a new status stands for; `None` when the firing has neither identifier nor id.
    ///
    /// Its incident is named after organization and identifier and not after the rule: whoever edits a rule while it
    /// fires gets the end of the firing under another rule's id (sentry#66622).
    pub(super) fn into_alert(mut self, words: Words<'_>, sent_at: DateTime<Utc>) -> Option<Alert> {
        let mut rule = self.rule.take().unwrap_or_default();
        let organization = self.organization_id.take().or_else(|| rule.organization_id.take()).map(|Id(id)| id);
        let Id(identifier) = self.identifier.take().or_else(|| self.id.take())?;
        let name = said(rule.name.take()).or_else(|| said(self.title.take()));
        let title = said(words.title).or_else(|| Some(format!("{}: {}", capitalised(words.status), name.as_ref()?)));
        let message = match (&title, said(words.text)) {
            (Some(title), Some(text)) => Some(format!("{title} - {text}")),
            (None, text) => text,
            (Some(_), None) => None,
        };
        let action = if words.status == "resolved" { Action::Resolve } else { Action::Trigger(Opening::Metric) };
        let started_at = self.date_started.or(self.date_detected).or(self.date_created);
        let event = Event {
            message: message.map(Text),
            title: title.map(Text),
            level: level(words.status, self.status).map(|level| Text(level.to_owned())),
            environment: rule.environment.take(),
            // The end of a firing happens when it is told.
            timestamp: started_at.filter(|_| action != Action::Resolve),
            ..Event::default()
        };
        let mut slugs =
            self.projects.map_or_else(Vec::new, |List(slugs)| slugs).into_iter().filter_map(|slug| said(Some(slug)));
        Some(Alert {
            project: Project { name: None, slug: slugs.next(), others: slugs.collect() },
            link: words.page.and_then(|Text(page)| link::issue_link(&page)),
            rules: name.into_iter().collect(),
            facts: rule.facts(),
            ..event.into_alert(Subject::metric(organization.as_ref(), &identifier), action, sent_at)
        })
    }
}

/// How bad it is: by the action, and for `open`, which does not tell, by Sentry's number of the status.
fn level(action: &str, status: Option<Integer>) -> Option<&'static str> {
    match (action, status) {
        ("critical", _) | ("open", Some(Integer(20))) => Some("critical"),
        ("warning", _) | ("open", Some(Integer(10))) => Some("warning"),
        _ => None,
    }
}

fn capitalised(word: &str) -> String {
    let mut letters = word.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}

impl Rule {
    fn facts(self) -> Vec<(&'static str, String)> {
        // Sentry's AlertRuleThresholdType: 0 is above, 1 is below.
        let side = match self.threshold_type {
            Some(Integer(0)) => "above ",
            Some(Integer(1)) => "below ",
            _ => "",
        };
        let List(thresholds) = self.triggers.unwrap_or(List(Vec::new()));
        let mut thresholds: Vec<_> = thresholds
            .into_iter()
            .filter_map(|threshold| {
                let name = match said(threshold.label)?.as_str() {
                    "critical" => "critical_threshold",
                    "warning" => "warning_threshold",
                    _ => return None,
                };
                Some((name, Some(format!("{side}{}", said(threshold.threshold)?))))
            })
            .collect();
        // One of each; what comes twice comes from no Sentry.
        thresholds.sort_unstable();
        thresholds.dedup_by_key(|(name, _)| *name);
        let facts = [
            ("query", said(self.query)),
            ("aggregate", said(self.aggregate)),
            ("dataset", said(self.dataset)),
            ("time_window", said(self.time_window).map(|minutes| format!("{minutes} minutes"))),
        ];
        let resolve = ("resolve_threshold", said(self.resolve_threshold));
        let facts = facts.into_iter().chain(thresholds).chain([resolve]);
        facts.filter_map(|(name, value)| Some((name, value?))).collect()
    }
}
