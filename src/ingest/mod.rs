//! From a request to a decision, as a pure function: its only inputs are headers, bytes, a time and the settings.
//!
//! [`Ingest::decide`] is called by `explain` and by the retry of a rejected or held webhook, and
//! [`Ingest::decide_with_format`] by the webhook, which counts by format. What was read from Sentry's API is decided by
//! [`Ingest::decide_on_fetched`]. `explain` also shows the event of [`Ingest::trigger_of`].

pub mod canary;

use std::sync::Arc;

use chrono::{DateTime, Utc};
use thiserror::Error;
use tokio::sync::watch;

use crate::alert::{Alert, IncidentAction, Level, Subject, TriggerKind};
use crate::config::{Config, IncidentScope, ResolveScope};
use crate::envelope::{Dedup, EnqueueRequest, Envelope, FollowUp, Reopening};
use crate::pagerduty::map::action_of;
use crate::pagerduty::{Destination, Event, EventType, IncidentKey, ServiceKey, Template};
use crate::redaction::Redaction;
use crate::routing::{self, Routes, SeverityRule};
use crate::sentry::{NoActionReason, ParseFailure};

pub use crate::sentry::{Rejection, Webhook, WebhookFormat};
pub use canary::{CanaryId, CanaryMark};

/// What the key of a shared incident begins with, after the prefix: the scope of the incident.
const RULE: &str = "rule";
const PROJECT: &str = "project";

/// How many canary marks are known at most: that of the default key, and those of earlier default keys.
const MAX_MARKS: usize = 4;

/// What a decision depends on besides the webhook. Clones share the routes.
#[derive(Clone, Debug)]
pub struct Ingest {
    routing_state: watch::Sender<Arc<RoutingState>>,
    policy: Policy,
}

/// The parts of a decision that depend on the service keys.
#[derive(Clone, Debug)]
struct RoutingState {
    routes: Routes,
    /// The marks that recognise canaries, that of the default key first. Older marks are kept, because a canary that is
    /// on its way while the default key changes must not page when it comes back.
    canaries: Vec<CanaryMark>,
}

/// What the operator wants done with alerts.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// The prefix of the name of an issue or metric alert in an incident key.
    pub incident_key_prefix: String,
    /// What one incident stands for. A metric alert always has one of its own.
    pub incident_scope: IncidentScope,
    /// The lowest level that is sent to PagerDuty; `None` for all.
    pub min_level: Option<Level>,
    /// The webhooks that open incidents.
    pub page_on: Vec<TriggerKind>,
    /// Which incidents Sentry's resolved webhooks close.
    pub resolve: ResolveScope,
    /// Whether assigning an issue acknowledges its incident.
    pub acknowledge: bool,
    /// The template for the descriptions of triggers; `None` for descriptions like those of Sentry's plugin.
    pub description: Option<Template>,
    /// The rules for the severity of alerts. The first that matches wins; without one, the severity is the alert's own.
    pub severity: Vec<SeverityRule>,
    /// The fields of an alert that are never stored or sent.
    pub redaction: Redaction,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            incident_key_prefix: String::new(),
            incident_scope: IncidentScope::Issue,
            min_level: None,
            page_on: vec![TriggerKind::Alert, TriggerKind::Metric],
            resolve: ResolveScope::Opened,
            acknowledge: false,
            description: None,
            severity: Vec::new(),
            redaction: Redaction::default(),
        }
    }
}

/// What a decision about an alert depends on besides the alert: how and when it came.
struct AlertContext<'a> {
    format: WebhookFormat,
    idempotency_key: Option<&'a str>,
    /// The body, if it is signed.
    signed: Option<&'a [u8]>,
    sentry_at: Option<DateTime<Utc>>,
    received_at: DateTime<Utc>,
}

/// What to do with a webhook.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    /// Pass it to the queue.
    Enqueue(Box<EnqueueRequest>),
    /// Accept the webhook and do nothing.
    Ignored(IgnoreReason),
    /// Reject the webhook.
    Rejected(Rejection),
}

