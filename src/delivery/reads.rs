//! What the worker reads of the queue while it goes on delivering. However long a read takes or fails, only what needs
//! it waits.

use std::sync::Arc;
use std::time::Duration;

use log::{Level, log};
use tokio::sync::Semaphore;
use tokio::time::sleep;

use super::backoff::Backoff;
use crate::logging::throttle;
use crate::pagerduty::ServiceKey;
use crate::queue::{EventId, KeysInLine, LookedAgain, Page, QueueError, Reader};

/// How many pages are read at the same time; the deliveries have as many connections.
const PAGES: usize = 2;

/// How long to wait before a line is read again that could not be.
const BACKOFF: Backoff = Backoff { first: Duration::from_secs(1), ceiling: Duration::from_secs(30) };

/// Something that was read.
#[derive(Debug)]
pub(super) enum Read {
    /// A page of a key's line that begins behind `after`.
    Page { key: ServiceKey, after: Option<EventId>, page: Page },
    /// One that could not be read; it may be asked for again once the key has backed off, see [`back_off`].
    NoPage { key: ServiceKey, reason: String },
    /// The key backed off for long enough.
    BackedOff { key: ServiceKey },
    /// Whether somebody else changed the queue: its generation, and the keys in line if that is new. `None`: it cannot
    /// be told now.
    Changes(Option<(u64, Option<KeysInLine>)>),
    /// What became of this event is committed after all.
    Settled(EventId),
    /// Events that could not be read before.
    Again(Vec<(EventId, LookedAgain)>),
}

/// Reads for the worker; clones take turns.
#[derive(Clone, Debug)]
pub(super) struct Reads {
    reader: Reader,
    turns: Arc<Semaphore>,
}

impl Reads {
    pub(super) fn of(reader: Reader) -> Self {
        Self { reader, turns: Arc::new(Semaphore::new(PAGES)) }
    }

    pub(super) async fn page(self, key: ServiceKey, after: Option<EventId>, limit: u32) -> Read {
        // A turn is had by whoever asked first. The semaphore is never closed.
        let _turn = self.turns.acquire().await;
        match self.reader.page(&key, after, limit).await {
            Ok(page) => Read::Page { key, after, page },
            Err(error) => {
                let line = throttle::line("reads of the queue failed", Level::Error);
                log!(line.level, service_key:% = key; "the queue of this key cannot be read: {error}{line}");
                Read::NoPage { key, reason: error.to_string() }
            }
        }
    }

    /// Looks whether somebody else changed the queue since `known`.
    pub(super) async fn changes(self, known: u64) -> Read {
        let found = async {
            let generation = self.reader.generation().await?;
            let keys = if generation == known { None } else { Some(self.reader.keys_in_line().await?) };
            Ok::<_, QueueError>((generation, keys))
        };
        Read::Changes(match found.await {
            Ok(changes) => Some(changes),
            Err(error) => {
                let line = throttle::line("reads of the queue failed", Level::Warn);
                log!(line.level, "the queue cannot be read: {error}{line}");
                None
            }
        })
    }

    /// Looks again at events that could not be read.
    pub(super) async fn again(self, ids: Vec<EventId>) -> Read {
        let mut looked = Vec::with_capacity(ids.len());
        for id in ids {
            // What cannot be told now will be another time.
            let Ok(found) = self.reader.look_again(id).await else { break };
            looked.push((id, found));
        }
        Read::Again(looked)
    }
}

/// Waits after the n-th failure in a row to read a key's line.
pub(super) async fn back_off(key: ServiceKey, failures: u32) -> Read {
    sleep(BACKOFF.wait(failures, rand::random())).await;
    Read::BackedOff { key }
}
