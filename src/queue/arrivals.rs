//! Announces committed events to the deliveries, and never holds more than a bounded number of announcements.
//!
//! An announcement only saves a read of the queue: an event that is not announced is in the queue all the same. So when
//! the listener does not keep up, it only learns which service keys to read. The events of one commit are announced
//! together: the listener wakes up once for them, and the writer, whose callers wait for their answers, is delayed only
//! once.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::WaitingEvent;
use crate::pagerduty::ServiceKey;

/// The maximum number of announcements that are buffered for the listener.
pub const ARRIVALS: usize = 4096;

/// The state that the two ends of the channel share.
#[derive(Debug, Default)]
struct Shared {
    announced: Mutex<Announced>,
    /// Notified when something was announced, or when nothing will be announced any more.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Announced {
    buffered: VecDeque<WaitingEvent>,
    /// The service keys of events that were not announced.
    missed: BTreeSet<ServiceKey>,
    is_over: bool,
}

impl Shared {
    fn announced(&self) -> MutexGuard<'_, Announced> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Receives the events that are committed from now on; from [`Queue::arrivals`](super::Queue::arrivals).
#[derive(Debug)]
pub struct Arrivals {
    shared: Arc<Shared>,
}

impl Arrivals {
    /// Waits for the next event; returns `None` when no more events will come.
    pub async fn recv(&mut self) -> Option<WaitingEvent> {
        loop {
            {
                let mut announced = self.shared.announced();
                match announced.buffered.pop_front() {
                    None if !announced.is_over => {}
                    next => return next,
                }
            }
            self.shared.changed.notified().await;
        }
    }

    /// Returns the next event, if one is buffered.
    pub fn try_recv(&mut self) -> Option<WaitingEvent> {
        self.shared.announced().buffered.pop_front()
    }

    /// Returns how many events are buffered.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.announced().buffered.len()
    }

    /// Whether no event is buffered.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the service keys of events that were not announced because there were too many; they have to be read from
    /// the queue. Until this is called, no further events of these keys are announced, so that no event of a key is
    /// announced before an earlier one was announced or reported as missed.
    #[must_use]
    pub fn take_missed(&mut self) -> BTreeSet<ServiceKey> {
        std::mem::take(&mut self.shared.announced().missed)
    }
}

/// The sending end. Once the listener is gone, nothing is kept.
#[derive(Debug)]
pub(super) struct Announcer {
    shared: Weak<Shared>,
}

/// Creates the two ends of a channel.
pub(super) fn channel() -> (Announcer, Arrivals) {
    let shared = Arc::new(Shared::default());
    (Announcer { shared: Arc::downgrade(&shared) }, Arrivals { shared })
}

impl Announcer {
    /// Announces the events, or records their service keys as missed if there are too many. Never waits.
    pub(super) fn announce(&self, arrivals: impl Iterator<Item = WaitingEvent>) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut announced = shared.announced();
        let before = announced.buffered.len();
        for arrival in arrivals {
            if announced.missed.contains(&arrival.service_key) {
                continue;
            }
            if announced.buffered.len() < ARRIVALS {
                announced.buffered.push_back(arrival);
            } else {
                announced.missed.insert(arrival.service_key);
            }
        }
        let came = announced.buffered.len() > before;
        drop(announced);
        if came {
            shared.changed.notify_one();
        }
    }
}

impl Drop for Announcer {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            shared.announced().is_over = true;
            shared.changed.notify_one();
        }
    }
}
