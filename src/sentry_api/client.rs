//! The calls of Sentry's API: paths, scopes and parsing of each.
//!
//! Sources: Sentry's OpenAPI description of August 2026 and the sources of 9.1.2 and 23.7.1.

use awc::http::Method;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};

use super::SentryApiError;
use super::transport::SentryClient;
use super::types::{
    AlertRule, AlertSystem, Detector, Firing, Identity, Installation, IssueRoute, JsonObject, LegacyHook, OpenPeriod,
    Organization, SentryApp, SentryIssue, SentryProject, TimeWindow, Workflow,
};
use crate::http_client::ApiCall;

const ALERTS_READ: &str = "alerts:read";
const ALERTS_WRITE: &str = "alerts:write";
const EVENT_READ: &str = "event:read";
const EVENT_WRITE: &str = "event:write";
const ORG_READ: &str = "org:read";
const ORG_WRITE: &str = "org:write";
const PROJECT_ADMIN: &str = "project:admin";
const PROJECT_READ: &str = "project:read";
const PROJECT_WRITE: &str = "project:write";

/// A call of a path below `/api/0/` that needs the scope `scope`.
fn call(method: Method, path: &[&str], scope: &'static str) -> ApiCall {
    ApiCall::new(method, ["api", "0"].into_iter().chain(path.iter().copied()).chain([""]), scope)
}

fn get(path: &[&str], scope: &'static str) -> ApiCall {
    call(Method::GET, path, scope)
}

fn post(path: &[&str], scope: &'static str, body: Value) -> ApiCall {
    call(Method::POST, path, scope).body(body)
}

fn put(path: &[&str], scope: &'static str, body: Value) -> ApiCall {
    call(Method::PUT, path, scope).body(body)
}

fn delete(path: &[&str], scope: &'static str) -> ApiCall {
    call(Method::DELETE, path, scope)
}

impl SentryClient {
    /// The path of a resource of the organization.
    fn in_organization<'a>(&'a self, rest: &[&'a str]) -> Vec<&'a str> {
        [&["organizations", self.organization.as_str()], rest].concat()
    }

    /// The path of a resource of a project.
    fn in_project<'a>(&'a self, project: &'a str, rest: &[&'a str]) -> Vec<&'a str> {
        [&["projects", self.organization.as_str(), project], rest].concat()
    }

    /// The path of a resource of an issue.
    fn in_issue<'a>(&'a self, issue: &'a str, route: IssueRoute, rest: &[&'a str]) -> Vec<&'a str> {
        match route {
            IssueRoute::Global => [&["issues", issue], rest].concat(),
            IssueRoute::Organization => self.in_organization(&[&["issues", issue], rest].concat()),
        }
    }

    async fn history(
        &self,
        path: &[&str],
        scope: &'static str,
        window: TimeWindow,
    ) -> Result<Vec<Firing>, SentryApiError> {
        let call = get(path, scope).query("per_page", "100");
        let call = call.query("start", timestamp(window.from)).query("end", timestamp(window.until));
        self.pages(&call).await
    }

    fn hook<'a>(&'a self, project: &'a str, alerts: AlertSystem) -> Vec<&'a str> {
        match alerts {
            AlertSystem::Rules => self.in_project(project, &["plugins", "webhooks"]),
            AlertSystem::Workflows => self.in_project(project, &["legacy-webhooks"]),
        }
    }

    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        path: &[&str],
        scope: &'static str,
    ) -> Result<Vec<T>, SentryApiError> {
        self.pages(&get(path, scope).query("per_page", "100")).await
    }
}

/// Formats a time in the form that every version of Sentry reads: UTC, in whole seconds.
fn timestamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S").to_string()
}

