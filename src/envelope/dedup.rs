//! How repetitions of a webhook are recognised.

use sha2::{Digest, Sha256};

use crate::alert::{Alert, IncidentAction, TriggerKind};
use crate::pagerduty::ServiceKey;
use crate::sentry::WebhookFormat;

/// The keys by which a webhook is recognised as a repetition of earlier ones, and later ones as repetitions of it.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Dedup {
    /// It is a repetition when any of these was recorded within the dedup window.
    pub lookup_keys: Vec<DedupKey>,
    /// The keys that are recorded when it is enqueued.
    pub recorded_keys: Vec<DedupKey>,
    /// The digest of the signed body of a resolve or a reopening. The same body resolves only once, however long ago that
    /// was.
    ///
    /// Sentry signs neither the time nor the `Idempotency-Key` of a delivery, so its signature is also valid for a copy
    /// of the body. No two resolves of an issue are the same, byte for byte, unless it was opened again by hand in
    /// between.
    pub replay_key: Option<DedupKey>,
    /// Whether the issue was opened again without a new event, so that its next resolve may be the same as the last, byte
    /// for byte.
    pub allows_identical_resolve: bool,
}

impl Dedup {
    /// Returns the keys of a trigger. It is a repetition of a delivery with the same `Idempotency-Key`, and of the same
    /// alert in the other format. A trigger from the platform, or a legacy one with an `Idempotency-Key`, is also a
    /// repetition of the same alert in its own format.
    ///
    /// The plugin sends an event once, whatever rules it fired, and never again. So an event that it sends twice was sent
    /// by a person who wants to see it arrive. The service that replaced the plugin in 2026 sends an event once for each
    /// action and URL. Its deliveries have an `Idempotency-Key`, and those of the plugin have none.
    ///
    /// `rule` is the rule that the alert's incident stands for, if it stands for one.
    pub(crate) fn of_trigger(
        alert: &Alert,
        trigger_kind: TriggerKind,
        format: WebhookFormat,
        service_key: &ServiceKey,
        rule: Option<&str>,
        idempotency_key: Option<&str>,
    ) -> Self {
        let content_by = |format| DedupKey::of_content(alert, trigger_kind, format, service_key, rule);
        let delivery = idempotency_key.map(|key| DedupKey::of_delivery(alert, key));
        let repeats = match format {
            WebhookFormat::Legacy if delivery.is_none() => vec![content_by(WebhookFormat::Platform)],
            WebhookFormat::Legacy | WebhookFormat::Platform => {
                vec![content_by(WebhookFormat::Platform), content_by(WebhookFormat::Legacy)]
            }
        };
        Self {
            lookup_keys: repeats.into_iter().chain([delivery.clone()]).flatten().collect(),
            recorded_keys: [content_by(format), delivery].into_iter().flatten().collect(),
            ..Self::default()
        }
    }

    /// Returns the keys of a webhook about an open incident. It is a repetition of a delivery with the same
    /// `Idempotency-Key` or, if its body is `signed`, of one with the same body.
    pub(crate) fn of_follow_up(alert: &Alert, idempotency_key: Option<&str>, signed: Option<&[u8]>) -> Self {
        let delivery: Vec<_> = idempotency_key.map(|key| DedupKey::of_delivery(alert, key)).into_iter().collect();
        let reopens = matches!(alert.action, IncidentAction::Reopen(_));
        // `regressed` and `escalating` come with a new event, which is counted in the body of the next resolve.
        let by_hand = alert.facts.iter().any(|(name, value)| *name == "substatus" && value == "ongoing");
        Self {
            lookup_keys: delivery.clone(),
            recorded_keys: delivery,
            replay_key: signed.filter(|_| reopens || alert.action == IncidentAction::Resolve).map(DedupKey::of_body),
            allows_identical_resolve: reopens && by_hand,
        }
    }
}

/// The digest of what two webhooks with the same content have in common.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct DedupKey([u8; 32]);

impl DedupKey {
    /// Returns the key of a trigger's content; `None` if nothing in it distinguishes a repetition from a new alert of the
    /// same kind.
    ///
    /// One event of an issue is one page per service key, whether the legacy plugin, `event_alert` or `error` sends it
    /// and however many rules it fired, unless each `rule` has an incident of its own. An issue is new only once. Sentry
    /// does not number how often an issue comes back or a metric alert changes its status: in the sequence critical,
    /// warning, critical, the second critical is not a repetition.
    fn of_content(
        alert: &Alert,
        trigger_kind: TriggerKind,
        format: WebhookFormat,
        service_key: &ServiceKey,
        rule: Option<&str>,
    ) -> Option<Self> {
        let (kind, content) = match trigger_kind {
            TriggerKind::Alert | TriggerKind::Error => {
                ("event", vec![alert.event_id.as_ref()?.replace('-', "").to_ascii_lowercase()])
            }
            TriggerKind::IssueCreated => ("created", Vec::new()),
            TriggerKind::Metric | TriggerKind::IssueUnresolved => return None,
        };
        let format = match format {
            WebhookFormat::Legacy => "plugin",
            WebhookFormat::Platform => "platform",
        };
        let parts = [kind, format, service_key.expose(), alert.subject.name()];
        Some(Self::digest(parts.into_iter().chain(content.iter().map(String::as_str)).chain(rule)))
    }

    /// The key of a delivery and its retries.
    fn of_delivery(alert: &Alert, idempotency_key: &str) -> Self {
        // If the header is set to a constant, that must not silence other incidents.
        let action = match alert.action {
            IncidentAction::Trigger(trigger_kind) => trigger_kind.name(),
            IncidentAction::Reopen(_) => TriggerKind::IssueUnresolved.name(),
            IncidentAction::Acknowledge => "acknowledge",
            IncidentAction::Resolve => "resolve",
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
            // Each part is preceded by its length, so that one part cannot be mistaken for two.
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
