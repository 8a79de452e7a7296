//! Reading a request's body within a bound.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Bytes, Payload};
use futures_util::StreamExt;
use thiserror::Error;
use tokio::time::timeout;

use super::body_memory::{NoRoom, Reservation};

/// Sentry gives up after 5 seconds at most; whoever takes longer only holds memory. When that is scarce, slow bodies go
/// earlier: see [`body_memory`](super::body_memory).
const PATIENCE: Duration = Duration::from_secs(30);

/// With the half second that a body waits for room it stays below the second that Sentry waits for an answer.
const DISCARDING: Duration = Duration::from_millis(400);

/// Why a body could not be read.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum BodyError {
    /// It is larger than allowed.
    #[error("the body is larger than {0} bytes: raise BRIDGE_MAX_BODY if Sentry really sends such events")]
    TooLarge(usize),
    /// It broke off.
    #[error("the body broke off before its end")]
    Broken,
    /// It came too slowly.
    #[error("the body did not come within {} seconds", PATIENCE.as_secs())]
    TooSlow,
    /// There is no memory for it.
    #[error("there is no memory for this body now, because too many large ones are being read at once: send it again")]
    Crowded,
}

impl From<NoRoom> for BodyError {
    fn from(_: NoRoom) -> Self {
        Self::Crowded
    }
}

/// Reads the whole body, and stops at the first byte beyond `limit`, or when `reservation` finds no room for it.
///
/// Whoever reads no more than a few KiB needs no reservation.
///
/// # Errors
///
/// When the body is too large, breaks off, takes longer than 30 seconds, or has to make room for others.
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
    // Whoever has proven where they come from is believed about the length, so that bodies which do not fit together are
    // told so at once and do not keep each other out half read. A stranger has to send what counts.
    if let (Some(reservation), Some(length)) = (&mut reservation, announced)
        && reservation.is_proven()
    {
        reservation.grow_to(length).await?;
    }
    let reading = collect(payload, limit, announced.unwrap_or(limit), reservation);
    timeout(PATIENCE, reading).await.unwrap_or(Err(BodyError::TooSlow))
}

/// Reads on without keeping anything, so that a sender who writes the whole body before reading an answer gets to read one.
/// Whoever takes longer finds the connection closed.
pub async fn discard(payload: &mut Payload) {
    let rest = async { while let Some(Ok(_)) = payload.next().await {} };
    // Too long is as good as done.
    let _ = timeout(DISCARDING, rest).await;
}

async fn collect(
    payload: &mut Payload,
    limit: usize,
    expected: usize,
    mut reservation: Option<&mut Reservation>,
) -> Result<Bytes, BodyError> {
    // Most bodies come in one piece, which is taken as it is.
    let mut first = Bytes::new();
    let mut body = Vec::new();
    loop {
        let chunk = match &reservation {
            None => payload.next().await,
            Some(reservation) => tokio::select! {
                biased;
                chunk = payload.next() => chunk,
                () = reservation.evicted() => return Err(BodyError::Crowded),
            },
        };
        let Some(chunk) = chunk else { break };
        let chunk = chunk.map_err(|_| BodyError::Broken)?;
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

/// Makes room for `length` bytes: twice what is there, so that little is copied, but never beyond what is `expected`.
fn reserve(body: &mut Vec<u8>, length: usize, expected: usize) {
    if body.capacity() < length {
        let capacity = length.max(expected.min(2 * length));
        body.reserve_exact(capacity - body.len());
    }
}
