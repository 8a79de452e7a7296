//! The status of a writer: whether it can commit, and the outcome of each commit.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use crate::queue::WaitingEvent;
use crate::queue::arrivals::{self, Announcer, Arrivals};

/// The outcome of a commit, for [`Queue::observe`](crate::queue::Queue::observe).
#[derive(Clone, Debug)]
pub enum CommitOutcome<'a> {
    /// It succeeded.
    Done {
        /// How long it took.
        took: Duration,
        /// The events that are new in the queue.
        arrivals: &'a [WaitingEvent],
        /// How many alerts were folded into waiting events.
        folded_count: u64,
        /// How many rejected webhooks were kept.
        rejected: u64,
    },
    /// It failed, and nothing of it is in the queue.
    Failed,
}

pub(in crate::queue) type Observe = dyn Fn(&CommitOutcome<'_>) + Send + Sync;

/// Shared by a writer and all handles on it.
pub(in crate::queue) struct WriterStatus {
    commits: AtomicU64,
    can_commit: AtomicBool,
    /// When the commit that is in progress began.
    busy_since: Mutex<Option<Instant>>,
    listener: Mutex<Option<Announcer>>,
    observer: OnceLock<Arc<Observe>>,
}

impl Default for WriterStatus {
    fn default() -> Self {
        Self {
            commits: AtomicU64::new(0),
            can_commit: AtomicBool::new(true),
            busy_since: Mutex::new(None),
            listener: Mutex::new(None),
            observer: OnceLock::new(),
        }
    }
}

impl WriterStatus {
    pub(in crate::queue) fn commits(&self) -> u64 {
        self.commits.load(Ordering::Relaxed)
    }

    /// Whether alerts can be committed, as the last commit showed. A commit that does not end shows nothing, see
    /// [`busy_for`](Self::busy_for).
    pub(in crate::queue) fn can_commit(&self) -> bool {
        self.can_commit.load(Ordering::Relaxed)
    }

    /// How long the commit that is in progress has been running.
    pub(in crate::queue) fn busy_for(&self) -> Option<Duration> {
        self.busy_since().map(|since| since.elapsed())
    }

    /// Sets whether a commit is in progress from now on.
    pub(in crate::queue) fn set_busy(&self, busy: bool) {
        *self.busy_since() = busy.then(Instant::now);
    }

    fn busy_since(&self) -> MutexGuard<'_, Option<Instant>> {
        self.busy_since.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::queue) fn listen(&self) -> Arrivals {
        let (announcer, arrivals) = arrivals::channel();
        *self.listener.lock().unwrap_or_else(PoisonError::into_inner) = Some(announcer);
        arrivals
    }

    /// Sets the only observer. Later calls have no effect.
    pub(in crate::queue) fn observe(&self, observe: Arc<Observe>) {
        let _ = self.observer.set(observe);
    }

    pub(super) fn report(&self, commit: &CommitOutcome<'_>) {
        if let Some(observe) = self.observer.get() {
            observe(commit);
        }
    }

    /// Records a commit. Only one as large as an alert shows that alerts can be committed: a full disk may still have
    /// room for a small one.
    pub(in crate::queue) fn committed(&self, takes_alerts: bool, arrivals: impl Iterator<Item = WaitingEvent>) {
        self.commits.fetch_add(1, Ordering::Relaxed);
        if takes_alerts {
            self.can_commit.store(true, Ordering::Relaxed);
        }
        if let Some(listener) = self.listener.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            listener.announce(arrivals);
        }
    }

    pub(in crate::queue) fn failed(&self) {
        self.report(&CommitOutcome::Failed);
        self.can_commit.store(false, Ordering::Relaxed);
    }
}

impl fmt::Debug for WriterStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (commits, can_commit) = (self.commits(), self.can_commit());
        f.debug_struct("WriterStatus")
            .field("commits", &commits)
            .field("can_commit", &can_commit)
            .finish_non_exhaustive()
    }
}
