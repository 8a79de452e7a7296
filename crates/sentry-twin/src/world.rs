//! The state of a twin: tokens, projects, alerts, integrations, calls and faults.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::TOKEN;

/// A webhook to send.
#[derive(Clone, Debug)]
pub struct OutgoingWebhook {
    /// The URL that it is posted to.
    pub url: String,
    /// Its headers, besides the `Content-Type` of JSON.
    pub headers: Vec<(&'static str, String)>,
    /// Its body.
    pub body: String,
}

impl OutgoingWebhook {
    /// A webhook of the integration platform, signed with the integration's secret.
    pub(crate) fn signed(app: &Value, resource: &str, action: &str, data: &Value) -> Self {
        let body = json!({
            "action": action, "installation": {"uuid": app["uuid"]}, "data": data,
            "actor": {"type": "application", "id": "sentry", "name": "Sentry"},
        })
        .to_string();
        let secret = app["clientSecret"].as_str().unwrap_or_default();
        // HMAC takes keys of any length.
        let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes())
            .map(|mac| mac.chain_update(&body).finalize().into_bytes());
        let mut signature = String::new();
        for byte in mac.unwrap_or_default() {
            // Writing to a String cannot fail.
            let _ = write!(signature, "{byte:02x}");
        }
        Self {
            url: app["webhookUrl"].as_str().unwrap_or_default().to_owned(),
            headers: vec![
                ("Sentry-Hook-Resource", resource.to_owned()),
                ("Sentry-Hook-Timestamp", "1795353671".to_owned()),
                ("Sentry-Hook-Signature", signature),
                ("Request-ID", "00000000000040008000000000000001".to_owned()),
            ],
            body,
        }
    }
}

/// A firing of an alert.
#[derive(Clone, Debug)]
pub struct AlertFiring {
    /// The number of the rule or workflow.
    pub alert: String,
    /// The number of the issue.
    pub issue: u64,
    /// The id of the event, or the number of an activity.
    pub event: String,
    /// When it fired, in seconds since 1970.
    pub at: i64,
}

/// The generation of Sentry.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum SentryGeneration {
    /// 9.1.2: rules, the WebHooks plugin, no integrations.
    Plugin,
    /// 10.0 to about 2025: rules, the plugin and integrations.
    Apps,
    /// 2026: workflows, detectors, integrations, legacy webhooks by their own endpoint.
    Workflows,
}

/// A token, with its user and scopes.
#[derive(Clone, Debug)]
pub struct TwinToken {
    /// The token.
    pub text: String,
    /// The user's e-mail address; `None` for a token of an integration or organization.
    pub user: Option<String>,
    /// Its scopes.
    pub scopes: Vec<String>,
}

/// A project.
#[derive(Clone, Debug)]
pub struct TwinProject {
    /// Its number.
    pub id: u64,
    /// Its slug.
    pub slug: String,
    /// Whether its legacy webhooks are on.
    pub hook_enabled: bool,
    /// The URLs of its legacy webhooks.
    pub urls: Vec<String>,
    /// Its rules, as the API shows them.
    pub rules: Vec<Value>,
    /// Whether it has issues of the last days.
    pub has_new_issues: bool,
    /// Whether it accepts events that are sent with its DSN.
    pub key_enabled: bool,
}

impl TwinProject {
    /// The public key of its DSN.
    #[must_use]
    pub fn key(&self) -> String {
        format!("{:032x}", self.id * 0x00c0_ffee)
    }
}

/// A call that was received.
#[derive(Clone, Debug)]
pub struct RecordedCall {
    /// The method, such as `GET`.
    pub method: String,
    /// The path, from `/api/` on, without the query.
    pub path: String,
    /// The query, without the `?`.
    pub query: String,
    /// The status code of the response.
    pub status: u16,
    /// Whether the client sent `Connection: close`.
    pub closes: bool,
}

