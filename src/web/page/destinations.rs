//! What waits for each service key, and how fast it goes out.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::text::{age, ago, count, harmless, until};
use crate::delivery::view::KeyView;
use crate::monitor::Facts;
use crate::pagerduty::ServiceKey;
use crate::queue::Destination;

/// How many service keys are shown at most: those with trouble, dead letters or events in line first.
const MOST: usize = 50;

/// What is known about one service key.
#[derive(Clone, Copy, Default)]
struct Row<'a> {
    stands: Option<&'a Destination>,
    lane: Option<&'a KeyView>,
}

impl Row<'_> {
    fn waiting(&self) -> u64 {
        self.stands.map_or(0, |stands| stands.waiting)
    }

    fn dead(&self) -> u64 {
        self.stands.map_or(0, |stands| stands.dead)
    }

    /// Less is more urgent.
    fn urgency(&self) -> (bool, bool, bool) {
        let troubled = self.lane.is_some_and(|lane| lane.last_failure.is_some());
        (!troubled, self.waiting() == 0, self.dead() == 0)
    }
}

/// The section.
pub(super) fn section(facts: &Facts) -> Markup {
    let rows = rows(facts);
    html! {
        section #destinations aria-labelledby="destinations-title" {
            h2 #destinations-title { "Service keys" }
            @if rows.is_empty() {
                p .empty { "Nothing was sent yet." }
            } @else {
                table .cards role="table" {
                    thead role="rowgroup" { tr role="row" {
                        @for head in ["Service key", "Waiting", "Oldest", "Pace", "Last delivery", "Trouble"] {
                            th scope="col" role="columnheader" { (head) }
                        }
                    } }
                    tbody role="rowgroup" {
                        @for (key, row) in rows.iter().take(MOST) { (line(facts.at, key, *row)) }
                    }
                }
                @if rows.len() > MOST {
                    p .more { (count((rows.len() - MOST) as u64)) " more service keys have nothing more urgent." }
                }
            }
        }
    }
}

fn rows(facts: &Facts) -> Vec<(&ServiceKey, Row<'_>)> {
    let mut rows: BTreeMap<&ServiceKey, Row<'_>> = BTreeMap::new();
    if let Ok(queue) = &facts.queue {
        for stands in &queue.destinations {
            rows.entry(&stands.service_key).or_default().stands = Some(stands);
        }
    }
    for lane in &facts.delivery.keys {
        rows.entry(&lane.service_key).or_default().lane = Some(lane);
    }
    let mut rows: Vec<_> = rows.into_iter().collect();
    rows.sort_by_key(|(_, row)| row.urgency());
    rows
}

fn line(now: DateTime<Utc>, key: &ServiceKey, row: Row<'_>) -> Markup {
    let oldest = row.stands.and_then(|stands| stands.oldest_waiting);
    let lane = row.lane;
    html! {
        tr role="row" {
            th scope="row" role="rowheader" { code { (key) } }
            td role="cell" data-label="Waiting" .number { (count(row.waiting())) }
            td role="cell" data-label="Oldest" {
                @if let Some(at) = oldest { (age(now, at)) } @else { (none()) }
            }
            td role="cell" data-label="Pace" {
                @if let Some(lane) = lane { (pace(lane)) } @else { (none()) }
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

fn pace(lane: &KeyView) -> Markup {
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
        @if let Some(until) = until { span .backoff { "Tries again " (until) } }
    }
}

/// Nothing to tell, for eyes and for screen readers.
fn none() -> Markup {
    html! { span .none aria-hidden="true" { "–" } span .sr { "none" } }
}
