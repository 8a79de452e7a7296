//! What is trouble. Pure: the same facts always get the same judgement.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use humantime::format_duration;

use super::word::held_up;
use super::{Cause, Facts, Word};
use crate::config::Config;
use crate::delivery::{KeyView, UnreadableView};
use crate::metrics::Senders;
use crate::queue::DeadLetters;

/// So many wrong signatures in a row are trouble: one may be a stranger's, and Sentry repeats what failed.
const SIGNATURES: u32 = 5;

/// They have to come for so long with none between them that is right: five requests at once are easily made by anybody,
/// and what a stranger does while Sentry's webhooks are proven is no trouble.
pub(super) const UNVERIFIED: Duration = Duration::from_mins(5);

/// An event that waits for so long does not just pass through.
const PASSING: Duration = Duration::from_mins(1);

/// Where trouble begins.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// No webhook for so long is trouble; `None`: never.
    pub silence: Option<Duration>,
    /// An event that waits for so long is trouble.
    pub waiting: Duration,
    /// So many wrong signatures in a row are trouble.
    pub signatures: u32,
    /// The last of them has to come so long after the first.
    pub unverified: Duration,
}

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            silence: config.silence_alarm,
            waiting: config.waiting_alarm,
            signatures: SIGNATURES,
            unverified: UNVERIFIED,
        }
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Trouble {
    /// What.
    pub cause: Cause,
    /// How bad it is: never [`Word::Well`].
    pub word: Word,
    /// What happened and what to do, as a sentence for the operator; service keys are masked in it.
    pub sentence: String,
}

/// What is wrong, worst first; each cause at most once.
#[must_use]
pub fn judge(facts: &Facts, limits: &Limits) -> Vec<Trouble> {
    let failing = |cause, sentence| Trouble { cause, word: Word::Failing, sentence };
    let mut troubles: Vec<_> = [
        storage(facts).map(|sentence| failing(Cause::Storage, sentence)),
        untrusted(facts).map(|sentence| failing(Cause::Untrusted, sentence)),
        signatures(facts, limits).map(|sentence| failing(Cause::Signatures, sentence)),
        waiting(facts, limits).map(|sentence| failing(Cause::Waiting, sentence)),
        silence(facts, limits).map(|sentence| failing(Cause::Silence, sentence)),
        dead_letters(facts),
    ]
    .into_iter()
    .flatten()
    .collect();
    // What waits for too long, or for somebody who can be trusted, is named already.
    if !troubles.iter().any(|trouble| matches!(trouble.cause, Cause::Waiting | Cause::Untrusted)) {
        troubles.extend(delivery(facts));
    }
    troubles.sort_by_key(|trouble| (std::cmp::Reverse(trouble.word), trouble.cause));
    troubles
}

fn storage(facts: &Facts) -> Option<String> {
    if let Err(error) = &facts.storage {
        return Some(format!("alerts cannot be committed, so Sentry is answered 503: {error}"));
    }
    if let Some(error) = facts.read_error() {
        return Some(format!("the queue cannot be read, so alerts may not be delivered: {error}"));
    }
    unreadable(&facts.delivery.unreadable)
}

/// What waits and cannot be read reaches nobody, and waits in no line that would be noticed.
fn unreadable(unreadable: &UnreadableView) -> Option<String> {
    let UnreadableView { events, keys, unsettled, reason } = unreadable;
    let Some(reason) = reason.as_deref() else {
        return (*unsettled > 0).then(|| {
            format!(
                "a damaged part of the database keeps {unsettled} events from being marked as done, so that they are sent \
                 again after the next start: restore the file"
            )
        });
    };
    let what = match (*events, *keys) {
        (0, keys) => format!("what waits for {keys} of the service keys cannot be read and is not delivered"),
        (1, _) => "1 event in the queue cannot be read and is not delivered".to_owned(),
        (events, _) => format!("{events} events in the queue cannot be read and are not delivered"),
    };
    Some(format!(
        "{what}, while all others are: {reason}; keep a copy of the database, look in Sentry for the alerts of that time, \
         and discard the events or restore the file"
    ))
}

fn untrusted(facts: &Facts) -> Option<String> {
    let reason = facts.delivery.untrusted.as_ref()?;
    Some(format!(
        "nothing is sent, because PagerDuty's address cannot prove who it is ({reason}): see whether a proxy is in \
         between, and check BRIDGE_PAGERDUTY_URL and BRIDGE_PAGERDUTY_CA_FILE"
    ))
}

fn signatures(facts: &Facts, limits: &Limits) -> Option<String> {
    let (wrong, lasted) = (facts.metrics.wrong_signatures, facts.metrics.wrong_signatures_for);
    (wrong >= limits.signatures && lasted >= limits.unverified).then(|| {
        format!(
            "{wrong} webhooks in a row, within {}, had a wrong signature and were turned away; they came {}: if that is \
             Sentry or the proxy before the bridge, and the Client Secret was changed in Sentry, put the new one into \
             BRIDGE_SENTRY_CLIENT_SECRET, before the old one and a comma; if not, a stranger calls",
            in_words(lasted),
            from(&facts.metrics.wrong_signatures_from),
        )
    })
}

