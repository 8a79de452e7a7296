//! The pure way from a request to a verdict: bytes, headers and a time go in, nothing else.
//!
//! The webhook, `explain` and whatever maps a stored body anew all call [`Ingest::judge`].
//!
//! - `read`: from a request to what Sentry told by it
//! - [`verdict`]: what is to be done with a webhook
//! - [`follow_up`]: events for incidents that are open already, wherever they are
//! - [`dedup`]: how two webhooks are known to tell the same

pub mod dedup;
pub mod follow_up;
mod read;
pub mod verdict;

use chrono::{DateTime, TimeDelta, Utc};

use crate::alert::{Action, Alert, Level, Opening};
use crate::config::{Config, ResolveScope};
use crate::pagerduty::map::{action_of, event_of};
use crate::pagerduty::{Destination, IncidentKey, ServiceKey, render};
use crate::redaction::Redaction;
use crate::routing::Routes;

pub use dedup::{Dedup, DedupKey, Generation};
pub use follow_up::FollowUp;
pub use verdict::{Ignored, Prepared, Rejection, Verdict};

use read::{Heard, read};

/// How old a webhook may call itself. Sentry waits seconds for an answer and repeats what failed after five minutes.
const OLDEST: TimeDelta = TimeDelta::minutes(10);

/// What a verdict depends on besides the webhook.
#[derive(Clone, Debug)]
pub struct Ingest {
    routes: Routes,
    policy: Policy,
}

/// What is done with alerts, as the operator wants it.
#[derive(Clone, Debug, PartialEq)]
pub struct Policy {
    /// What is written before the name of an issue or metric alert in an incident key.
    pub incident_key_prefix: String,
    /// The mildest level that is told to PagerDuty, if any is left out.
    pub min_level: Option<Level>,
    /// What opens incidents.
    pub page_on: Vec<Opening>,
    /// Which incidents Sentry's resolved webhooks close.
    pub resolve: ResolveScope,
    /// Whether an issue that was assigned to somebody acknowledges its incident.
    pub acknowledge: bool,
    /// What of an alert is never kept nor sent.
    pub redaction: Redaction,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            incident_key_prefix: String::new(),
            min_level: None,
            page_on: vec![Opening::Alert, Opening::Metric],
            resolve: ResolveScope::Opened,
            acknowledge: false,
            redaction: Redaction::default(),
        }
    }
}

/// A webhook as it came in.
#[derive(Clone, Copy, Debug)]
pub struct Webhook<'a> {
    /// The header `Sentry-Hook-Resource`, which only the integration platform sends.
    pub resource: Option<&'a str>,
    /// Whether it has the header `Sentry-App-Signature`, as requests of Sentry's own pages have.
    pub from_sentrys_pages: bool,
    /// The header `Idempotency-Key`, the same for every repetition of one delivery; Sentry sends it since 2026.
    pub idempotency_key: Option<&'a str>,
    /// The header `Sentry-Hook-Timestamp`: when Sentry says that it sent it, by Sentry's clock.
    pub sent_at: Option<DateTime<Utc>>,
    /// The body, byte for byte.
    pub body: &'a [u8],
    /// Whether a signature of Sentry's proves its body. The headers are not signed.
    pub is_signed: bool,
    /// When it came: the time of an event that tells none.
    pub received_at: DateTime<Utc>,
}

impl<'a> Webhook<'a> {
    /// A body without any header of Sentry's, as the legacy plugin sends it.
    #[must_use]
    pub fn of_body(body: &'a [u8], received_at: DateTime<Utc>) -> Self {
        Self {
            resource: None,
            from_sentrys_pages: false,
            idempotency_key: None,
            sent_at: None,
            body,
            is_signed: false,
            received_at,
        }
    }

    /// Whether its headers say that the integration platform sent it.
    fn is_of_the_platform(&self) -> bool {
        self.resource.is_some() || self.from_sentrys_pages
    }

    /// When it was sent. Nobody signs the header, and clocks differ: what cannot be true is when it came.
    fn sent_at(&self) -> DateTime<Utc> {
        self.believed(self.sent_at).unwrap_or(self.received_at)
    }

    /// A time of Sentry's clock, unless the bridge's own clock says that it cannot be.
    fn believed(&self, at: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
        at.filter(|at| (self.received_at - OLDEST..=self.received_at).contains(at))
    }

    /// When Sentry received what `alert` tells of, or told of it where no event is behind it.
    fn time_of(&self, alert: &Alert) -> Option<DateTime<Utc>> {
        self.believed(alert.received.or(self.sent_at))
    }
}

impl Ingest {
    /// Every service key that an alert may go to.
    #[must_use]
    pub fn keys(&self) -> Vec<&ServiceKey> {
        self.routes.keys()
    }

