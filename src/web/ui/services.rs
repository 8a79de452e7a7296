//! What waits for each service of PagerDuty, and how fast it is sent.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::layout::{self, PageFrame};
use super::lists::age_class;
use super::text::{age, ago, count, harmless, service, until};
use crate::delivery::view::KeyView;
use crate::monitor::{ServiceKeyStatus, Snapshot};
use crate::pagerduty::ServiceKey;

/// How many services the status page shows: those that need attention.
const GLANCE: usize = 5;

/// How many the page of services shows at most: those with trouble, waiting events or dead letters first.
const MOST: usize = 200;

/// Whether attempts for a service key fail, or are throttled.
fn is_slow(status: &ServiceKeyStatus<'_>) -> bool {
    status.deliveries.is_some_and(|view| view.last_failure.is_some() || view.allowed < view.rate)
}

/// The services for which something waits or fails, on the status page.
pub(super) fn section(snapshot: &Snapshot) -> Markup {
    let rows = by_urgency(snapshot);
    let urgent: Vec<_> = rows.iter().filter(|(_, row)| is_slow(row) || row.waiting() > 0).collect();
    html! {
        section #destinations aria-labelledby="destinations-title" {
            div .head {
                h2 #destinations-title { "Waiting for PagerDuty" }
                a #test-page .button href="/test" { "Send a test page" }
            }
            @if urgent.is_empty() {
                p .empty { @if rows.is_empty() { "No events yet." } @else { "Nothing waits." } }
            } @else {
                (table(snapshot, urgent.iter().take(GLANCE).copied()))
            }
            @if !rows.is_empty() {
                p .more { a href="/services" { "All service keys" } }
            }
        }
    }
}

/// `GET /services`.
pub(super) fn page(frame: &PageFrame, snapshot: &Snapshot) -> Markup {
    let rows = by_urgency(snapshot);
    let main = html! {
        section #destinations {
            h1 { "Service keys" }
            @if rows.is_empty() {
                p .empty { "No events yet." }
            } @else {
                (table(snapshot, rows.iter().take(MOST)))
            }
            @if rows.len() > MOST {
                p .more { (count((rows.len() - MOST) as u64)) " more service keys, none of them more urgent." }
            }
            p .back { a href="/" { "Status page" } }
        }
    };
    layout::live_page(frame, "Service keys", &main)
}

fn table<'a>(snapshot: &Snapshot, rows: impl Iterator<Item = &'a (&'a ServiceKey, ServiceKeyStatus<'a>)>) -> Markup {
    html! {
        table .cards role="table" {
            thead role="rowgroup" { tr role="row" {
                @for head in ["Service", "Waiting", "Oldest", "Rate", "Last delivery", "Trouble"] {
                    th scope="col" role="columnheader" { (head) }
                }
            } }
            tbody role="rowgroup" {
                @for (key, row) in rows { (line(snapshot, key, *row)) }
            }
        }
    }
}

/// The service keys that need attention first: those that are slow, then those with waiting events, then with dead letters.
fn by_urgency(snapshot: &Snapshot) -> Vec<(&ServiceKey, ServiceKeyStatus<'_>)> {
    let mut rows: Vec<_> = snapshot.service_keys().into_iter().collect();
    rows.sort_by_key(|(_, row)| (!is_slow(row), row.waiting() == 0, row.dead() == 0));
    rows
}

fn line(snapshot: &Snapshot, key: &ServiceKey, row: ServiceKeyStatus<'_>) -> Markup {
    let (now, name) = (snapshot.at, snapshot.key_names.get(key));
    let oldest = row.counts.and_then(|counts| counts.oldest_waiting);
    let colour = oldest.map_or("fresh", |oldest| age_class(now, oldest));
    let view = row.deliveries;
    html! {
        tr role="row" {
            th scope="row" role="rowheader" { (service(key, name.as_deref())) }
            td role="cell" data-label="Waiting" { span .number .(colour) { (count(row.waiting())) } }
            td role="cell" data-label="Oldest" {
                @if let Some(at) = oldest { span .(colour) { (age(now, at)) } } @else { (none()) }
            }
            td role="cell" data-label="Rate" {
                @if let Some(view) = view { (rate(view)) } @else { (none()) }
            }
            td role="cell" data-label="Last delivery" {
                @if let Some(at) = view.and_then(|view| view.last_delivered_at) { (ago(now, at)) } @else { (none()) }
            }
            td role="cell" data-label="Trouble" {
                @if let Some(view) = view { (trouble(now, view)) } @else { (none()) }
            }
        }
    }
}

fn rate(view: &KeyView) -> Markup {
    html! {
        @if view.allowed < view.rate {
            span .slow .keep { (count(view.allowed.into())) " of " (count(view.rate.into())) " a minute" }
        } @else {
            span .keep { (count(view.rate.into())) " a minute" }
        }
    }
}

fn trouble(now: DateTime<Utc>, view: &KeyView) -> Markup {
    let until = view.backs_off_until.filter(|until| *until > now).map(|at| until(now, at));
    html! {
        @if view.last_failure.is_none() && until.is_none() { (none()) }
        @if let Some(trouble) = &view.last_failure { span .reason dir="auto" { (harmless(trouble)) } }
        @if let Some(until) = until { span .backoff { "Next attempt " (until) } }
    }
}

/// An empty cell, as a dash and as text for screen readers.
fn none() -> Markup {
    html! { span .none aria-hidden="true" { "–" } span .sr { "none" } }
}
