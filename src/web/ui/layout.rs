//! The frame around every page, and the files that the pages load, which are built into the program.

use std::fmt::Write as _;
use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use maud::{DOCTYPE, Markup, html};
use sha2::{Digest, Sha256};

use super::text::{ago, clock};
use crate::monitor::Health;

/// The data of the frame around a page.
#[derive(Clone, Debug)]
pub(super) struct PageFrame {
    /// When the page was made.
    pub(super) at: DateTime<Utc>,
    /// The [`footer`]; `None` if the user is not logged in.
    pub(super) footer: Option<Markup>,
}

/// A whole page.
pub(super) fn page(frame: &PageFrame, title: &str, main: &Markup) -> Markup {
    document(frame, title, &html! { main #main tabindex="-1" { (main) } })
}

/// A whole page that with JavaScript refreshes itself.
pub(super) fn live_page(frame: &PageFrame, title: &str, main: &Markup) -> Markup {
    document(frame, title, &html! { main #main tabindex="-1" data-live { (main) } })
}

fn document(frame: &PageFrame, title: &str, main: &Markup) -> Markup {
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
                    @if frame.footer.is_some() {
                        form method="post" action="/logout" {
                            button .quiet type="submit" { "Log out" }
                        }
                    }
                }
                p #lost .lost role="alert" hidden {
                    "The bridge does not answer. This page is from " (clock(frame.at, frame.at)) "."
                }
                (main)
                @if let Some(footer) = &frame.footer { (footer) }
            }
        }
    }
}

/// The footer of a page, which identifies the bridge: its version and commit, the fingerprint of its configuration, and when
/// it started.
pub(super) fn footer(
    now: DateTime<Utc>,
    version: &str,
    fingerprint: Option<&str>,
    started_at: DateTime<Utc>,
) -> Markup {
    html! {
        footer {
            span { "sentry-pagerduty-bridge " (version) }
            @if let Some(fingerprint) = fingerprint {
                span { "settings " code { (fingerprint) } }
            }
            span { "started " (ago(now, started_at)) }
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
pub(super) fn message(frame: &PageFrame, title: &str, sentence: &str) -> Markup {
    let main = html! {
        section .card .narrow {
            h1 { (title) }
            p { (sentence) }
            p { a .button href="/" { "Go to the status page" } }
        }
    };
    page(frame, title, &main)
}

/// A file that pages load. Its name contains a digest of its contents, so that a browser may cache it for ever.
#[derive(Debug)]
pub(super) struct Asset {
    path: String,
    /// The value of `Content-Type`.
    pub(super) media_type: &'static str,
    /// The contents of the file.
    pub(super) contents: &'static str,
}

/// The style sheet of all pages.
pub(super) static STYLE: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("app", "css", "text/css; charset=utf-8", include_str!("assets/app.css")));

/// The script that keeps a page up to date.
pub(super) static SCRIPT: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("app", "js", "text/javascript; charset=utf-8", include_str!("assets/app.js")));

/// The icon in the tab.
pub(super) static ICON: LazyLock<Asset> =
    LazyLock::new(|| Asset::new("icon", "svg", "image/svg+xml", include_str!("assets/icon.svg")));

impl Asset {
    fn new(name: &str, ending: &str, media_type: &'static str, contents: &'static str) -> Self {
        let mut digest = String::new();
        for byte in &Sha256::digest(contents)[..6] {
            // Writing to a String cannot fail.
            let _ = write!(digest, "{byte:02x}");
        }
        Self { path: format!("/assets/{name}-{digest}.{ending}"), media_type, contents }
    }

    /// The path at which it is served.
    pub(super) fn path(&self) -> &str {
        &self.path
    }
}

/// The asset that is served at a path.
pub(super) fn asset_at(path: &str) -> Option<&'static Asset> {
    [&*STYLE, &*SCRIPT, &*ICON].into_iter().find(|asset| asset.path == path)
}
