//! Sentry's own API: what is read and changed there.
//!
//! ```text
//!  Sentry ──▶ transport ──▶ client ──▶ SentryApi ──▶ inventory ──┬─▶ audit     what would page nobody
//!             one call      paths,     the boundary  what there  │
//!                           parsing                  is          └─▶ connect   a plan, then its steps
//! ```
//!
//! - [`SentryApi`]: the boundary; nothing above it knows of HTTP
//! - [`SentryClient`]: its implementation over HTTP; `transport` makes one call: timeouts, pages, rate limits, no redirects
//! - [`types`]: the types of Sentry's responses, parsed once
//! - [`inventory`]: reads projects, alerts and webhooks, and determines the generation of the Sentry
//! - [`address`]: which webhook addresses are the bridge's
//! - [`audit`]: finds what would page nobody; pure
//! - `crate::catch_up` and `crate::issue_status` use this API to learn what no webhook reported
//! - [`connect`]: plans the steps that are missing, which is pure, and carries them out
//!
//! Three generations are distinguished by the endpoints that they answer, and by their version only if a Sentry answers
//! for both rules and workflows: rules and the WebHooks plugin (9.1), rules and integrations (10.0 to about 2025),
//! workflows (2026). 404 and 410 both mean that something does not exist here: Sentry removed its rules first with the
//! one status and then with the other.

pub mod address;
pub mod audit;
mod client;
pub mod connect;
mod error;
pub mod inventory;
mod transport;
pub mod types;

use std::future::Future;

use chrono::{DateTime, Utc};
use serde_json::Value;

pub use error::{SentryApiError, SentryTaskError, optional};
pub use inventory::{Inventory, issue_route};
pub use transport::SentryClient;

use types::{
    AlertRule, AlertSystem, Detector, Firing, Identity, Installation, IssueRoute, JsonObject, LegacyHook, Organization,
    SentryApp, SentryIssue, SentryProject, TimeWindow, Workflow,
};

/// The calls of Sentry's API that the bridge makes, for one organization.
///
/// Every method may fail with any [`SentryApiError`]. [`SentryApiError::Gone`] means that this Sentry has no such endpoint or object;
/// see [`optional`]. A project is named by its slug.
pub trait SentryApi {
    /// The owner and scopes of the token (`GET /api/0/`).
    fn identity(&self) -> impl Future<Output = Result<Identity, SentryApiError>>;
    /// The version that Sentry reports, such as `26.7.0`; it is meaningful only for a self-hosted Sentry.
    fn version(&self) -> impl Future<Output = Result<Option<String>, SentryApiError>>;
    /// The organization itself.
    fn organization(&self) -> impl Future<Output = Result<Organization, SentryApiError>>;
    /// Every project.
    fn projects(&self) -> impl Future<Output = Result<Vec<SentryProject>, SentryApiError>>;
    /// Every workflow.
    fn workflows(&self) -> impl Future<Output = Result<Vec<Workflow>, SentryApiError>>;
    /// Every detector.
    fn detectors(&self) -> impl Future<Output = Result<Vec<Detector>, SentryApiError>>;
    /// The alert rules of a project.
    fn rules(&self, project: &str) -> impl Future<Output = Result<Vec<AlertRule>, SentryApiError>>;
    /// Whether a rule was migrated to a workflow.
    fn is_migrated(&self, rule: &str) -> impl Future<Output = Result<bool, SentryApiError>>;
    /// The organization's own integrations.
    fn apps(&self) -> impl Future<Output = Result<Vec<SentryApp>, SentryApiError>>;
    /// One integration, with its Client Secret if Sentry shows it.
    fn app(&self, slug: &str) -> impl Future<Output = Result<SentryApp, SentryApiError>>;
    /// The installations of integrations in the organization.
    fn installations(&self) -> impl Future<Output = Result<Vec<Installation>, SentryApiError>>;
    /// The legacy webhooks of a project.
    fn legacy_hook(
        &self,
        project: &str,
        alerts: AlertSystem,
    ) -> impl Future<Output = Result<LegacyHook, SentryApiError>>;
    /// Whether the project with this number has issues that are younger than two weeks.
    fn has_new_issues(&self, project_id: &str) -> impl Future<Output = Result<bool, SentryApiError>>;

