//! How repetitions of a webhook are recognised.

use sha2::{Digest, Sha256};

use crate::alert::{Action, Alert, Opening};
use crate::pagerduty::ServiceKey;
use crate::sentry::Generation;

/// How a webhook is recognised as a repetition of others, and others as repetitions of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dedup {
    /// It is a repetition when any of these was recorded within the dedup window.
    pub seen_if: Vec<DedupKey>,
    /// What is recorded when it is enqueued.
    pub records: Vec<DedupKey>,
    /// The digest of the signed body of a resolve, which is done only once, however long ago that was.
    ///
    /// Sentry signs neither the time nor the key of a delivery, so its signature proves a copy of the body as well. No
    /// two resolves of an issue are the same, byte for byte, unless it was opened again by hand in between.
    pub once: Option<DedupKey>,
    /// Whether the issue is open again without a new event, so that its next resolve may be the same as the last.
    pub renews: bool,
}

impl Dedup {
    /// A trigger repeats a delivery with the same `Idempotency-Key` and the same alert by the other generation; one by the
    /// platform also repeats the same alert by the platform.
    ///
    /// The plugin sends an event once, whatever rules it fired, and never again. So what comes twice by it was sent by a
    /// person, who wants to see it arrive. The service that replaced it in 2026 sends an event once for each action and
    /// address. Its deliveries have an `Idempotency-Key`, and those of the plugin have none.
    pub(super) fn of_trigger(
        alert: &Alert,
        opening: Opening,
        generation: Generation,
        service_key: &ServiceKey,
        idempotency_key: Option<&str>,
    ) -> Self {
        let content_by = |generation| DedupKey::of_content(alert, opening, generation, service_key);
        let delivery = idempotency_key.map(|key| DedupKey::of_delivery(alert, key));
        let repeats = match generation {
            Generation::Legacy if delivery.is_none() => vec![content_by(Generation::Platform)],
            Generation::Legacy | Generation::Platform => {
                vec![content_by(Generation::Platform), content_by(Generation::Legacy)]
            }
        };
        Self {
            seen_if: repeats.into_iter().chain([delivery.clone()]).flatten().collect(),
            records: [content_by(generation), delivery].into_iter().flatten().collect(),
            ..Self::default()
        }
    }

    /// A webhook about an open incident repeats a delivery with the same `Idempotency-Key`, or the same body where that is
    /// `signed`.
    pub(super) fn of_follow_up(alert: &Alert, idempotency_key: Option<&str>, signed: Option<&[u8]>) -> Self {
        let delivery: Vec<_> = idempotency_key.map(|key| DedupKey::of_delivery(alert, key)).into_iter().collect();
        let reopens = matches!(alert.action, Action::Reopen(_));
        // `regressed` and `escalating` come with an event, which the next resolve counts.
        let by_hand = alert.facts.iter().any(|(name, value)| *name == "substatus" && value == "ongoing");
        Self {
            seen_if: delivery.clone(),
            records: delivery,
            once: signed.filter(|_| reopens || alert.action == Action::Resolve).map(DedupKey::of_body),
            renews: reopens && by_hand,
        }
    }
}

/// The digest of what two webhooks with the same content have in common.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DedupKey([u8; 32]);

impl DedupKey {
    /// The key of a trigger's content; `None` when nothing in it says that another one of the same kind is not a new one.
    ///
    /// One event of an issue is one page per service key, whether the legacy plugin, `event_alert` or `error` sends it and
    /// however many rules it fired. An issue is new once. Sentry does not number how often an issue comes back or a
    /// metric alert changes its status: the critical after a warning after a critical is not a repetition.
    fn of_content(alert: &Alert, opening: Opening, generation: Generation, service_key: &ServiceKey) -> Option<Self> {
        let (kind, content) = match opening {
            Opening::Alert | Opening::Error => {
                ("event", vec![alert.event_id.as_ref()?.replace('-', "").to_ascii_lowercase()])
            }
            Opening::IssueCreated => ("created", Vec::new()),
            Opening::Metric | Opening::IssueUnresolved => return None,
        };
        let generation = match generation {
            Generation::Legacy => "plugin",
            Generation::Platform => "platform",
        };
        let parts = [kind, generation, service_key.expose(), alert.subject.name()];
        Some(Self::digest(parts.into_iter().chain(content.iter().map(String::as_str))))
    }

    /// The key of a delivery and its retries.
    fn of_delivery(alert: &Alert, idempotency_key: &str) -> Self {
        // A header that somebody sets to a constant must not silence other incidents.
        let action = match alert.action {
            Action::Trigger(opening) => opening.name(),
            Action::Reopen(_) => Opening::IssueUnresolved.name(),
            Action::Acknowledge => "acknowledge",
            Action::Resolve => "resolve",
        };
        Self::digest(["delivery", action, alert.subject.name(), idempotency_key].into_iter())
    }

    /// The key of a body, byte for byte.
    fn of_body(body: &[u8]) -> Self {
        Self::digest_bytes(["body".as_bytes(), body].into_iter())
    }

    /// The digest, as it is stored.
    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn digest<'a>(parts: impl Iterator<Item = &'a str>) -> Self {
        Self::digest_bytes(parts.map(str::as_bytes))
    }

    fn digest_bytes<'a>(parts: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut digest = Sha256::new();
        for part in parts {
            // With its length before it, no part can be mistaken for two.
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