/// Why nothing is done; `Display` is a sentence.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum IgnoreReason {
    /// The webhook asks for nothing.
    #[error(transparent)]
    NoAction(NoActionReason),
    /// The level is too low.
    #[error("the level {} is below BRIDGE_MIN_LEVEL, which is {}", .level.name(), .min_level.name())]
    BelowMinLevel {
        /// Its level.
        level: Level,
        /// The lowest level that is sent to PagerDuty.
        min_level: Level,
    },
    /// The operator does not want to be paged for it.
    #[error("it opens no incident, because BRIDGE_PAGE_ON does not name `{}`", .0.name())]
    NotPagedOn(TriggerKind),
    /// Resolving incidents from Sentry is off.
    #[error("BRIDGE_RESOLVE is off, so incidents stay open when their issue is resolved")]
    ResolveOff,
    /// Acknowledging incidents from Sentry is off.
    #[error("BRIDGE_ACKNOWLEDGE is off, so assigning an issue acknowledges nothing")]
    AcknowledgeOff,
    /// The same webhook was received within the dedup window.
    #[error("duplicate of a webhook received within the last 20 minutes")]
    Repeated,
    /// The same signed body was received before, and nothing proves that Sentry sent it again.
    #[error("duplicate of an earlier resolve, byte for byte: it may be a replayed copy, so it resolves nothing")]
    Replayed,
    /// Sentry received an alert of the incident after it had sent this resolve.
    #[error("Sentry received an alert after it had sent this resolve, so the incident is open again and stays open")]
    Outdated,
    /// Other issues share the incident.
    #[error("other issues of its incident are still open, so the incident stays open (BRIDGE_INCIDENT_KEY)")]
    StaysOpen,
    /// It is about a canary, which came back. Has the id of the canary's event if the webhook names one.
    #[error("it is the canary that the bridge sent through Sentry, which pages nobody")]
    Canary(Option<CanaryId>),
    /// The bridge itself made the issue unresolved.
    #[error("the bridge itself unresolved the issue, because its incident was reopened in PagerDuty")]
    Echo,
    /// There is no incident to which the bridge could apply the event.
    #[error("{}", nothing_open(*.0))]
    NothingOpen(EventType),
}

fn nothing_open(event_type: EventType) -> String {
    match event_type {
        EventType::Trigger => "the bridge opened no incident for it before, so there is none to open again".to_owned(),
        other => format!("the bridge knows of no open incident for it, so there is nothing to {other}"),
    }
}

impl From<&Config> for Ingest {
    fn from(config: &Config) -> Self {
        let policy = Policy {
            incident_key_prefix: config.incident_key_prefix.clone(),
            incident_scope: config.incident_key,
            min_level: config.min_level,
            page_on: config.page_on.clone(),
            resolve: config.resolve,
            acknowledge: config.acknowledge,
            description: config.description.clone(),
            severity: config.severity.clone(),
            redaction: config.redact.clone(),
        };
        Self::new(config.routes(), policy)
    }
}

impl Ingest {
    /// An ingest with these routes and this policy.
    #[must_use]
    pub fn new(routes: Routes, policy: Policy) -> Self {
        let canaries = vec![CanaryMark::new(routes.default_key())];
        Self { routing_state: watch::Sender::new(Arc::new(RoutingState { routes, canaries })), policy }
    }

    /// Uses these routes from the next decision on, in all clones.
    pub fn replace_routes(&self, routes: Routes) {
        self.routing_state.send_modify(|routing_state| {
            let mut canaries = routing_state.canaries.clone();
            if routing_state.routes.default_key() != routes.default_key() {
                canaries.insert(0, CanaryMark::new(routes.default_key()));
                canaries.truncate(MAX_MARKS);
            }
            *routing_state = Arc::new(RoutingState { routes, canaries });
        });
    }

    /// The integration with this key, and the API by which it takes events.
    #[must_use]
    pub fn destination(&self, key: &ServiceKey) -> Destination {
        self.routing_state().routes.destination(key)
    }

    /// Every service key that an alert may go to.
    #[must_use]
    pub fn keys(&self) -> Vec<ServiceKey> {
        self.routing_state().routes.keys().into_iter().cloned().collect()
    }

    /// The mark for new canaries.
    #[must_use]
    pub fn canary(&self) -> CanaryMark {
        let routing_state = self.routing_state();
        // There is always one.
        routing_state.canaries.first().cloned().unwrap_or_else(|| CanaryMark::new(routing_state.routes.default_key()))
    }

    fn routing_state(&self) -> Arc<RoutingState> {
        Arc::clone(&self.routing_state.borrow())
    }

    /// Decides what to do with a webhook. With the same routes the same webhook always gets the same decision.
    #[must_use]
    pub fn decide(&self, webhook: &Webhook<'_>) -> Decision {
        self.decide_with_format(webhook).0
    }