    /// The issues for which a workflow fired within a window, one row for each issue.
    fn workflow_history(
        &self,
        workflow: &str,
        window: TimeWindow,
    ) -> impl Future<Output = Result<Vec<Firing>, SentryApiError>>;
    /// The same for a rule of a project; Sentry versions before 22.12 have no such endpoint.
    fn rule_history(
        &self,
        project: &str,
        rule: &str,
        window: TimeWindow,
    ) -> impl Future<Output = Result<Vec<Firing>, SentryApiError>>;
    /// The unresolved issues of a project that were first seen at `since` or later.
    fn issues_since(
        &self,
        project: &str,
        since: DateTime<Utc>,
    ) -> impl Future<Output = Result<Vec<SentryIssue>, SentryApiError>>;
    /// One issue, or the one that it was merged into.
    fn issue(&self, id: &str, route: IssueRoute) -> impl Future<Output = Result<SentryIssue, SentryApiError>>;
    /// One event, as the API shows it.
    fn event(&self, project: &str, event_id: &str) -> impl Future<Output = Result<Value, SentryApiError>>;
    /// The newest event of an issue.
    fn latest_event(&self, issue: &str, route: IssueRoute) -> impl Future<Output = Result<Value, SentryApiError>>;
    /// Whether the firing of a metric alert with this identifier is over. A Sentry with workflows has no such endpoint.
    fn is_metric_incident_closed(&self, identifier: &str) -> impl Future<Output = Result<bool, SentryApiError>>;
    /// The numbers of the periods during which the metric issue of a detector was open and that have ended.
    fn ended_periods(&self, detector: &str) -> impl Future<Output = Result<Vec<u64>, SentryApiError>>;

    /// Sets the status of an issue to `resolved` or `unresolved`.
    fn set_issue_status(
        &self,
        id: &str,
        route: IssueRoute,
        status: &str,
    ) -> impl Future<Output = Result<(), SentryApiError>>;
    /// Creates an integration.
    fn create_app(&self, body: Value) -> impl Future<Output = Result<SentryApp, SentryApiError>>;
    /// Updates an integration; fields that are not in `body` keep their values.
    fn update_app(&self, slug: &str, body: Value) -> impl Future<Output = Result<SentryApp, SentryApiError>>;
    /// Deletes an integration.
    fn delete_app(&self, slug: &str) -> impl Future<Output = Result<(), SentryApiError>>;
    /// Replaces the addresses of a project's legacy webhooks.
    fn set_urls(
        &self,
        project: &str,
        alerts: AlertSystem,
        urls: &[String],
        enabled: bool,
    ) -> impl Future<Output = Result<(), SentryApiError>>;
    /// Switches a project's legacy webhooks on.
    fn enable_hook(&self, project: &str, alerts: AlertSystem) -> impl Future<Output = Result<(), SentryApiError>>;
    /// Switches a project's legacy webhooks off.
    fn disable_hook(&self, project: &str, alerts: AlertSystem) -> impl Future<Output = Result<(), SentryApiError>>;
    /// Creates an alert rule.
    fn create_rule(&self, project: &str, body: Value) -> impl Future<Output = Result<AlertRule, SentryApiError>>;
    /// Replaces an alert rule.
    fn update_rule(
        &self,
        project: &str,
        id: &str,
        body: JsonObject,
    ) -> impl Future<Output = Result<AlertRule, SentryApiError>>;
    /// Deletes an alert rule.
    fn delete_rule(&self, project: &str, id: &str) -> impl Future<Output = Result<(), SentryApiError>>;
    /// Creates a workflow.
    fn create_workflow(&self, body: Value) -> impl Future<Output = Result<Workflow, SentryApiError>>;
    /// Replaces a workflow.
    fn update_workflow(&self, id: &str, body: JsonObject) -> impl Future<Output = Result<Workflow, SentryApiError>>;
    /// Deletes a workflow.
    fn delete_workflow(&self, id: &str) -> impl Future<Output = Result<(), SentryApiError>>;
    /// Makes the WebHooks plugin of a project send its test webhook, and returns Sentry's message about it.
    fn test_plugin(&self, project: &str) -> impl Future<Output = Result<String, SentryApiError>>;
    /// Makes Sentry fire an action of a rule with a sample event of the project.
    fn test_rule_action(&self, project: &str, action: Value) -> impl Future<Output = Result<(), SentryApiError>>;
    /// Makes Sentry fire an action of a workflow with a sample event.
    fn test_action(&self, action: Value) -> impl Future<Output = Result<(), SentryApiError>>;
}
