//! The status page: the health of the bridge in one word and colour, and everything that explains it.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::layout::{self, Frame, Kind, health};
use super::lists::{self, Listing, Shown};
use super::notice::{self, Followed};
use super::text::{age, ago, clock, count, counted, harmless, minute, sentence};
use super::{bridges, charts, database, sentry, services};
use crate::catch_up::CatchUpStatus;
use crate::monitor::headline::Headline;
use crate::monitor::{Health, Snapshot, Trouble, is_held_up};
use crate::queue::{Overview, RejectedSummary};

/// How many entries of each list the status page shows.
pub(super) const GLANCE: u32 = 5;

/// All that the status page shows.
#[derive(Clone, Debug)]
pub(in crate::web) struct Status {
    /// The snapshot that it shows.
    pub(in crate::web) snapshot: Snapshot,
    /// The health of the bridge.
    pub(super) health: Health,
    /// Worst first.
    pub(in crate::web) troubles: Vec<Trouble>,
    /// The lists; `None` when the queue cannot be read.
    pub(super) lists: Option<Lists>,
    /// The result of the action that was done before.
    pub(super) notice: Option<Followed>,
}

/// The lists of the status page.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    /// Dead letters, newest first.
    pub(super) dead: Listing<Shown>,
    /// Rejected webhooks, newest first.
    pub(super) rejected: Listing<RejectedSummary>,
    /// The newest alerts, in any state.
    pub(super) recent: Listing<Shown>,
}

/// The whole status page, in the order in which it is needed: what is wrong, what waits, what failed, what happened.
pub(super) fn page(frame: &Frame, status: &Status) -> Markup {
    let snapshot = &status.snapshot;
    let main = html! {
        (hero(status))
        @if let Some(followed) = &status.notice { (notice::line(followed)) }
        (vitals(snapshot))
        (services::section(snapshot))
        @if let Some(lists) = &status.lists {
            (lists::dead_section(snapshot.at, &lists.dead, dead(snapshot)))
            (lists::rejected_section(snapshot.at, &lists.rejected, rejected_count(snapshot)))
        }
        @if let Some(catch_up) = &snapshot.catch_up { (reported(snapshot.at, catch_up)) }
        @if let Some(lists) = &status.lists {
            (lists::recent_section(snapshot.at, &lists.recent))
        }
        (charts::section(&snapshot.metrics.activity))
        (sentry::section(snapshot))
        (bridges::section(snapshot))
        (database::section(snapshot))
    };
    layout::page(frame, health(status.health).0, Kind::Live, &main)
}

fn hero(status: &Status) -> Markup {
    let now = status.snapshot.at;
    let (health, class) = health(status.health);
    html! {
        section #state .hero .(class) {
            p .asof { "As of " (clock(now, now)) }
            h1 .word { (health) }
            @match Headline::of(&status.snapshot, &status.troubles) {
                None => p .lede { (lede(status)) },
                Some(headline) => {
                    p #headline .headline { (headline_line(now, &headline)) }
                    ul .troubles {
                        @for trouble in &status.troubles { li { (with_code(&sentence(&harmless(&trouble.sentence)))) } }
                    }
                }
            }
        }
    }
}

/// The worst trouble, since when, and what waits.
fn headline_line(now: DateTime<Utc>, headline: &Headline) -> Markup {
    html! {
        (harmless(&headline.what))
        @if let Some((word, at)) = headline.when { " " (word) " " (minute(now, at)) }
        @if let Some(waiting) = &headline.waiting {
            "; " strong { (count(waiting.counted().0)) " " (waiting.counted().1) }
            @if let Some(oldest) = waiting.oldest { ", the oldest " (age(now, oldest)) }
        }
        @if headline.dead > 0 { "; " (counted(headline.dead, "dead letter", "dead letters")) }
        "."
    }
}

/// The line that is shown if there is no headline.
fn lede(status: &Status) -> &'static str {
    let metrics = &status.snapshot.metrics;
    match (status.health, metrics.last_webhook_at, metrics.last_delivered_at) {
        (Health::Healthy, None, None) => "Waiting for the first webhook.",
        (Health::Healthy, ..) => "Receiving webhooks and delivering to PagerDuty.",
        (Health::Degraded, ..) if is_held_up(&status.snapshot) => {
            "Events are waiting because PagerDuty throttles or fails. They are retried."
        }
        (Health::Degraded, ..) => {
            "Events have been waiting for more than a minute: more came than the rate allows, or PagerDuty fails for some of them."
        }
        (Health::Failing, ..) => "Alerts may not reach anybody.",
    }
}

