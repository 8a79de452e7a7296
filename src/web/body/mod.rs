//! Reading a request's body within limits of time, size and memory.
//!
//! Every body of a webhook holds a [`Reservation`] from its first byte until it is parsed and committed. A body whose
//! sender is authenticated (by a token, or by the signature of the body once it has been read) is only evicted after five
//! seconds, and only for another such body. Of all other bodies, the oldest is evicted when another body needs room, and
//! never the newest: to keep a signed webhook out, an attacker would have to fill the whole memory again in the short time
//! that its body takes to arrive.
//!
//! - [`read`], [`discard`]: reading
//! - [`BodyMemory`], [`Reservation`]: waiting for memory
//! - `ledger`: how much memory each body holds, and which bodies are evicted; pure

mod ledger;

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use actix_web::HttpRequest;
use actix_web::http::StatusCode;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Bytes, Payload};
use futures_util::StreamExt;
use thiserror::Error;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio::time::{timeout, timeout_at};

use self::ledger::{BodyLedger, Grant};

/// How long receiving a body may take. Sentry gives up after 5 seconds at most; when memory is scarce, slow bodies are
/// evicted earlier.
const READ_TIMEOUT: Duration = Duration::from_secs(30);

/// How long the rest of a body is read and discarded. Together with the half second that a body waits for memory, this
/// stays below the second that Sentry waits for a response.
const DISCARD_TIMEOUT: Duration = Duration::from_millis(400);

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum BodyError {
    /// It is larger than allowed.
    #[error("the body is larger than {0} bytes: raise BRIDGE_MAX_BODY if Sentry really sends such events")]
    TooLarge(usize),
    /// The connection ended before the body did.
    #[error("the body is incomplete")]
    Incomplete,
    /// It took too long.
    #[error("the body was not received within {} seconds", READ_TIMEOUT.as_secs())]
    TooSlow,
    /// There is no memory for it.
    #[error("not enough memory for this body, because too many large ones are being read at once: send it again")]
    NoMemory,
}

impl BodyError {
    /// The status code of the response.
    #[must_use]
    pub fn status(self) -> StatusCode {
        match self {
            Self::TooLarge(_) => StatusCode::PAYLOAD_TOO_LARGE,
            Self::Incomplete => StatusCode::BAD_REQUEST,
            Self::TooSlow => StatusCode::REQUEST_TIMEOUT,
            Self::NoMemory => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}

/// Reads the whole body, and stops at the first byte beyond `limit`, or when `reservation` gets no memory for it. A limit of
/// a few KiB needs no reservation.
///
/// # Errors
///
/// When the body is too large, incomplete, takes longer than 30 seconds, or is evicted.
pub async fn read(
    request: &HttpRequest,
    payload: &mut Payload,
    limit: usize,
    mut reservation: Option<&mut Reservation>,
) -> Result<Bytes, BodyError> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(BodyError::TooLarge(limit));
    }
    // For an authenticated sender, the announced length is reserved up front, so that bodies that do not fit together are
    // refused at once instead of blocking each other half read. For all others only the bytes that were received count.
    if let (Some(reservation), Some(length)) = (&mut reservation, announced)
        && reservation.is_authenticated()
    {
        reservation.grow_to(length).await?;
    }
    let reading = collect(payload, limit, announced.unwrap_or(limit), reservation);
    timeout(READ_TIMEOUT, reading).await.unwrap_or(Err(BodyError::TooSlow))
}

/// Reads the rest of a body without keeping it, so that a client that writes the whole body before it reads gets the
/// response.
pub async fn discard(payload: &mut Payload) {
    let rest = async { while let Some(Ok(_)) = payload.next().await {} };
    // After the timeout the response is sent all the same.
    let _ = timeout(DISCARD_TIMEOUT, rest).await;
}

async fn collect(
    payload: &mut Payload,
    limit: usize,
    expected: usize,
    mut reservation: Option<&mut Reservation>,
) -> Result<Bytes, BodyError> {
    // Most bodies come in one chunk, which needs no copy.
    let mut first = Bytes::new();
    let mut body = Vec::new();
    loop {
        let chunk = match &reservation {
            None => payload.next().await,
            Some(reservation) => tokio::select! {
                biased;
                chunk = payload.next() => chunk,
                () = reservation.evicted() => return Err(BodyError::NoMemory),
            },
        };
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(|_| BodyError::Incomplete)?;
        let length = first.len() + body.len() + chunk.len();
        if length > limit {
            return Err(BodyError::TooLarge(limit));
        }
        if let Some(reservation) = &mut reservation {
            reservation.grow_to(length).await?;
        }
        if first.is_empty() && body.is_empty() {
            first = chunk;
            continue;
        }
        reserve(&mut body, length, expected);
        if !first.is_empty() {
            body.extend_from_slice(&std::mem::take(&mut first));
        }
        body.extend_from_slice(&chunk);
    }
    if let Some(reservation) = reservation {
        reservation.complete();
    }
    Ok(if body.is_empty() { first } else { Bytes::from(body) })
}

/// Grows the buffer for `length` bytes by doubling it, but never beyond what is `expected`.
fn reserve(body: &mut Vec<u8>, length: usize, expected: usize) {
    if body.capacity() < length {
        let capacity = length.max(expected.min(2 * length));
        body.reserve_exact(capacity - body.len());
    }
}

