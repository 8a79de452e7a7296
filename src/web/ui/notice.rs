//! The result of an action: shown on the status page after it, and kept up to date while the page is open.

use maud::{Markup, html};
use url::form_urlencoded;

use super::text::{count, counted, harmless, shown};
use crate::queue::admin::Retried;
use crate::queue::{EventId, EventSummary, ItemId, QueueError, Reader, RejectedId, State};

/// How many events are followed at most.
const FOLLOWED: usize = 50;

/// An action that was done, as the URL of the page encodes it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum ActionNotice {
    /// Entries were retried.
    Retried(Retry),
    /// This many entries were discarded.
    Discarded(u64),
    /// A test page was enqueued as these events.
    Tested {
        /// The event that opens the incident.
        trigger: EventId,
        /// The event that closes it.
        resolve: EventId,
    },
}

/// What a retry did. The log shows its members as they are.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Retry {
    /// How many entries were requeued, or need no further action.
    done: u64,
    /// How many other entries are unchanged, or were already gone.
    left: u64,
    /// The events that wait now, at most [`FOLLOWED`].
    events: Vec<EventId>,
    /// The reason for the first entry that is unchanged or not queued.
    why: Option<UnchangedReason>,
    /// The first webhook that is still rejected.
    rejected: Option<RejectedId>,
}

/// Why an entry is unchanged, or not queued.
#[derive(Clone, Copy, Debug, Eq, PartialEq, strum::EnumString, strum::IntoStaticStr)]
#[strum(serialize_all = "snake_case")]
enum UnchangedReason {
    Resolved,
    Triggered,
    Delivered,
    Waiting,
    Gone,
    Rejected,
    Ignored,
    NothingOpen,
}

impl UnchangedReason {
    fn sentence(self) -> &'static str {
        match self {
            Self::Resolved => "its incident was resolved since; open the entry to send it all the same",
            Self::Triggered => "it would resolve an incident that was triggered again since; discard it",
            Self::Delivered => "already delivered; only dead letters can be retried",
            Self::Waiting => "already waiting; only dead letters can be retried",
            Self::Gone => "it was retried or discarded before",
            Self::Rejected => "still rejected",
            Self::Ignored => "the webhook opens no incident with the present settings",
            Self::NothingOpen => "the webhook is about an incident that is not open",
        }
    }
}

impl ActionNotice {
    /// The notice for the outcomes of a retry.
    pub(super) fn retried(outcomes: &[(ItemId, Retried)]) -> Self {
        let mut retry = Retry::default();
        for (id, outcome) in outcomes {
            if outcome.is_well() {
                retry.done += 1;
            } else {
                retry.left += 1;
            }
            let reason = match outcome {
                Retried::Requeued => {
                    if let ItemId::Event(id) = id {
                        retry.events.push(*id);
                    }
                    continue;
                }
                Retried::Queued { events, .. } => {
                    retry.events.extend(events);
                    continue;
                }
                Retried::ResolvedSince => UnchangedReason::Resolved,
                Retried::TriggeredSince => UnchangedReason::Triggered,
                Retried::NotADeadLetter(State::Waiting) => UnchangedReason::Waiting,
                Retried::NotADeadLetter(_) => UnchangedReason::Delivered,
                Retried::NotFound | Retried::Changed => UnchangedReason::Gone,
                Retried::Ignored(_) => UnchangedReason::Ignored,
                Retried::NothingOpen(_) => UnchangedReason::NothingOpen,
                Retried::StillRejected(_) => {
                    if let ItemId::Rejected(id) = id {
                        retry.rejected.get_or_insert(*id);
                    }
                    UnchangedReason::Rejected
                }
            };
            retry.why.get_or_insert(reason);
        }
        retry.events.truncate(FOLLOWED);
        Self::Retried(retry)
    }

