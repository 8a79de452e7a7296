//! The types of Sentry's responses, parsed once and leniently: only the fields that are used, ids as text or number, and
//! missing values left out.
//!
//! Rules and workflows are written back as a whole ([`AlertRule::raw`], [`Workflow::raw`]): a PUT replaces the object, so
//! fields that the bridge does not know must be preserved.

mod alert;
mod issue;

use std::fmt;

use chrono::{DateTime, Utc};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::printable::line;
pub use alert::{AlertRule, AlertRuleAction, Workflow, WorkflowAction};
pub use issue::{Firing, IssueRoute, SentryIssue, TimeWindow};

/// A JSON object as Sentry sent it.
pub type JsonObject = Map<String, Value>;

/// Who the token belongs to and what it may do; `Display` describes it in words.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Identity {
    /// The user, by e-mail address or name; `None` for tokens that belong to no user.
    pub user: Option<String>,
    /// The token's scopes; `None` if Sentry does not return them.
    pub scopes: Option<Vec<String>>,
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.user {
            Some(user) => f.write_str(&line(user))?,
            None => f.write_str("none (the token of an integration or organization)")?,
        }
        match &self.scopes {
            Some(scopes) => write!(f, ", with the scopes {}", scopes.join(", ")),
            None => Ok(()),
        }
    }
}

/// The organization.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Organization {
    /// Its feature flags.
    pub features: Vec<String>,
}

/// What decides whom Sentry notifies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AlertSystem {
    /// Alert rules of each project, up to about 2025. Their legacy webhooks are at `plugins/webhooks/`.
    Rules,
    /// Workflows of the organization, on sentry.io since 2026 and on self-hosted Sentry from 26.7 on. Their legacy webhooks
    /// are at `legacy-webhooks/`.
    Workflows,
}

/// A project, as the organization's list shows it, and what an [`Inventory`](super::Inventory) reads for it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct SentryProject {
    /// Its number, as text.
    #[serde(deserialize_with = "id")]
    pub id: String,
    /// Its slug.
    pub slug: String,
    /// Whether the token's owner has access to it; Sentry also lists projects without access.
    #[serde(default = "yes")]
    pub has_access: bool,
    /// Its rules; `None` where this Sentry has none, or does not show them.
    #[serde(skip)]
    pub rules: Option<Vec<AlertRule>>,
    /// Its legacy webhooks; `None` where this Sentry has none, or does not show them.
    #[serde(skip)]
    pub hook: Option<LegacyHook>,
    /// Whether it has issues of the last two weeks; `None` if this was not read.
    #[serde(skip)]
    pub has_new_issues: Option<bool>,
}

/// A detector ("Monitor"), which finds issues in a project.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Detector {
    /// Its number, as text.
    #[serde(deserialize_with = "id")]
    pub id: String,
    /// The number of its project; `None` for a detector of all projects.
    #[serde(default, deserialize_with = "maybe_id")]
    pub project_id: Option<String>,
    /// `error`, `issue_stream`, `metric_issue`, `uptime_domain_failure` and others.
    #[serde(rename = "type", default)]
    pub kind: String,
    /// Whether it is switched on.
    #[serde(default = "yes")]
    pub enabled: bool,
}

/// An integration ("Sentry app") of the organization.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct SentryApp {
    /// Its slug.
    pub slug: String,
    /// Its name.
    pub name: String,
    /// `internal`, `unpublished` or `published`.
    pub status: String,
    /// The resources it subscribes to, such as `issue`.
    pub events: Vec<String>,
    /// The single events it subscribes to, such as `issue.resolved`; empty on Sentry versions older than July 2026.
    #[serde(deserialize_with = "or_default")]
    pub webhook_events: Vec<String>,
    /// Whether alerts may use it as an action.
    pub is_alertable: bool,
    /// Whether Sentry has switched it off.
    #[serde(deserialize_with = "or_default")]
    pub is_disabled: bool,
    /// The address its webhooks are sent to.
    pub webhook_url: Option<String>,
    /// The scopes of its token.
    pub scopes: Vec<String>,
    /// The secret that signs its webhooks, if Sentry shows it to this token; see [`AppSecret::readable`].
    pub client_secret: Option<AppSecret>,
}

impl SentryApp {
    /// Whether it subscribes to an event such as `issue.resolved`, or to all of a resource such as `error`.
    #[must_use]
    pub fn hears(&self, event: &str) -> bool {
        let resource = event.split('.').next();
        if self.webhook_events.is_empty() {
            return self.events.iter().any(|other| other == event || Some(other.as_str()) == resource);
        }
        // In this case `events` contains a resource even if only one of its events is subscribed to.
        let is_resource = resource == Some(event);
        let mut events = self.webhook_events.iter();
        events.any(|other| other == event || (is_resource && other.split('.').next() == resource))
    }
}

