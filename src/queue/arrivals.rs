//! Announces to the deliveries what was committed, without ever holding more than a bounded number of announcements.
//!
//! An announcement only saves a read of the queue: what is not announced is in the queue all the same.
//! So where the listener does not keep up, it only learns which service keys to read. What one commit brought is announced
//! together: the listener wakes up once for it, and the writer, whose answers others wait for, is held up once.

use std::collections::{BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use tokio::sync::Notify;

use super::Arrival;
use crate::pagerduty::ServiceKey;

/// How many announcements are held for a listener at most.
pub const ARRIVALS: usize = 4096;

/// What the two ends share.
#[derive(Debug, Default)]
struct Shared {
    announced: Mutex<Announced>,
    /// Something was announced, or nothing will be any more.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Announced {
    held: VecDeque<Arrival>,
    /// The service keys of what was not announced.
    missed: BTreeSet<ServiceKey>,
    is_over: bool,
}

impl Shared {
    fn announced(&self) -> MutexGuard<'_, Announced> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is committed from now on, from [`Queue::arrivals`](super::Queue::arrivals).
#[derive(Debug)]
pub struct Arrivals {
    shared: Arc<Shared>,
}

impl Arrivals {
    /// The next one; `None` when nothing will come any more.
    pub async fn recv(&mut self) -> Option<Arrival> {
        loop {
            {
                let mut announced = self.shared.announced();
                match announced.held.pop_front() {
                    None if !announced.is_over => {}
                    next => return next,
                }
            }
            self.shared.changed.notified().await;
        }
    }

    /// The next one, if one is held.
    pub fn try_recv(&mut self) -> Option<Arrival> {
        self.shared.announced().held.pop_front()
    }

    /// How many are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.shared.announced().held.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The service keys of events that were not announced, for there were too many; they have to be looked for in the
    /// queue. Until this is called nothing more of those keys is announced, so that of one key no event is announced
    /// before an earlier one was announced or missed.
    #[must_use]
    pub fn take_missed(&mut self) -> BTreeSet<ServiceKey> {
        std::mem::take(&mut self.shared.announced().missed)
    }
}

/// The other end. Where the listener is gone, nothing is kept.
#[derive(Debug)]
pub(super) struct Announcer {
    shared: Weak<Shared>,
}

/// Both ends.
pub(super) fn channel() -> (Announcer, Arrivals) {
    let shared = Arc::new(Shared::default());
    (Announcer { shared: Arc::downgrade(&shared) }, Arrivals { shared })
}

impl Announcer {
    /// Announces them, or has their keys looked for. Never waits.
    pub(super) fn announce(&self, arrivals: impl Iterator<Item = Arrival>) {
        let Some(shared) = self.shared.upgrade() else { return };
        let mut announced = shared.announced();
        let before = announced.held.len();
        for arrival in arrivals {
            if announced.missed.contains(&arrival.service_key) {
                continue;
            }
            if announced.held.len() < ARRIVALS {
                announced.held.push_back(arrival);
            } else {
                announced.missed.insert(arrival.service_key);
            }
        }
        let came = announced.held.len() > before;
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