    /// Encodes the notice as the query of a URL.
    pub(super) fn query(&self) -> String {
        match self {
            Self::Retried(Retry { done, left, events, why, rejected }) => {
                let events: Vec<_> = events.iter().map(ToString::to_string).collect();
                let others = [
                    (!events.is_empty()).then(|| format!("&events={}", events.join("-"))),
                    why.map(|why| format!("&why={}", <&str>::from(why))),
                    rejected.map(|id| format!("&rejected={id}")),
                ];
                let others: String = others.into_iter().flatten().collect();
                format!("notice=retried&done={done}&left={left}{others}")
            }
            Self::Discarded(done) => format!("notice=discarded&done={done}"),
            Self::Tested { trigger, resolve } => format!("notice=tested&events={trigger}-{resolve}"),
        }
    }

    /// Parses the result of [`ActionNotice::query`]; `None` for anything else.
    pub(super) fn of_query(query: &str) -> Option<Self> {
        let pairs: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
        let value = |name: &str| pairs.iter().find(|(other, _)| other == name).map(|(_, value)| value.as_ref());
        let number = |name: &str| value(name).and_then(|text| text.parse().ok()).unwrap_or_default();
        let events = || {
            let numbers = value("events").unwrap_or_default().split('-').filter_map(|number| number.parse().ok());
            numbers.map(EventId::new).take(FOLLOWED).collect::<Vec<_>>()
        };
        match value("notice")? {
            "retried" => Some(Self::Retried(Retry {
                done: number("done"),
                left: number("left"),
                events: events(),
                why: value("why").and_then(|name| name.parse().ok()),
                rejected: value("rejected").and_then(|id| match id.parse() {
                    Ok(ItemId::Rejected(id)) => Some(id),
                    _ => None,
                }),
            })),
            "discarded" => Some(Self::Discarded(number("done"))),
            "tested" => match events()[..] {
                [trigger, resolve] => Some(Self::Tested { trigger, resolve }),
                _ => None,
            },
            _ => None,
        }
    }

    /// Looks up what became of the entries, and returns the notice as a line of the page.
    pub(super) async fn follow(&self, reader: &Reader) -> Result<Markup, QueueError> {
        let (events, rejected) = match self {
            Self::Retried(retry) => (retry.events.clone(), retry.rejected),
            Self::Tested { trigger, resolve } => (vec![*trigger, *resolve], None),
            Self::Discarded(_) => (Vec::new(), None),
        };
        let events = if events.is_empty() { Vec::new() } else { reader.summaries(&events).await? };
        let rejection = match rejected {
            Some(id) => reader.rejected(id).await?.map(|webhook| webhook.reason),
            None => None,
        };
        Ok(self.line(&events, rejection.as_deref()))
    }

