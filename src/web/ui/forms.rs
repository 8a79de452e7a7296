//! The buttons of the actions, the confirmation before something is deleted, and the log-in form.

use maud::{Markup, html};
use url::form_urlencoded;

use super::layout::{self, PageFrame};
use super::text::{counted, harmless};
use crate::pagerduty::{KeyNames, ServiceKey};
use crate::queue::{EventId, RejectedId};

/// What an action is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum EntryTarget {
    /// One dead letter.
    Event(EventId),
    /// Every dead letter.
    DeadLetters,
    /// One rejected webhook.
    Rejected(RejectedId),
    /// Every rejected webhook.
    AllRejected,
}

impl EntryTarget {
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

    /// What a button is about, for screen readers.
    fn spoken(self) -> String {
        match self {
            Self::Event(id) => format!("event {id}"),
            Self::DeadLetters => "dead letters".to_owned(),
            Self::Rejected(id) => format!("rejected webhook {id}"),
            Self::AllRejected => "rejected webhooks".to_owned(),
        }
    }
}

/// The buttons to retry and to discard. The second leads to a confirmation.
pub(super) fn actions(subject: EntryTarget) -> Markup {
    let path = subject.path();
    let all = if subject.is_many() { " all" } else { "" };
    html! {
        div .actions {
            form method="post" action={ (path) "/retry" } {
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

/// The button that sends a trigger although its incident was resolved since.
pub(super) fn reopen(id: EventId) -> Markup {
    let path = EntryTarget::Event(id).path();
    html! {
        form method="post" action={ (path) "/retry" } .actions {
            input type="hidden" name="force" value="true";
            button .quiet id={ "reopen" (path.replace('/', "-")) } type="submit" {
                "Open the incident again" span .sr { " with event " (id) }
            }
        }
    }
}

/// Asks for a confirmation before `number` entries are deleted. If all entries are meant, only those up to `newest` are
/// deleted, so that entries that are added meanwhile are kept.
pub(super) fn confirm(frame: &PageFrame, subject: EntryTarget, number: u64, newest: Option<i64>) -> Markup {
    let what = match subject {
        EntryTarget::Event(id) => format!("event {id}"),
        EntryTarget::DeadLetters => counted(number, "dead letter", "dead letters"),
        EntryTarget::Rejected(id) => format!("rejected webhook {id}"),
        EntryTarget::AllRejected => counted(number, "rejected webhook", "rejected webhooks"),
    };
    let main = html! {
        section .card .narrow {
            h1 { "Discard " (what) "?" }
            p { "This cannot be undone. Nobody is paged for " @if number == 1 { "it" } @else { "them" } "." }
            form method="post" action={ (subject.path()) "/discard" } .actions {
                @if let Some(newest) = newest { input type="hidden" name="up_to" value=(newest); }
                button .danger type="submit" { "Discard " (what) }
                a .button .quiet href="/" { "Cancel" }
            }
        }
    };
    layout::page(frame, "Discard", &main)
}

/// Asks for a confirmation before a test page is sent to one of these integrations, the default one first.
pub(super) fn test_page(frame: &PageFrame, keys: &[ServiceKey], names: &KeyNames) -> Markup {
    let main = html! {
        section .card .narrow {
            h1 { "Send a test page?" }
            p {
                "This opens a real incident in PagerDuty and resolves it at once. It is sent like an alert: through the "
                "queue, within the rate limit. Whoever is on call may be notified."
            }
            form method="post" action="/test" .login {
                label for="service" { "Service" }
                select #service name="service" {
                    @for (place, key) in keys.iter().enumerate() {
                        option value={ (place) } { (harmless(&names.show(key))) @if place == 0 { " (default)" } }
                    }
                }
                div .actions {
                    button #send-test .danger type="submit" { "Send a test page" }
                    a .button .quiet href="/" { "Cancel" }
                }
            }
        }
    };
    layout::page(frame, "Send a test page", &main)
}

/// The form to search alerts, filled with the current search text.
pub(super) fn search(text: &str) -> Markup {
    html! {
        form .search method="get" action="/recent" role="search" {
            label .sr for="search" { "Search by issue, service key or text" }
            input #search type="search" name="q" value=(text) maxlength="200" placeholder="Issue, key or text";
            button type="submit" { "Search" }
        }
    }
}

/// Returns the URL of a list with a search. [`pager`] may append the position in the list.
pub(super) fn with_search(path: &str, text: &str) -> String {
    let mut query = form_urlencoded::Serializer::new(String::new());
    if !text.is_empty() {
        query.append_pair("q", text);
    }
    format!("{path}?{}", query.finish())
}

/// The links below a list that may be longer than a page. `address` ends with a query, which may be empty.
pub(super) fn pager(address: &str, older: Option<i64>) -> Markup {
    let join = if address.ends_with('?') { "" } else { "&" };
    html! {
        nav .pager aria-label="Pages" {
            a .button .quiet href="/" { "Status page" }
            @if let Some(older) = older { a .button .quiet href={ (address) (join) "before=" (older) } { "Older" } }
        }
    }
}

/// The log-in form, with the reason why the last attempt failed. After the log-in the browser goes to `next`.
pub(super) fn log_in(frame: &PageFrame, next: &str, problem: Option<&str>) -> Markup {
    let main = html! {
        section .card .narrow {
            h1 { "Log in" }
            @if let Some(problem) = problem {
                p #problem .problem role="alert" { (problem) }
            }
            form method="post" action="/login" .login {
                // Password managers keep a password together with a name.
                input .sr type="text" name="username" value="admin" autocomplete="username" tabindex="-1" aria-hidden="true" readonly;
                label for="token" { "Admin token" }
                input #token type="password" name="token" required autofocus autocomplete="current-password"
                    aria-describedby="where";
                p #where .hint { "As set in " code { "BRIDGE_ADMIN_TOKEN" } " of the bridge." }
                input type="hidden" name="next" value=(next);
                button .primary type="submit" { "Log in" }
            }
        }
    };
    layout::page(frame, "Log in", &main)
}