    /// Decides what to do with a webhook, and returns the format of its body; `None` when nothing shows it.
    #[must_use]
    pub fn decide_with_format(&self, webhook: &Webhook<'_>) -> (Decision, Option<WebhookFormat>) {
        match webhook.parse() {
            Ok((alert, format)) => {
                let context = AlertContext {
                    format,
                    idempotency_key: webhook.idempotency_key,
                    signed: webhook.is_signature_verified.then_some(webhook.body),
                    sentry_at: webhook.sentry_time(&alert),
                    received_at: webhook.received_at,
                };
                (self.decide_on(alert, &context), Some(format))
            }
            // A legacy body is either an alert or not from Sentry, so this webhook is from the platform.
            Err(ParseFailure::Ignored(reason)) => {
                (Decision::Ignored(IgnoreReason::NoAction(reason)), Some(WebhookFormat::Platform))
            }
            Err(ParseFailure::Rejected(rejection)) => {
                (Decision::Rejected(rejection), webhook.has_platform_headers().then_some(WebhookFormat::Platform))
            }
        }
    }

    /// Decides what to do with an alert that was read from Sentry's API because no webhook of it came. It is recognised
    /// as a repetition of its webhook, and its webhook as a repetition of it.
    ///
    /// `sentry_at` is by Sentry's clock, as in [`EnqueueRequest`]; `received_at` is when the alert was read.
    #[must_use]
    pub fn decide_on_fetched(
        &self,
        alert: Alert,
        sentry_at: Option<DateTime<Utc>>,
        received_at: DateTime<Utc>,
    ) -> Decision {
        // Webhooks in either format are recognised as repetitions of an alert from the platform.
        let format = WebhookFormat::Platform;
        self.decide_on(alert, &AlertContext { format, idempotency_key: None, signed: None, sentry_at, received_at })
    }

    /// The prefix of the name of an issue or metric alert in an incident key.
    #[must_use]
    pub fn incident_key_prefix(&self) -> &str {
        &self.policy.incident_key_prefix
    }

    fn decide_on(&self, alert: Alert, context: &AlertContext<'_>) -> Decision {
        let routing_state = self.routing_state();
        if let Some(canary) = routing_state.canaries.iter().find_map(|mark| mark.recognize(&alert)) {
            return Decision::Ignored(IgnoreReason::Canary(canary));
        }
        let trigger_kind = match alert.action {
            IncidentAction::Trigger(trigger_kind) | IncidentAction::Reopen(trigger_kind) => trigger_kind,
            IncidentAction::Acknowledge if !self.policy.acknowledge => {
                return Decision::Ignored(IgnoreReason::AcknowledgeOff);
            }
            IncidentAction::Resolve if self.policy.resolve == ResolveScope::Off => {
                return Decision::Ignored(IgnoreReason::ResolveOff);
            }
            IncidentAction::Acknowledge | IncidentAction::Resolve => {
                return self.follow_up(alert, &routing_state.routes, context);
            }
        };
        // A level that is missing or not Sentry's own says nothing about the severity, so it pages.
        let level = alert.level.as_deref().and_then(Level::parse);
        if let (Some(level), Some(min_level)) = (level, self.policy.min_level)
            && level < min_level
        {
            return Decision::Ignored(IgnoreReason::BelowMinLevel { level, min_level });
        }
        if matches!(alert.action, IncidentAction::Reopen(_)) {
            self.follow_up(alert, &routing_state.routes, context)
        } else if self.pages_on(trigger_kind) {
            self.trigger(alert, trigger_kind, &routing_state.routes, context)
        } else {
            Decision::Ignored(IgnoreReason::NotPagedOn(trigger_kind))
        }
    }

    fn pages_on(&self, trigger_kind: TriggerKind) -> bool {
        self.policy.page_on.contains(&trigger_kind)
    }

    fn trigger(
        &self,
        alert: Alert,
        trigger_kind: TriggerKind,
        routes: &Routes,
        context: &AlertContext<'_>,
    ) -> Decision {
        let destination = routes.destination_of(&alert);
        let (format, idempotency_key) = (context.format, context.idempotency_key);
        let rule = self.rule_of(&alert);
        let dedup = Dedup::of_trigger(&alert, trigger_kind, format, &destination.service_key, rule, idempotency_key);
        let (event, issue_key) = self.event(alert, destination);
        let envelope = Envelope { issue_key, ..Envelope::new(&event, context.received_at) };
        Decision::Enqueue(Box::new(EnqueueRequest::Event { envelope, sentry_at: context.sentry_at, dedup }))
    }

