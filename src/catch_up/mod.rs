//! Catch-up: alerts that Sentry fired and whose webhooks never came.
//!
//! - `source`: asks Sentry what fired within a window
//! - [`plan`]: which alerts are missing, and what is done about them; pure
//! - [`run`]: one run: finds missing alerts and enqueues them as their webhooks would have been
//! - `task`: when the bridge does that; [`Schedule`] is pure
//!
//! Missing alerts go through [`Ingest`](crate::ingest::Ingest) like every alert, with the same incident key, routes and
//! settings, so a webhook that comes late is recognised as a duplicate or is folded.

pub mod plan;
pub mod run;
mod schedule;
mod source;
mod task;

pub use crate::config::CatchUpMode as Mode;
pub use run::{CatchUp, CatchUpError, Found, Outcome};
pub use schedule::Schedule;
pub use task::{CatchUpStatus, CatchUpTask, Ours, Reported};

use std::future::Future;

use crate::queue::external::SentryNotes;
use crate::queue::{Editor, Enqueue, Enqueued, Queue, QueueError};

/// Where a run enqueues what it finds: the queue of a running bridge, or the database itself, beside a running bridge.
pub trait Sink {
    /// Commits an event.
    fn enqueue(&mut self, enqueue: Enqueue) -> impl Future<Output = Result<Enqueued, QueueError>>;

    /// Commits what was learned from Sentry.
    fn note(&mut self, notes: SentryNotes) -> impl Future<Output = Result<(), QueueError>>;
}

impl Sink for Queue {
    async fn enqueue(&mut self, enqueue: Enqueue) -> Result<Enqueued, QueueError> {
        Self::enqueue(self, enqueue).await
    }

    async fn note(&mut self, notes: SentryNotes) -> Result<(), QueueError> {
        self.write_sentry_notes(notes).await
    }
}

impl Sink for Editor {
    async fn enqueue(&mut self, enqueue: Enqueue) -> Result<Enqueued, QueueError> {
        self.admit(enqueue).await
    }

    async fn note(&mut self, notes: SentryNotes) -> Result<(), QueueError> {
        self.write_sentry_notes(notes).await
    }
}