/// A fault, and the calls that it affects.
#[derive(Clone, Debug)]
pub struct TwinFault {
    /// It affects calls whose path contains this text.
    pub path: String,
    /// How many of those calls it still affects.
    pub times: usize,
    /// What happens to those calls.
    pub kind: TwinFaultKind,
}

/// What a fault does.
#[derive(Clone, Debug)]
pub enum TwinFaultKind {
    /// 429 with `Retry-After`, in seconds.
    Throttled(u64),
    /// 429 with `X-Sentry-Rate-Limit-Reset` only: a second from now.
    ThrottledUntilReset,
    /// 410 with the body of a brown-out.
    BrownOut,
    /// The response is delayed by this time.
    Slow(Duration),
    /// The connection ends in the middle of the body.
    HalfPage,
    /// This status, with a page of HTML.
    Status(u16),
    /// A redirect to this address.
    Redirect(String),
    /// 200 with a page of HTML.
    Html,
    /// The link to the next page always leads to the same page.
    Loop,
}

/// The whole state of a twin.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "each is a switch of its own")]
pub struct World {
    /// The generation of Sentry.
    pub generation: SentryGeneration,
    /// On a Sentry with workflows: whether it still serves rules, as self-hosted ones do, instead of answering with 410.
    pub keeps_rules: bool,
    /// On a Sentry with rules: whether it already serves workflows, as from 24.x to 26.6.
    pub has_workflows_early: bool,
    /// The version that `client-config` returns.
    pub version: String,
    /// The organization's feature flags.
    pub features: Vec<String>,
    /// The maximum number of rows in a page.
    pub page: usize,
    /// Whether a Client Secret is still shown: false once its first day is over.
    pub shows_secrets: bool,
    /// Whether a token may delete an integration. In 23.7.1 none may: its `scope_map` has a string where a list belongs.
    pub deletes_apps: bool,
    /// Whether actions of rules can be tested, as in 23.7.1.
    pub tests_rule_actions: bool,
    /// Whether integrations may subscribe to single events, as since July 2026.
    pub single_events: bool,
    /// Whether rules have filters, as since 20.12. A tag is then matched by a filter, not by a condition.
    pub rule_filters: bool,
    /// How long a minute of an alert's frequency lasts.
    pub minute: Duration,
    /// Whether webhooks of events are kept in `held` and not sent.
    pub holds_webhooks: bool,
    /// The webhooks that were kept and not sent.
    pub held: Vec<OutgoingWebhook>,
    /// The ids of all events that were accepted.
    pub events: Vec<String>,
    /// The tokens that are accepted.
    pub tokens: Vec<TwinToken>,
    /// The projects.
    pub projects: Vec<TwinProject>,
    /// The workflows, as the API shows them.
    pub workflows: Vec<Value>,
    /// The detectors, as the API shows them.
    pub detectors: Vec<Value>,
    /// The integrations, as the API shows them, with `clientSecret` and `sentryAppId`.
    pub apps: Vec<Value>,
    /// The rules that became workflows: number of the rule, number of the workflow.
    pub migrated: Vec<(String, String)>,
    /// The issues, as the API shows them.
    pub issue_rows: Vec<Value>,
    /// The events of the issues, as the API shows them, oldest first.
    pub event_rows: Vec<Value>,
    /// The alerts that fired for the issues.
    pub firings: Vec<AlertFiring>,
    /// Issues that were merged into others: child, parent.
    pub merged: Vec<(u64, u64)>,
    /// Whether a Sentry with rules keeps a history of their firings, as from 22.12 on.
    pub keeps_history: bool,
    /// The firings of metric alerts: identifier, and whether it is over.
    pub metric_incidents: Vec<(String, bool)>,
    /// The periods in which metric issues were open: detector, number, end in seconds since 1970 (`None` while it is open).
    pub open_periods: Vec<(String, u64, Option<i64>)>,
    /// The injected faults.
    pub faults: Vec<TwinFault>,
    /// All calls so far.
    pub calls: Vec<RecordedCall>,
    /// The maximum number of calls that were in progress at the same time.
    pub most_at_once: usize,
    /// Issues by project and fingerprint.
    pub(crate) issues: Vec<((u64, String), u64)>,
    /// When alerts fired last, by alert and issue.
    pub(crate) fired: Vec<((String, u64), Instant)>,
    pub(crate) under_way: usize,
    next_id: u64,
}

