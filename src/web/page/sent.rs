//! What a browser sends by a form.

use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::header::CONTENT_TYPE;
use actix_web::web::{self, Query};
use actix_web::{Error, FromRequest, HttpRequest};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use crate::web::body;

/// The largest form that is read, in bytes; none needs a tenth of it.
const MOST: usize = 16 * 1024;

/// How long a form may take: whoever has shown no token yet keeps no connection for longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// A form, if that is what came: in time, and with every field it needs.
pub(super) struct Sent<T>(pub(super) Option<T>);

impl<T: DeserializeOwned + 'static> FromRequest for Sent<T> {
    type Error = Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Error>>>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let payload = web::Payload::from_request(request, payload);
        let request = request.clone();
        Box::pin(async move { Ok(Self(read(&request, payload.await?).await)) })
    }
}

async fn read<T: DeserializeOwned>(request: &HttpRequest, mut payload: web::Payload) -> Option<T> {
    let media_type = request.headers().get(CONTENT_TYPE)?.to_str().ok()?.split(';').next()?.trim();
    if !media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return None;
    }
    let body = timeout(PATIENCE, body::read(request, &mut payload, MOST, None)).await.ok()?.ok()?;
    Some(Query::<T>::from_query(str::from_utf8(&body).ok()?).ok()?.into_inner())
}
