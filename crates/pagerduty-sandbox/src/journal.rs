//! What the sandbox remembers of each request.

use std::collections::VecDeque;
use std::sync::Arc;

use actix_web::web::Bytes;
use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::faults::Fault;
use crate::options::Options;
use crate::state::{Effect, State};

/// One request and what came of it. Service keys stand here in full: whoever prints an entry decides how much of them.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct JournalEntry {
    /// Counted from 1 since the last reset.
    pub number: u64,
    /// What arrived.
    #[serde(flatten)]
    pub request: Received,
    /// The body, read as JSON, when it is an object.
    pub event: Option<Value>,
    /// What the sandbox made of it.
    #[serde(flatten)]
    pub verdict: Verdict,
    /// The fault that happened to it.
    pub fault: Option<Fault>,
    /// The status of the answer; `None`: there was none.
    pub status: Option<u16>,
    /// The incident key of the success answer: the event's own, or the one made up for it.
    pub incident_key: Option<String>,
    /// Where the incident stood.
    pub before: Option<State>,
    /// Where it stands now.
    pub after: Option<State>,
    /// What PagerDuty takes although it has no use for it.
    pub warnings: Vec<String>,
    /// What PagerDuty's pages forbid although its servers let it through.
    pub violations: Vec<String>,
    /// For an event that was held and is applied now: the number of its request's own entry.
    pub late_of: Option<u64>,
}

impl JournalEntry {
    /// A member of the event that is text, such as `service_key`.
    #[must_use]
    pub fn text(&self, member: &str) -> Option<&str> {
        self.event.as_ref()?.get(member)?.as_str()
    }
}

/// A request as it arrived.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Received {
    /// When its head arrived.
    pub at: DateTime<Utc>,
    /// The connection it came by, counted from 1.
    pub connection: u64,
    /// Its place among that connection's requests, counted from 1.
    pub on_connection: u64,
    /// Its method.
    pub method: String,
    /// Its path and query.
    pub target: String,
    /// Its headers in their order, as text.
    pub headers: Vec<(String, String)>,
    /// Its body, at most as long as [`Options::max_body`]; in JSON as text.
    #[serde(serialize_with = "as_text")]
    pub body: Bytes,
    /// Whether `body` is all of it.
    pub extent: Extent,
}

impl Received {
    pub(crate) fn header(&self, wanted: &str) -> impl Iterator<Item = &str> {
        self.headers.iter().filter(move |(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| value.as_str())
    }
}

/// How much of a body was read.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Extent {
    /// All.
    Whole,
    /// It is larger than [`Options::max_body`].
    TooLarge,
    /// The connection broke.
    Broken,
}

/// What the sandbox made of a request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "verdict", rename_all = "snake_case")]
pub enum Verdict {
    /// The event was applied.
    Accepted {
        /// What it did.
        effect: Effect,
    },
    /// Success was answered and nothing was applied.
    Discarded,
    /// A fault holds the event back.
    Held,
    /// A fault came before anybody looked at the event.
    Faulted,
    /// Refused: too many events of its integration key.
    Throttled,
    /// Refused: not an event.
    Invalid {
        /// PagerDuty's complaints.
        errors: Vec<String>,
    },
    /// Refused: not a JSON object.
    Unreadable {
        /// Why not.
        reason: String,
    },
    /// Refused: more than [`Options::max_body`].
    TooLarge,
    /// Refused: nobody has that integration key.
    UnknownKey,
    /// Refused: what stands in [`JournalEntry::violations`].
    Violation,
    /// Refused: not PagerDuty's path.
    NotFound,
    /// Refused: not POST.
    WrongMethod,
    /// The connection broke, or the sandbox was stopped, before the request was complete.
    Broken,
}

/// The newest requests.
#[derive(Debug, Default)]
pub(crate) struct Journal {
    entries: VecDeque<Arc<JournalEntry>>,
    bytes: usize,
    written: u64,
}

impl Journal {
    /// The number the next entry gets.
    pub(crate) fn next_number(&self) -> u64 {
        self.written + 1
    }

    /// Adds `entry` and lets go of what is too old to be kept beside it.
    pub(crate) fn write(&mut self, entry: JournalEntry, options: &Options) -> Arc<JournalEntry> {
        let entry = Arc::new(entry);
        self.written += 1;
        self.bytes += entry.request.body.len();
        self.entries.push_back(Arc::clone(&entry));
        while self.entries.len() > options.journal_entries || self.bytes > options.journal_bytes {
            let Some(oldest) = self.entries.pop_front() else { break };
            self.bytes -= oldest.request.body.len();
        }
        entry
    }

    pub(crate) fn entries(&self) -> impl DoubleEndedIterator<Item = &Arc<JournalEntry>> {
        self.entries.iter()
    }
}

fn as_text<S: Serializer>(body: &Bytes, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&String::from_utf8_lossy(body))
}
