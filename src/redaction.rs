//! Removes from alerts what must never be stored or sent.

use std::collections::BTreeSet;

use crate::alert::{Alert, Project, User};

/// The prefix of Sentry's own names in the tags of the legacy plugin.
const SENTRYS_PREFIX: &str = "sentry:";

/// Names of tags and detail fields, in any case, that are removed from every alert before an event is made from it.
///
/// A name covers a tag (with or without the prefix `sentry:`), one of the details of an event, a field of the user such as
/// `email` or `user.email`, a measurement of an occurrence, and the texts `message` and `title` that the description is
/// made from. It does not cover a value that the application also wrote into another text, nor the time and the issue's
/// id, without which there is no incident. Routes are chosen before the removal, so they may use what is removed. Nothing
/// can be removed from rejected bodies, because they were not understood.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Redaction {
    names: BTreeSet<String>,
}

impl Redaction {
    /// Parses a comma-separated list of names.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let names = text.split(',').map(normalized).filter(|name| !name.is_empty()).collect();
        Self { names }
    }

    /// The normalized names, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Removes from the alert what the names cover.
    pub fn apply(&self, alert: &mut Alert) {
        if self.names.is_empty() {
            return;
        }
        self.remove_texts(alert);
        let is_named = |name: &str| self.names.contains(&normalized(name));
        if is_named("tags") {
            alert.tags.clear();
        }
        alert.tags.retain(|(name, _)| !is_named(name));
        if is_named("evidence") {
            alert.evidence.clear();
        }
        alert.evidence.retain(|(name, _)| !is_named(name));
        if is_named("settings") {
            alert.action_settings.clear();
        }
        alert.action_settings.retain(|(name, _)| !is_named(name));
        alert.facts.retain(|(name, _)| !is_named(name));
        if is_named("project") {
            alert.project = Project::default();
        }
        if is_named("url") {
            alert.link = None;
        }
        if is_named("rules") || is_named("rule") {
            alert.rules.clear();
        }
        if is_named("exception") {
            alert.exceptions.clear();
        }
        if is_named("frames") {
            alert.frames.clear();
        }
        if is_named("user") {
            alert.user = None;
        }
        if let Some(User { id, username, email, ip_address }) = &mut alert.user {
            for (name, value) in [("id", id), ("username", username), ("email", email), ("ip_address", ip_address)] {
                if is_named(name) || is_named(&format!("user.{name}")) {
                    *value = None;
                }
            }
        }
    }

    fn remove_texts(&self, alert: &mut Alert) {
        let texts = [
            ("message", &mut alert.message),
            ("title", &mut alert.title),
            ("culprit", &mut alert.culprit),
            ("level", &mut alert.level),
            ("event_id", &mut alert.event_id),
            ("release", &mut alert.release),
            ("platform", &mut alert.platform),
            ("environment", &mut alert.environment),
            ("logger", &mut alert.logger),
            ("server_name", &mut alert.server_name),
            ("transaction", &mut alert.transaction),
        ];
        for (name, text) in texts {
            if self.names.contains(name) {
                *text = None;
            }
        }
    }
}

/// A name in the form in which names are compared.
fn normalized(name: &str) -> String {
    let name = name.trim().to_lowercase();
    name.strip_prefix(SENTRYS_PREFIX).map_or(name.clone(), str::to_owned)
}
