//! What of an alert is never kept nor sent.

use std::collections::BTreeSet;

use crate::alert::{Alert, Project, User};

/// The tags of the legacy plugin carry it in front of Sentry's own names.
const SENTRYS_PREFIX: &str = "sentry:";

/// Names of tags and detail fields, in any case, that are taken out of every alert before an event is made of it.
///
/// A name covers a tag (with or without the prefix `sentry:`), one of the details of an event, a member of the user
/// such as `email` or `user.email`, a measurement of an occurrence, and the texts `message` and `title` that the
/// description is made of. It does not cover a value that the application wrote into another text as well, nor the
/// time and the id, without which there is no incident. Routes are chosen before: they may look at what is
/// taken out. Bodies that are rejected are not understood, so nothing can be taken out of them.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Redaction {
    names: BTreeSet<String>,
}

impl Redaction {
    /// Reads names with commas between.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let names = text.split(',').map(plain).filter(|name| !name.is_empty()).collect();
        Self { names }
    }

    /// The names in the form they are compared in, in alphabetical order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str)
    }

    /// Takes out of the alert what is named.
    pub fn apply(&self, alert: &mut Alert) {
        if self.names.is_empty() {
            return;
        }
        self.texts(alert);
        let gone = |name: &str| self.names.contains(&plain(name));
        if gone("tags") {
            alert.tags.clear();
        }
        alert.tags.retain(|(name, _)| !gone(name));
        if gone("evidence") {
            alert.evidence.clear();
        }
        alert.evidence.retain(|(name, _)| !gone(name));
        alert.facts.retain(|(name, _)| !gone(name));
        if gone("project") {
            alert.project = Project::default();
        }
        if gone("url") {
            alert.link = None;
        }
        if gone("rules") || gone("rule") {
            alert.rules.clear();
        }
        if gone("exception") {
            alert.exceptions.clear();
        }
        if gone("frames") {
            alert.frames.clear();
        }
        if gone("user") {
            alert.user = None;
        }
        if let Some(User { id, username, email, ip_address }) = &mut alert.user {
            for (name, value) in [("id", id), ("username", username), ("email", email), ("ip_address", ip_address)] {
                if gone(name) || gone(&format!("user.{name}")) {
                    *value = None;
                }
            }
        }
    }

    fn texts(&self, alert: &mut Alert) {
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

/// A name as it is compared.
fn plain(name: &str) -> String {
    let name = name.trim().to_lowercase();
    name.strip_prefix(SENTRYS_PREFIX).map_or(name.clone(), str::to_owned)
}
