//! How much of strangers' bodies is held in memory at once.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// The least budget, in bytes.
const LEAST: usize = 64 * 1024 * 1024;

/// Bytes that all bodies together may take before anybody has proven where they come from.
///
/// What is counted is what has come, not what was announced: to use the budget up, a stranger has to send it.
#[derive(Clone, Debug)]
pub struct Budget(Arc<Semaphore>);

impl Budget {
    /// A budget for bodies of `max_body` bytes each: 64 MiB, or two of the largest bodies where that is more.
    #[must_use]
    pub fn new(max_body: usize) -> Self {
        let bytes = LEAST.max(max_body.saturating_mul(2)).min(Semaphore::MAX_PERMITS);
        Self(Arc::new(Semaphore::new(bytes)))
    }

    /// A share of it that holds nothing yet.
    #[must_use]
    pub fn share(&self) -> Share {
        Share { budget: self.clone(), held: None }
    }
}

/// The part of a [`Budget`] that one body takes, given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    budget: Budget,
    held: Option<OwnedSemaphorePermit>,
}

impl Share {
    /// Takes `bytes` more; false when the budget does not have them.
    pub fn take(&mut self, bytes: usize) -> bool {
        let Some(more) =
            u32::try_from(bytes).ok().and_then(|bytes| Arc::clone(&self.budget.0).try_acquire_many_owned(bytes).ok())
        else {
            return false;
        };
        match &mut self.held {
            Some(held) => held.merge(more),
            held => *held = Some(more),
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;

    #[test]
    fn what_is_held_together_stays_within_the_budget() {
        let budget = Budget::new(MIB);
        let mut one = budget.share();
        let mut other = budget.share();
        assert!(one.take(30 * MIB) && one.take(10 * MIB) && other.take(24 * MIB));
        assert!(!other.take(1) && !one.take(1));
        drop(one);
        assert!(other.take(40 * MIB));
        assert!(!budget.share().take(1));
    }

    #[test]
    fn two_of_the_largest_bodies_always_fit() {
        let budget = Budget::new(100 * MIB);
        let (mut one, mut other) = (budget.share(), budget.share());
        assert!(one.take(100 * MIB) && other.take(100 * MIB));
        assert!(!other.take(1));
    }
}
