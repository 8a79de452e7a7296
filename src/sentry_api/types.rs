//! The types of Sentry's responses, parsed once and leniently: only the fields that are used, ids as text or number, and
//! missing values left out.
//!
//! Rules and workflows are written back as a whole ([`Rule::raw`], [`Workflow::raw`]): a PUT replaces the object, so
//! fields that the bridge does not know must be preserved.

mod alert;
mod issue;

use std::fmt;

use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value};

use crate::printable::line;
pub use alert::{Rule, RuleAction, Workflow, WorkflowAction};
pub use issue::{Fired, Issue, IssueRoute, OpenPeriod, Window};

/// A JSON object as Sentry sent it.
pub type Object = Map<String, Value>;

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

/// A project, as the organization's list shows it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct Project {
    /// Its number, as text.
    #[serde(deserialize_with = "id")]
    pub id: String,
    /// Its slug.
    pub slug: String,
    /// Whether the token's owner has access to it; Sentry also lists projects without access.
    #[serde(default = "yes")]
    pub has_access: bool,
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
pub struct App {
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
    /// The secret that signs its webhooks, if Sentry shows it to this token; see [`Secret::is_readable`].
    pub client_secret: Option<Secret>,
}

impl App {
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

/// An installation of an integration in the organization.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Installation {
    /// The installation's own id.
    pub uuid: String,
    /// The integration's slug.
    pub app_slug: String,
    /// The integration's number, by which actions of workflows refer to it; absent before 2026.
    pub app_id: Option<String>,
    /// `installed` or `pending`.
    pub status: String,
}

/// The legacy webhooks of one project.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct LegacyHook {
    /// The endpoint it was read from.
    pub route: HookRoute,
    /// Whether it is switched on.
    pub enabled: bool,
    /// The addresses it posts to. An address may contain a token, so it is never shown unmasked.
    pub urls: Vec<String>,
}

/// The two endpoints of legacy webhooks.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum HookRoute {
    /// `plugins/webhooks/`, 9.1.2 to about 2025.
    Plugin,
    /// `legacy-webhooks/`, from 2026 on.
    LegacyWebhooks,
}

/// A Client Secret; not shown by `Debug`.
#[derive(Clone, Eq, PartialEq)]
pub struct Secret(String);

impl Secret {
    /// Returns the secret itself, or `None` if Sentry sent a mask (`****`) in its place.
    #[must_use]
    pub fn is_readable(&self) -> Option<&str> {
        let masked = self.0.is_empty() || self.0.chars().all(|character| matches!(character, '*' | '•'));
        (!masked).then_some(self.0.as_str())
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret(…)")
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

impl<'de> Deserialize<'de> for Installation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct App {
            slug: String,
            #[serde(default, deserialize_with = "maybe_id")]
            sentry_app_id: Option<String>,
        }
        #[derive(Deserialize)]
        struct Wire {
            uuid: String,
            app: App,
            #[serde(default)]
            status: String,
        }
        let wire = Wire::deserialize(deserializer)?;
        Ok(Self { uuid: wire.uuid, app_slug: wire.app.slug, app_id: wire.app.sentry_app_id, status: wire.status })
    }
}

/// Parses the legacy webhooks from the response of the plugin's endpoint:
/// `{"enabled": …, "config": [{"name": "urls", "value": …}]}`.
pub(super) fn plugin_hook(answer: &Value) -> LegacyHook {
    let fields = answer["config"].as_array();
    let urls =
        fields.into_iter().flatten().find(|field| field["name"] == "urls").and_then(|field| field["value"].as_str());
    LegacyHook {
        route: HookRoute::Plugin,
        enabled: answer["enabled"].as_bool().unwrap_or(false),
        urls: urls
            .unwrap_or_default()
            .lines()
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .map(str::to_owned)
            .collect(),
    }
}

/// Parses the legacy webhooks from the response of `legacy-webhooks/`: `{"urls": […], "enabled": …}`.
pub(super) fn legacy_hook(answer: &Value) -> LegacyHook {
    let urls = answer["urls"].as_array().into_iter().flatten().filter_map(Value::as_str);
    LegacyHook {
        route: HookRoute::LegacyWebhooks,
        enabled: answer["enabled"].as_bool().unwrap_or(false),
        urls: urls.map(str::to_owned).collect(),
    }
}

fn yes() -> bool {
    true
}

fn text_of_id(value: &Value) -> Option<String> {
    match value {
        Value::String(text) if !text.is_empty() => Some(text.clone()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

fn id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    let value = Value::deserialize(deserializer)?;
    text_of_id(&value).ok_or_else(|| serde::de::Error::custom("an id is neither text nor a number"))
}

fn maybe_id<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(text_of_id(&Value::deserialize(deserializer)?))
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
    fn a_secret_that_is_masked_is_none() {
        let secret = |text: &str| serde_json::from_value::<Secret>(json!(text)).unwrap();
        assert_eq!(secret("****************").is_readable(), None);
        assert_eq!(secret("").is_readable(), None);
        assert_eq!(secret("0123abcd").is_readable(), Some("0123abcd"));
        assert_eq!(format!("{:?}", secret("0123abcd")), "Secret(…)");
    }
}
