//! [`SentryApi`] over HTTP: paths, scopes and parsing of each call.
//!
//! Sources: Sentry's OpenAPI description of August 2026 and the sources of 9.1.2 and 23.7.1.

use std::path::Path;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Value, json};
use tokio::sync::watch;
use url::Url;

use super::transport::{Call, Transport};
use super::types::{
    App, Detector, Fired, HookRoute, Identity, Installation, Issue, IssueRoute, LegacyHook, Object, OpenPeriod,
    Organization, Project, Rule, Window, Workflow, legacy_hook, plugin_hook,
};
use super::{ApiError, SentryApi};
use crate::config::ApiToken;
use crate::tls::TlsError;

/// The timeout of one call, from connecting to the last byte. Sentry itself ends requests after 30 seconds.
const TIMEOUT: Duration = Duration::from_secs(35);

const ALERTS_READ: &str = "alerts:read";
const ALERTS_WRITE: &str = "alerts:write";
const EVENT_READ: &str = "event:read";
const EVENT_WRITE: &str = "event:write";
const ORG_READ: &str = "org:read";
const ORG_WRITE: &str = "org:write";
const PROJECT_ADMIN: &str = "project:admin";
const PROJECT_READ: &str = "project:read";
const PROJECT_WRITE: &str = "project:write";

/// One organization of one Sentry, over HTTP.
pub struct Client {
    transport: Transport,
    organization: String,
}

impl Client {
    /// Makes a client for the organization with this slug at the Sentry at `root`. It trusts the usual certificate
    /// authorities and those of the PEM file `ca_file`.
    ///
    /// # Errors
    ///
    /// When that file cannot be used.
    pub fn new(root: &Url, organization: &str, token: ApiToken, ca_file: Option<&Path>) -> Result<Self, TlsError> {
        let transport = Transport::new(root, token, TIMEOUT, ca_file)?;
        Ok(Self { transport, organization: organization.to_owned() })
    }

    /// Makes the client use the newest of these tokens for each call.
    #[must_use]
    pub fn with_tokens(self, tokens: watch::Receiver<ApiToken>) -> Self {
        Self { transport: self.transport.with_tokens(tokens), ..self }
    }

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

    async fn history(&self, path: &[&str], scope: &'static str, window: Window) -> Result<Vec<Fired>, ApiError> {
        let call = Call::get(path, scope).query("per_page", "100");
        let call = call.query("start", moment(window.from)).query("end", moment(window.until));
        self.transport.list(&call).await
    }

    fn hook<'a>(&'a self, project: &'a str, route: HookRoute) -> Vec<&'a str> {
        match route {
            HookRoute::Plugin => self.in_project(project, &["plugins", "webhooks"]),
            HookRoute::LegacyWebhooks => self.in_project(project, &["legacy-webhooks"]),
        }
    }

    async fn list<T: serde::de::DeserializeOwned>(
        &self,
        path: &[&str],
        scope: &'static str,
    ) -> Result<Vec<T>, ApiError> {
        self.transport.list(&Call::get(path, scope).query("per_page", "100")).await
    }
}

/// Formats a time in the form that every version of Sentry reads: UTC, in whole seconds.
fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%S").to_string()
}

impl SentryApi for Client {
    async fn identity(&self) -> Result<Identity, ApiError> {
        let answer: Value = self.transport.json(&Call::get::<&str>(&[], ORG_READ)).await?;
        let user = ["email", "name", "username"].into_iter().find_map(|name| answer["user"][name].as_str());
        let scopes = answer["auth"]["scopes"].as_array();
        let texts = |scopes: &Vec<Value>| scopes.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        Ok(Identity { user: user.filter(|user| !user.is_empty()).map(str::to_owned), scopes: scopes.map(texts) })
    }

    async fn version(&self) -> Result<Option<String>, ApiError> {
        let answer: Value = self.transport.json(&Call::get_beside("client-config")).await?;
        Ok(answer["version"]["current"].as_str().map(str::to_owned))
    }

    async fn organization(&self) -> Result<Organization, ApiError> {
        self.transport.json(&Call::get(&self.in_organization(&[]), ORG_READ)).await
    }

    async fn projects(&self) -> Result<Vec<Project>, ApiError> {
        self.list(&self.in_organization(&["projects"]), ORG_READ).await
    }

    async fn workflows(&self) -> Result<Vec<Workflow>, ApiError> {
        // Without the parameter `project`, which leaves out workflows that are connected to no detector.
        self.list(&self.in_organization(&["workflows"]), ALERTS_READ).await
    }

