//! The status page: the health of the bridge in one word and colour, and everything that explains it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::bridges;
use super::charts;
use super::database;
use super::detail::service;
use super::layout::{self, Frame, Kind, health};
use super::lists::{self, Listing};
use super::sentry;
use super::text::{age, ago, count, counted, harmless, sentence, time, until};
use crate::catch_up::CatchUpStatus;
use crate::delivery::view::KeyView;
use crate::monitor::is_held_up;
use crate::monitor::{Health, Snapshot, Trouble};
use crate::pagerduty::ServiceKey;
use crate::queue::{self, RejectedSummary, Summary};

/// How many entries of each list the status page shows.
pub(super) const GLANCE: u32 = 20;

/// How many service keys are shown at most: those with trouble, waiting events or dead letters first.
const MAX_DESTINATIONS: usize = 50;

/// All that the status page shows.
#[derive(Clone, Debug)]
pub(super) struct Status {
    /// The snapshot that it shows.
    pub(super) snapshot: Snapshot,
    /// The health of the bridge.
    pub(super) health: Health,
    /// Worst first.
    pub(super) troubles: Vec<Trouble>,
    /// The lists; `None` when the queue cannot be read.
    pub(super) lists: Option<Lists>,
    /// What the action before did.
    pub(super) notice: Option<Notice>,
}

/// The lists of the status page.
#[derive(Clone, Debug, Default)]
pub(super) struct Lists {
    /// Dead letters, newest first.
    pub(super) dead: Listing<Summary>,
    /// Rejected webhooks, newest first.
    pub(super) rejected: Listing<RejectedSummary>,
    /// The newest alerts, in any state.
    pub(super) recent: Listing<Summary>,
}

/// What an action did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Notice {
    /// Entries were retried.
    Retried {
        /// So many.
        done: u64,
        /// So many others are unchanged, or were gone already.
        left: u64,
    },
    /// So many were discarded.
    Discarded(u64),
}

impl Notice {
    /// As a query.
    pub(super) fn query(self) -> String {
        match self {
            Self::Retried { done, left } => format!("notice=retried&done={done}&left={left}"),
            Self::Discarded(done) => format!("notice=discarded&done={done}"),
        }
    }

    /// Reads [`Notice::query`] from its parts.
    pub(super) fn of(name: &str, done: u64, left: u64) -> Option<Self> {
        match name {
            "retried" => Some(Self::Retried { done, left }),
            "discarded" => Some(Self::Discarded(done)),
            _ => None,
        }
    }
}

/// The whole status page.
pub(super) fn page(frame: &Frame, status: &Status) -> Markup {
    let main = html! {
        (hero(status))
        @if let Some(notice) = status.notice { (notice_line(notice)) }
        (vitals(&status.snapshot))
        @if let Some(lists) = &status.lists {
            (lists::dead_section(status.snapshot.at, &lists.dead, dead(&status.snapshot)))
            (lists::rejected_section(status.snapshot.at, &lists.rejected, rejected_count(&status.snapshot)))
        }
        @if let Some(catch_up) = &status.snapshot.sentry.catch_up { (reported(status.snapshot.at, catch_up)) }
        (destinations(&status.snapshot))
        (bridges::section(&status.snapshot))
        (database::section(&status.snapshot))
        (charts::section(&status.snapshot.metrics.activity))
        @if let Some(lists) = &status.lists {
            (lists::recent_section(status.snapshot.at, &lists.recent))
        }
        (sentry::section(status.snapshot.at, &status.snapshot.sentry))
    };
    layout::page(frame, health(status.health).0, Kind::Live, &main)
}