impl World {
    /// An empty organization with a member who may do everything.
    #[must_use]
    pub fn new(generation: SentryGeneration) -> Self {
        let scopes = [
            "org:read",
            "org:write",
            "org:admin",
            "org:integrations",
            "project:read",
            "project:write",
            "project:admin",
            "event:read",
            "event:write",
            "event:admin",
            "alerts:read",
            "alerts:write",
            "member:read",
            "team:read",
        ];
        let mut world = Self {
            generation,
            keeps_rules: false,
            has_workflows_early: false,
            version: match generation {
                SentryGeneration::Plugin => "9.1.2",
                SentryGeneration::Apps => "23.7.1",
                SentryGeneration::Workflows => "26.11.0",
            }
            .to_owned(),
            features: Vec::new(),
            page: 100,
            shows_secrets: true,
            deletes_apps: generation == SentryGeneration::Workflows,
            tests_rule_actions: true,
            single_events: generation == SentryGeneration::Workflows,
            rule_filters: generation == SentryGeneration::Apps,
            minute: Duration::from_mins(1),
            holds_webhooks: false,
            held: Vec::new(),
            events: Vec::new(),
            issues: Vec::new(),
            fired: Vec::new(),
            tokens: Vec::new(),
            projects: Vec::new(),
            workflows: Vec::new(),
            detectors: Vec::new(),
            apps: Vec::new(),
            migrated: Vec::new(),
            issue_rows: Vec::new(),
            event_rows: Vec::new(),
            firings: Vec::new(),
            merged: Vec::new(),
            keeps_history: generation != SentryGeneration::Plugin,
            metric_incidents: Vec::new(),
            open_periods: Vec::new(),
            faults: Vec::new(),
            calls: Vec::new(),
            most_at_once: 0,
            under_way: 0,
            next_id: 1,
        };
        world.add_token(TOKEN, Some("member@example.com"), &scopes);
        world
    }

    /// Returns a number that is not in use yet.
    pub fn take_id(&mut self) -> u64 {
        self.next_id += 1;
        self.next_id
    }

    /// Adds a token.
    pub fn add_token(&mut self, text: &str, user: Option<&str>, scopes: &[&str]) {
        let scopes = scopes.iter().map(|scope| (*scope).to_owned()).collect();
        self.tokens.push(TwinToken { text: text.to_owned(), user: user.map(str::to_owned), scopes });
    }

    /// Adds a project and returns its number. On a Sentry with detectors it gets the two that Sentry gives to each project.
    pub fn add_project(&mut self, slug: &str) -> u64 {
        let id = self.take_id();
        self.projects.push(TwinProject {
            id,
            slug: slug.to_owned(),
            hook_enabled: false,
            urls: Vec::new(),
            rules: Vec::new(),
            has_new_issues: false,
            key_enabled: true,
        });
        if self.generation == SentryGeneration::Workflows {
            for kind in ["error", "issue_stream"] {
                let detector = self.take_id();
                self.detectors.push(json!({
                    "id": detector.to_string(), "projectId": id.to_string(), "name": kind, "type": kind,
                    "workflowIds": [], "enabled": true,
                }));
            }
        }
        id
    }

    /// The project with this slug.
    pub fn project(&mut self, slug: &str) -> Option<&mut TwinProject> {
        self.projects.iter_mut().find(|project| project.slug == slug)
    }

