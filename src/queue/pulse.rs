//! What the writer lets everybody see: how it fares, and what came in.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::sync::mpsc;

use super::Arrival;
use super::observer::{Commit, Observer};

#[derive(Debug)]
pub(super) struct Pulse {
    commits: AtomicU64,
    well: AtomicBool,
    listener: Mutex<Option<mpsc::UnboundedSender<Arrival>>>,
    observer: Observer,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            commits: AtomicU64::new(0),
            well: AtomicBool::new(true),
            listener: Mutex::new(None),
            observer: Observer::default(),
        }
    }
}

impl Pulse {
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    pub(super) fn is_well(&self) -> bool {
        self.well.load(Ordering::Relaxed)
    }

    pub(super) fn listen(&self) -> mpsc::UnboundedReceiver<Arrival> {
        let (sender, receiver) = mpsc::unbounded_channel();
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        receiver
    }

    pub(super) fn observer(&self) -> &Observer {
        &self.observer
    }

    /// Something was committed. Only what is as large as an alert shows that alerts can be: a full disk may have room
    /// for a mark still.
    pub(super) fn committed(&self, takes_alerts: bool, arrivals: impl Iterator<Item = Arrival>) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        if takes_alerts {
            self.well.store(true, Ordering::Relaxed);
        }
        if let Some(listener) = self.listener.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            for arrival in arrivals {
                // Where the receiver is gone, nothing is kept.
                let _ = listener.send(arrival);
            }
        }
    }

    pub(super) fn failed(&self) {
        self.observer.tell(&Commit::Failed);
        self.well.store(false, Ordering::Relaxed);
    }
}
