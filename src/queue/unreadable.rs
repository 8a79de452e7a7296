//! What cannot be read of the queue, as types: a damaged page of the file, or a row that the bridge did not write so.

use super::{EventId, WaitingEvent};
use crate::pagerduty::ServiceKey;

/// An event in line that cannot be read.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Unreadable {
    /// Its number, which an index knows.
    pub id: EventId,
    /// The integration it goes to; `None` where that is what cannot be read.
    pub service_key: Option<ServiceKey>,
    /// Why, as a sentence for the operator.
    pub reason: String,
}

/// A part of the line of one service key, from [`Reader::page`](super::Reader::page).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Page {
    /// The events that can be read, in order.
    pub events: Vec<WaitingEvent>,
    /// Those among them that cannot.
    pub unreadable: Vec<Unreadable>,
    /// The greatest number in this part, readable or not; `None` when it is empty.
    pub end: Option<EventId>,
    /// Nothing newer was in line.
    pub last: bool,
}

/// The service keys with events in line, from [`Reader::keys_in_line`](super::Reader::keys_in_line).
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct KeysInLine {
    /// Those that can be read, in order.
    pub keys: Vec<ServiceKey>,
    /// Events in line for what is no service key.
    pub unreadable: Vec<Unreadable>,
}

/// Whether an event that could not be read can be by now, from [`Reader::look_again`](super::Reader::look_again).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum LookedAgain {
    /// It can be, and waits for this integration.
    Readable(ServiceKey),
    /// It cannot.
    Unreadable,
    /// It is no longer in line.
    Gone,
}
