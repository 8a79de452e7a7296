//! Announces to the deliveries what was committed, without ever holding more than a bounded number of announcements.
//!
//! An announcement only saves a read of the queue: what is not announced is in the queue all the same.
//! So where the listener does not keep up, it only learns which service keys to read.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::mpsc::error::TryRecvError;
use tokio::sync::mpsc::{self, Receiver};

use super::Arrival;
use crate::pagerduty::ServiceKey;

/// How many announcements are held for a listener at most.
pub const ARRIVALS: usize = 4096;

/// The service keys of what was not announced.
type Missed = Arc<Mutex<BTreeSet<ServiceKey>>>;

/// What is committed from now on, from [`Queue::arrivals`](super::Queue::arrivals).
#[derive(Debug)]
pub struct Arrivals {
    receiver: Receiver<Arrival>,
    missed: Missed,
}

impl Arrivals {
    /// The next one; `None` when nothing will come any more.
    pub async fn recv(&mut self) -> Option<Arrival> {
        self.receiver.recv().await
    }

    /// The next one, if one is held.
    ///
    /// # Errors
    ///
    /// When none is held now, or nothing will come any more.
    pub fn try_recv(&mut self) -> Result<Arrival, TryRecvError> {
        self.receiver.try_recv()
    }

    /// How many are held.
    #[must_use]
    pub fn len(&self) -> usize {
        self.receiver.len()
    }

    /// Whether none is held.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.receiver.is_empty()
    }

    /// The service keys of events that were not announced, for there were too many; they have to be looked for in the
    /// queue. Until this is called nothing more of those keys is announced, so that of one key no event is announced
    /// before an earlier one was announced or missed.
    #[must_use]
    pub fn take_missed(&mut self) -> BTreeSet<ServiceKey> {
        std::mem::take(&mut *lock(&self.missed))
    }
}

/// The other end.
#[derive(Debug)]
pub(super) struct Announcer {
    sender: mpsc::Sender<Arrival>,
    missed: Missed,
}

/// Both ends.
pub(super) fn channel() -> (Announcer, Arrivals) {
    let (sender, receiver) = mpsc::channel(ARRIVALS);
    let missed = Missed::default();
    (Announcer { sender, missed: Arc::clone(&missed) }, Arrivals { receiver, missed })
}

impl Announcer {
    /// Announces it, or has its key looked for. Never waits.
    pub(super) fn announce(&self, arrival: Arrival) {
        let mut missed = lock(&self.missed);
        if missed.contains(&arrival.service_key) {
            return;
        }
        // Where the receiver is gone, nothing is kept.
        if let Err(mpsc::error::TrySendError::Full(arrival)) = self.sender.try_send(arrival) {
            missed.insert(arrival.service_key);
        }
    }
}

fn lock(missed: &Missed) -> MutexGuard<'_, BTreeSet<ServiceKey>> {
    missed.lock().unwrap_or_else(PoisonError::into_inner)
}
