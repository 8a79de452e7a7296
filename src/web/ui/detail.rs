//! The pages with all details of one event or one rejected webhook.

use std::borrow::Cow;

use bytesize::ByteSize;
use maud::{Markup, html};
use serde_json::Value;

use super::forms::{self, EntryTarget};
use super::layout::{self, PageFrame};
use super::lists::{incident, open_in_sentry, state};
use super::text::{ago, clock, count, harmless, service, shown, span, until};
use crate::pagerduty::{KeyNames, ProofState, SentryOrigin, ServiceKey};
use crate::queue::{EventRecord, Proof, RejectedId, RejectedWebhook, State};

/// How much of a body is shown, in bytes; `queue show` shows all of it.
const MAX_SHOWN: usize = 256 * 1024;

/// An event, with the JSON that every attempt sends.
pub(super) fn event(frame: &PageFrame, record: &EventRecord, names: &KeyNames, proof: Option<&Proof>) -> Markup {
    let (now, summary) = (frame.at, &record.summary);
    let key = &summary.service_key;
    let origin = SentryOrigin::of_body(&record.body);
    let title = if summary.description.trim().is_empty() {
        Cow::Owned(format!("{} of incident {}", summary.event_type, shown(summary.incident_key.as_str(), key)))
    } else {
        shown(&summary.description, key)
    };
    let main = html! {
        section .detail {
            p .back { a href="/" { "Status page" } }
            h1 .title dir="auto" { (title) }
            @if let Some(reason) = &summary.reason { p .reason dir="auto" { (shown(reason, key)) } }
            dl .facts {
                dt { "State" } dd { (state(summary.state)) }
                @for (name, value) in [("Project", &origin.project), ("Environment", &origin.environment), ("Level", &origin.level)] {
                    @if let Some(value) = value { dt { (name) } dd dir="auto" { (shown(value, key)) } }
                }
                @if origin.link.is_some() { dt { "Sentry" } dd { (open_in_sentry(&origin)) } }
                dt { "Event" } dd { code { (summary.id) } ", " (summary.event_type) }
                dt { "Incident" } dd { code { (shown(summary.incident_key.as_str(), key)) } }
                dt { "Service" } dd { (service(&summary.service_key, names.get(&summary.service_key).as_deref())) }
                dt { "Received" } dd { (clock(now, summary.received_at)) ", " (ago(now, summary.received_at)) }
                @if summary.count > 1 {
                    dt { "Alerts" }
                    dd { (count(summary.count.into())) ", the first " (ago(now, summary.first_seen)) }
                }
                dt { "Attempts" }
                dd {
                    (summary.attempts)
                    @if let Some(at) = record.last_attempt_at { ", the last " (ago(now, at)) }
                    @if let (State::Waiting, Some(at)) = (summary.state, summary.next_attempt_at) { ", the next " (until(now, at)) }
                }
                @if let Some(at) = summary.finished_at {
                    dt { @if summary.state == State::Dead { "Dead letter" } @else { "Delivered" } }
                    dd { (clock(now, at)) ", after " (span(at - summary.received_at)) }
                }
                @if let Some(proof) = proof { dt { "In PagerDuty" } dd #proof { (proved(proof)) } }
            }
            @if summary.state == State::Dead {
                @if let Some(at) = record.resolved_at {
                    p #resolved .more {
                        "Its incident was resolved " (ago(now, at)) ", so a retry does not send it: it would open the incident again."
                    }
                }
                (forms::actions(EntryTarget::Event(summary.id)))
                @if record.resolved_at.is_some() { (forms::reopen(summary.id)) }
            }
            h2 { "Event" }
            (body(&of_event(record), false, record.body.len()))
        }
    };
    layout::page(frame, "Event", &main)
}

/// What PagerDuty shows of a delivered event.
fn proved(proof: &Proof) -> Markup {
    let what = match proof.state {
        ProofState::Confirmed => "confirmed",
        ProofState::Suppressed => "suppressed by a rule",
        ProofState::NotOpened => "no incident was opened",
        ProofState::Resent => "open after its resolve, which was sent once more",
        ProofState::LeftOpen => "open after its resolve was sent twice",
    };
    html! {
        (what)
        @if proof.incident_number.is_some() { ": " (incident(proof)) }
        @if let Some(reason) = &proof.reason { small dir="auto" { (harmless(reason)) } }
    }
}