/// Renders the text between backticks as code.
fn with_code(text: &str) -> Markup {
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

fn vitals(snapshot: &Snapshot) -> Markup {
    let now = snapshot.at;
    let metrics = &snapshot.metrics;
    html! {
        dl #vitals .vitals {
            div {
                dt { "Last webhook" }
                dd { @match metrics.last_webhook_at { Some(at) => (ago(now, at)), None => "never" } }
            }
            div {
                dt { "Last delivery" }
                dd { @match metrics.last_delivered_at { Some(at) => (ago(now, at)), None => "never" } }
            }
            (sentry::vital(snapshot))
            @if let Some(status) = &snapshot.catch_up { (catch_up(now, status)) }
            @if let Ok(queue) = &snapshot.queue {
                div {
                    dt { "Waiting" }
                    dd .(waiting_class(now, queue)) {
                        (count(queue.waiting))
                        @if let Some(at) = queue.oldest_waiting { small { "oldest " (age(now, at)) } }
                    }
                }
                @if snapshot.delivery.unreadable.events > 0 {
                    div .alert {
                        dt { "Unreadable" }
                        dd { (count(snapshot.delivery.unreadable.events)) small { "quarantined" } }
                    }
                }
                div .alert[queue.dead > 0] {
                    dt { "Dead letters" }
                    dd { (count(queue.dead)) }
                }
                div .alert[queue.rejected > 0] {
                    dt { "Rejected" }
                    dd { (count(queue.rejected)) }
                }
                @if queue.held > 0 {
                    div .alert {
                        dt { "Held" }
                        dd { (count(queue.held)) small { "wrong signature" } }
                    }
                }
            }
            @if let Some(fallback) = &snapshot.fallback {
                div #fallback .alert[fallback.failure.is_some()] {
                    dt { "Fallback webhook" }
                    dd {
                        @if fallback.outage_since.is_some() { "notified of the outage " }
                        @match fallback.last_told_at { Some(at) => (ago(now, at)), None => "not needed yet" }
                        @if let Some(failure) = &fallback.failure { small { "failing: " (harmless(failure)) } }
                    }
                }
            }
        }
    }
}

/// The colour of the number of waiting events, by the age of the oldest.
fn waiting_class(now: DateTime<Utc>, queue: &Overview) -> &'static str {
    queue.oldest_waiting.map_or("fresh", |oldest| lists::age_class(now, oldest))
}

/// When catch-up last asked Sentry which alerts fired, and how many of them were missing.
fn catch_up(now: DateTime<Utc>, status: &CatchUpStatus) -> Markup {
    html! {
        div .alert[status.failure.is_some()] {
            dt { "Catch-up" }
            dd {
                @match status.last {
                    Some(run) => { (ago(now, run.ran_at)) small { (count(run.found)) " missing" } }
                    None => "never",
                }
            }
        }
    }
}

/// The missing alerts for which nobody was paged, and why catch-up fails, if it does.
fn reported(now: DateTime<Utc>, status: &CatchUpStatus) -> Markup {
    html! {
        @if status.failure.is_some() || !status.reported.is_empty() {
            section #missing aria-labelledby="missing-title" {
                h2 #missing-title { "Missing alerts" }
                @if let Some((at, why)) = &status.failure {
                    p .reason dir="auto" { "Catch-up failed " (ago(now, *at)) ", so it is not known which alerts are missing: " (harmless(why)) }
                }
                @if !status.reported.is_empty() {
                    p { "Sentry fired these, no webhook of them came, and nobody was paged:" }
                    ul {
                        @for one in &status.reported {
                            li dir="auto" {
                                @match &one.link {
                                    Some(link) if is_web(link) => a href=(link) rel="noreferrer" { (harmless(&one.title)) },
                                    _ => (harmless(&one.title)),
                                }
                                " " (ago(now, one.at))
                            }
                        }
                    }
                }
            }
        }
    }
}

/// Whether an external URL may be rendered as a link.
fn is_web(link: &str) -> bool {
    link.starts_with("https://") || link.starts_with("http://")
}

fn dead(snapshot: &Snapshot) -> u64 {
    snapshot.queue.as_ref().map_or(0, |queue| queue.dead)
}

fn rejected_count(snapshot: &Snapshot) -> u64 {
    snapshot.queue.as_ref().map_or(0, |queue| queue.rejected)
}
