//! What is wrong with the bridge. Pure: a [`Snapshot`] goes in, [`Trouble`]s and the [`Health`] come out.
//!
//! - `held_up`: events that wait, and why

pub(super) mod held_up;

mod proof;

mod signatures;

use std::cmp::Reverse;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use humantime::format_duration;
use strum::{IntoStaticStr, VariantArray};

use self::held_up::{delivery, named, waiting};
use super::snapshot::Snapshot;
use crate::canary::{CanaryLimits, Progress};
use crate::config::Config;
use crate::delivery::UnreadableView;
use crate::pagerduty::IncidentKey;
use crate::queue::DeadLetters;
use crate::sentry_api::connect::CANARY;

/// The number of consecutive wrong signatures that is a trouble, even if earlier ones turned out to be a stranger's
/// within the last day.
const SIGNATURES: u32 = 5;

/// The time that must also pass without a right signature: while there are right signatures too, Sentry is not locked
/// out. Sentry sends failed webhooks again, and most rotations are over by then.
pub(super) const UNVERIFIED: Duration = Duration::from_mins(5);

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
pub struct Limits {
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

impl From<&Config> for Limits {
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
pub fn check(snapshot: &Snapshot, limits: &Limits) -> Vec<Trouble> {
    let mut troubles: Vec<_> = [
        storage(snapshot),
        untrusted(snapshot),
        signatures::check(snapshot, limits),
        waiting(snapshot, limits),
        proof::check(snapshot),
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

fn untrusted(snapshot: &Snapshot) -> Option<Trouble> {
    let reason = snapshot.delivery.untrusted.as_ref()?;
    let sentence = format!(
        "nothing is sent, because the TLS certificate at PagerDuty's address is not trusted ({reason}): check for a proxy \
         in between, and check BRIDGE_PAGERDUTY_URL and BRIDGE_PAGERDUTY_CA_FILE"
    );
    Some(Trouble::failing(Cause::Untrusted, sentence))
}

/// The old secret stays in use, so this alone loses nothing.
fn secrets(snapshot: &Snapshot) -> Option<Trouble> {
    let problems = snapshot.metrics.unusable_secrets.as_ref()?;
    let sentence = format!("a secret was read again and cannot be used, so the old one stays in use: {problems}");
    Some(Trouble::degraded(Cause::Secrets, sentence))
}

/// The sentence first says which half of the way is interrupted, because what to check differs.
fn canary(snapshot: &Snapshot) -> Option<Trouble> {
    let status = snapshot.sentry.canary.as_ref()?.as_ref().ok()?;
    let last = status.last.map_or_else(
        || "none has come back so far".to_owned(),
        |last| format!("the last one came back {} ago", rounded(since(last.returned_at, snapshot.at))),
    );
    let sentence = match &status.progress {
        Progress::Unknown | Progress::Returns => return None,
        Progress::NotTaken { since: first, reason } => format!(
            "Sentry does not take the canary's events, for {} now: {reason}; other events of applications may be lost as \
             well, and {last}",
            rounded(since(*first, snapshot.at))
        ),
        Progress::Lost { sent_at } => format!(
            "Sentry took the canary {} ago, and its webhook did not come: alerts may not come either, and {last}; check \
             that Sentry's workers run, that the alert \"{CANARY}\" is there and on (`audit`, `connect --canary`), that the \
             canary's issue is not archived, and that Sentry reaches the bridge",
            rounded(since(*sent_at, snapshot.at))
        ),
    };
    Some(Trouble::failing(Cause::Canary, sentence))
}

fn silence(snapshot: &Snapshot, limits: &Limits) -> Option<Trouble> {
    let limit = limits.silence?;
    let last = snapshot.metrics.last_webhook_at;
    let quiet = since(last.unwrap_or(snapshot.started_at), snapshot.at);
    if quiet < limit {
        return None;
    }
    let what = match last {
        Some(_) => format!("no webhook came for {}", rounded(quiet)),
        None => format!("no webhook came since the bridge started, for {}", rounded(quiet)),
    };
    let sentence = format!(
        "{what}, and BRIDGE_SILENCE_ALARM is {}: check in Sentry that the alert rules notify the bridge and that its URL \
         is right, and send a test from there",
        format_duration(limit),
    );
    Some(Trouble::failing(Cause::Silence, sentence))
}

/// Dead letters by themselves do not keep other events from being delivered, so there is time to look at them. If no
/// event of the service key was delivered since the newest of them, the next alert is unlikely to be delivered either.
fn dead_letters(snapshot: &Snapshot) -> Option<Trouble> {
    let dead = &snapshot.backlog.as_ref().ok()?.dead;
    let number: u64 = dead.iter().map(|letters| letters.number).sum();
    let worst = dead.iter().max_by_key(|letters| (!delivered_since(snapshot, letters), letters.died_at))?;
    let (health, others) = if delivered_since(snapshot, worst) {
        (Health::Degraded, "")
    } else {
        (Health::Failing, ", and PagerDuty has accepted no event for that key since")
    };
    let (noun, such_as) =
        if number == 1 { ("event is a dead letter", ": ") } else { ("events are dead letters", ", such as ") };
    let reason = worst.reason.as_deref().unwrap_or("without a reason");
    let sentence = format!(
        "{number} {noun}{such_as}event {} for {} ({reason}){others}; see `queue list --state dead`, then \
         retry or discard",
        worst.newest,
        named(&worst.service_key, snapshot)
    );
    Some(Trouble { cause: Cause::DeadLetters, health, sentence })
}

/// Whether PagerDuty accepted an event for that service key after the newest dead letter.
fn delivered_since(snapshot: &Snapshot, letters: &DeadLetters) -> bool {
    snapshot.last_delivered_at(&letters.service_key).is_some_and(|delivered| delivered > letters.died_at)
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
