//! Dead letters, each with its reason and what can be done about it.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::forms::{self, Subject};
use super::layout::{self, Frame, Kind};
use super::text::{ago, count, counted, shown};
use super::view::Listing;
use crate::queue::Summary;

/// The section of the status page; `total` is how many there are in all.
pub(super) fn section(now: DateTime<Utc>, letters: &Listing<Summary>, total: u64, csrf: &str) -> Markup {
    html! {
        section #dead aria-labelledby="dead-title" {
            div .head {
                h2 #dead-title { "Dead letters " @if total > 0 { span .badge { (count(total)) } } }
                @if total > 0 { (forms::both(Subject::DeadLetters, csrf)) }
            }
            @if letters.entries.is_empty() {
                p .empty { "None. What PagerDuty refuses for good stands here, with its reason." }
            }
            (list(now, &letters.entries, csrf))
            @if let Some(older) = letters.older {
                p .more { a href={ "/dead?before=" (older) } { "Older dead letters" } }
            }
        }
    }
}

/// A page of nothing else.
pub(super) fn page(frame: &Frame, letters: &Listing<Summary>) -> Markup {
    let csrf = frame.csrf.as_deref().unwrap_or_default();
    let main = html! {
        section #dead {
            div .head {
                h1 { "Dead letters" }
                @if !letters.entries.is_empty() { (forms::both(Subject::DeadLetters, csrf)) }
            }
            @if letters.entries.is_empty() { p .empty { "None." } }
            (list(frame.at, &letters.entries, csrf))
            (forms::pager("/dead", letters.older))
        }
    };
    layout::page(frame, "Dead letters", Kind::Live, &main)
}

fn list(now: DateTime<Utc>, letters: &[Summary], csrf: &str) -> Markup {
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
                        span { "came " (ago(now, letter.received_at)) }
                        @if let Some(at) = letter.finished_at { span { "given up " (ago(now, at)) } }
                    }
                }
                (forms::both(Subject::Event(letter.id), csrf))
            }
        }
    }
}

/// The line people read first.
pub(super) fn title(entry: &Summary) -> Markup {
    html! {
        @if entry.description.trim().is_empty() { (entry.event_type) " of incident " (shown(entry.incident_key.as_str(), &entry.service_key)) }
        @else { (shown(&entry.description, &entry.service_key)) }
    }
}