    /// The notice as a line of the page. `events` are those of its events that are still in the queue, `rejection` is why the
    /// webhook is still rejected.
    pub(super) fn line(&self, events: &[EventSummary], rejection: Option<&str>) -> Markup {
        let is_bad = events.iter().any(|event| event.state == State::Dead);
        let content = match self {
            Self::Retried(Retry { done: 0, left: 0, .. }) | Self::Discarded(0) => {
                html! { "Nothing changed: it was retried or discarded before." }
            }
            Self::Retried(retry) => {
                html! { (requeued(retry.done, events)) (unchanged(retry, events, rejection)) }
            }
            Self::Discarded(done) => html! { (counted(*done, "entry was", "entries were")) " discarded." },
            Self::Tested { trigger, resolve } => tested(*trigger, *resolve, events),
        };
        html! { p #notice .notice .bad[is_bad] role="status" { (content) } }
    }
}

/// What became of the entries that were requeued, or need no further action.
fn requeued(done: u64, events: &[EventSummary]) -> Markup {
    html! {
        @match events {
            [event] if done == 1 => { "1 entry was requeued: " (became(event)) "." }
            [] if done > 0 => { (counted(done, "entry was", "entries were")) " processed." }
            [] => {}
            events => {
                (counted(done, "entry was", "entries were")) " requeued"
                @if (events.len() as u64) < done { "; of the first " (events.len()) ", " } @else { ": " }
                (counts(events))
                @if let Some(dead) = events.iter().find(|event| event.state == State::Dead) {
                    ". " (link(dead)) " " (became(dead))
                }
                "."
            }
        }
    }
}

/// How many entries are unchanged and why; or why nothing was sent although none is.
fn unchanged(retry: &Retry, events: &[EventSummary], rejection: Option<&str>) -> Markup {
    let Retry { left, why, .. } = retry;
    html! {
        @if *left > 0 {
            " " (count(*left)) " unchanged"
            @if let Some(why) = why {
                ": " (why.sentence())
                @if let Some(rejection) = rejection { " (" (harmless(rejection)) ")" }
            }
            "."
        } @else if let (Some(why), true) = (why, events.is_empty()) {
            " Nothing was sent: " (why.sentence()) "."
        }
    }
}

/// What became of one event.
fn became(event: &EventSummary) -> Markup {
    html! {
        @match event.state {
            State::Delivered => { "delivered" }
            State::Waiting => {
                "waiting"
                @if let Some(reason) = &event.reason { " (last attempt: " (shown(reason, &event.service_key)) ")" }
            }
            State::Dead => {
                "died again"
                @if let Some(reason) = &event.reason { " (" (shown(reason, &event.service_key)) ")" }
            }
        }
    }
}

fn counts(events: &[EventSummary]) -> String {
    let states = [(State::Delivered, "delivered"), (State::Waiting, "waiting"), (State::Dead, "died again")];
    let number = |state| events.iter().filter(|event| event.state == state).count() as u64;
    let parts = states.map(|(state, word)| (number(state), word));
    let parts: Vec<_> = parts
        .iter()
        .filter(|(number, _)| *number > 0)
        .map(|(number, word)| format!("{} {word}", count(*number)))
        .collect();
    parts.join(", ")
}

fn link(event: &EventSummary) -> Markup {
    html! { a href={ "/events/" (event.id) } { "Event " (event.id) } }
}

fn tested(trigger: EventId, resolve: EventId, events: &[EventSummary]) -> Markup {
    let state = |id: EventId| events.iter().find(|event| event.id == id);
    let Some(trigger) = state(trigger) else { return html! { "The test page is gone from the queue." } };
    let is_resolved = state(resolve).is_some_and(|resolve| resolve.state == State::Delivered);
    html! {
        "Test page " (link(trigger)) ": "
        @match trigger.state {
            State::Delivered => {
                "PagerDuty accepted the incident " code { (shown(trigger.incident_key.as_str(), &trigger.service_key)) }
                @if is_resolved { " and its resolve. Check in PagerDuty whom it notified." } @else { "; its resolve is on the way." }
            }
            State::Waiting => {
                "waiting to be sent"
                @if let Some(reason) = &trigger.reason { " (last attempt: " (shown(reason, &trigger.service_key)) ")" }
                "."
            }
            State::Dead => {
                "PagerDuty rejected it"
                @if let Some(reason) = &trigger.reason { ": " (shown(reason, &trigger.service_key)) }
                "."
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_notice_is_read_as_it_is_written() {
        let retried = Retry {
            done: 2,
            left: 1,
            events: vec![EventId::new(7), EventId::new(9)],
            why: Some(UnchangedReason::NothingOpen),
            rejected: Some(RejectedId::new(4)),
        };
        for notice in [
            ActionNotice::Retried(retried),
            ActionNotice::Retried(Retry { done: 1, ..Retry::default() }),
            ActionNotice::Discarded(3),
            ActionNotice::Tested { trigger: EventId::new(12), resolve: EventId::new(13) },
        ] {
            assert_eq!(ActionNotice::of_query(&notice.query()), Some(notice));
        }
        for query in ["", "notice=other", "notice=tested", "notice=tested&events=12", "q=retried"] {
            assert_eq!(ActionNotice::of_query(query), None, "{query}");
        }
    }
}
