//! What is wrong with the bridge. Pure: a [`Snapshot`] goes in, [`Trouble`]s and the [`Health`] come out.
//!
//! - `receiving`: whether webhooks come from Sentry
//! - `delivery`: whether events get through to PagerDuty, and why some wait

pub(super) mod delivery;
mod receiving;

use std::cmp::Reverse;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use humantime::format_duration;
use strum::{IntoStaticStr, VariantArray};

use self::delivery::{dead_letters, delivery, proof, untrusted, waiting};
use self::receiving::{canary, signatures, silence};
use super::snapshot::Snapshot;
use crate::canary::CanaryLimits;
use crate::config::Config;
use crate::delivery::UnreadableView;
use crate::pagerduty::IncidentKey;

/// The number of consecutive wrong signatures that is a trouble, even if earlier ones turned out to be a stranger's
/// within the last day.
const SIGNATURES: u32 = 5;

/// The time that must also pass without a right signature: while there are right signatures too, Sentry is not locked
/// out. Sentry sends failed webhooks again, and most rotations are over by then.
const UNVERIFIED: Duration = Duration::from_mins(5);

/// What can be wrong, ordered by how much is lost: the worst cause comes first.
#[derive(Clone, Copy, Debug, Eq, Hash, IntoStaticStr, Ord, PartialEq, PartialOrd, VariantArray)]
#[strum(serialize_all = "snake_case")]
pub enum Cause {
    /// Alerts cannot be committed, or what is committed cannot be read.
    Storage,
    /// The TLS certificate at PagerDuty's address is not trusted.
    Untrusted,
    /// Consecutive webhooks had a wrong signature: the secret was probably changed in Sentry.
    Signatures,
    /// The oldest event has waited for too long.
    Waiting,
    /// PagerDuty accepted an event but did not carry it out, or its REST API does not say whether it did.
    Proof,
    /// The canary does not come back from Sentry.
    Canary,
    /// No webhook came for too long.
    Silence,
    /// There are dead letters.
    DeadLetters,
    /// A file of secrets was read again and cannot be used.
    Secrets,
    /// The bridges that share the queue have different settings, or one of them does not reach PagerDuty.
    Bridges,
    /// Events wait because of PagerDuty or the network, but not yet for too long.
    Delivery,
}

impl Cause {
    /// The name in metrics, incident keys and `/api`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The key of the incident that an alarm opens for it, the same in every run. Bridges that page the same service
    /// need different prefixes.
    #[must_use]
    pub fn incident_key(self, prefix: &str) -> IncidentKey {
        IncidentKey::of_alarm(prefix, self.name())
    }

    /// Whether an alarm pages for it. While PagerDuty's certificate is not trusted, no alarm can be sent, and
    /// afterwards the trouble is over. Events that wait page as [`Waiting`](Self::Waiting). If a secret cannot be used,
    /// the old one stays in use, and if the new one is needed, Sentry's wrong signatures page. While bridges are
    /// updated one after the other, their settings differ for a moment.
    #[must_use]
    pub fn is_paged(self) -> bool {
        !matches!(self, Self::Untrusted | Self::Secrets | Self::Bridges | Self::Delivery)
    }
}

/// The health of the bridge, best first.
#[derive(Clone, Copy, Debug, Eq, IntoStaticStr, Ord, PartialEq, PartialOrd)]
#[strum(serialize_all = "snake_case")]
pub enum Health {
    /// Nothing is wrong.
    Healthy,
    /// Events wait because PagerDuty throttles or fails, or for more than a minute, but not yet for too long; or there are
    /// dead letters, while other events of their service key are delivered.
    Degraded,
    /// Alerts may not reach people.
    Failing,
}

impl Health {
    /// The name in `/api`.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// The health of a bridge with these troubles.
    #[must_use]
    pub fn of(troubles: &[Trouble]) -> Self {
        troubles.iter().map(|trouble| trouble.health).max().unwrap_or(Self::Healthy)
    }
}

/// The limits at which troubles begin.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct TroubleLimits {
    /// The time without a webhook that is a trouble; `None`: never.
    pub silence: Option<Duration>,
    /// The time an event has to wait before that is a trouble.
    pub waiting: Duration,
    /// The number of consecutive wrong signatures that is a trouble.
    pub signatures: u32,
    /// The minimum time between the first and the last of them; also, how long a webhook has to be held without any
    /// right signature before that is a trouble.
    pub unverified: Duration,
    /// The limits at which trouble with the canary begins.
    pub canary: CanaryLimits,
}

