//! How many bytes of bodies are held at once, and which body goes when there is no room for another.
//!
//! Every body that is read holds a [`Reservation`] from its first byte until it is mapped or committed. A body whose sender
//! has proven where it comes from (by a token, or by the signature of the body once that has been read) is never dropped
//! while it makes progress; of all others the oldest goes when somebody needs room, and never the newcomer: whoever wants to
//! keep a signed webhook out has to fill the whole memory anew within the moment that its body takes.
//!
//! - [`BodyMemory`], [`Reservation`]: waiting and waking
//! - `ledger`: who holds how much, and who goes; pure

mod ledger;

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout_at;

use self::ledger::{Ledger, Taken};

/// The most that a small body may have, in bytes. Most webhooks are of 5 to 50 KiB.
pub const SMALL: usize = 64 * 1024;

/// What is kept for small bodies, however many large ones come, in bytes.
const FOR_SMALL: usize = 16 * 1024 * 1024;

/// What larger bodies may hold together at least, in bytes.
const FOR_LARGE: usize = 112 * 1024 * 1024;

/// How long a body waits for room. Sentry's integration platform waits one second for an answer.
const WAIT: Duration = Duration::from_millis(500);

/// When whoever found no room had better come again, in seconds: by then slow bodies have gone.
pub const RETRY_AFTER: u64 = 5;

/// There was no room for a body, or it had to make room for others.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
#[error("bodies that came before take all the memory there is for them")]
pub struct NoRoom;

/// The memory for bodies.
#[derive(Clone, Debug)]
pub struct BodyMemory(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    ledger: Mutex<Ledger>,
    /// Somebody gave bytes back.
    freed: Notify,
    /// Large bodies that are being parsed, in KiB.
    parsing: Arc<Semaphore>,
    parsing_limit: u32,
    began: Instant,
}

/// The bytes of one body. They are given back when it is dropped.
#[derive(Debug)]
pub struct Reservation {
    memory: BodyMemory,
    id: u64,
    evicted: Arc<Notify>,
    reserved: usize,
    is_proven: bool,
}

impl BodyMemory {
    /// Memory for bodies of at most `max_body` bytes each: 128 MiB, or 16 MiB and two of the largest bodies where that is
    /// more. What is parsed at a time is one of the largest bodies, or smaller ones that have its size together.
    #[must_use]
    pub fn new(max_body: usize) -> Self {
        let large = FOR_LARGE.max(max_body.saturating_mul(2));
        let parsing_limit = kib(max_body).max(1);
        Self(Arc::new(Inner {
            ledger: Mutex::new(Ledger::new(FOR_SMALL, large)),
            freed: Notify::new(),
            parsing: Arc::new(Semaphore::new(parsing_limit as usize)),
            parsing_limit,
            began: Instant::now(),
        }))
    }

    /// A reservation of nothing yet, for a body whose sender has proven where it comes from, or not yet.
    #[must_use]
    pub fn open(&self, proven: bool) -> Reservation {
        let evicted = Arc::new(Notify::new());
        let id = self.ledger().open(proven, self.0.began.elapsed(), Arc::clone(&evicted));
        Reservation { memory: self.clone(), id, evicted, reserved: 0, is_proven: proven }
    }

    /// Waits until a body of `bytes` may be parsed, which takes several times its size. Small ones need not wait.
    pub async fn parse(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes <= SMALL {
            return None;
        }
        let share = kib(bytes).min(self.0.parsing_limit);
        // Nobody closes the semaphore.
        Arc::clone(&self.0.parsing).acquire_many_owned(share).await.ok()
    }

    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.0.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(u32::MAX >> 4)
}

impl Reservation {
    /// Reserves as much as is missing for a body of `bytes` in total, and waits for room up to half a second.
    ///
    /// # Errors
    ///
    /// When there is no room, or when this body had to make room for another.
    pub async fn grow_to(&mut self, bytes: usize) -> Result<(), NoRoom> {
        let missing = bytes.saturating_sub(self.reserved);
        if missing == 0 {
            return Ok(());
        }
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            let mut freed = pin!(self.memory.0.freed.notified());
            // From here on nothing that is freed goes unnoticed.
            freed.as_mut().enable();
            let taken = self.memory.ledger().take(self.id, missing, self.memory.0.began.elapsed());
            match taken {
                Taken::Yes => {
                    self.reserved = bytes;
                    return Ok(());
                }
                Taken::Evicted => return Err(NoRoom),
                Taken::NotYet => {}
            }
            let room = timeout_at(deadline, async {
                tokio::select! {
                    () = freed => true,
                    () = self.evicted.notified() => false,
                }
            });
            if !room.await.unwrap_or(false) {
                return Err(NoRoom);
            }
        }
    }

    /// Whether its sender has proven where it comes from.
    #[must_use]
    pub fn is_proven(&self) -> bool {
        self.is_proven
    }

    /// Resolves when this body has to make room for others.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// The whole body has come, so nobody can call it slow any more.
    pub fn complete(&mut self) {
        self.memory.ledger().complete(self.id);
    }

    /// The body has proven where it comes from.
    pub fn prove(&mut self) {
        if self.is_proven {
            return;
        }
        self.is_proven = true;
        self.memory.ledger().prove(self.id);
        // Whoever counted on its bytes has to look for others.
        self.memory.0.freed.notify_waiters();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.memory.ledger().close(self.id) {
            self.memory.0.freed.notify_waiters();
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    const MIB: usize = 1024 * 1024;

    #[actix_web::test]
    async fn the_oldest_stranger_makes_room_at_once_and_learns_of_it() {
        let memory = BodyMemory::new(16 * MIB);
        let mut strangers: Vec<_> = (0..7).map(|_| memory.open(false)).collect();
        for stranger in &mut strangers {
            stranger.grow_to(16 * MIB).await.unwrap();
        }
        let mut newcomer = memory.open(false);
        let oldest = strangers.remove(0);
        let gone = async {
            oldest.evicted().await;
            drop(oldest);
        };
        let (grown, ()) = tokio::join!(newcomer.grow_to(10 * MIB), gone);
        assert_eq!(grown, Ok(()));
        drop(strangers);
    }

    #[actix_web::test]
    async fn who_finds_nothing_but_proven_bodies_waits_a_moment_and_is_told() {
        let memory = BodyMemory::new(100 * MIB);
        let (mut one, mut other) = (memory.open(true), memory.open(true));
        assert_eq!(one.grow_to(100 * MIB).await, Ok(()));
        assert_eq!(other.grow_to(100 * MIB).await, Ok(()), "two of the largest always fit");
        for proven in [true, false] {
            assert_eq!(memory.open(proven).grow_to(MIB).await, Err(NoRoom));
            assert_eq!(memory.open(proven).grow_to(SMALL).await, Ok(()), "small ones have room of their own");
        }
        let mut third = memory.open(true);
        let (grown, ()) = tokio::join!(third.grow_to(100 * MIB), async { drop(one) });
        assert_eq!(grown, Ok(()));
    }

    #[actix_web::test]
    async fn one_of_the_largest_bodies_is_parsed_at_a_time_and_small_ones_beside_it() {
        let memory = BodyMemory::new(16 * MIB);
        let largest = memory.parse(16 * MIB).await;
        assert!(memory.parse(SMALL).await.is_none());
        let mut next = pin!(memory.parse(SMALL + 1));
        assert!(next.as_mut().now_or_never().is_none());
        drop(largest);
        assert!(next.await.is_some());
    }
}
