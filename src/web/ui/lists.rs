//! Dead letters, rejected webhooks and recent alerts: as sections of the status page, and as pages of their own.

use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::forms::{self, Subject};
use super::layout::{self, Frame, Kind};
use super::text::{ago, count, counted, harmless, rough, shown, span};
use crate::queue::{RejectedSummary, State, Summary};

/// How many entries a page of its own shows at most.
pub(super) const PAGE: u32 = 50;

/// A part of a list.
#[derive(Clone, Debug)]
pub(super) struct Listing<T> {
    /// In the order in which they are shown.
    pub(super) entries: Vec<T>,
    /// The number after which the older ones follow; `None` when these are the last.
    pub(super) older: Option<i64>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), older: None }
    }
}

impl<T> Listing<T> {
    /// The first `size` of these; one more was read to know whether there are older ones.
    pub(super) fn of(mut entries: Vec<T>, size: u32, number: impl Fn(&T) -> i64) -> Self {
        let size = size as usize;
        let more = entries.len() > size;
        entries.truncate(size);
        let older = entries.last().filter(|_| more).map(number);
        Self { entries, older }
    }
}

/// Dead letters on the status page; `total` is how many there are in all.
pub(super) fn dead_section(now: DateTime<Utc>, letters: &Listing<Summary>, total: u64) -> Markup {
    html! {
        section #dead aria-labelledby="dead-title" {
            div .head {
                h2 #dead-title { "Dead letters " @if total > 0 { span .badge { (count(total)) } } }
                @if total > 0 { (forms::actions(Subject::DeadLetters)) }
            }
            @if letters.entries.is_empty() {
                p .empty { "No dead letters." }
            }
            (dead_letters(now, &letters.entries))
            @if let Some(older) = letters.older {
                p .more { a href={ "/dead?before=" (older) } { "Older dead letters" } }
            }
        }
    }
}

/// `GET /dead`.
pub(super) fn dead_page(frame: &Frame, letters: &Listing<Summary>) -> Markup {
    let main = html! {
        section #dead {
            div .head {
                h1 { "Dead letters" }
                @if !letters.entries.is_empty() { (forms::actions(Subject::DeadLetters)) }
            }
            @if letters.entries.is_empty() { p .empty { "No dead letters." } }
            (dead_letters(frame.at, &letters.entries))
            (forms::pager("/dead", letters.older))
        }
    };
    layout::page(frame, "Dead letters", Kind::Live, &main)
}

fn dead_letters(now: DateTime<Utc>, letters: &[Summary]) -> Markup {
    html! {
        @for letter in letters {
            article .entry id={ "event-" (letter.id) } {
                div .what {
                    h3 .title dir="auto" { a href={ "/events/" (letter.id) } { (title(letter)) } }
                    @if let Some(reason) = &letter.reason { p .reason dir="auto" { (shown(reason, &letter.service_key)) } }
                    p .meta {
                        span { (letter.event_type) }
                        span { "incident " code { (shown(letter.incident_key.as_str(), &letter.service_key)) } }
                        span { "key " code { (letter.service_key) } }
                        span { (counted(letter.attempts.into(), "attempt", "attempts")) }
                        @if letter.count > 1 { span { (counted(letter.count.into(), "alert", "alerts")) } }
                        span { "received " (ago(now, letter.received_at)) }
                        @if let Some(at) = letter.finished_at { span { "given up " (ago(now, at)) } }
                    }
                }
                (forms::actions(Subject::Event(letter.id)))
            }
        }
    }
}

/// What the alert is about.
pub(super) fn title(entry: &Summary) -> Markup {
    html! {
        @if entry.description.trim().is_empty() { (entry.event_type) " of incident " (shown(entry.incident_key.as_str(), &entry.service_key)) }
        @else { (shown(&entry.description, &entry.service_key)) }
    }
}

/// Rejected webhooks on the status page; `total` is how many there are in all.
pub(super) fn rejected_section(now: DateTime<Utc>, webhooks: &Listing<RejectedSummary>, total: u64) -> Markup {
    html! {
        section #rejected aria-labelledby="rejected-title" {
            div .head {
                h2 #rejected-title { "Rejected webhooks " @if total > 0 { span .badge { (count(total)) } } }
                @if total > 0 { (forms::actions(Subject::AllRejected)) }
            }
            @if webhooks.entries.is_empty() {
                p .empty { "No rejected webhooks." }
            }
            (rejected_webhooks(now, &webhooks.entries))
            @if let Some(older) = webhooks.older {
                p .more { a href={ "/rejected?before=" (older) } { "Older rejected webhooks" } }
            }
        }
    }
}