    /// An ingest that sends alerts by `routes` and does with them what `policy` says.
    #[must_use]
    pub fn new(routes: Routes, policy: Policy) -> Self {
        Self { routes, policy }
    }

    /// The ingest that the configuration asks for.
    #[must_use]
    pub fn of(config: &Config) -> Self {
        let policy = Policy {
            incident_key_prefix: config.incident_key_prefix.clone(),
            min_level: config.min_level,
            page_on: config.page_on.clone(),
            resolve: config.resolve,
            acknowledge: config.acknowledge,
            redaction: config.redact.clone(),
        };
        Self::new(config.routes(), policy)
    }

    /// Judges a webhook. The same webhook always gets the same verdict.
    #[must_use]
    pub fn judge(&self, webhook: &Webhook<'_>) -> Verdict {
        self.judge_and_place(webhook).0
    }

    /// Judges a webhook, and tells which of Sentry's two ways it came by; `None` when nothing shows that.
    #[must_use]
    pub fn judge_and_place(&self, webhook: &Webhook<'_>) -> (Verdict, Option<Generation>) {
        match read(webhook) {
            Ok(Heard::Alert(alert, generation)) => (self.judge_alert(*alert, generation, webhook), Some(generation)),
            // The plugin knows nothing but alerts.
            Ok(Heard::Nothing(silence)) => (Verdict::Ignored(Ignored::Silent(silence)), Some(Generation::Platform)),
            Err(rejection) => {
                (Verdict::Rejected(rejection), webhook.is_of_the_platform().then_some(Generation::Platform))
            }
        }
    }

    /// The alert a webhook tells of with nothing taken out: what its route was chosen by. For people who ask why, not
    /// for keeping.
    #[must_use]
    pub fn alert(webhook: &Webhook<'_>) -> Option<Alert> {
        match read(webhook) {
            Ok(Heard::Alert(alert, _)) => Some(*alert),
            Ok(Heard::Nothing(_)) | Err(_) => None,
        }
    }

    fn judge_alert(&self, alert: Alert, generation: Generation, webhook: &Webhook<'_>) -> Verdict {
        let opening = match alert.action {
            Action::Trigger(opening) => opening,
            Action::Acknowledge if !self.policy.acknowledge => return Verdict::Ignored(Ignored::NoAcknowledging),
            Action::Resolve if self.policy.resolve == ResolveScope::Off => {
                return Verdict::Ignored(Ignored::NoResolving);
            }
            Action::Acknowledge | Action::Resolve => return self.follow_up(alert, webhook),
        };
        // A level that is missing or not Sentry's own says nothing about how bad it is, so it pages.
        let level = alert.level.as_deref().and_then(Level::parse);
        if let (Some(level), Some(min_level)) = (level, self.policy.min_level)
            && level < min_level
        {
            return Verdict::Ignored(Ignored::Mild { level, min_level });
        }
        if opening == Opening::IssueUnresolved {
            self.follow_up(alert, webhook)
        } else if self.pages_on(opening) {
            self.prepare(alert, opening, generation, webhook)
        } else {
            Verdict::Ignored(Ignored::NoPaging(opening))
        }
    }

    fn pages_on(&self, opening: Opening) -> bool {
        self.policy.page_on.contains(&opening)
    }

    fn prepare(&self, mut alert: Alert, opening: Opening, generation: Generation, webhook: &Webhook<'_>) -> Verdict {
        let service_key = self.routes.choose(&alert).key.clone();
        let dedup = Dedup::of_trigger(&alert, opening, generation, &service_key, webhook.idempotency_key);
        let happened_at = webhook.time_of(&alert);
        self.policy.redaction.apply(&mut alert);
        let event = event_of(&alert, Destination::v1(service_key), &self.policy.incident_key_prefix);
        let rendered = render(&event);
        Verdict::Queue(Box::new(Prepared { event, rendered, alert, happened_at, dedup }))
    }

    /// Only the bridge's memory knows where the incident is: these webhooks carry no tags.
    fn follow_up(&self, mut alert: Alert, webhook: &Webhook<'_>) -> Verdict {
        let fallback = match alert.action {
            Action::Resolve => (self.policy.resolve == ResolveScope::All).then(|| self.routes.default_key().clone()),
            Action::Trigger(opening) => self.pages_on(opening).then(|| self.routes.choose(&alert).key.clone()),
            Action::Acknowledge => None,
        };
        let signed = webhook.is_signed.then_some(webhook.body);
        let dedup = Dedup::of_follow_up(&alert, webhook.idempotency_key, signed);
        let happened_at = webhook.time_of(&alert);
        self.policy.redaction.apply(&mut alert);
        Verdict::Follow(Box::new(FollowUp {
            incident_key: IncidentKey::of(&self.policy.incident_key_prefix, &alert.subject),
            action: action_of(&alert),
            happened_at,
            fallback,
            dedup,
        }))
    }
}