impl From<&Config> for TroubleLimits {
    fn from(config: &Config) -> Self {
        Self {
            silence: config.silence_alarm,
            waiting: config.waiting_alarm,
            signatures: SIGNATURES,
            unverified: UNVERIFIED,
            canary: CanaryLimits::USUAL,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// Its cause.
    pub cause: Cause,
    /// How bad it is; never [`Health::Healthy`].
    pub health: Health,
    /// What happened and what to do, as a sentence for the operator. Service keys are masked.
    pub sentence: String,
}

impl Trouble {
    fn failing(cause: Cause, sentence: String) -> Self {
        Self { cause, health: Health::Failing, sentence }
    }

    fn degraded(cause: Cause, sentence: String) -> Self {
        Self { cause, health: Health::Degraded, sentence }
    }
}

/// Returns all troubles, worst first; each cause at most once.
#[must_use]
pub fn troubles(snapshot: &Snapshot, limits: &TroubleLimits) -> Vec<Trouble> {
    let mut troubles: Vec<_> = [
        storage(snapshot),
        untrusted(snapshot),
        signatures(snapshot, limits),
        waiting(snapshot, limits),
        proof(snapshot),
        canary(snapshot),
        silence(snapshot, limits),
        dead_letters(snapshot),
        secrets(snapshot),
        bridges(snapshot),
    ]
    .into_iter()
    .flatten()
    .collect();
    // These two already say why events wait.
    if !troubles.iter().any(|trouble| matches!(trouble.cause, Cause::Waiting | Cause::Untrusted)) {
        troubles.extend(delivery(snapshot));
    }
    troubles.sort_by_key(|trouble| (Reverse(trouble.health), trouble.cause));
    troubles
}

fn storage(snapshot: &Snapshot) -> Option<Trouble> {
    let sentence = if let Err(error) = &snapshot.storage {
        Some(format!("alerts cannot be committed and are answered 503: {error}"))
    } else if let Some(error) = snapshot.read_error() {
        Some(format!("the queue cannot be read, so alerts may not be delivered: {error}"))
    } else {
        unreadable(&snapshot.delivery.unreadable)
    };
    sentence.map(|sentence| Trouble::failing(Cause::Storage, sentence))
}

/// Events that cannot be read are not delivered, and no other check would notice, because they are never the first
/// waiting event of a service key.
fn unreadable(unreadable: &UnreadableView) -> Option<String> {
    let UnreadableView { events, keys, unsettled, reason } = unreadable;
    let Some(reason) = reason.as_deref() else {
        return (*unsettled > 0).then(|| {
            format!(
                "{unsettled} events cannot be marked as done because part of the database is damaged, so they will be \
                 sent again after the next start: restore the database file"
            )
        });
    };
    let what = match (*events, *keys) {
        (0, keys) => format!("waiting events of {keys} service keys cannot be read and are not delivered"),
        (1, _) => "1 event in the queue cannot be read and is not delivered".to_owned(),
        (events, _) => format!("{events} events in the queue cannot be read and are not delivered"),
    };
    Some(format!(
        "{what}, while all others are: {reason}; keep a copy of the database, look in Sentry for the alerts of that time, \
         and discard the events or restore the file"
    ))
}

/// The old secret stays in use, so this alone loses nothing.
fn secrets(snapshot: &Snapshot) -> Option<Trouble> {
    let problems = snapshot.metrics.unusable_secrets.as_ref()?;
    let sentence = format!("a secret was read again and cannot be used, so the old one stays in use: {problems}");
    Some(Trouble::degraded(Cause::Secrets, sentence))
}

/// Finds a problem among the bridges that share the queue that needs attention although alerts are still delivered.
fn bridges(snapshot: &Snapshot) -> Option<Trouble> {
    let different = snapshot.cluster.different_settings().map(|(one, other)| {
        format!(
            "the bridges {} and {} share the queue and have different settings (config {} and {}): give all of them the same \
             BRIDGE_* settings and the same version, or wait until all are updated",
            one.name, other.name, one.fingerprint, other.fingerprint
        )
    });
    let unreached = || {
        let cut_off = snapshot.cluster.alive().find(|bridge| !bridge.reaches_pagerduty)?;
        let others = snapshot.cluster.alive().any(|bridge| bridge.reaches_pagerduty);
        others.then(|| {
            format!(
                "the bridge {} does not reach PagerDuty, and others deliver its service keys: check the network of its host",
                cut_off.name
            )
        })
    };
    different.or_else(unreached).map(|sentence| Trouble::degraded(Cause::Bridges, sentence))
}

/// The time from `moment` to `now`; zero where the clock was set back.
fn since(moment: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - moment).max(TimeDelta::zero()).to_std().unwrap_or_default()
}

/// A duration in its two largest units.
fn rounded(duration: Duration) -> String {
    let text = format_duration(Duration::from_secs(duration.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests;
