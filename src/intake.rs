//! The pure way from a request to a verdict: bytes, a header and a time go in, nothing else.
//!
//! The webhook, `explain` and whatever maps a stored body anew all call [`Intake::judge`].

use std::fmt;

use chrono::{DateTime, Utc};
use thiserror::Error;

use crate::alert::{Alert, Level};
use crate::pagerduty::map::event_of;
use crate::pagerduty::{Cut, WireEvent};
use crate::routing::Routes;
use crate::sentry::json::{self, NotJson};
use crate::sentry::legacy;

/// What a verdict depends on besides the webhook.
#[derive(Clone, Debug)]
pub struct Intake {
    routes: Routes,
    incident_key_prefix: String,
    min_level: Option<Level>,
}

/// A webhook as it came in.
#[derive(Clone, Copy, Debug)]
pub struct Webhook<'a> {
    /// The header `Sentry-Hook-Resource`, which only the integration platform sends.
    pub resource: Option<&'a str>,
    /// The body, byte for byte.
    pub body: &'a [u8],
    /// When it came: the time of an event that tells none.
    pub received_at: DateTime<Utc>,
}

/// What is to be done with a webhook.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict {
    /// Queue the event.
    Queue(Box<Prepared>),
    /// Say yes and do nothing.
    Ignored(Ignored),
    /// Say no.
    Rejected(Rejection),
}

/// An event that is ready to be queued, and how it came about.
#[derive(Clone, Debug, PartialEq)]
pub struct Prepared {
    /// The event.
    pub event: WireEvent,
    /// What it had to lose.
    pub cuts: Vec<Cut>,
    /// What Sentry told.
    pub alert: Alert,
}

/// Why nothing is done.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Ignored {
    /// The integration platform's webhooks.
    Platform,
    /// An alert milder than it has to be.
    Mild {
        /// Its level.
        level: Level,
        /// The mildest level that is told to PagerDuty.
        min_level: Level,
    },
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Platform => f.write_str(
                "This is a webhook of Sentry's integration platform, and this version understands only those of the \
                 legacy WebHooks plugin.",
            ),
            Self::Mild { level, min_level } => {
                write!(f, "The level {} is below BRIDGE_MIN_LEVEL, which is {}.", level.name(), min_level.name())
            }
        }
    }
}

/// Why a body is refused; never repeats what is in it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Rejection {
    /// It is no JSON, even after repair.
    #[error(transparent)]
    NotJson(#[from] NotJson),
    /// It is JSON, but nothing that Sentry sends.
    #[error("The body is JSON, but no webhook of Sentry: it tells of neither an event nor a project.")]
    NotSentry,
    /// It looks like Sentry's, but no incident key can be made of it.
    #[error("The body looks like a webhook of Sentry, but names no issue: it has no `id`, and no issue in its `url`.")]
    NoIssue,
}

impl Intake {
    /// An intake with the routes, the prefix of incident keys and the mildest level that is told to PagerDuty, if any
    /// is left out.
    #[must_use]
    pub fn new(routes: Routes, incident_key_prefix: String, min_level: Option<Level>) -> Self {
        Self { routes, incident_key_prefix, min_level }
    }

    /// Judges a webhook. The same webhook always gets the same verdict.
    #[must_use]
    pub fn judge(&self, webhook: &Webhook<'_>) -> Verdict {
        match read(webhook) {
            Ok(Some(alert)) => self.judge_alert(alert),
            Ok(None) => Verdict::Ignored(Ignored::Platform),
            Err(rejection) => Verdict::Rejected(rejection),
        }
    }

    fn judge_alert(&self, alert: Alert) -> Verdict {
        // A level that is missing or not Sentry's own says nothing about how bad it is, so it pages.
        let level = alert.level.as_deref().and_then(Level::parse);
        if let (Some(level), Some(min_level)) = (level, self.min_level)
            && level < min_level
        {
            return Verdict::Ignored(Ignored::Mild { level, min_level });
        }
        let service_key = self.routes.choose(&alert).key.clone();
        let (event, cuts) = WireEvent::fit(event_of(&alert, service_key, &self.incident_key_prefix));
        Verdict::Queue(Box::new(Prepared { event, cuts, alert }))
    }
}

/// The alert; `None` for webhooks of the integration platform, whose header tells them apart and, where a proxy has
/// taken it off, their shape.
fn read(webhook: &Webhook<'_>) -> Result<Option<Alert>, Rejection> {
    let body = json::read::<legacy::Body>(webhook.body)?;
    if webhook.resource.is_some() || body.as_ref().is_some_and(legacy::Body::is_of_the_platform) {
        return Ok(None);
    }
    let body = body.filter(legacy::Body::is_of_the_plugin).ok_or(Rejection::NotSentry)?;
    let issue = body.issue().ok_or(Rejection::NoIssue)?;
    Ok(Some(body.into_alert(issue, webhook.received_at)))
}