/// The calls that the bridge makes, for one organization. Every method may fail with any [`SentryApiError`].
/// [`SentryApiError::Gone`] means that this Sentry has no such endpoint or object; see [`super::optional`]. A project is
/// named by its slug.
impl SentryClient {
    /// The owner and scopes of the token (`GET /api/0/`).
    pub async fn identity(&self) -> Result<Identity, SentryApiError> {
        let answer: Value = self.json(&get(&[], ORG_READ)).await?;
        let user = ["email", "name", "username"].into_iter().find_map(|name| answer["user"][name].as_str());
        let scopes = answer["auth"]["scopes"].as_array();
        let texts = |scopes: &Vec<Value>| scopes.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Identity { user: user.filter(|user| !user.is_empty()).map(str::to_owned), scopes: scopes.map(texts) })
    }

    /// The version that Sentry reports, such as `26.7.0`; it is meaningful only for a self-hosted Sentry.
    pub async fn version(&self) -> Result<Option<String>, SentryApiError> {
        let answer: Value = self.json(&ApiCall::new(Method::GET, ["api", "client-config", ""], ORG_READ)).await?;
        Ok(answer["version"]["current"].as_str().map(str::to_owned))
    }

    /// The organization itself.
    pub async fn organization(&self) -> Result<Organization, SentryApiError> {
        self.json(&get(&self.in_organization(&[]), ORG_READ)).await
    }

    /// Every project.
    pub async fn projects(&self) -> Result<Vec<SentryProject>, SentryApiError> {
        self.list(&self.in_organization(&["projects"]), ORG_READ).await
    }

    /// Every workflow.
    pub async fn workflows(&self) -> Result<Vec<Workflow>, SentryApiError> {
        // Without the parameter `project`, which leaves out workflows that are connected to no detector.
        self.list(&self.in_organization(&["workflows"]), ALERTS_READ).await
    }

    /// Every detector.
    pub async fn detectors(&self) -> Result<Vec<Detector>, SentryApiError> {
        self.list(&self.in_organization(&["detectors"]), ALERTS_READ).await
    }

    /// The alert rules of a project.
    pub async fn rules(&self, project: &str) -> Result<Vec<AlertRule>, SentryApiError> {
        self.list(&self.in_project(project, &["rules"]), PROJECT_READ).await
    }

    /// Whether a rule was migrated to a workflow.
    pub async fn is_migrated(&self, rule: &str) -> Result<bool, SentryApiError> {
        let path = self.in_organization(&["alert-rule-workflow"]);
        let answer: Value = self.json(&get(&path, ALERTS_READ).query("rule_id", rule)).await?;
        Ok(!answer["workflowId"].is_null())
    }

    /// The organization's own integrations.
    pub async fn apps(&self) -> Result<Vec<SentryApp>, SentryApiError> {
        self.list(&self.in_organization(&["sentry-apps"]), ORG_READ).await
    }

    /// One integration, with its Client Secret if Sentry shows it.
    pub async fn app(&self, slug: &str) -> Result<SentryApp, SentryApiError> {
        self.json(&get(&["sentry-apps", slug], ORG_READ)).await
    }

    /// The installations of integrations in the organization.
    pub async fn installations(&self) -> Result<Vec<Installation>, SentryApiError> {
        self.list(&self.in_organization(&["sentry-app-installations"]), ORG_READ).await
    }

    /// The legacy webhooks of a project.
    pub async fn legacy_hook(&self, project: &str, alerts: AlertSystem) -> Result<LegacyHook, SentryApiError> {
        let answer: Value = self.json(&get(&self.hook(project, alerts), PROJECT_READ)).await?;
        Ok(LegacyHook::parse(alerts, &answer))
    }

    /// Whether the project with this number has issues that are younger than two weeks.
    pub async fn has_new_issues(&self, project_id: &str) -> Result<bool, SentryApiError> {
        let since = timestamp(Utc::now() - TimeDelta::days(14));
        let call = get(&self.in_organization(&["issues"]), EVENT_READ)
            .query("project", project_id)
            .query("query", format!("is:unresolved firstSeen:>={since}"))
            .query("statsPeriod", "14d")
            .query("limit", "1");
        let rows: Vec<Value> = self.json(&call).await?;
        Ok(!rows.is_empty())
    }

    /// The issues for which a workflow fired within a window, one row for each issue.
    pub async fn workflow_history(&self, workflow: &str, window: TimeWindow) -> Result<Vec<Firing>, SentryApiError> {
        let path = self.in_organization(&["workflows", workflow, "group-history"]);
        self.history(&path, ALERTS_READ, window).await
    }

    /// The same for a rule of a project; Sentry versions before 22.12 have no such endpoint.
    pub async fn rule_history(
        &self,
        project: &str,
        rule: &str,
        window: TimeWindow,
    ) -> Result<Vec<Firing>, SentryApiError> {
        let path = self.in_project(project, &["rules", rule, "group-history"]);
        self.history(&path, PROJECT_READ, window).await
    }

    /// The unresolved issues of a project that were first seen at `since` or later.
    pub async fn issues_since(&self, project: &str, since: DateTime<Utc>) -> Result<Vec<SentryIssue>, SentryApiError> {
        // Per project, because 9.1 refuses to list the issues of several projects. Without statistics, which are the most
        // expensive part.
        let call = get(&self.in_project(project, &["issues"]), EVENT_READ)
            .query("query", format!("is:unresolved firstSeen:>={}", timestamp(since)))
            .query("statsPeriod", "")
            .query("limit", "100");
        self.pages(&call).await
    }

    /// One issue, or the one that it was merged into.
    pub async fn issue(&self, id: &str, route: IssueRoute) -> Result<SentryIssue, SentryApiError> {
        let call = get(&self.in_issue(id, route, &[]), EVENT_READ);
        let call = match route {
            IssueRoute::Global => call,
            IssueRoute::Organization => {
                call.query("collapse", "stats").query("collapse", "tags").query("collapse", "release")
            }
        };
        self.json(&call).await
    }

    /// One event, as the API shows it.
    pub async fn event(&self, project: &str, event_id: &str) -> Result<Value, SentryApiError> {
        self.json(&get(&self.in_project(project, &["events", event_id]), PROJECT_READ)).await
    }

    /// The newest event of an issue.
    pub async fn latest_event(&self, issue: &str, route: IssueRoute) -> Result<Value, SentryApiError> {
        self.json(&get(&self.in_issue(issue, route, &["events", "latest"]), EVENT_READ)).await
    }

    /// Whether the firing of a metric alert with this identifier is over. A Sentry with workflows has no such endpoint.
    pub async fn is_metric_incident_closed(&self, identifier: &str) -> Result<bool, SentryApiError> {
        let path = self.in_organization(&["incidents", identifier]);
        let answer: Value = self.json(&get(&path, ALERTS_READ)).await?;
        // `IncidentStatus.CLOSED` of Sentry's `incidents/models`.
        Ok(answer["status"].as_i64() == Some(2))
    }

    /// The numbers of the periods during which the metric issue of a detector was open and that have ended.
    pub async fn ended_periods(&self, detector: &str) -> Result<Vec<u64>, SentryApiError> {
        let call = get(&self.in_organization(&["open-periods"]), ALERTS_READ);
        let periods: Vec<OpenPeriod> = self.pages(&call.query("detectorId", detector).query("per_page", "100")).await?;
        Ok(periods.iter().filter_map(OpenPeriod::ended).collect())
    }

    /// Sets the status of an issue to `resolved` or `unresolved`.
    pub async fn set_issue_status(&self, id: &str, route: IssueRoute, status: &str) -> Result<(), SentryApiError> {
        let path = self.in_issue(id, route, &[]);
        self.done(&put(&path, EVENT_WRITE, json!({"status": status}))).await
    }

    /// Creates an integration.
    pub async fn create_app(&self, mut body: Value) -> Result<SentryApp, SentryApiError> {
        body["organization"] = json!(self.organization);
        self.json(&post(&["sentry-apps"], ORG_WRITE, body)).await
    }

    /// Updates an integration; fields that are not in `body` keep their values.
    pub async fn update_app(&self, slug: &str, body: Value) -> Result<SentryApp, SentryApiError> {
        self.json(&put(&["sentry-apps", slug], ORG_WRITE, body)).await
    }

    /// Deletes an integration.
    pub async fn delete_app(&self, slug: &str) -> Result<(), SentryApiError> {
        self.done(&delete(&["sentry-apps", slug], ORG_WRITE)).await
    }

    /// Replaces the addresses of a project's legacy webhooks.
    pub async fn set_urls(
        &self,
        project: &str,
        alerts: AlertSystem,
        urls: &[String],
        enabled: bool,
    ) -> Result<(), SentryApiError> {
        let path = self.hook(project, alerts);
        let call = match alerts {
            AlertSystem::Rules => put(&path, PROJECT_WRITE, json!({"urls": urls.join("\n")})),
            AlertSystem::Workflows => post(&path, PROJECT_WRITE, json!({"urls": urls, "enabled": enabled})),
        };
        self.done(&call).await
    }

    /// Switches a project's legacy webhooks on.
    pub async fn enable_hook(&self, project: &str, alerts: AlertSystem) -> Result<(), SentryApiError> {
        let body = match alerts {
            AlertSystem::Rules => json!({}),
            AlertSystem::Workflows => json!({"enabled": true}),
        };
        self.done(&post(&self.hook(project, alerts), PROJECT_WRITE, body)).await
    }

    /// Switches a project's legacy webhooks off.
    pub async fn disable_hook(&self, project: &str, alerts: AlertSystem) -> Result<(), SentryApiError> {
        self.done(&delete(&self.hook(project, alerts), PROJECT_ADMIN)).await
    }

    /// Creates an alert rule.
    pub async fn create_rule(&self, project: &str, body: Value) -> Result<AlertRule, SentryApiError> {
        self.json(&post(&self.in_project(project, &["rules"]), PROJECT_WRITE, body)).await
    }

    /// Replaces an alert rule.
    pub async fn update_rule(&self, project: &str, id: &str, body: JsonObject) -> Result<AlertRule, SentryApiError> {
        let path = self.in_project(project, &["rules", id]);
        self.json(&put(&path, PROJECT_WRITE, Value::Object(body))).await
    }

    /// Deletes an alert rule.
    pub async fn delete_rule(&self, project: &str, id: &str) -> Result<(), SentryApiError> {
        self.done(&delete(&self.in_project(project, &["rules", id]), PROJECT_WRITE)).await
    }

    /// Creates a workflow.
    pub async fn create_workflow(&self, body: Value) -> Result<Workflow, SentryApiError> {
        self.json(&post(&self.in_organization(&["workflows"]), ALERTS_WRITE, body)).await
    }

    /// Replaces a workflow.
    pub async fn update_workflow(&self, id: &str, body: JsonObject) -> Result<Workflow, SentryApiError> {
        let path = self.in_organization(&["workflows", id]);
        self.json(&put(&path, ALERTS_WRITE, Value::Object(body))).await
    }

    /// Deletes a workflow.
    pub async fn delete_workflow(&self, id: &str) -> Result<(), SentryApiError> {
        self.done(&delete(&self.in_organization(&["workflows", id]), ALERTS_WRITE)).await
    }

    /// Makes the WebHooks plugin of a project send its test webhook, and returns Sentry's message about it.
    pub async fn test_plugin(&self, project: &str) -> Result<String, SentryApiError> {
        let call = post(&self.hook(project, AlertSystem::Rules), PROJECT_WRITE, json!({"test": true}));
        let answer: Value = self.json(&call).await?;
        Ok(answer["detail"].as_str().unwrap_or("nothing").to_owned())
    }

    /// Makes Sentry fire an action of a rule with a sample event of the project.
    pub async fn test_rule_action(&self, project: &str, action: Value) -> Result<(), SentryApiError> {
        let path = self.in_project(project, &["rule-actions"]);
        self.done(&post(&path, PROJECT_WRITE, json!({"actions": [action]}))).await
    }

    /// Makes Sentry fire an action of a workflow with a sample event.
    pub async fn test_action(&self, action: Value) -> Result<(), SentryApiError> {
        let path = self.in_organization(&["test-fire-actions"]);
        self.done(&post(&path, ALERTS_WRITE, json!({"actions": [action]}))).await
    }
}