    /// Adds an active rule with a frequency of 30 minutes and these actions to a project, and returns its number.
    ///
    /// # Panics
    ///
    /// When there is no such project.
    #[expect(clippy::expect_used, reason = "for tests alone")]
    pub fn add_rule(&mut self, project: &str, name: &str, actions: &Value) -> String {
        let id = self.take_id().to_string();
        let mut rule = json!({
            "id": id, "name": name, "actionMatch": "all", "frequency": 30, "environment": null,
            "conditions": [{"id": "sentry.rules.conditions.first_seen_event.FirstSeenEventCondition"}],
            "actions": actions, "dateCreated": "2026-11-01T00:00:00Z",
        });
        if self.generation != SentryGeneration::Plugin {
            rule["filters"] = json!([]);
            rule["filterMatch"] = json!("all");
            rule["status"] = json!("active");
            rule["snooze"] = json!(false);
        }
        self.project(project).expect("a project of this name").rules.push(rule);
        id
    }

    /// The number of a project's detector of this type.
    ///
    /// # Panics
    ///
    /// When there is none.
    #[must_use]
    #[expect(clippy::expect_used, reason = "for tests alone")]
    pub fn detector(&self, project: u64, kind: &str) -> String {
        let project = project.to_string();
        let found = self.detectors.iter().find(|one| one["projectId"] == project.as_str() && one["type"] == kind);
        found.and_then(|one| one["id"].as_str()).expect("a detector of this type").to_owned()
    }

    /// Adds a workflow with these detectors, triggers and actions, and returns its number. It last fired yesterday.
    pub fn add_workflow(&mut self, name: &str, detectors: &[String], triggers: &[&str], actions: &Value) -> String {
        let id = self.take_id().to_string();
        let triggers: Vec<Value> =
            triggers.iter().map(|kind| json!({"type": kind, "comparison": true, "conditionResult": true})).collect();
        self.workflows.push(json!({
            "id": id, "name": name, "enabled": true, "environment": null, "owner": null, "config": {"frequency": 30},
            "detectorIds": detectors, "lastTriggered": "2026-11-25T00:00:00Z",
            "triggers": {"id": "1", "logicType": "any-short", "conditions": triggers, "actions": []},
            "actionFilters": [{"id": "2", "logicType": "all", "conditions": [], "actions": actions}],
        }));
        id
    }

    /// Adds an internal integration that posts to `url`, and returns its slug and number.
    pub fn add_app(&mut self, name: &str, url: &str) -> (String, u64) {
        let id = self.take_id();
        let slug = format!("{}-{:06x}", name.to_lowercase().replace(' ', "-"), 0x00a1_b200 + id);
        self.apps.push(json!({
            "slug": slug, "name": name, "uuid": format!("00000000-0000-4000-8000-{id:012}"), "status": "internal",
            "events": ["issue"], "webhookEvents": [], "isAlertable": true, "isDisabled": false, "webhookUrl": url,
            "scopes": ["event:read"], "schema": {}, "verifyInstall": false, "overview": null,
            "clientId": format!("{id:064x}"), "clientSecret": format!("{:064x}", id * 7919),
            "owner": {"id": 1, "slug": crate::ORGANIZATION}, "sentryAppId": id,
        }));
        (slug, id)
    }

    /// Injects a fault into the next `times` calls whose path contains `path`.
    pub fn inject(&mut self, path: &str, times: usize, kind: TwinFaultKind) {
        self.faults.push(TwinFault { path: path.to_owned(), times, kind });
    }

    /// Returns the fault that affects a call to this path, if any, and counts it.
    pub(crate) fn due_fault(&mut self, path: &str) -> Option<TwinFaultKind> {
        let fault = self.faults.iter_mut().find(|fault| fault.times > 0 && path.contains(&fault.path))?;
        fault.times -= 1;
        Some(fault.kind.clone())
    }

    pub(crate) fn has_workflows(&self) -> bool {
        self.generation == SentryGeneration::Workflows || self.has_workflows_early
    }
}
