//! Webhooks that were rejected, each with its reason and what can be done about it.

use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::forms::{self, Subject};
use super::layout::{self, Frame, Kind};
use super::text::{ago, count, harmless};
use super::view::Listing;
use crate::queue::RejectedSummary;

/// The section of the status page; `total` is how many there are in all.
pub(super) fn section(now: DateTime<Utc>, webhooks: &Listing<RejectedSummary>, total: u64, csrf: &str) -> Markup {
    html! {
        section #rejected aria-labelledby="rejected-title" {
            div .head {
                h2 #rejected-title { "Rejected webhooks " @if total > 0 { span .badge { (count(total)) } } }
                @if total > 0 { (forms::both(Subject::AllRejected, csrf)) }
            }
            @if webhooks.entries.is_empty() {
                p .empty { "None. Bodies that the bridge does not understand stand here, until a later version does." }
            }
            (list(now, &webhooks.entries, csrf))
            @if let Some(older) = webhooks.older {
                p .more { a href={ "/rejected?before=" (older) } { "Older rejected webhooks" } }
            }
        }
    }
}

/// A page of nothing else.
pub(super) fn page(frame: &Frame, webhooks: &Listing<RejectedSummary>) -> Markup {
    let csrf = frame.csrf.as_deref().unwrap_or_default();
    let main = html! {
        section #rejected {
            div .head {
                h1 { "Rejected webhooks" }
                @if !webhooks.entries.is_empty() { (forms::both(Subject::AllRejected, csrf)) }
            }
            @if webhooks.entries.is_empty() { p .empty { "None." } }
            (list(frame.at, &webhooks.entries, csrf))
            (forms::pager("/rejected", webhooks.older))
        }
    };
    layout::page(frame, "Rejected webhooks", Kind::Live, &main)
}

fn list(now: DateTime<Utc>, webhooks: &[RejectedSummary], csrf: &str) -> Markup {
    html! {
        @for webhook in webhooks {
            article .entry id={ "rejected-" (webhook.id) } {
                div .what {
                    h3 .title dir="auto" { a href={ "/rejected/" (webhook.id) } { (harmless(&webhook.reason)) } }
                    p .meta {
                        span { code { (webhook.id) } }
                        span { (ByteSize::b(webhook.size).display().si()) }
                        span { "came " (ago(now, webhook.received_at)) }
                    }
                }
                (forms::both(Subject::Rejected(webhook.id), csrf))
            }
        }
    }
}