    async fn detectors(&self) -> Result<Vec<Detector>, ApiError> {
        self.list(&self.in_organization(&["detectors"]), ALERTS_READ).await
    }

    async fn rules(&self, project: &str) -> Result<Vec<Rule>, ApiError> {
        self.list(&self.in_project(project, &["rules"]), PROJECT_READ).await
    }

    async fn is_migrated(&self, rule: &str) -> Result<bool, ApiError> {
        let path = self.in_organization(&["alert-rule-workflow"]);
        let answer: Value = self.transport.json(&Call::get(&path, ALERTS_READ).query("rule_id", rule)).await?;
        Ok(!answer["workflowId"].is_null())
    }

    async fn apps(&self) -> Result<Vec<App>, ApiError> {
        self.list(&self.in_organization(&["sentry-apps"]), ORG_READ).await
    }

    async fn app(&self, slug: &str) -> Result<App, ApiError> {
        self.transport.json(&Call::get(&["sentry-apps", slug], ORG_READ)).await
    }

    async fn installations(&self) -> Result<Vec<Installation>, ApiError> {
        self.list(&self.in_organization(&["sentry-app-installations"]), ORG_READ).await
    }

    async fn legacy_hook(&self, project: &str, route: HookRoute) -> Result<LegacyHook, ApiError> {
        let answer: Value = self.transport.json(&Call::get(&self.hook(project, route), PROJECT_READ)).await?;
        Ok(match route {
            HookRoute::Plugin => plugin_hook(&answer),
            HookRoute::LegacyWebhooks => legacy_hook(&answer),
        })
    }

    async fn has_new_issues(&self, project_id: &str) -> Result<bool, ApiError> {
        let since = moment(Utc::now() - TimeDelta::days(14));
        let call = Call::get(&self.in_organization(&["issues"]), EVENT_READ)
            .query("project", project_id)
            .query("query", format!("is:unresolved firstSeen:>={since}"))
            .query("statsPeriod", "14d")
            .query("limit", "1");
        let rows: Vec<Value> = self.transport.json(&call).await?;
        Ok(!rows.is_empty())
    }

    async fn workflow_history(&self, workflow: &str, window: Window) -> Result<Vec<Fired>, ApiError> {
        let path = self.in_organization(&["workflows", workflow, "group-history"]);
        self.history(&path, ALERTS_READ, window).await
    }

    async fn rule_history(&self, project: &str, rule: &str, window: Window) -> Result<Vec<Fired>, ApiError> {
        let path = self.in_project(project, &["rules", rule, "group-history"]);
        self.history(&path, PROJECT_READ, window).await
    }

    async fn issues_since(&self, project: &str, since: DateTime<Utc>) -> Result<Vec<Issue>, ApiError> {
        // Per project, because 9.1 refuses to list the issues of several projects. Without statistics, which are the most
        // expensive part.
        let call = Call::get(&self.in_project(project, &["issues"]), EVENT_READ)
            .query("query", format!("is:unresolved firstSeen:>={}", moment(since)))
            .query("statsPeriod", "")
            .query("limit", "100");
        self.transport.list(&call).await
    }

    async fn issue(&self, id: &str, route: IssueRoute) -> Result<Issue, ApiError> {
        let call = Call::get(&self.in_issue(id, route, &[]), EVENT_READ);
        let call = match route {
            IssueRoute::Global => call,
            IssueRoute::Organization => {
                call.query("collapse", "stats").query("collapse", "tags").query("collapse", "release")
            }
        };
        self.transport.json(&call).await
    }

    async fn event(&self, project: &str, event_id: &str) -> Result<Value, ApiError> {
        self.transport.json(&Call::get(&self.in_project(project, &["events", event_id]), PROJECT_READ)).await
    }

    async fn latest_event(&self, issue: &str, route: IssueRoute) -> Result<Value, ApiError> {
        self.transport.json(&Call::get(&self.in_issue(issue, route, &["events", "latest"]), EVENT_READ)).await
    }

    async fn is_metric_incident_closed(&self, identifier: &str) -> Result<bool, ApiError> {
        let path = self.in_organization(&["incidents", identifier]);
        let answer: Value = self.transport.json(&Call::get(&path, ALERTS_READ)).await?;
        // `IncidentStatus.CLOSED` of Sentry's `incidents/models`.
        Ok(answer["status"].as_i64() == Some(2))
    }