/// A rejected webhook, with its body.
pub(super) fn webhook(frame: &PageFrame, id: RejectedId, webhook: &RejectedWebhook, keys: &[ServiceKey]) -> Markup {
    let main = html! {
        section .detail {
            p .back { a href="/" { "Status page" } }
            h1 .title dir="auto" { (harmless(&webhook.reason)) }
            dl .facts {
                dt { "Rejected webhook" } dd { code { (id) } }
                dt { "Received" } dd { (clock(frame.at, webhook.received_at)) ", " (ago(frame.at, webhook.received_at)) }
                @if let Some(resource) = &webhook.resource {
                    dt { "Resource" } dd { code { (harmless(resource)) } }
                }
                dt { "Size" } dd { (ByteSize::b(webhook.body.len() as u64).display().si()) }
            }
            (forms::actions(EntryTarget::Rejected(id)))
            h2 { "Body" }
            (body(&of_webhook(&webhook.body, keys), webhook.body.len() > MAX_SHOWN, webhook.body.len()))
        }
    };
    layout::page(frame, "Rejected webhook", &main)
}

/// Renders the `text` of a body of `size` bytes. `cut` says whether the text was already shortened.
fn body(text: &str, cut: bool, size: usize) -> Markup {
    let shown = text.get(..text.floor_char_boundary(MAX_SHOWN)).unwrap_or_default();
    html! {
        pre #body .body tabindex="0" { code { (harmless(shown)) } }
        @if cut || shown.len() < text.len() {
            p .more {
                "Only the beginning of " (ByteSize::b(size as u64).display().si()) " is shown; " code { "queue show" } " prints all of it."
            }
        }
    }
}

/// The event as it is sent, with its service key masked.
fn of_event(record: &EventRecord) -> String {
    masked(pretty(&record.body), std::slice::from_ref(&record.summary.service_key))
}

/// A webhook's body. A long one is shown as it was received, and only its beginning.
fn of_webhook(bytes: &[u8], keys: &[ServiceKey]) -> String {
    if bytes.len() <= MAX_SHOWN {
        return masked(pretty(bytes), keys);
    }
    let mut text = masked(String::from_utf8_lossy(&bytes[..MAX_SHOWN]).into_owned(), keys);
    // A service key that was cut in two is not masked, so the end of the text is removed.
    text.truncate(text.floor_char_boundary(text.len().saturating_sub(ServiceKey::LENGTH)));
    text
}

fn pretty(bytes: &[u8]) -> String {
    serde_json::from_slice::<Value>(bytes)
        .and_then(|value| serde_json::to_string_pretty(&value))
        .unwrap_or_else(|_| String::from_utf8_lossy(bytes).into_owned())
}

/// The text with every one of these keys masked wherever it occurs.
fn masked(text: String, keys: &[ServiceKey]) -> String {
    keys.iter().fold(text, |text, key| key.mask(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_key_is_masked_wherever_it_stands_in_a_body() {
        let key = ServiceKey::parse("0123456789abcdef0123456789abWXYZ").unwrap();
        let text = masked(format!("{{\"service_key\": \"{0}\", \"note\": \"key={0}\"}}", key.expose()), &[key]);
        assert_eq!(text, "{\"service_key\": \"…WXYZ\", \"note\": \"key=…WXYZ\"}");
    }

    #[test]
    fn a_long_body_is_cut_between_characters_and_says_so() {
        let bytes = "é".repeat(MAX_SHOWN).into_bytes();
        let markup = body(&of_webhook(&bytes, &[]), true, bytes.len()).into_string();
        assert!(markup.contains("prints all of it") && !markup.contains('\u{fffd}'));
        assert!(markup.len() > MAX_SHOWN - 100 && markup.len() < MAX_SHOWN + 500);
        assert!(!body(&of_webhook(b"{\"a\":1}", &[]), false, 7).into_string().contains("prints all of it"));
    }

    #[test]
    fn a_service_key_at_the_end_of_what_is_shown_is_not_shown_in_part() {
        let key = ServiceKey::parse("0123456789abcdef0123456789abWXYZ").unwrap();
        // The keys before it become shorter when they are masked.
        let before = key.expose().repeat(100);
        for place in MAX_SHOWN - 100..MAX_SHOWN + 100 {
            let mut text = before.clone() + &" ".repeat(place - before.len());
            text.push_str(key.expose());
            text.push_str(&" ".repeat(200));
            let shown = of_webhook(text.as_bytes(), std::slice::from_ref(&key));
            assert!(!shown.contains("0123"), "{place}: {}", shown.trim_end());
        }
    }
}
