//! Whoever wants to know what each commit brought, such as the metrics.

use std::fmt;
use std::sync::OnceLock;
use std::time::Duration;

use super::writer::Committed;
use super::{Accepted, Arrival, Reception};

/// A commit, for [`Queue::observe`](super::Queue::observe).
#[derive(Clone, Debug)]
pub enum Commit<'a> {
    /// It was made.
    Done {
        /// How long it took.
        took: Duration,
        /// The events that are new in line.
        arrivals: &'a [Arrival],
        /// How many alerts were folded into events that wait.
        folded: u64,
        /// How many rejected webhooks were kept.
        rejected: u64,
    },
    /// Nothing of it is in the queue.
    Failed,
}

type Observe = dyn Fn(&Commit<'_>) + Send + Sync;

/// The one observer, if there is one.
#[derive(Default)]
pub(super) struct Observer(OnceLock<Box<Observe>>);

impl Observer {
    /// Sets it; the first one stays.
    pub(super) fn set(&self, observe: impl Fn(&Commit<'_>) + Send + Sync + 'static) {
        let _ = self.0.set(Box::new(observe));
    }

    pub(super) fn tell(&self, commit: &Commit<'_>) {
        if let Some(observe) = self.0.get() {
            observe(commit);
        }
    }

    /// Tells of a commit that was made.
    pub(super) fn tell_of(&self, took: Duration, committed: &Committed) {
        let accepted = committed.receptions.iter().flat_map(|reception| match reception {
            Reception::Queued(accepted) => accepted.as_slice(),
            Reception::Repeated | Reception::Replayed | Reception::Outdated | Reception::NothingOpen => &[],
        });
        self.tell(&Commit::Done {
            took,
            arrivals: &committed.arrivals,
            folded: accepted.filter(|accepted| Accepted::is_folded(accepted)).count() as u64,
            rejected: committed.rejected.len() as u64,
        });
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.0.get().is_some() { "Observer" } else { "None" })
    }
}