/// The largest size of a small body, in bytes. Most webhooks have 5 to 50 KiB.
pub const SMALL: usize = 64 * 1024;

/// The memory that is reserved for small bodies, however many large ones there are, in bytes.
const FOR_SMALL: usize = 16 * 1024 * 1024;

/// The memory limit of all larger bodies together, in bytes; more if `BRIDGE_MAX_BODY` is large.
const FOR_LARGE: usize = 112 * 1024 * 1024;

/// How long a body waits for memory. Sentry's integration platform waits one second for a response.
const WAIT: Duration = Duration::from_millis(500);

/// The `Retry-After` of [`BodyError::NoMemory`], in seconds: by then slow bodies have been evicted.
pub const RETRY_AFTER: u64 = 5;

/// The memory limit of all bodies together.
#[derive(Debug)]
pub struct BodyMemory {
    ledger: Mutex<BodyLedger>,
    /// Notified when memory was released.
    freed: Notify,
    /// Large bodies that are being parsed, in KiB.
    parsing: Arc<Semaphore>,
    parsing_limit: u32,
    began: Instant,
}

/// The memory of one body. It is released when this is dropped.
#[derive(Debug)]
pub struct Reservation {
    memory: Arc<BodyMemory>,
    id: u64,
    evicted: Arc<Notify>,
    reserved: usize,
    is_authenticated: bool,
}

impl BodyMemory {
    /// Creates the limit for bodies of at most `max_body` bytes each: 128 MiB, or 16 MiB plus two of the largest bodies
    /// if that is more. At a time, one body of the largest size may be parsed, or several smaller ones of that size in
    /// total.
    #[must_use]
    pub fn new(max_body: usize) -> Arc<Self> {
        let large = FOR_LARGE.max(max_body.saturating_mul(2));
        let parsing_limit = kib(max_body).max(1);
        Arc::new(Self {
            ledger: Mutex::new(BodyLedger::new(FOR_SMALL, large)),
            freed: Notify::new(),
            parsing: Arc::new(Semaphore::new(parsing_limit as usize)),
            parsing_limit,
            began: Instant::now(),
        })
    }

    /// Opens an empty reservation. `authenticated` says whether the sender of the body is already authenticated.
    #[must_use]
    pub fn open(self: &Arc<Self>, authenticated: bool) -> Reservation {
        let evicted = Arc::new(Notify::new());
        let id = self.ledger().open(authenticated, self.began.elapsed(), Arc::clone(&evicted));
        Reservation { memory: Arc::clone(self), id, evicted, reserved: 0, is_authenticated: authenticated }
    }

    /// Waits until a body of `bytes` may be parsed, which takes several times its size in memory. Small bodies do not
    /// wait.
    pub async fn parse(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        if bytes <= SMALL {
            return None;
        }
        let share = kib(bytes).min(self.parsing_limit);
        // The semaphore is never closed.
        Arc::clone(&self.parsing).acquire_many_owned(share).await.ok()
    }

    fn ledger(&self) -> MutexGuard<'_, BodyLedger> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn kib(bytes: usize) -> u32 {
    u32::try_from(bytes.div_ceil(1024)).unwrap_or(u32::MAX).min(u32::MAX >> 4)
}

impl Reservation {
    /// Reserves what is missing for a body of `bytes` in total, and waits up to half a second for it.
    ///
    /// # Errors
    ///
    /// [`BodyError::NoMemory`] when there is none, or when this body is evicted.
    pub async fn grow_to(&mut self, bytes: usize) -> Result<(), BodyError> {
        let missing = bytes.saturating_sub(self.reserved);
        if missing == 0 {
            return Ok(());
        }
        let deadline = tokio::time::Instant::now() + WAIT;
        loop {
            let mut freed = pin!(self.memory.freed.notified());
            // From here on no release is missed.
            freed.as_mut().enable();
            let grant = self.memory.ledger().take(self.id, missing, self.memory.began.elapsed());
            match grant {
                Grant::Granted => {
                    self.reserved = bytes;
                    return Ok(());
                }
                Grant::Evicted => return Err(BodyError::NoMemory),
                Grant::NotYet => {}
            }
            let room = timeout_at(deadline, async {
                tokio::select! {
                    () = freed => true,
                    () = self.evicted.notified() => false,
                }
            });
            if !room.await.unwrap_or(false) {
                return Err(BodyError::NoMemory);
            }
        }
    }

    /// Whether its sender is authenticated.
    #[must_use]
    pub fn is_authenticated(&self) -> bool {
        self.is_authenticated
    }

    /// Resolves when this body is evicted.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }

    /// Records that the whole body was received, so that it no longer counts as slow.
    pub fn complete(&mut self) {
        self.memory.ledger().complete(self.id);
    }

    /// Records that the sender of the body is now authenticated.
    pub fn mark_authenticated(&mut self) {
        if self.is_authenticated {
            return;
        }
        self.is_authenticated = true;
        self.memory.ledger().mark_authenticated(self.id);
        // Bodies that waited for this body's eviction have to try again, because it is no longer evicted.
        self.memory.freed.notify_waiters();
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if self.memory.ledger().close(self.id) {
            self.memory.freed.notify_waiters();
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
            assert_eq!(memory.open(proven).grow_to(MIB).await, Err(BodyError::NoMemory));
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