/// An integration, as alerts and installations refer to it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct AppReference {
    /// Its slug.
    pub slug: String,
    /// Its number, by which actions of workflows refer to it; absent before 2026.
    #[serde(rename = "sentryAppId", default, deserialize_with = "maybe_id")]
    pub id: Option<String>,
}

/// An installation of an integration in the organization.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
pub struct Installation {
    /// The installation's own id.
    pub uuid: String,
    /// The integration.
    pub app: AppReference,
    /// `installed` or `pending`.
    #[serde(default)]
    pub status: String,
}

/// The legacy webhooks of one project.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LegacyHook {
    /// The alerts that call it, which decide at which endpoint it is read and changed.
    pub alerts: AlertSystem,
    /// Whether it is switched on.
    pub enabled: bool,
    /// The addresses it posts to. An address may contain a token, so it is never shown unmasked.
    pub urls: Vec<String>,
}

/// A Client Secret; not shown by `Debug`.
#[derive(Clone, Deserialize, Eq, PartialEq)]
pub struct AppSecret(String);

impl AppSecret {
    /// Returns the secret itself, or `None` if Sentry sent a mask (`****`) in its place.
    #[must_use]
    pub fn readable(&self) -> Option<&str> {
        let masked = self.0.is_empty() || self.0.chars().all(|character| matches!(character, '*' | '•'));
        (!masked).then_some(self.0.as_str())
    }
}

impl fmt::Debug for AppSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AppSecret(…)")
    }
}

impl LegacyHook {
    /// Parses a response of the plugin's endpoint, `{"enabled": …, "config": [{"name": "urls", "value": …}]}`, or of
    /// `legacy-webhooks/`, `{"urls": […], "enabled": …}`.
    pub(super) fn parse(alerts: AlertSystem, answer: &Value) -> Self {
        let urls: Vec<&str> = match alerts {
            AlertSystem::Rules => {
                let mut fields = answer["config"].as_array().into_iter().flatten();
                let urls = fields.find(|field| field["name"] == "urls").and_then(|field| field["value"].as_str());
                urls.unwrap_or_default().lines().map(str::trim).filter(|url| !url.is_empty()).collect()
            }
            AlertSystem::Workflows => {
                answer["urls"].as_array().into_iter().flatten().filter_map(Value::as_str).collect()
            }
        };
        Self {
            alerts,
            enabled: answer["enabled"].as_bool().unwrap_or(false),
            urls: urls.into_iter().map(str::to_owned).collect(),
        }
    }
}

fn yes() -> bool {
    true
}

pub(super) fn text_of_id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// A period during which a metric issue was open. Source: `groupopenperiod.py` among Sentry's serializers.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct OpenPeriod {
    #[serde(deserialize_with = "id")]
    id: String,
    /// When it ended; `None` while it is open.
    end: Option<DateTime<Utc>>,
}

impl OpenPeriod {
    /// Its number, if it has ended.
    pub(super) fn ended(&self) -> Option<u64> {
        self.end?;
        self.id.parse().ok()
    }
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let value = Value::deserialize(deserializer)?;
    text_of_id(&value).ok_or_else(|| serde::de::Error::custom("an id is neither text nor a number"))
}

fn maybe_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(text_of_id(&Value::deserialize(deserializer)?))
}

/// Parses the member `name` of an object; a missing one counts as `null`.
fn member<T: DeserializeOwned, E: serde::de::Error>(object: &JsonObject, name: &str) -> Result<T, E> {
    T::deserialize(object.get(name).unwrap_or(&Value::Null)).map_err(E::custom)
}

/// Treats `null` like a missing field.
fn or_default<'de, D: Deserializer<'de>, T: Default + Deserialize<'de>>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_a_period_with_a_time_has_ended() {
        let period = |end: Value| serde_json::from_value::<OpenPeriod>(json!({"id": "3", "end": end}));
        assert_eq!(period(json!("2026-11-26T10:00:00Z")).unwrap().ended(), Some(3));
        assert_eq!(period(Value::Null).unwrap().ended(), None);
        assert!(period(json!("n/a")).is_err(), "it is not known whether the period has ended");
    }

    #[test]
    fn a_secret_that_is_masked_is_none() {
        let secret = |text: &str| serde_json::from_value::<AppSecret>(json!(text)).unwrap();
        assert_eq!(secret("****************").readable(), None);
        assert_eq!(secret("").readable(), None);
        assert_eq!(secret("0123abcd").readable(), Some("0123abcd"));
        assert_eq!(format!("{:?}", secret("0123abcd")), "AppSecret(…)");
    }
}
