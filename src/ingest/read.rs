//! From a request to what Sentry told by it.

use super::dedup::Generation;
use super::{Rejection, Webhook};
use crate::alert::Alert;
use crate::sentry::json::{self, NotJson};
use crate::sentry::platform::{self, Resource, Silence, Told};
use crate::sentry::{legacy, service_hook};

/// What Sentry told.
pub(super) enum Heard {
    /// Something about an incident.
    Alert(Box<Alert>, Generation),
    /// Nothing that asks for anything.
    Nothing(Silence),
}

/// Reads a webhook: its header tells the generations apart and, where a proxy has taken it off, its shape.
pub(super) fn read(webhook: &Webhook<'_>) -> Result<Heard, Rejection> {
    if webhook.is_of_the_platform() && webhook.body.trim_ascii().is_empty() {
        return Ok(Heard::Nothing(Silence::Validation));
    }
    match webhook.resource {
        Some(resource) => by_header(resource, webhook),
        None => by_shape(webhook),
    }
}

fn by_header(resource: &str, webhook: &Webhook<'_>) -> Result<Heard, Rejection> {
    let body = platform_body(webhook)?;
    // Sentry has sent test notifications in the legacy shape to integrations (sentry#67314).
    if !body.has_data()
        && let Some(legacy) = legacy_body(webhook)?.filter(legacy::Body::is_of_the_plugin)
    {
        return by_plugin(legacy, webhook);
    }
    match Resource::parse(resource) {
        Some(resource) => by_resource(body, resource, webhook),
        None => Ok(Heard::Nothing(Silence::UnknownResource)),
    }
}

fn by_shape(webhook: &Webhook<'_>) -> Result<Heard, Rejection> {
    let legacy = legacy_body(webhook)?.unwrap_or_default();
    if legacy.is_of_the_platform() {
        let body = platform_body(webhook)?;
        return match body.shape() {
            Some(resource) => by_resource(body, resource, webhook),
            None if body.has_action() => Ok(Heard::Nothing(Silence::UnknownResource)),
            None => Err(Rejection::NotSentry),
        };
    }
    if legacy.is_of_the_plugin() {
        return by_plugin(legacy, webhook);
    }
    // What its own pages send has other shapes. Refusing it keeps people from choosing the bridge as a rule's action.
    if webhook.from_sentrys_pages { Ok(Heard::Nothing(Silence::Validation)) } else { Err(Rejection::NotSentry) }
}

fn platform_body(webhook: &Webhook<'_>) -> Result<platform::Body, NotJson> {
    json::read(webhook.body).map(Option::unwrap_or_default)
}

fn legacy_body(webhook: &Webhook<'_>) -> Result<Option<legacy::Body>, NotJson> {
    json::read(webhook.body)
}

fn by_resource(body: platform::Body, resource: Resource, webhook: &Webhook<'_>) -> Result<Heard, Rejection> {
    match body.told(resource, webhook.sent_at()) {
        Told::Alert(alert) => Ok(Heard::Alert(alert, Generation::Platform)),
        Told::Nothing(silence) => Ok(Heard::Nothing(silence)),
        Told::NoSubject => Err(Rejection::NoIssue),
    }
}

fn by_plugin(body: legacy::Body, webhook: &Webhook<'_>) -> Result<Heard, Rejection> {
    let alert = match body.issue() {
        Some(issue) => body.into_alert(issue, webhook.received_at),
        // A service hook has the members of the plugin's body, but its issue stands in one of its own.
        None => by_service_hook(webhook)?.ok_or(Rejection::NoIssue)?,
    };
    Ok(Heard::Alert(Box::new(alert), Generation::Plugin))
}

fn by_service_hook(webhook: &Webhook<'_>) -> Result<Option<Alert>, NotJson> {
    let body: Option<service_hook::Body> = json::read(webhook.body)?;
    Ok(body.and_then(|body| body.into_alert(webhook.received_at)))
}
