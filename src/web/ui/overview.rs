//! The status page: the health of the bridge in one word and colour, and everything that explains it.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::layout::{self, PageFrame, health};
use super::lists::{self, EventEntry, Listing};
use super::text::{age, ago, clock, count, counted, harmless, minute, sentence, time};
use super::{charts, sentry, services};
use crate::cluster::BridgeView;
use crate::monitor::headline::Headline;
use crate::monitor::{Health, Snapshot, Trouble, is_delayed};
use crate::queue::{Overview, RejectedSummary, Survives};

/// How many entries of each list the status page shows.
pub(super) const GLANCE: u32 = 5;

/// How many service keys are named at most.
const NAMED_KEYS: usize = 5;

/// All that the status page shows.
#[derive(Clone, Debug)]
pub(in crate::web) struct StatusPage {
    /// The snapshot that it shows.
    pub(in crate::web) snapshot: Snapshot,
    /// The health of the bridge.
    pub(super) health: Health,
    /// Worst first.
    pub(in crate::web) troubles: Vec<Trouble>,
    /// The lists; `None` when the queue cannot be read.
    pub(super) lists: Option<StatusLists>,
    /// The result of the action that was done before.
    pub(super) notice: Option<Markup>,
}

/// The lists of the status page.
#[derive(Clone, Debug, Default)]
pub(super) struct StatusLists {
    /// Dead letters, newest first.
    pub(super) dead: Listing<EventEntry>,
    /// Rejected webhooks, newest first.
    pub(super) rejected: Listing<RejectedSummary>,
    /// The newest alerts, in any state.
    pub(super) recent: Listing<EventEntry>,
}

/// The whole status page, in the order in which it is needed: what is wrong, what waits, what failed, what happened.
pub(super) fn page(frame: &PageFrame, status: &StatusPage) -> Markup {
    let snapshot = &status.snapshot;
    let main = html! {
        (hero(status))
        @if let Some(notice) = &status.notice { (notice) }
        (vitals(snapshot))
        (services::section(snapshot))
        @if let Some(lists) = &status.lists {
            (lists::dead_section(snapshot.at, &lists.dead, dead(snapshot)))
            (lists::rejected_section(snapshot.at, &lists.rejected, rejected_count(snapshot)))
        }
        @if let Some(catch_up) = &snapshot.catch_up { (sentry::missing_alerts(snapshot.at, catch_up)) }
        @if let Some(lists) = &status.lists {
            (lists::recent_section(snapshot.at, &lists.recent))
        }
        (charts::section(&snapshot.metrics.activity))
        (sentry::section(snapshot))
        (bridges(snapshot))
        (database(snapshot))
    };
    layout::live_page(frame, health(status.health).0, &main)
}

fn hero(status: &StatusPage) -> Markup {
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
        @if let Some(when) = headline.when { " " (when.word()) " " (minute(now, when.time())) }
        @if let Some(waiting) = &headline.waiting {
            "; " strong { (count(waiting.counted().0)) " " (waiting.counted().1) }
            @if let Some(oldest) = waiting.oldest { ", the oldest " (age(now, oldest)) }
        }
        @if headline.dead > 0 { "; " (counted(headline.dead, "dead letter", "dead letters")) }
        "."
    }
}

/// The line that is shown if there is no headline.
fn lede(status: &StatusPage) -> &'static str {
    let metrics = &status.snapshot.metrics;
    match (status.health, metrics.last_webhook_at, metrics.last_delivered_at) {
        (Health::Healthy, None, None) => "Waiting for the first webhook.",
        (Health::Healthy, ..) => "Receiving webhooks and delivering to PagerDuty.",
        (Health::Degraded, ..) if is_delayed(&status.snapshot) => {
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
            (sentry::canary_vital(snapshot))
            @if let Some(status) = &snapshot.catch_up { (sentry::catch_up_vital(now, status)) }
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

fn dead(snapshot: &Snapshot) -> u64 {
    snapshot.queue.as_ref().map_or(0, |queue| queue.dead)
}

fn rejected_count(snapshot: &Snapshot) -> u64 {
    snapshot.queue.as_ref().map_or(0, |queue| queue.rejected)
}

/// The bridges that share the queue, each with what it does; nothing where there is only one.
fn bridges(snapshot: &Snapshot) -> Markup {
    let bridges = &snapshot.cluster.bridges;
    html! {
        @if !bridges.is_empty() {
            section #bridges aria-labelledby="bridges-title" {
                h2 #bridges-title { "Bridges" }
                table .cards role="table" {
                    thead role="rowgroup" { tr role="row" {
                        @for head in ["Bridge", "Version", "Config", "Last seen", "Delivers for"] {
                            th scope="col" role="columnheader" { (head) }
                        }
                    } }
                    tbody role="rowgroup" {
                        @for bridge in bridges { (bridge_row(bridge)) }
                    }
                }
            }
        }
    }
}

fn bridge_row(bridge: &BridgeView) -> Markup {
    html! {
        tr role="row" {
            td role="cell" data-label="Bridge" {
                (harmless(&bridge.name))
                @if bridge.is_self { " (this one)" }
                @if bridge.is_leader { " · leader" }
                @if !bridge.is_alive { " · gone" }
                @if !bridge.reaches_pagerduty { " · does not reach PagerDuty" }
            }
            td role="cell" data-label="Version" { (harmless(&bridge.version)) }
            td role="cell" data-label="Config" { code { (harmless(&bridge.fingerprint)) } }
            td role="cell" data-label="Last seen" { (last_seen(bridge.last_seen)) }
            td role="cell" data-label="Delivers for" { (key_list(bridge)) }
        }
    }
}

fn last_seen(at: DateTime<Utc>) -> Markup {
    time(at, &at.format("%H:%M:%S UTC").to_string())
}

fn key_list(bridge: &BridgeView) -> String {
    let named: Vec<_> = bridge.keys.iter().take(NAMED_KEYS).map(ToString::to_string).collect();
    match bridge.keys.len().checked_sub(NAMED_KEYS) {
        _ if named.is_empty() => "no service key".to_owned(),
        None | Some(0) => named.join(", "),
        Some(others) => format!("{} and {others} others", named.join(", ")),
    }
}

/// What an alert survives in the database once it is answered with 202, and the settings from which that follows; nothing when
/// the database cannot be read.
fn database(snapshot: &Snapshot) -> Markup {
    let Some(durability) = &snapshot.durability else { return html! {} };
    let is_unsafe = durability.survives == Survives::Nothing;
    html! {
        section #database aria-labelledby="database-title" {
            h2 #database-title { "Database" }
            p .empty .slow[is_unsafe] { (sentence(&durability.survives.to_string())) }
            p .more {
                @for (place, (name, value)) in durability.settings.iter().enumerate() {
                    @if place > 0 { ", " }
                    code { (name) "=" @if value.is_empty() { "''" } @else { (harmless(value)) } }
                }
            }
        }
    }
}
