//! The journal of requests to the Events APIs, and the counters.

use std::collections::VecDeque;
use std::sync::Arc;

use actix_web::web::Bytes;
use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value};

use crate::api::EventsApiVersion;
use crate::faults::Fault;
use crate::incidents::{Effect, EventType, IncidentState, ValidEvent};
use crate::options::Options;

/// A request and its result, or a held event that was applied. It contains the full service key: mask it before you show
/// it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JournalEntry {
    /// Its number, counted from 1 since the last reset.
    pub number: u64,
    /// The request.
    #[serde(flatten)]
    pub request: Received,
    /// The API whose path it was posted to.
    #[serde(rename = "events_api")]
    pub api: Option<EventsApiVersion>,
    /// The body as JSON, if it is an object.
    pub event: Option<Value>,
    /// The result.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The fault that happened to it.
    pub fault: Option<Fault>,
    /// The status of the response; `None`: there was no response.
    pub status: Option<u16>,
    /// If the event was applied: its incident key, or the one generated for it.
    pub incident_key: Option<String>,
    /// The state of the incident before the event was applied.
    pub before: Option<IncidentState>,
    /// The state of the incident after that.
    pub after: Option<IncidentState>,
    /// What PagerDuty accepts and does not use.
    pub warnings: Vec<String>,
    /// What PagerDuty's documentation forbids and its servers accept.
    pub violations: Vec<String>,
    /// If a held event was applied: the number of the entry of its request.
    pub late_of: Option<u64>,
}

impl JournalEntry {
    /// The value of a member of the event that is a string, such as `service_key`.
    #[must_use]
    pub fn text(&self, member: &str) -> Option<&str> {
        self.event.as_ref()?.get(member)?.as_str()
    }

    /// The integration key in the event, of either API, if it is a string.
    #[must_use]
    pub fn service_key(&self) -> Option<&str> {
        self.by_api(EventsApiVersion::service_key)
    }

    /// The type of the event, of either API, if it is a string.
    #[must_use]
    pub fn event_type(&self) -> Option<&str> {
        self.by_api(EventsApiVersion::event_type)
    }

    /// The description or summary in the event, of either API, if it is a string.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.by_api(EventsApiVersion::description)
    }

    fn by_api(&self, read: fn(EventsApiVersion, &Map<String, Value>) -> Option<&str>) -> Option<&str> {
        read(self.api.unwrap_or(EventsApiVersion::V1), self.event.as_ref()?.as_object()?)
    }
}

/// A request as it was received.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Received {
    /// When its head was received.
    pub at: DateTime<Utc>,
    /// Its connection, counted from 1.
    pub connection: u64,
    /// Its number among the requests of that connection, counted from 1.
    pub on_connection: u64,
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub target: String,
    /// Its headers as text: the names in no particular order, the values of one name in the order in which they were sent.
    pub headers: Vec<(String, String)>,
    /// Its body, at most [`Options::max_body`] bytes; serialized as text.
    #[serde(serialize_with = "as_text")]
    pub body: Bytes,
    /// Whether `body` is complete.
    pub extent: Extent,
}

impl Received {
    pub(crate) fn header(&self, wanted: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
    }
}

fn as_text<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(body))
}

/// How much of a body was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// All of it.
    Whole,
    /// It is larger than [`Options::max_body`].
    TooLarge,
    /// The connection broke before its end.
    Broken,
}

/// The result of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The event was applied.
    Accepted {
        /// What it did.
        effect: Effect,
    },
    /// The event was answered with success and not applied.
    Discarded,
    /// A fault holds the event.
    Held,
    /// A fault happened before the event was looked at.
    Faulted,
    /// Refused: the rate limit of its integration key.
    Throttled,
    /// Refused: not a valid event.
    Invalid {
        /// PagerDuty's error messages.
        errors: Vec<String>,
    },
    /// Refused: not a JSON object.
    Unreadable {
        /// Why it is not one, in a sentence.
        reason: String,
    },
    /// Refused: the body is larger than [`Options::max_body`].
    TooLarge,
    /// Refused: the integration key does not exist.
    UnknownKey,
    /// Refused: see [`JournalEntry::violations`].
    Violation,
    /// Refused: not the path of the Events API.
    NotFound,
    /// Refused: the method is not POST.
    WrongMethod,
    /// The connection broke before the request was complete.
    Broken,
}

