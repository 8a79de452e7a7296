//! Buttons for what can be done, and the page that asks before something is deleted.

use maud::{Markup, html};

use super::layout::{self, Frame, Kind, csrf_field};
use super::text::counted;
use crate::queue::{EventId, RejectedId};

/// What an action is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Subject {
    /// One dead letter.
    Event(EventId),
    /// Every dead letter.
    DeadLetters,
    /// One rejected webhook.
    Rejected(RejectedId),
    /// Every rejected webhook.
    AllRejected,
}

impl Subject {
    fn path(self) -> String {
        match self {
            Self::Event(id) => format!("/events/{id}"),
            Self::DeadLetters => "/dead".to_owned(),
            Self::Rejected(id) => format!("/rejected/{id}"),
            Self::AllRejected => "/rejected".to_owned(),
        }
    }

    fn is_many(self) -> bool {
        matches!(self, Self::DeadLetters | Self::AllRejected)
    }

    /// What a button is about, for those who hear only the button.
    fn spoken(self) -> String {
        match self {
            Self::Event(id) => format!("event {id}"),
            Self::DeadLetters => "dead letters".to_owned(),
            Self::Rejected(id) => format!("rejected webhook {id}"),
            Self::AllRejected => "rejected webhooks".to_owned(),
        }
    }
}

/// The buttons to retry and to discard. The second only asks.
pub(super) fn both(subject: Subject, csrf: &str) -> Markup {
    let path = subject.path();
    let all = if subject.is_many() { " all" } else { "" };
    html! {
        div .actions {
            form method="post" action={ (path) "/retry" } {
                (csrf_field(csrf))
                button id={ "retry" (path.replace('/', "-")) } type="submit" {
                    "Retry" (all) span .sr { " " (subject.spoken()) }
                }
            }
            a .button .quiet id={ "discard" (path.replace('/', "-")) } href={ (path) "/discard" } {
                "Discard" (all) span .sr { " " (subject.spoken()) }
            }
        }
    }
}

/// The button for a trigger whose incident was resolved since.
pub(super) fn insist(id: EventId, csrf: &str) -> Markup {
    let path = Subject::Event(id).path();
    html! {
        form method="post" action={ (path) "/retry" } .actions {
            (csrf_field(csrf))
            input type="hidden" name="force" value="true";
            button .quiet id={ "insist" (path.replace('/', "-")) } type="submit" {
                "Open its incident anew" span .sr { " by event " (id) }
            }
        }
    }
}

/// Asks whether `number` entries are to be deleted for ever, where all are meant: up to the `newest`, so that what comes
/// meanwhile is kept.
pub(super) fn confirm(frame: &Frame, subject: Subject, number: u64, newest: Option<i64>) -> Markup {
    let csrf = frame.csrf.as_deref().unwrap_or_default();
    let what = match subject {
        Subject::Event(id) => format!("event {id}"),
        Subject::DeadLetters => counted(number, "dead letter", "dead letters"),
        Subject::Rejected(id) => format!("rejected webhook {id}"),
        Subject::AllRejected => counted(number, "rejected webhook", "rejected webhooks"),
    };
    let main = html! {
        section .card .narrow {
            h1 { "Discard " (what) "?" }
            @if number == 1 {
                p { "It is deleted for ever, and nobody is paged for it." }
            } @else {
                p { "They are deleted for ever, and nobody is paged for them." }
            }
            form method="post" action={ (subject.path()) "/discard" } .actions {
                (csrf_field(csrf))
                @if let Some(newest) = newest { input type="hidden" name="up_to" value=(newest); }
                button .danger type="submit" { "Discard " (what) }
                a .button .quiet href="/" { "Keep" }
            }
        }
    };
    layout::page(frame, "Discard", Kind::Still, &main)
}

/// The way through a list that is longer than a page.
pub(super) fn pager(path: &str, older: Option<i64>) -> Markup {
    html! {
        nav .pager aria-label="Pages" {
            a .button .quiet href="/" { "Status page" }
            @if let Some(older) = older { a .button .quiet href={ (path) "?before=" (older) } { "Older" } }
        }
    }
}
