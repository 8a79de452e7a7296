//! How two webhooks are known to tell the same.

use sha2::{Digest, Sha256};

use crate::alert::{Action, Alert, Opening};
use crate::pagerduty::ServiceKey;

/// Which of Sentry's two ways of calling webhooks an alert came by.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Generation {
    /// The legacy plugin.
    Plugin,
    /// The integration platform.
    Platform,
}

/// How a webhook is known to repeat another one, and how others are known to repeat it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dedup {
    /// It tells nothing new when any of these was told a short while ago.
    pub seen_if: Vec<DedupKey>,
    /// What it tells.
    pub tells: Vec<DedupKey>,
    /// What a resolve does only once, however long ago that was: the digest of its signed body.
    ///
    /// Sentry signs neither the time nor the key of a delivery, so its signature proves a copy of the body as well. No
    /// two resolves of an issue are the same, byte for byte, unless it was opened again by hand in between.
    pub once: Option<DedupKey>,
    /// Whether the issue is open again without any new event, so that its next resolve may well be the same as the last.
    pub renews: bool,
}

impl Dedup {
    /// What a trigger tells, and what it may repeat: a delivery with the same `Idempotency-Key`, the same alert by the
    /// other generation, and by the platform also the same alert.
    ///
    /// The plugin tells of an event once whatever rules it fired, and never again. So what comes twice by it was sent
    /// by a person, who wants to see it arrive.
    #[must_use]
    pub(super) fn of_trigger(
        alert: &Alert,
        opening: Opening,
        generation: Generation,
        service_key: &ServiceKey,
        idempotency_key: Option<&str>,
    ) -> Self {
        let told_by = |generation| DedupKey::of_content(alert, opening, generation, service_key);
        let delivery = idempotency_key.map(|key| DedupKey::of_delivery(alert, key));
        let repeats = match generation {
            Generation::Plugin => vec![told_by(Generation::Platform)],
            Generation::Platform => vec![told_by(Generation::Platform), told_by(Generation::Plugin)],
        };
        Self {
            seen_if: repeats.into_iter().chain([delivery.clone()]).flatten().collect(),
            tells: [told_by(generation), delivery].into_iter().flatten().collect(),
            ..Self::default()
        }
    }

    /// What a webhook about an open incident may repeat: a delivery with the same `Idempotency-Key`, or the same body
    /// where that is `signed`.
    #[must_use]
    pub(super) fn of_follow_up(alert: &Alert, idempotency_key: Option<&str>, signed: Option<&[u8]>) -> Self {
        let delivery: Vec<_> = idempotency_key.map(|key| DedupKey::of_delivery(alert, key)).into_iter().collect();
        let reopens = alert.action == Action::Trigger(Opening::IssueUnresolved);
        // `regressed` and `escalating` come with an event, which the next resolve counts.
        let by_hand = alert.facts.iter().any(|(name, value)| *name == "substatus" && value == "ongoing");
        Self {
            seen_if: delivery.clone(),
            tells: delivery,
            once: signed.filter(|_| reopens || alert.action == Action::Resolve).map(DedupKey::of_body),
            renews: reopens && by_hand,
        }
    }
}

/// What two webhooks have in common that tell the same; the digest itself tells nothing.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DedupKey([u8; 32]);

impl DedupKey {
    /// The key of what a trigger tells; `None` when nothing in it says that another of the same kind is not a new one.
    ///
    /// One event of an issue is one page an integration, whether the legacy plugin, `event_alert` or `error` tells of
    /// it and however many rules it fired. An issue is new once. How often an issue comes back or a metric alert
    /// changes its status nobody counts: the critical after a warning after a critical is no repetition.
    fn of_content(alert: &Alert, opening: Opening, generation: Generation, service_key: &ServiceKey) -> Option<Self> {
        let (kind, content) = match opening {
            Opening::Alert | Opening::Error => {
                ("event", vec![alert.event_id.as_ref()?.replace('-', "").to_ascii_lowercase()])
            }
            Opening::IssueCreated => ("created", Vec::new()),
            Opening::Metric | Opening::IssueUnresolved => return None,
        };
        let generation = match generation {
            Generation::Plugin => "plugin",
            Generation::Platform => "platform",
        };
        let parts = [kind, generation, service_key.expose(), alert.subject.name()];
        Some(Self::digest(parts.into_iter().chain(content.iter().map(String::as_str))))
    }

    /// The key of a delivery and its repetitions.
    fn of_delivery(alert: &Alert, idempotency_key: &str) -> Self {
        // Whoever sets the header by hand to one and the same text silences no other incident by it.
        let action = match alert.action {
            Action::Trigger(opening) => opening.name(),
            Action::Acknowledge => "acknowledge",
            Action::Resolve => "resolve",
        };
        Self::digest(["delivery", action, alert.subject.name(), idempotency_key].into_iter())
    }

    /// The key of a body, byte for byte.
    fn of_body(body: &[u8]) -> Self {
        Self::digest_bytes(["body".as_bytes(), body].into_iter())
    }

    /// The digest, as it is kept on disk.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn digest<'a>(parts: impl Iterator<Item = &'a str>) -> Self {
        Self::digest_bytes(parts.map(str::as_bytes))
    }

    fn digest_bytes<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            // With its length before it, no part can pass for two.
            digest.update((part.len() as u64).to_be_bytes());
            digest.update(part);
        }
        Self(digest.finalize().into())
    }
}

/// A key of any text.
#[cfg(test)]
pub(crate) fn key_of(text: &str) -> DedupKey {
    DedupKey::digest(std::iter::once(text))
}
