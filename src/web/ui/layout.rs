//! The frame around every page.

use chrono::{DateTime, Utc};
use maud::{DOCTYPE, Markup, html};

use super::assets::{ICON, SCRIPT, STYLE};
use super::text::{ago, clock};
use crate::monitor::Health;

/// The data of the frame around a page.
#[derive(Clone, Debug)]
pub(super) struct Frame {
    /// When the page was made.
    pub(super) at: DateTime<Utc>,
    /// Details of the bridge; `None` if the user is not logged in.
    pub(super) about: Option<About>,
}

/// Details that identify the bridge.
#[derive(Clone, Debug)]
pub(super) struct About {
    /// Its version and commit.
    pub(super) version: String,
    /// The fingerprint of its configuration.
    pub(super) fingerprint: Option<String>,
    pub(super) started_at: DateTime<Utc>,
}

/// Whether a page refreshes itself.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// With JavaScript it does.
    Live,
    /// It does not.
    Still,
}

/// A whole page.
pub(super) fn page(frame: &Frame, title: &str, kind: Kind, main: &Markup) -> Markup {
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="robots" content="noindex, nofollow";
                title { (title) " · PagerDuty bridge" }
                link rel="icon" type="image/svg+xml" href=(ICON.path());
                link rel="stylesheet" href=(STYLE.path());
                script defer src=(SCRIPT.path()) {}
            }
            body {
                a .skip href="#main" { "Skip to content" }
                header .top {
                    a .name href="/" { "Sentry" span .arrow aria-hidden="true" { "→" } span .sr { " to " } "PagerDuty bridge" }
                    @if frame.about.is_some() {
                        form method="post" action="/logout" {
                            button .quiet type="submit" { "Log out" }
                        }
                    }
                }
                p #lost .lost role="alert" hidden {
                    "The bridge does not answer. This page is from " (clock(frame.at, frame.at)) "."
                }
                main #main tabindex="-1" data-live[kind == Kind::Live] { (main) }
                @if let Some(about) = &frame.about { (footer(frame.at, about)) }
            }
        }
    }
}

fn footer(now: DateTime<Utc>, about: &About) -> Markup {
    html! {
        footer {
            span { "sentry-pagerduty-bridge " (about.version) }
            @if let Some(fingerprint) = &about.fingerprint {
                span { "settings " code { (fingerprint) } }
            }
            span { "started " (ago(now, about.started_at)) }
        }
    }
}

/// The text for a health, and the CSS class that colours it.
pub(super) fn health(health: Health) -> (&'static str, &'static str) {
    match health {
        Health::Healthy => ("Healthy", "healthy"),
        Health::Degraded => ("Degraded", "degraded"),
        Health::Failing => ("Not delivering", "failing"),
    }
}

/// A message: why something cannot be shown or done.
pub(super) fn message(frame: &Frame, title: &str, sentence: &str) -> Markup {
    let main = html! {
        section .card .narrow {
            h1 { (title) }
            p { (sentence) }
            p { a .button href="/" { "Go to the status page" } }
        }
    };
    page(frame, title, Kind::Still, &main)
}
