//! Catch-up: alerts that Sentry fired and whose webhooks never came.
//!
//! - `source`: asks Sentry what fired within a window
//! - [`plan`]: what of it is missing, and what is done about it; pure
//! - [`run`]: one run: finds what is missing and enqueues it as its webhook would have been
//! - `task`: when the bridge does that; [`Schedule`] is pure
//!
//! What is found goes the way of every alert through [`Ingest`](crate::ingest::Ingest), with the same incident key, routes
//! and settings, so that a webhook that comes late is a repetition or is folded.

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

use crate::queue::sentry::SentryNotes;
use crate::queue::{Editor, Enqueue, Enqueued, Queue, QueueError};

/// Where a run puts what it finds: the queue of a running bridge, or the database beside one.
pub trait Sink {
    /// Commits an event.
    fn enqueue(&mut self, enqueue: Enqueue) -> impl Future<Output = Result<Enqueued, QueueError>>;

    /// Commits what was learned.
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
