//! Dead letters, rejected webhooks and recent alerts: as sections of the status page, and as pages of their own.

use bytesize::ByteSize;
use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::forms::{self, EntryTarget};
use super::layout::{self, PageFrame};
use super::text::{clock, count, counted, harmless, rough, service, shown, span};
use crate::pagerduty::{EventType, SentryOrigin};
use crate::queue::{EventSummary, Proof, RejectedSummary, State};

/// How many entries a page of its own shows at most.
pub(super) const PAGE: u32 = 50;

/// After how many minutes a waiting event is marked as old.
const OLD_MINUTES: i64 = 5;

/// An event, with its context.
#[derive(Clone, Debug)]
pub(super) struct EventEntry {
    pub(super) event: EventSummary,
    /// Where its alert came from.
    pub(super) origin: SentryOrigin,
    /// The name of its service.
    pub(super) service: Option<String>,
    /// Its proof: what PagerDuty shows of it.
    pub(super) proof: Option<Proof>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub(super) struct Listing<T> {
    /// In the order in which they are shown.
    pub(super) entries: Vec<T>,
    /// The number of the entry after which the older ones follow; `None` when there are no older ones.
    pub(super) older: Option<i64>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), older: None }
    }
}

impl<T> Listing<T> {
    /// Keeps the first `size` entries; one more was read to know whether there are older ones.
    pub(super) fn of(mut entries: Vec<T>, size: u32, number: impl Fn(&T) -> i64) -> Self {
        let size = size as usize;
        let more = entries.len() > size;
        entries.truncate(size);
        let older = entries.last().filter(|_| more).map(number);
        Self { entries, older }
    }
}

/// Dead letters on the status page; `total` is how many there are in all.
pub(super) fn dead_section(now: DateTime<Utc>, letters: &Listing<EventEntry>, total: u64) -> Markup {
    html! {
        section #dead aria-labelledby="dead-title" {
            div .head {
                h2 #dead-title { "Dead letters " @if total > 0 { span .badge { (count(total)) } } }
                @if total > 0 { (forms::actions(EntryTarget::DeadLetters)) }
            }
            @if letters.entries.is_empty() {
                p .empty { "No dead letters." }
            }
            (dead_letters(now, &letters.entries))
            @if letters.older.is_some() {
                p .more { a href="/dead" { "All dead letters" } }
            }
        }
    }
}

/// `GET /dead`.
pub(super) fn dead_page(frame: &PageFrame, letters: &Listing<EventEntry>) -> Markup {
    let main = html! {
        section #dead {
            div .head {
                h1 { "Dead letters" }
                @if !letters.entries.is_empty() { (forms::actions(EntryTarget::DeadLetters)) }
            }
            @if letters.entries.is_empty() { p .empty { "No dead letters." } }
            (dead_letters(frame.at, &letters.entries))
            (forms::pager("/dead?", letters.older))
        }
    };
    layout::live_page(frame, "Dead letters", &main)
}

fn dead_letters(now: DateTime<Utc>, letters: &[EventEntry]) -> Markup {
    html! {
        @for EventEntry { event: letter, origin, service: name, .. } in letters {
            article .entry id={ "event-" (letter.id) } {
                div .what {
                    h3 .title dir="auto" { a href={ "/events/" (letter.id) } { (title(letter)) } }
                    @if let Some(reason) = &letter.reason { p .reason dir="auto" { (shown(reason, &letter.service_key)) } }
                    (about(letter, origin))
                    p .meta {
                        span { "received " (clock(now, letter.received_at)) }
                        @if let Some(at) = letter.finished_at { span { "given up " (clock(now, at)) } }
                        span { "after " (counted(letter.attempts.into(), "attempt", "attempts")) }
                        span { "for " (service(&letter.service_key, name.as_deref())) }
                    }
                }
                (forms::actions(EntryTarget::Event(letter.id)))
            }
        }
    }
}

/// What the alert is about.
pub(super) fn title(entry: &EventSummary) -> Markup {
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
                @if total > 0 { (forms::actions(EntryTarget::AllRejected)) }
            }
            @if webhooks.entries.is_empty() {
                p .empty { "No rejected webhooks." }
            }
            (rejected_webhooks(now, &webhooks.entries))
            @if webhooks.older.is_some() {
                p .more { a href="/rejected" { "All rejected webhooks" } }
            }
        }
    }
}

/// `GET /rejected`.
pub(super) fn rejected_page(frame: &PageFrame, webhooks: &Listing<RejectedSummary>) -> Markup {
    let main = html! {
        section #rejected {
            div .head {
                h1 { "Rejected webhooks" }
                @if !webhooks.entries.is_empty() { (forms::actions(EntryTarget::AllRejected)) }
            }
            @if webhooks.entries.is_empty() { p .empty { "No rejected webhooks." } }
            (rejected_webhooks(frame.at, &webhooks.entries))
            (forms::pager("/rejected?", webhooks.older))
        }
    };
    layout::live_page(frame, "Rejected webhooks", &main)
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
                        span { "received " (clock(now, webhook.received_at)) }
                    }
                }
                (forms::actions(EntryTarget::Rejected(webhook.id)))
            }
        }
    }
}

