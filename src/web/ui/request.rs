//! The extractors for the user and the form of a request, and the responses with pages and errors.

use std::future::{Future, Ready, ready};
use std::pin::Pin;
use std::time::Duration;

use actix_web::dev::Payload;
use actix_web::http::StatusCode;
use actix_web::http::header::{
    CACHE_CONTROL, CONTENT_SECURITY_POLICY, CONTENT_TYPE, LOCATION, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
};
use actix_web::web::{self, Data, Query};
use actix_web::{FromRequest, HttpRequest, HttpResponse, ResponseError};
use chrono::{DateTime, Utc};
use log::warn;
use maud::Markup;
use serde::de::DeserializeOwned;
use thiserror::Error;
use tokio::time::timeout;

use super::forms;
use super::layout::{self, PageFrame};
use crate::build_info::BuildInfo;
use crate::queue::QueueError;
use crate::web::AppState;
use crate::web::answer::not_found;
use crate::web::auth::session::{FormOrigin, Session};
use crate::web::body;

/// Pages load only what the bridge itself serves, cannot be embedded in frames, and cannot send forms elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; \
                      form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// The largest form that is read, in bytes; none needs a tenth of it.
const MAX_FORM: usize = 16 * 1024;

/// How long receiving a form may take: a client that has not sent a token yet cannot hold a connection for longer.
const FORM_TIMEOUT: Duration = Duration::from_secs(10);

/// A request of a user who is logged in; if it changes something, a page of this origin sent it. As an extractor, it
/// rejects all other requests before their form is read.
pub(super) struct PageRequest {
    pub(super) frame: PageFrame,
    pub(super) session: Session,
}

/// Why a page is not shown, or a form not accepted.
#[derive(Debug, Error)]
pub(super) enum UiError {
    /// 404: there is no admin token, so there is no status page.
    #[error("the status page is disabled")]
    Disabled,
    /// 401: the log-in form, which leads to `next`.
    #[error("not logged in")]
    LoggedOut { at: DateTime<Utc>, next: String },
    /// A page with a message.
    #[error("{sentence}")]
    Message { status: StatusCode, title: &'static str, sentence: String, frame: Box<PageFrame> },
}

impl ResponseError for UiError {
    fn status_code(&self) -> StatusCode {
        match self {
            Self::Disabled => StatusCode::NOT_FOUND,
            Self::LoggedOut { .. } => StatusCode::UNAUTHORIZED,
            Self::Message { status, .. } => *status,
        }
    }

    fn error_response(&self) -> HttpResponse {
        match self {
            Self::Disabled => not_found(),
            Self::LoggedOut { at, next } => {
                page(self.status_code(), forms::log_in(&PageFrame { at: *at, footer: None }, next, None))
            }
            Self::Message { status, title, sentence, frame } => page(*status, layout::message(frame, title, sentence)),
        }
    }
}

impl PageRequest {
    fn of(request: &HttpRequest, state: &AppState) -> Result<Self, UiError> {
        let at = Utc::now();
        if !state.admin.is_enabled() {
            return Err(UiError::Disabled);
        }
        let changes = !request.method().is_safe();
        let Some(session) = state.admin.session(request.headers(), at) else {
            let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
            let next = own_path(if changes { "/" } else { path }).to_owned();
            return Err(UiError::LoggedOut { at, next });
        };
        let footer = layout::footer(
            at,
            &BuildInfo::current().to_string(),
            state.config_fingerprint.borrow().as_deref(),
            state.monitor.started_at(),
        );
        let page_request = Self { frame: PageFrame { at, footer: Some(footer) }, session };
        // The cookie is `SameSite=Strict`, but another port or subdomain is the same site.
        if changes && FormOrigin::of(request.headers()) != FormOrigin::Same {
            return Err(page_request.message(
                StatusCode::FORBIDDEN,
                "Not done",
                "The browser did not say that a page of this address sent the form. Go back to the status page and try again.",
            ));
        }
        Ok(page_request)
    }

    /// Returns the form, or an error if it could not be read.
    pub(super) fn form<T>(&self, form: Form<T>) -> Result<T, UiError> {
        form.0.ok_or_else(|| {
            let sentence = "The form is incomplete. Go back to the status page and try again.";
            self.message(StatusCode::BAD_REQUEST, "Not done", sentence)
        })
    }

    /// An error that is shown as a page with this sentence.
    pub(super) fn message(&self, status: StatusCode, title: &'static str, sentence: impl Into<String>) -> UiError {
        UiError::Message { status, title, sentence: sentence.into(), frame: Box::new(self.frame.clone()) }
    }

    /// Logs and returns the error for a queue that could not be read or written.
    pub(super) fn queue_error(&self, error: &QueueError) -> UiError {
        warn!("the status page could not be shown: {error}");
        self.message(StatusCode::SERVICE_UNAVAILABLE, "The queue cannot be used", error.to_string())
    }
}

impl FromRequest for PageRequest {
    type Error = actix_web::Error;
    type Future = Ready<Result<Self, Self::Error>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        let state = Data::<AppState>::from_request(request, payload).into_inner();
        ready(state.and_then(|state| Ok(Self::of(request, &state)?)))
    }
}

/// A form, if it was received in time and has every field that it needs.
pub(super) struct Form<T>(pub(super) Option<T>);

impl<T: DeserializeOwned + 'static> FromRequest for Form<T> {
    type Error = actix_web::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self, Self::Error>>>>;

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
    let body = timeout(FORM_TIMEOUT, body::read(request, &mut payload, MAX_FORM, None)).await.ok()?.ok()?;
    Some(Query::<T>::from_query(str::from_utf8(&body).ok()?).ok()?.into_inner())
}

/// Returns a page, with headers that restrict what a browser may do with it and that prevent caching.
pub(super) fn page(status: StatusCode, page: Markup) -> HttpResponse {
    HttpResponse::build(status)
        .insert_header((CONTENT_SECURITY_POLICY, POLICY))
        .insert_header((X_CONTENT_TYPE_OPTIONS, "nosniff"))
        // With `no-referrer` a form would be sent with the origin `null`, which proves nothing.
        .insert_header((REFERRER_POLICY, "same-origin"))
        .insert_header((CACHE_CONTROL, "no-store"))
        .content_type("text/html; charset=utf-8")
        .body(page.into_string())
}

/// Redirects to another page, after a form was accepted.
pub(super) fn redirect(path: &str) -> HttpResponse {
    HttpResponse::SeeOther().insert_header((LOCATION, path)).insert_header((CACHE_CONTROL, "no-store")).finish()
}

/// Returns the path itself if it leads to a page of this site, otherwise that of the status page.
pub(super) fn own_path(path: &str) -> &str {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/?=&_-".contains(&byte);
    if path.starts_with('/') && !path.starts_with("//") && path.bytes().all(plain) { path } else { "/" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn after_a_log_in_nobody_is_led_elsewhere() {
        for path in ["/", "/events/7", "/dead?before=12", "/rejected/r4/discard"] {
            assert_eq!(own_path(path), path);
        }
        for path in ["", "//evil.test", "https://evil.test", "/\\evil.test", "/a:b", "events", "/%0d%0a", "/\r\nx"] {
            assert_eq!(own_path(path), "/", "{path:?}");
        }
    }
}