/// `GET /rejected`.
pub(super) fn rejected_page(frame: &Frame, webhooks: &Listing<RejectedSummary>) -> Markup {
    let main = html! {
        section #rejected {
            div .head {
                h1 { "Rejected webhooks" }
                @if !webhooks.entries.is_empty() { (forms::actions(Subject::AllRejected)) }
            }
            @if webhooks.entries.is_empty() { p .empty { "No rejected webhooks." } }
            (rejected_webhooks(frame.at, &webhooks.entries))
            (forms::pager("/rejected", webhooks.older))
        }
    };
    layout::page(frame, "Rejected webhooks", Kind::Live, &main)
}

fn rejected_webhooks(now: DateTime<Utc>, webhooks: &[RejectedSummary]) -> Markup {
    html! {
        @for webhook in webhooks {
            article .entry id={ "rejected-" (webhook.id) } {
                div .what {
                    h3 .title dir="auto" { a href={ "/rejected/" (webhook.id) } { (harmless(&webhook.reason)) } }
                    p .meta {
                        span { code { (webhook.id) } }
                        span { (ByteSize::b(webhook.size).display().si()) }
                        span { "received " (ago(now, webhook.received_at)) }
                    }
                }
                (forms::actions(Subject::Rejected(webhook.id)))
            }
        }
    }
}

/// The newest alerts on the status page.
pub(super) fn recent_section(now: DateTime<Utc>, alerts: &Listing<Summary>) -> Markup {
    html! {
        section #recent aria-labelledby="recent-title" {
            h2 #recent-title { "Recent alerts" }
            @if alerts.entries.is_empty() {
                p .empty { "No alerts yet." }
            } @else {
                (table(now, &alerts.entries))
            }
            @if let Some(older) = alerts.older {
                p .more { a href={ "/recent?before=" (older) } { "Older alerts" } }
            }
        }
    }
}

/// `GET /recent`.
pub(super) fn recent_page(frame: &Frame, alerts: &Listing<Summary>) -> Markup {
    let main = html! {
        section #recent {
            h1 { "Recent alerts" }
            @if alerts.entries.is_empty() { p .empty { "No alerts." } } @else { (table(frame.at, &alerts.entries)) }
            (forms::pager("/recent", alerts.older))
        }
    };
    layout::page(frame, "Recent alerts", Kind::Live, &main)
}

fn table(now: DateTime<Utc>, alerts: &[Summary]) -> Markup {
    html! {
        table .cards .alerts role="table" {
            thead role="rowgroup" { tr role="row" {
                @for head in ["Alert", "Webhook", "State", "Delivery", "Key"] {
                    th scope="col" role="columnheader" { (head) }
                }
            } }
            tbody role="rowgroup" {
                @for alert in alerts {
                    tr role="row" id={ "alert-" (alert.id) } {
                        th scope="row" role="rowheader" {
                            a .title dir="auto" href={ "/events/" (alert.id) } { (title(alert)) }
                            span .meta {
                                span { (alert.event_type) }
                                span { "incident " code { (shown(alert.incident_key.as_str(), &alert.service_key)) } }
                                @if alert.count > 1 { span { (counted(alert.count.into(), "alert", "alerts")) } }
                            }
                        }
                        td role="cell" data-label="Webhook" { (ago(now, alert.received_at)) }
                        td role="cell" data-label="State" { (state(alert.state)) }
                        td role="cell" data-label="Delivery" { (delivery(now, alert)) }
                        td role="cell" data-label="Key" { code { (alert.service_key) } }
                    }
                }
            }
        }
    }
}

/// A state in its colour.
pub(super) fn state(state: State) -> Markup {
    html! { span .state .(state.as_str()) { (state) } }
}

/// How long it took from the webhook to the delivery or the dead letter, or how long it has waited.
fn delivery(now: DateTime<Utc>, alert: &Summary) -> Markup {
    let tries = (alert.attempts > 1).then(|| counted(alert.attempts.into(), "attempt", "attempts"));
    html! {
        @match (alert.state, alert.finished_at) {
            (State::Delivered, Some(at)) => { span .keep { "after " (span(at - alert.received_at)) } }
            (State::Dead, Some(at)) => { span .keep { "given up after " (span(at - alert.received_at)) } }
            (State::Waiting, _) => { span .keep { "waiting for " (rough(now - alert.received_at)) } }
            (_, None) => { "at an unknown time" }
        }
        @if let Some(tries) = tries { small { (tries) } }
    }
}