/// The newest alerts on the status page.
pub(super) fn recent_section(now: DateTime<Utc>, alerts: &Listing<EventEntry>) -> Markup {
    html! {
        section #recent aria-labelledby="recent-title" {
            div .head {
                h2 #recent-title { "Recent alerts" }
                @if !alerts.entries.is_empty() { (forms::search("")) }
            }
            @if alerts.entries.is_empty() {
                p .empty { "No alerts yet." }
            } @else {
                (table(now, &alerts.entries))
            }
            @if alerts.older.is_some() {
                p .more { a href="/recent" { "All alerts" } }
            }
        }
    }
}

/// `GET /recent`: the newest alerts, or those that match `search`.
pub(super) fn recent_page(frame: &PageFrame, search: &str, alerts: &Listing<EventEntry>) -> Markup {
    let title = if search.is_empty() { "Recent alerts" } else { "Alerts found" };
    let older = forms::with_search("/recent", search);
    let main = html! {
        section #recent {
            div .head {
                h1 { (title) }
                (forms::search(search))
            }
            @if alerts.entries.is_empty() {
                p .empty {
                    @if search.is_empty() { "No alerts." }
                    @else if alerts.older.is_some() { "Nothing found among the newest. Older alerts have not been searched yet." }
                    @else { "Nothing found for \u{201c}" (harmless(search)) "\u{201d}." }
                }
            } @else {
                (table(frame.at, &alerts.entries))
            }
            (forms::pager(&older, alerts.older))
        }
    };
    layout::live_page(frame, title, &main)
}

fn table(now: DateTime<Utc>, alerts: &[EventEntry]) -> Markup {
    html! {
        table .cards .alerts role="table" {
            thead role="rowgroup" { tr role="row" {
                @for head in ["Alert", "Received", "State", "Delivery", "Service"] {
                    th scope="col" role="columnheader" { (head) }
                }
            } }
            tbody role="rowgroup" {
                @for EventEntry { event: alert, origin, service: name, proof } in alerts {
                    tr role="row" id={ "alert-" (alert.id) } {
                        th scope="row" role="rowheader" {
                            a .title dir="auto" href={ "/events/" (alert.id) } { (title(alert)) }
                            (about(alert, origin))
                        }
                        td role="cell" data-label="Received" { (clock(now, alert.received_at)) }
                        td role="cell" data-label="State" { (state(alert.state)) }
                        td role="cell" data-label="Delivery" { (delivery(now, alert)) @if let Some(proof) = proof { " " (incident(proof)) } }
                        td role="cell" data-label="Service" { (service(&alert.service_key, name.as_deref())) }
                    }
                }
            }
        }
    }
}

/// The details of an alert beside its title, and a link to its page in Sentry.
fn about(event: &EventSummary, origin: &SentryOrigin) -> Markup {
    let known = [&origin.project, &origin.environment, &origin.level].into_iter().flatten();
    html! {
        span .meta {
            @if event.event_type != EventType::Trigger { span { (event.event_type) } }
            @for text in known { span dir="auto" { (shown(text, &event.service_key)) } }
            span { "incident " code { (shown(event.incident_key.as_str(), &event.service_key)) } }
            @if event.count > 1 { span { (counted(event.count.into(), "alert", "alerts")) } }
            (open_in_sentry(origin))
        }
    }
}

/// A link to the alert's page in Sentry, where the event has one.
pub(super) fn open_in_sentry(origin: &SentryOrigin) -> Markup {
    html! {
        @if let Some(link) = &origin.link {
            a .sentry href=(link) rel="noreferrer" { "Open in Sentry" }
        }
    }
}

/// The incident in PagerDuty, where one was found.
pub(super) fn incident(proof: &Proof) -> Markup {
    html! {
        @if let Some(number) = proof.incident_number {
            @match &proof.incident_url {
                Some(url) => a .incident href=(url) rel="noreferrer" { "incident #" (number) },
                None => span .incident { "incident #" (number) },
            }
        }
    }
}

/// A state in its colour.
pub(super) fn state(state: State) -> Markup {
    html! { span .state .(state.as_str()) { (state) } }
}

/// The CSS class that colours the age of a waiting event: after a minute the event is no longer just passing through.
pub(super) fn age_class(now: DateTime<Utc>, since: DateTime<Utc>) -> &'static str {
    let minutes = (now - since).num_minutes();
    if minutes >= OLD_MINUTES {
        "old"
    } else if minutes >= 1 {
        "slow"
    } else {
        "fresh"
    }
}

/// How long it took from the webhook to the delivery or the dead letter, or how long it has waited.
fn delivery(now: DateTime<Utc>, alert: &EventSummary) -> Markup {
    let tries = (alert.attempts > 1).then(|| counted(alert.attempts.into(), "attempt", "attempts"));
    html! {
        @match (alert.state, alert.finished_at) {
            (State::Delivered, Some(at)) => { span .keep { "after " (span(at - alert.received_at)) } }
            (State::Dead, Some(at)) => { span .keep { "given up after " (span(at - alert.received_at)) } }
            (State::Waiting, _) => {
                span .keep .(age_class(now, alert.first_seen)) { "waiting for " (rough(now - alert.first_seen)) }
            }
            (_, None) => { "at an unknown time" }
        }
        @if let Some(tries) = tries { small { (tries) } }
    }
}
