//! What the writer lets everybody see: how it fares, and what came in.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::Arrival;
use super::arrivals::{self, Announcer, Arrivals};
use super::observer::{Commit, Observer};

#[derive(Debug)]
pub(super) struct Pulse {
    commits: AtomicU64,
    well: AtomicBool,
    /// When the commit began that is under way.
    busy_since: Mutex<Option<Instant>>,
    listener: Mutex<Option<Announcer>>,
    observer: Observer,
}

impl Default for Pulse {
    fn default() -> Self {
        Self {
            commits: AtomicU64::new(0),
            well: AtomicBool::new(true),
            busy_since: Mutex::new(None),
            listener: Mutex::new(None),
            observer: Observer::default(),
        }
    }
}

impl Pulse {
    pub(super) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// What the last commit showed; one that does not end shows nothing, see [`busy_for`](Self::busy_for).
    pub(super) fn is_well(&self) -> bool {
        self.well.load(Ordering::Relaxed)
    }

    /// For how long the commit that is under way has been.
    pub(super) fn busy_for(&self) -> Option<Duration> {
        self.busy_since().map(|since| since.elapsed())
    }

    /// A commit is under way from now on, or none is.
    pub(super) fn is_busy(&self, busy: bool) {
        *self.busy_since() = busy.then(Instant::now);
    }

    fn busy_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.busy_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn listen(&self) -> Arrivals {
        let (announcer, arrivals) = arrivals::channel();
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(announcer);
        arrivals
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
            arrivals.for_each(|arrival| listener.announce(arrival));
        }
    }

    pub(super) fn failed(&self) {
        self.observer.tell(&Commit::Failed);
        self.well.store(false, Ordering::Relaxed);
    }
}