    /// The event that an alert becomes if it opens an incident, before it is rendered.
    ///
    /// # Errors
    ///
    /// When the webhook is not an alert.
    pub fn trigger_of(&self, webhook: &Webhook<'_>) -> Result<Event, ParseFailure> {
        let (alert, _) = webhook.parse()?;
        let routing_state = self.routing_state();
        let destination = routing_state.routes.destination_of(&alert);
        Ok(self.event(alert, destination).0)
    }

    /// The event of an alert that opens an incident, and the key of its issue if other issues share the incident.
    fn event(&self, mut alert: Alert, destination: Destination) -> (Event, Option<IncidentKey>) {
        let severity = routing::severity(&self.policy.severity, &alert);
        let own_key = IncidentKey::of(&self.policy.incident_key_prefix, &alert.subject);
        let (incident_key, issue_key) = match self.shared_key(&alert) {
            Some(shared_key) => (shared_key, Some(own_key)),
            None => (own_key, None),
        };
        self.policy.redaction.apply(&mut alert);
        let action = action_of(alert, severity, self.policy.description.as_ref());
        (Event { destination, incident_key, action }, issue_key)
    }

    /// The key of the incident that an alert shares with others; `None` where it has one of its own.
    fn shared_key(&self, alert: &Alert) -> Option<IncidentKey> {
        let scope = self.policy.incident_scope;
        if matches!(alert.subject, Subject::Metric(_)) || scope == IncidentScope::Issue {
            return None;
        }
        let project = alert.project.slug.as_deref().or(alert.project.name.as_deref());
        let prefix = &self.policy.incident_key_prefix;
        if scope == IncidentScope::Project {
            return Some(IncidentKey::of_shared(prefix, PROJECT, &[project?]));
        }
        // Rules of several projects often have the same name.
        let names: Vec<_> = project.into_iter().chain([self.rule_of(alert)?]).collect();
        Some(IncidentKey::of_shared(prefix, RULE, &names))
    }

    /// The rule that the incident of an alert stands for; `None` where it stands for something else.
    fn rule_of<'a>(&self, alert: &'a Alert) -> Option<&'a str> {
        let rule = alert.rules.first().filter(|_| self.policy.incident_scope == IncidentScope::Rule);
        rule.map(String::as_str)
    }

    /// How the current settings route an issue that is back.
    fn reopening(&self, alert: &Alert, routes: &Routes) -> Reopening {
        let kind = match self.policy.incident_scope {
            IncidentScope::Issue => None,
            IncidentScope::Rule => Some(RULE),
            IncidentScope::Project => Some(PROJECT),
        };
        Reopening {
            service_key: routes.key_for(alert).clone(),
            configured: routes.keys().into_iter().cloned().collect(),
            shared_prefix: kind.map(|kind| IncidentKey::shared_prefix(&self.policy.incident_key_prefix, kind)),
        }
    }

    fn follow_up(&self, mut alert: Alert, routes: &Routes, context: &AlertContext<'_>) -> Decision {
        let fallback = match alert.action {
            // An incident that other issues may share is not closed because of an issue that the bridge does not know.
            IncidentAction::Resolve => {
                let is_shared =
                    self.policy.incident_scope != IncidentScope::Issue && matches!(alert.subject, Subject::Issue(_));
                (self.policy.resolve == ResolveScope::All && !is_shared).then(|| routes.default_key().clone())
            }
            IncidentAction::Trigger(trigger_kind) | IncidentAction::Reopen(trigger_kind) => {
                self.pages_on(trigger_kind).then(|| routes.key_for(&alert).clone())
            }
            IncidentAction::Acknowledge => None,
        };
        let reopening = match alert.action {
            IncidentAction::Trigger(_) | IncidentAction::Reopen(_) => Some(self.reopening(&alert, routes)),
            IncidentAction::Acknowledge | IncidentAction::Resolve => None,
        };
        let dedup = Dedup::of_follow_up(&alert, context.idempotency_key, context.signed);
        let severity = routing::severity(&self.policy.severity, &alert);
        let shared_key = self.shared_key(&alert);
        self.policy.redaction.apply(&mut alert);
        let follow_up = FollowUp {
            shared_key,
            incident_key: IncidentKey::of(&self.policy.incident_key_prefix, &alert.subject),
            action: action_of(alert, severity, self.policy.description.as_ref()),
            sentry_at: context.sentry_at,
            received_at: context.received_at,
            fallback,
            reopening,
            apis: routes.apis().clone(),
            dedup,
        };
        Decision::Enqueue(Box::new(EnqueueRequest::FollowUp(Box::new(follow_up))))
    }
}