    async fn open_periods(&self, detector: &str) -> Result<Vec<OpenPeriod>, ApiError> {
        let call = Call::get(&self.in_organization(&["open-periods"]), ALERTS_READ);
        self.transport.list(&call.query("detectorId", detector).query("per_page", "100")).await
    }

    async fn set_issue_status(&self, id: &str, route: IssueRoute, status: &str) -> Result<(), ApiError> {
        let path = self.in_issue(id, route, &[]);
        self.transport.done(&Call::put(&path, EVENT_WRITE, json!({"status": status}))).await
    }

    async fn create_app(&self, mut body: Value) -> Result<App, ApiError> {
        body["organization"] = json!(self.organization);
        self.transport.json(&Call::post(&["sentry-apps"], ORG_WRITE, body)).await
    }

    async fn update_app(&self, slug: &str, body: Value) -> Result<App, ApiError> {
        self.transport.json(&Call::put(&["sentry-apps", slug], ORG_WRITE, body)).await
    }

    async fn delete_app(&self, slug: &str) -> Result<(), ApiError> {
        self.transport.done(&Call::delete(&["sentry-apps", slug], ORG_WRITE)).await
    }

    async fn set_urls(&self, project: &str, route: HookRoute, urls: &[String], enabled: bool) -> Result<(), ApiError> {
        let path = self.hook(project, route);
        let call = match route {
            HookRoute::Plugin => Call::put(&path, PROJECT_WRITE, json!({"urls": urls.join("\n")})),
            HookRoute::LegacyWebhooks => Call::post(&path, PROJECT_WRITE, json!({"urls": urls, "enabled": enabled})),
        };
        self.transport.done(&call).await
    }

    async fn enable_hook(&self, project: &str, route: HookRoute) -> Result<(), ApiError> {
        let body = match route {
            HookRoute::Plugin => json!({}),
            HookRoute::LegacyWebhooks => json!({"enabled": true}),
        };
        self.transport.done(&Call::post(&self.hook(project, route), PROJECT_WRITE, body)).await
    }

    async fn disable_hook(&self, project: &str, route: HookRoute) -> Result<(), ApiError> {
        self.transport.done(&Call::delete(&self.hook(project, route), PROJECT_ADMIN)).await
    }

    async fn create_rule(&self, project: &str, body: Value) -> Result<Rule, ApiError> {
        self.transport.json(&Call::post(&self.in_project(project, &["rules"]), PROJECT_WRITE, body)).await
    }

    async fn update_rule(&self, project: &str, id: &str, body: Object) -> Result<Rule, ApiError> {
        let path = self.in_project(project, &["rules", id]);
        self.transport.json(&Call::put(&path, PROJECT_WRITE, Value::Object(body))).await
    }

    async fn delete_rule(&self, project: &str, id: &str) -> Result<(), ApiError> {
        self.transport.done(&Call::delete(&self.in_project(project, &["rules", id]), PROJECT_WRITE)).await
    }

    async fn create_workflow(&self, body: Value) -> Result<Workflow, ApiError> {
        self.transport.json(&Call::post(&self.in_organization(&["workflows"]), ALERTS_WRITE, body)).await
    }

    async fn update_workflow(&self, id: &str, body: Object) -> Result<Workflow, ApiError> {
        let path = self.in_organization(&["workflows", id]);
        self.transport.json(&Call::put(&path, ALERTS_WRITE, Value::Object(body))).await
    }

    async fn delete_workflow(&self, id: &str) -> Result<(), ApiError> {
        self.transport.done(&Call::delete(&self.in_organization(&["workflows", id]), ALERTS_WRITE)).await
    }

    async fn test_plugin(&self, project: &str) -> Result<String, ApiError> {
        let call = Call::post(&self.hook(project, HookRoute::Plugin), PROJECT_WRITE, json!({"test": true}));
        let answer: Value = self.transport.json(&call).await?;
        Ok(answer["detail"].as_str().unwrap_or("nothing").to_owned())
    }

    async fn test_rule_action(&self, project: &str, action: Value) -> Result<(), ApiError> {
        let path = self.in_project(project, &["rule-actions"]);
        self.transport.done(&Call::post(&path, PROJECT_WRITE, json!({"actions": [action]}))).await
    }

    async fn test_action(&self, action: Value) -> Result<(), ApiError> {
        let path = self.in_organization(&["test-fire-actions"]);
        self.transport.done(&Call::post(&path, ALERTS_WRITE, json!({"actions": [action]}))).await
    }
}
