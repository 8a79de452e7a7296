//! The bridges that share the queue; nothing where there is only one.

use chrono::{DateTime, Utc};
use maud::{Markup, html};

use super::text::{harmless, time};
use crate::cluster::BridgeView;
use crate::monitor::Snapshot;

/// How many service keys are named at most.
const NAMED: usize = 5;

/// Every bridge, with what it does.
pub(super) fn section(snapshot: &Snapshot) -> Markup {
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
                        @for bridge in bridges { (row(bridge)) }
                    }
                }
            }
        }
    }
}

fn row(bridge: &BridgeView) -> Markup {
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
            td role="cell" data-label="Last seen" { (seen(bridge.last_seen)) }
            td role="cell" data-label="Delivers for" { (keys(bridge)) }
        }
    }
}

fn seen(at: DateTime<Utc>) -> Markup {
    time(at, &at.format("%H:%M:%S UTC").to_string())
}

fn keys(bridge: &BridgeView) -> String {
    let named: Vec<_> = bridge.keys.iter().take(NAMED).map(ToString::to_string).collect();
    match bridge.keys.len().checked_sub(NAMED) {
        _ if named.is_empty() => "no service key".to_owned(),
        None | Some(0) => named.join(", "),
        Some(others) => format!("{} and {others} others", named.join(", ")),
    }
}
