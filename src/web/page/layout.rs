//! What every page has around it.

use chrono::{DateTime, Utc};
use maud::{DOCTYPE, Markup, html};

use super::assets::{ICON, SCRIPT, STYLE};
use super::text::{ago, time};
use crate::monitor::Health;

/// What the frame of a page tells.
#[derive(Clone, Debug)]
pub struct Frame {
    /// The moment the page shows.
    pub at: DateTime<Utc>,
    /// Proves that a form was made for this session; none where nobody is logged in.
    pub csrf: Option<String>,
    /// About the bridge; none where nobody is logged in.
    pub about: Option<About>,
}

/// What bridge it is.
#[derive(Clone, Debug)]
pub struct About {
    /// Its version and settings.
    pub imprint: Imprint,
    /// When it started.
    pub started_at: DateTime<Utc>,
}

/// The version and the settings of a bridge, in a few characters.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Imprint {
    /// Its version.
    pub version: String,
    /// The same settings give the same; `None` where nobody made one.
    pub fingerprint: Option<String>,
}

impl Default for Imprint {
    fn default() -> Self {
        Self { version: env!("CARGO_PKG_VERSION").to_owned(), fingerprint: None }
    }
}

/// How a page behaves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Kind {
    /// With JavaScript it is kept up to date.
    Live,
    /// It stays as it is.
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
                a .skip href="#main" { "To the contents" }
                header .top {
                    a .name href="/" { "Sentry" span .arrow aria-hidden="true" { "→" } span .sr { " to " } "PagerDuty bridge" }
                    @if let Some(csrf) = &frame.csrf {
                        form method="post" action="/logout" {
                            (csrf_field(csrf))
                            button .quiet type="submit" { "Log out" }
                        }
                    }
                }
                p #lost .lost role="alert" hidden {
                    "The bridge does not answer. What you see is from " (time(frame.at, &frame.at.format("%H:%M:%S UTC").to_string())) "."
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
            span { "sentry-pagerduty-bridge " (about.imprint.version) }
            @if let Some(fingerprint) = &about.imprint.fingerprint {
                span { "settings " code { (fingerprint) } }
            }
            span { "started " (ago(now, about.started_at)) }
        }
    }
}

/// The hidden field without which no form is taken.
pub(super) fn csrf_field(csrf: &str) -> Markup {
    html! { input type="hidden" name="csrf" value=(csrf); }
}

/// The class of a word, which gives its colour.
pub(super) fn class(word: Health) -> &'static str {
    match word {
        Health::Healthy => "well",
        Health::Degraded => "strained",
        Health::Failing => "failing",
    }
}

/// A message in the place of a page: why something cannot be shown or done.
pub(super) fn message(frame: &Frame, title: &str, sentence: &str) -> Markup {
    let main = html! {
        section .card .narrow {
            h1 { (title) }
            p { (sentence) }
            p { a .button href="/" { "To the status page" } }
        }
    };
    page(frame, title, Kind::Still, &main)
}
