//! The status page: is it well, in one word and colour, and everything that says why.

use maud::{Markup, html};

use super::layout::{self, Frame, Kind, class};
use super::text::{age, ago, count, counted, harmless, time};
use super::view::{Notice, Status};
use super::{charts, destinations, letters, recent, rejected};
use crate::monitor::is_held_up;
use crate::monitor::{Health, Snapshot};

/// The whole status page.
pub(super) fn page(frame: &Frame, status: &Status) -> Markup {
    let csrf = frame.csrf.as_deref().unwrap_or_default();
    let main = html! {
        (hero(status))
        @if let Some(notice) = status.notice { (told(notice)) }
        (vitals(&status.facts))
        @if let Some(lists) = &status.lists {
            (letters::section(status.facts.at, &lists.dead, dead(&status.facts), csrf))
            (rejected::section(status.facts.at, &lists.rejected, rejected_count(&status.facts), csrf))
        }
        (destinations::section(&status.facts))
        (charts::section(&status.facts.metrics.activity))
        @if let Some(lists) = &status.lists {
            (recent::section(status.facts.at, &lists.recent))
        }
    };
    layout::page(frame, word(status.word), Kind::Live, &main)
}

fn hero(status: &Status) -> Markup {
    let now = status.facts.at;
    html! {
        section #state .hero .(class(status.word)) {
            p .asof { "As of " (time(now, &now.format("%H:%M:%S UTC").to_string())) }
            h1 .word { (word(status.word)) }
            @if status.troubles.is_empty() {
                p .lede { (lede(status)) }
            } @else {
                ul .troubles {
                    @for trouble in &status.troubles { li { (with_code(&sentence(&harmless(&trouble.sentence)))) } }
                }
            }
        }
    }
}

/// The word, as people read it.
fn word(word: Health) -> &'static str {
    match word {
        Health::Healthy => "Healthy",
        Health::Degraded => "Degraded",
        Health::Failing => "Failing",
    }
}

/// What is to be said where nothing is wrong.
fn lede(status: &Status) -> &'static str {
    let metrics = &status.facts.metrics;
    match (status.word, metrics.last_webhook_at, metrics.last_delivered_at) {
        (Health::Healthy, None, None) => "Waiting for the first webhook.",
        (Health::Healthy, ..) => "Webhooks are taken, and PagerDuty takes what is sent.",
        (Health::Degraded, ..) if is_held_up(&status.facts) => {
            "Events wait because PagerDuty throttles or fails. They are tried again."
        }
        (Health::Degraded, ..) => {
            "Events wait for more than a minute: more came than may be sent in one, or PagerDuty fails for some of them."
        }
        (Health::Failing, ..) => "Alerts may not reach people.",
    }
}

/// With a capital and a full stop, as what is written for logs has neither.
fn sentence(text: &str) -> String {
    let mut characters = text.chars();
    let first = characters.next().map(|first| first.to_uppercase().to_string()).unwrap_or_default();
    let end = if text.ends_with(['.', '!', '?']) { "" } else { "." };
    format!("{first}{}{end}", characters.as_str())
}

/// What stands between backticks in a sentence for a terminal is code on a page.
fn with_code(text: &str) -> Markup {
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// What an action did.
fn told(notice: Notice) -> Markup {
    let text = match notice {
        Notice::Retried { done: 0, left: 0 } | Notice::Discarded(0) => {
            "Nothing changed: it was gone or had moved on already.".to_owned()
        }
        Notice::Retried { done, left: 0 } => format!("{} retried.", counted(done, "entry was", "entries were")),
        Notice::Retried { done, left } => {
            format!("{} retried, {} left as before.", counted(done, "entry was", "entries were"), count(left))
        }
        Notice::Discarded(done) => format!("{} discarded.", counted(done, "entry was", "entries were")),
    };
    html! { p #notice .notice role="status" { (text) } }
}

fn vitals(facts: &Snapshot) -> Markup {
    let now = facts.at;
    let metrics = &facts.metrics;
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
            @if let Ok(queue) = &facts.queue {
                div {
                    dt { "Waiting" }
                    dd {
                        (count(queue.waiting))
                        @if let Some(at) = queue.oldest_waiting { small { "oldest " (age(now, at)) } }
                    }
                }
                @if facts.delivery.unreadable.events > 0 {
                    div .alert {
                        dt { "Unreadable" }
                        dd { (count(facts.delivery.unreadable.events)) small { "set aside" } }
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
            }
        }
    }
}

fn dead(facts: &Snapshot) -> u64 {
    facts.queue.as_ref().map_or(0, |queue| queue.dead)
}

fn rejected_count(facts: &Snapshot) -> u64 {
    facts.queue.as_ref().map_or(0, |queue| queue.rejected)
}
