//! The newest alerts, from webhook to delivery.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::forms;
use super::layout::{self, Frame, Kind};
use super::letters::title;
use super::text::{ago, counted, rough, shown, span};
use super::view::Listing;
use crate::queue::{State, Summary};

/// The section of the status page.
pub(super) fn section(now: DateTime<Utc>, alerts: &Listing<Summary>) -> Markup {
    html! {
        section #recent aria-labelledby="recent-title" {
            h2 #recent-title { "Recent alerts" }
            @if alerts.entries.is_empty() {
                p .empty { "None yet." }
            } @else {
                (table(now, &alerts.entries))
            }
            @if let Some(older) = alerts.older {
                p .more { a href={ "/recent?before=" (older) } { "Older alerts" } }
            }
        }
    }
}

/// A page of nothing else.
pub(super) fn page(frame: &Frame, alerts: &Listing<Summary>) -> Markup {
    let main = html! {
        section #recent {
            h1 { "Recent alerts" }
            @if alerts.entries.is_empty() { p .empty { "None." } } @else { (table(frame.at, &alerts.entries)) }
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

/// How long it took from the webhook to its end, or how long it waits.
fn delivery(now: DateTime<Utc>, alert: &Summary) -> Markup {
    let tries = (alert.attempts > 1).then(|| counted(alert.attempts.into(), "attempt", "attempts"));
    html! {
        @match (alert.state, alert.finished_at) {
            (State::Delivered, Some(at)) => { span .keep { "after " (span(at - alert.received_at)) } }
            (State::Dead, Some(at)) => { span .keep { "given up after " (span(at - alert.received_at)) } }
            (State::Waiting, _) => { span .keep { "waits for " (rough(now - alert.received_at)) } }
            (_, None) => { "at an unknown time" }
        }
        @if let Some(tries) = tries { small { (tries) } }
    }
}
