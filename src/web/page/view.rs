//! What the pages show, as plain data.

use crate::monitor::{Health, Snapshot, Trouble};
use crate::queue::{RejectedSummary, Summary};

/// How many entries a list shows at most.
pub const PAGE: u32 = 50;

/// How many of each list the status page itself shows.
pub const GLANCE: u32 = 20;

/// All that the status page shows.
#[derive(Clone, Debug)]
pub struct Status {
    /// What is known.
    pub facts: Snapshot,
    /// How the bridge fares.
    pub word: Health,
    /// What is wrong, worst first.
    pub troubles: Vec<Trouble>,
    /// The lists; `None` when the queue cannot be read.
    pub lists: Option<Lists>,
    /// What an action did that was taken before.
    pub notice: Option<Notice>,
}

/// The lists of the status page.
#[derive(Clone, Debug, Default)]
pub struct Lists {
    /// Dead letters, newest first.
    pub dead: Listing<Summary>,
    /// Rejected webhooks, newest first.
    pub rejected: Listing<RejectedSummary>,
    /// The newest alerts, wherever they stand.
    pub recent: Listing<Summary>,
}

/// A part of a list.
#[derive(Clone, Debug)]
pub struct Listing<T> {
    /// What is shown.
    pub entries: Vec<T>,
    /// The number behind which the older ones follow; `None` when these are the last.
    pub older: Option<i64>,
}

impl<T> Default for Listing<T> {
    fn default() -> Self {
        Self { entries: Vec::new(), older: None }
    }
}

impl<T> Listing<T> {
    /// The first `size` of these, of which one more was read to know whether there are older ones.
    #[must_use]
    pub fn of(mut entries: Vec<T>, size: u32, number: impl Fn(&T) -> i64) -> Self {
        let size = size as usize;
        let more = entries.len() > size;
        entries.truncate(size);
        let older = entries.last().filter(|_| more).map(number);
        Self { entries, older }
    }
}

/// What an action did.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Notice {
    /// Entries were retried.
    Retried {
        /// So many.
        done: u64,
        /// So many others are where they were, with a reason that stands beside them, or are gone.
        left: u64,
    },
    /// So many are gone.
    Discarded(u64),
}

impl Notice {
    /// As the query of an address.
    #[must_use]
    pub fn query(self) -> String {
        match self {
            Self::Retried { done, left } => format!("notice=retried&done={done}&left={left}"),
            Self::Discarded(done) => format!("notice=discarded&done={done}"),
        }
    }

    /// Reads [`Notice::query`] from its parts.
    #[must_use]
    pub fn of(name: &str, done: u64, left: u64) -> Option<Self> {
        match name {
            "retried" => Some(Self::Retried { done, left }),
            "discarded" => Some(Self::Discarded(done)),
            _ => None,
        }
    }
}