fn from(senders: &Senders) -> String {
    if senders.first.is_empty() {
        return "from unknown addresses".to_owned();
    }
    let addresses: Vec<_> = senders.first.iter().map(ToString::to_string).collect();
    format!("from {}{}", addresses.join(", "), if senders.more { " and others" } else { "" })
}

fn waiting(facts: &Facts, limits: &Limits) -> Option<String> {
    let oldest = facts.attention.as_ref().ok()?.oldest()?;
    let age = since(oldest.since, facts.at);
    let tried = oldest
        .reason
        .as_ref()
        .map_or_else(|| "it was not tried yet".to_owned(), |reason| format!("PagerDuty: {reason}"));
    (age >= limits.waiting).then(|| {
        format!(
            "event {} for the service key {} waits for {}, and BRIDGE_WAITING_ALARM is {} ({tried}): see PagerDuty's \
             status page, and the way there with `check`",
            oldest.id,
            oldest.service_key,
            in_words(age),
            format_duration(limits.waiting),
        )
    })
}

fn silence(facts: &Facts, limits: &Limits) -> Option<String> {
    let limit = limits.silence?;
    let (last, since_what) = match facts.metrics.last_webhook_at {
        Some(last) => (last, "for"),
        None => (facts.started_at, "since the bridge started, for"),
    };
    let quiet = since(last, facts.at);
    (quiet >= limit).then(|| {
        format!(
            "no webhook came {since_what} {}, and BRIDGE_SILENCE_ALARM is {}: see in Sentry whether its alert rules \
             still name the bridge and whether its address is right, and send a test from there",
            in_words(quiet),
            format_duration(limit),
        )
    })
}

/// Dead letters reached nobody, but by themselves they do not keep others from it: whoever is told has time to read.
/// When none of their integration passed since the newest, the next alert will hardly fare better.
fn dead_letters(facts: &Facts) -> Option<Trouble> {
    let dead = &facts.attention.as_ref().ok()?.dead;
    let number: u64 = dead.iter().map(|letters| letters.number).sum();
    let worst = dead.iter().max_by_key(|letters| (!passed_since(facts, letters), letters.died_at))?;
    let (word, others) = if passed_since(facts, worst) {
        (Word::Strained, "")
    } else {
        (Word::Failing, ", and PagerDuty has taken none for that key since")
    };
    let (noun, this) =
        if number == 1 { ("event is a dead letter", "") } else { ("events are dead letters", ", such as") };
    let reason = worst.reason.as_deref().unwrap_or("without a reason");
    let sentence = format!(
        "{number} {noun} and reached nobody{this}: event {} for the service key {} ({reason}){others}; see `queue list \
         --state dead`, and retry or discard them",
        worst.newest, worst.service_key
    );
    Some(Trouble { cause: Cause::DeadLetters, word, sentence })
}

/// Whether PagerDuty took an event of that integration after it refused the newest dead letter.
fn passed_since(facts: &Facts, letters: &DeadLetters) -> bool {
    facts.last_delivered_at(&letters.service_key).is_some_and(|passed| passed > letters.died_at)
}

/// Events that wait because PagerDuty throttles or fails, or for more than a minute, but not yet for too long.
fn delivery(facts: &Facts) -> Option<Trouble> {
    let sentence = held_up(facts).max_by_key(|lane| lane.last_failure.is_some()).map(|lane| of_lane(lane, facts));
    let sentence = sentence.or_else(|| waits_long(facts))?;
    Some(Trouble { cause: Cause::Delivery, word: Word::Strained, sentence })
}

fn of_lane(lane: &KeyView, facts: &Facts) -> String {
    let key = &lane.service_key;
    let last = facts.last_delivered_at(key).map_or_else(
        || "PagerDuty has taken none for it yet".to_owned(),
        |at| format!("PagerDuty took the last one for it {} ago", in_words(since(at, facts.at))),
    );
    let why = match &lane.last_failure {
        Some(reason) => format!("the last attempt ended so: {reason}"),
        None if lane.allowed < lane.rate => {
            format!("PagerDuty throttles, so {} of {} may leave in a minute", lane.allowed, lane.rate)
        }
        None => "it backs off after attempts that failed".to_owned(),
    };
    format!("events for the service key {key} wait, and are tried again ({why}); {last}")
}

fn waits_long(facts: &Facts) -> Option<String> {
    let oldest = facts.attention.as_ref().ok()?.oldest()?;
    let age = since(oldest.since, facts.at);
    let why = oldest.reason.as_ref().map_or_else(
        || "more came than may be sent in a minute".to_owned(),
        |reason| format!("its last attempt ended so: {reason}"),
    );
    (age >= PASSING).then(|| {
        format!("event {} for the service key {} waits for {} ({why})", oldest.id, oldest.service_key, in_words(age))
    })
}

/// For how long; nothing where the clock was set back.
fn since(moment: DateTime<Utc>, now: DateTime<Utc>) -> Duration {
    (now - moment).max(TimeDelta::zero()).to_std().unwrap_or_default()
}

/// A duration as people say it: two of its units.
fn in_words(duration: Duration) -> String {
    let text = format_duration(Duration::from_secs(duration.as_secs())).to_string();
    text.split(' ').take(2).collect::<Vec<_>>().join(" ")
}