/// The newest entries, within the limits of the options.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<Arc<JournalEntry>>,
    body_bytes: usize,
    written: u64,
}

impl Journal {
    pub(crate) fn next_number(&self) -> u64 {
        self.written + 1
    }

    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = &Arc<JournalEntry>> {
        self.entries.iter()
    }

    pub(crate) fn write(&mut self, entry: JournalEntry, options: &Options) -> Arc<JournalEntry> {
        let entry = Arc::new(entry);
        self.written += 1;
        self.body_bytes += entry.request.body.len();
        self.entries.push_back(Arc::clone(&entry));
        while self.entries.len() > options.journal_entries || self.body_bytes > options.journal_bytes {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.body_bytes -= oldest.request.body.len();
        }
        entry
    }
}

/// What has happened since the last reset. Exact, however few entries the journal keeps.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Counters {
    /// Requests, complete or not.
    pub requests: u64,
    /// Events that were applied, with or without effect.
    pub accepted: u64,
    /// Incidents that were opened.
    pub opened: u64,
    /// Triggers whose incident was open already.
    pub logged: u64,
    /// Incidents that were acknowledged.
    pub acknowledged: u64,
    /// Incidents that were resolved.
    pub resolved: u64,
    /// Triggers without an incident key. PagerDuty generates one, so no client can resolve the incident by its key.
    pub keyless: u64,
    /// Acknowledge events without an open incident.
    pub dropped_acknowledges: u64,
    /// Resolve events without an open incident.
    pub dropped_resolves: u64,
    /// Events that were answered with success and not applied.
    pub discarded: u64,
    /// Events that a fault held; those that have been applied since then also count as `accepted`.
    pub held: u64,
    /// Events that the rate limit refused. What [`Fault::Throttled`] refuses counts as `faulted`.
    pub throttled: u64,
    /// Requests that were refused for any other reason.
    pub refused: u64,
    /// Requests that a fault answered before they were looked at.
    pub faulted: u64,
    /// Requests whose connection broke before they were complete.
    pub broken: u64,
    /// What PagerDuty's documentation forbids and its servers accept.
    pub violations: u64,
    /// What PagerDuty accepts and does not use.
    pub warnings: u64,
}

impl Counters {
    pub(crate) fn count_request(&mut self, entry: &JournalEntry) {
        self.requests += 1;
        self.violations += entry.violations.len() as u64;
        self.warnings += entry.warnings.len() as u64;
        match entry.verdict {
            Verdict::Accepted { .. } => {}
            Verdict::Discarded => self.discarded += 1,
            Verdict::Held => self.held += 1,
            Verdict::Faulted => self.faulted += 1,
            Verdict::Throttled => self.throttled += 1,
            Verdict::Broken => self.broken += 1,
            _ => self.refused += 1,
        }
    }

    pub(crate) fn count_applied(&mut self, event: &ValidEvent, effect: Effect) {
        self.accepted += 1;
        self.keyless += u64::from(event.incident_key.is_none());
        match effect {
            Effect::Opened => self.opened += 1,
            Effect::Logged => self.logged += 1,
            Effect::Acknowledged => self.acknowledged += 1,
            Effect::Resolved => self.resolved += 1,
            Effect::Dropped if event.event_type == EventType::Acknowledge => self.dropped_acknowledges += 1,
            Effect::Dropped => self.dropped_resolves += 1,
            Effect::AlreadyAcknowledged => {}
        }
    }
}
