//! Reading a request's body within a bound.

use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::CONTENT_LENGTH;
use actix_web::web::{Bytes, BytesMut, Payload};
use futures_util::StreamExt;
use thiserror::Error;
use tokio::time::timeout;

use super::budget::Share;

/// Sentry gives up after 5 seconds at most; whoever takes longer only holds memory.
const PATIENCE: Duration = Duration::from_secs(30);

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
    /// Too many bodies of strangers are here already.
    #[error("too many unproven bodies are being read at once: a webhook with the token in its address is always read")]
    Crowded,
}

/// Reads the whole body, and stops at the first byte beyond `limit`, or beyond what `share` can take.
///
/// A request that has proven where it comes from needs no share.
///
/// # Errors
///
/// When the body is too large, breaks off, takes longer than 30 seconds, or finds too many bodies of strangers.
pub async fn read(
    request: &HttpRequest,
    payload: Payload,
    limit: usize,
    share: Option<&mut Share>,
) -> Result<Bytes, BodyError> {
    let announced = request.headers().get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse::<usize>().ok());
    if announced.is_some_and(|length| length > limit) {
        return Err(BodyError::TooLarge(limit));
    }
    timeout(PATIENCE, collect(payload, limit, share)).await.unwrap_or(Err(BodyError::TooSlow))
}

async fn collect(mut payload: Payload, limit: usize, mut share: Option<&mut Share>) -> Result<Bytes, BodyError> {
    let mut body = Bytes::new();
    while let Some(chunk) = payload.next().await {
        let chunk = chunk.map_err(|_| BodyError::Broken)?;
        if body.len() + chunk.len() > limit {
            return Err(BodyError::TooLarge(limit));
        }
        if share.as_mut().is_some_and(|share| !share.take(chunk.len())) {
            return Err(BodyError::Crowded);
        }
        // Most bodies come in one piece, which is taken as it is.
        body = if body.is_empty() { chunk } else { joined(body, &chunk) };
    }
    Ok(body)
}

/// Copies no more than `chunk` where nobody else holds the `body`.
fn joined(body: Bytes, chunk: &[u8]) -> Bytes {
    let mut body = BytesMut::from(body);
    body.extend_from_slice(chunk);
    body.freeze()
}