fn hero(status: &Status) -> Markup {
    let now = status.snapshot.at;
    let (health, class) = health(status.health);
    html! {
        section #state .hero .(class) {
            p .asof { "As of " (time(now, &now.format("%H:%M:%S UTC").to_string())) }
            h1 .word { (health) }
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

/// What is said where no trouble is named.
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

/// With what is between backticks as code.
fn with_code(text: &str) -> Markup {
    html! {
        @for (place, part) in text.split('`').enumerate() {
            @if place % 2 == 1 { code { (part) } } @else { (part) }
        }
    }
}

/// What an action did.
fn notice_line(notice: Notice) -> Markup {
    let text = match notice {
        Notice::Retried { done: 0, left: 0 } | Notice::Discarded(0) => {
            "Nothing changed: it was retried or discarded before.".to_owned()
        }
        Notice::Retried { done, left: 0 } => format!("{} retried.", counted(done, "entry was", "entries were")),
        Notice::Retried { done, left } => {
            format!("{} retried, {} unchanged.", counted(done, "entry was", "entries were"), count(left))
        }
        Notice::Discarded(done) => format!("{} discarded.", counted(done, "entry was", "entries were")),
    };
    html! { p #notice .notice role="status" { (text) } }
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
            @if let Some(status) = &snapshot.sentry.catch_up { (catch_up(now, status)) }
            @if let Ok(queue) = &snapshot.queue {
                div {
                    dt { "Waiting" }
                    dd {
                        (count(queue.waiting))
                        @if let Some(at) = queue.oldest_waiting { small { "oldest " (age(now, at)) } }
                    }
                }
                @if snapshot.delivery.unreadable.events > 0 {
                    div .alert {
                        dt { "Unreadable" }
                        dd { (count(snapshot.delivery.unreadable.events)) small { "set aside" } }
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
                        @if fallback.outage_since.is_some() { "told of the outage " }
                        @match fallback.last_told_at { Some(at) => (ago(now, at)), None => "not needed yet" }
                        @if let Some(failure) = &fallback.failure { small { "failing: " (harmless(failure)) } }
                    }
                }
            }
        }
    }
}

/// When Sentry said last what it fired, and how much of that never came.
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

/// Alerts that Sentry fired and that never came, for which nobody was paged.
fn reported(now: DateTime<Utc>, status: &CatchUpStatus) -> Markup {
    html! {
        @if status.failure.is_some() || !status.reported.is_empty() {
            section #missing aria-labelledby="missing-title" {
                h2 #missing-title { "Missing alerts" }
                @if let Some((at, why)) = &status.failure {
                    p .reason dir="auto" { "What Sentry fired is not known since " (ago(now, *at)) ": " (harmless(why)) }
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

/// Whether an address of somebody else's may be a link.
fn is_web(link: &str) -> bool {
    link.starts_with("https://") || link.starts_with("http://")
}

fn dead(snapshot: &Snapshot) -> u64 {
    snapshot.queue.as_ref().map_or(0, |queue| queue.dead)
}

fn rejected_count(snapshot: &Snapshot) -> u64 {
    snapshot.queue.as_ref().map_or(0, |queue| queue.rejected)
}

/// A service key.
#[derive(Clone, Copy, Default)]
struct Destination<'a> {
    counts: Option<&'a queue::Destination>,
    lane: Option<&'a KeyView>,
}

impl Destination<'_> {
    fn waiting(&self) -> u64 {
        self.counts.map_or(0, |counts| counts.waiting)
    }

    fn dead(&self) -> u64 {
        self.counts.map_or(0, |counts| counts.dead)
    }

    /// The least is the most urgent.
    fn urgency(&self) -> (bool, bool, bool) {
        let troubled = self.lane.is_some_and(|lane| lane.last_failure.is_some());
        (!troubled, self.waiting() == 0, self.dead() == 0)
    }
}

/// What waits for each service key, and how fast it is sent.
fn destinations(snapshot: &Snapshot) -> Markup {
    let rows = by_urgency(snapshot);
    html! {
        section #destinations aria-labelledby="destinations-title" {
            h2 #destinations-title { "Service keys" }
            @if rows.is_empty() {
                p .empty { "No events yet." }
            } @else {
                table .cards role="table" {
                    thead role="rowgroup" { tr role="row" {
                        @for head in ["Service key", "Waiting", "Oldest", "Rate", "Last delivery", "Trouble"] {
                            th scope="col" role="columnheader" { (head) }
                        }
                    } }
                    tbody role="rowgroup" {
                        @for (key, row) in rows.iter().take(MAX_DESTINATIONS) { (destination(snapshot, key, *row)) }
                    }
                }
                @if rows.len() > MAX_DESTINATIONS {
                    p .more { (count((rows.len() - MAX_DESTINATIONS) as u64)) " more service keys, none of them more urgent." }
                }
            }
        }
    }
}

fn by_urgency(snapshot: &Snapshot) -> Vec<(&ServiceKey, Destination<'_>)> {
    let mut rows: BTreeMap<&ServiceKey, Destination<'_>> = BTreeMap::new();
    if let Ok(queue) = &snapshot.queue {
        for counts in &queue.destinations {
            rows.entry(&counts.service_key).or_default().counts = Some(counts);
        }
    }
    for lane in &snapshot.delivery.keys {
        rows.entry(&lane.service_key).or_default().lane = Some(lane);
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(_, row)| row.urgency());
    rows
}

fn destination(snapshot: &Snapshot, key: &ServiceKey, row: Destination<'_>) -> Markup {
    let now = snapshot.at;
    let oldest = row.counts.and_then(|counts| counts.oldest_waiting);
    let lane = row.lane;
    html! {
        tr role="row" {
            th scope="row" role="rowheader" { (service(key, &snapshot.pagerduty.names)) }
            td role="cell" data-label="Waiting" .number { (count(row.waiting())) }
            td role="cell" data-label="Oldest" {
                @if let Some(at) = oldest { (age(now, at)) } @else { (none()) }
            }
            td role="cell" data-label="Rate" {
                @if let Some(lane) = lane { (rate(lane)) } @else { (none()) }
            }
            td role="cell" data-label="Last delivery" {
                @if let Some(at) = lane.and_then(|lane| lane.last_delivered_at) { (ago(now, at)) } @else { (none()) }
            }
            td role="cell" data-label="Trouble" {
                @if let Some(lane) = lane { (trouble(now, lane)) } @else { (none()) }
            }
        }
    }
}

fn rate(lane: &KeyView) -> Markup {
    html! {
        @if lane.allowed < lane.rate {
            span .slow .keep { (count(lane.allowed.into())) " of " (count(lane.rate.into())) " a minute" }
        } @else {
            span .keep { (count(lane.rate.into())) " a minute" }
        }
    }
}

fn trouble(now: DateTime<Utc>, lane: &KeyView) -> Markup {
    let until = lane.backs_off_until.filter(|until| *until > now).map(|at| until(now, at));
    html! {
        @if lane.last_failure.is_none() && until.is_none() { (none()) }
        @if let Some(trouble) = &lane.last_failure { span .reason dir="auto" { (harmless(trouble)) } }
        @if let Some(until) = until { span .backoff { "Next attempt " (until) } }
    }
}

/// Nothing, for eyes and for screen readers.
fn none() -> Markup {
    html! { span .none aria-hidden="true" { "–" } span .sr { "none" } }
}
