//! Who may post webhooks: the webhook token (in the path, as the password of HTTP Basic, or as a bearer token), and
//! Sentry's signature.

use std::sync::{Arc, Weak};

use actix_web::http::StatusCode;
use actix_web::http::header::HeaderMap;
use actix_web::{HttpRequest, HttpResponse, ResponseError};
use log::Level;
use thiserror::Error;
use tokio::sync::watch;

use super::{basic_password, bearer, peer};
use crate::config::{AccessToken, SigningSecret};
use crate::logging::log_throttled;
use crate::metrics::{WebhookAnswer, WebhookSource};
use crate::sentry::signature::{APP_SIGNATURE, HOOK_SIGNATURE, Signature};
use crate::web::answer::{self, WebhookLabels};

/// The header by which Sentry's integration platform names the kind of a webhook.
pub const RESOURCE: &str = "Sentry-Hook-Resource";

/// The secrets that authenticate a webhook, which may be replaced at any moment. Without any, no webhook is
/// authenticated.
#[derive(Debug)]
pub struct Authentication(watch::Sender<Arc<WebhookSecrets>>);

/// The secrets that authenticate a webhook at one moment.
#[derive(Debug)]
pub struct WebhookSecrets {
    tokens: Vec<AccessToken>,
    client_secrets: Vec<SigningSecret>,
}

/// What the sender of a webhook has proven before its body is read.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum WebhookCredentials {
    /// A correct token; no signature is needed.
    Token,
    /// A correct token, and the body has to match its signature.
    TokenAndSignature,
    /// Nothing yet: the body has to match its signature.
    Signature,
}

/// Why a webhook is answered 401.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum Unauthorized {
    /// There is no token, or a wrong one.
    #[error(
        "the token is wrong or missing: send one of BRIDGE_WEBHOOK_TOKEN at the end of the path, as the password of HTTP \
         Basic, or as a bearer token"
    )]
    WrongToken,
    /// There is no signature, or a malformed one, so the body was not read.
    #[error("{WRONG_SIGNATURE}")]
    Unsigned,
    /// The signature does not match the body.
    #[error("{WRONG_SIGNATURE}")]
    WrongSignature,
}

const WRONG_SIGNATURE: &str = "the signature is wrong or missing: Sentry-Hook-Signature must be made from the body with \
                               the integration's Client Secret, as set in BRIDGE_SENTRY_CLIENT_SECRET";

impl Authentication {
    /// Accepts any of `tokens`, and signatures by any of `secrets`.
    #[must_use]
    pub fn new(tokens: Vec<AccessToken>, secrets: Vec<SigningSecret>) -> Self {
        Self(watch::Sender::new(Arc::new(WebhookSecrets { tokens, client_secrets: secrets })))
    }

    /// Accepts these secrets from now on, and no others. Requests that are already being handled may still be checked
    /// with the old ones, which are returned: they live until the last of these requests is handled.
    #[must_use]
    pub fn replace(&self, tokens: Vec<AccessToken>, secrets: Vec<SigningSecret>) -> Weak<WebhookSecrets> {
        Arc::downgrade(&self.0.send_replace(Arc::new(WebhookSecrets { tokens, client_secrets: secrets })))
    }

    /// Returns the current secrets. The lock is held only while the handle is cloned, not while the secrets are used.
    #[must_use]
    pub fn secrets(&self) -> Arc<WebhookSecrets> {
        Arc::clone(&self.0.borrow())
    }

    /// Returns what a request proves by its headers and by `in_path`, the part of its path after `/sentry/`, if there is
    /// one: the token or, for a request of Sentry's own pages, any path.
    ///
    /// # Errors
    ///
    /// When the request cannot be authenticated, whatever its body is.
    pub fn authenticate(&self, in_path: Option<&str>, headers: &HeaderMap) -> Result<WebhookCredentials, Unauthorized> {
        self.secrets().authenticate(in_path, headers)
    }
}

impl WebhookSecrets {
    /// Whether a signature in the headers matches `body`.
    #[must_use]
    pub fn is_signed(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        signatures(headers).any(|signature| signature.is_by(&self.client_secrets, body))
    }

    fn authenticate(&self, in_path: Option<&str>, headers: &HeaderMap) -> Result<WebhookCredentials, Unauthorized> {
        let has_app_signature = headers.contains_key(APP_SIGNATURE);
        let has_token = match in_path {
            // Sentry uses the path from the integration's schema instead of the webhook's path.
            Some(path) if has_app_signature => {
                path.split('/').next().is_some_and(|token| self.is_token(token.as_bytes())) || self.has_token(headers)
            }
            Some(token) => self.is_token(token.as_bytes()),
            None => self.has_token(headers),
        };
        // A signature does not make up for a wrong token in the path.
        if in_path.is_some() && !has_token && !has_app_signature {
            return Err(Unauthorized::WrongToken);
        }
        match (has_token, self.must_be_signed(headers)) {
            (true, false) => Ok(WebhookCredentials::Token),
            (false, false) => Err(Unauthorized::WrongToken),
            (_, true) if signatures(headers).next().is_none() => Err(Unauthorized::Unsigned),
            (true, true) => Ok(WebhookCredentials::TokenAndSignature),
            (false, true) => Ok(WebhookCredentials::Signature),
        }
    }

    /// Whether the request says that Sentry's integration platform sent it, and there is a secret to verify that with.
    fn must_be_signed(&self, headers: &HeaderMap) -> bool {
        let is_of_platform = [RESOURCE, HOOK_SIGNATURE, APP_SIGNATURE].iter().any(|name| headers.contains_key(*name));
        is_of_platform && !self.client_secrets.is_empty()
    }

    fn has_token(&self, headers: &HeaderMap) -> bool {
        // Sentry sends Basic for a callback URL like `https://sentry:TOKEN@host/sentry`, and a bearer token as a custom
        // header of an integration (since July 2026).
        basic_password(headers).is_some_and(|password| self.is_token(&password))
            || bearer(headers).is_some_and(|token| self.is_token(token.as_bytes()))
    }

    fn is_token(&self, candidate: &[u8]) -> bool {
        // All tokens are compared, each in constant time.
        self.tokens.iter().fold(false, |found, token| token.matches(candidate) | found)
    }
}

impl WebhookCredentials {
    /// Whether a token was correct.
    #[must_use]
    pub fn has_token(self) -> bool {
        matches!(self, Self::Token | Self::TokenAndSignature)
    }

    /// Whether the body has to match its signature.
    #[must_use]
    pub fn needs_signature(self) -> bool {
        matches!(self, Self::TokenAndSignature | Self::Signature)
    }
}

impl Unauthorized {
    /// Logs the error with the client's address, and returns it.
    #[must_use]
    pub fn logged(self, request: &HttpRequest) -> Self {
        let (what, repeated) = match self {
            Self::WrongToken => ("token", "webhooks with a wrong or missing token were refused"),
            Self::Unsigned | Self::WrongSignature => {
                ("signature", "webhooks with a wrong or missing signature were refused")
            }
        };
        let peer = peer(request).map_or_else(|| "unknown".to_owned(), |peer| peer.to_string());
        log_throttled!(Level::Warn, repeated, peer; "a webhook with a wrong or missing {what} was refused");
        self
    }

    /// The labels under which the response is counted.
    #[must_use]
    pub fn labels(self) -> WebhookLabels {
        let answered = match self {
            Self::WrongToken => WebhookAnswer::WrongToken,
            Self::Unsigned => WebhookAnswer::Unsigned,
            Self::WrongSignature => WebhookAnswer::WrongSignature,
        };
        WebhookLabels { source: WebhookSource::Unknown, answered }
    }
}

impl ResponseError for Unauthorized {
    fn status_code(&self) -> StatusCode {
        StatusCode::UNAUTHORIZED
    }

    fn error_response(&self) -> HttpResponse {
        let response = answer::error(&mut HttpResponse::build(self.status_code()), &self.to_string());
        self.labels().attach(response)
    }
}

/// Returns the signature of a webhook that the integration platform sent; `None` for a request of Sentry's own pages.
#[must_use]
pub fn hook_signature(headers: &HeaderMap) -> Option<Signature> {
    let is_of_page = headers.contains_key(APP_SIGNATURE);
    Signature::parse(headers.get(HOOK_SIGNATURE)?.as_bytes()).filter(|_| !is_of_page)
}

/// The signatures of a request: at most one per header, so that a client cannot have the body hashed over and over.
fn signatures(headers: &HeaderMap) -> impl Iterator<Item = Signature> {
    [HOOK_SIGNATURE, APP_SIGNATURE].into_iter().filter_map(|name| Signature::parse(headers.get(name)?.as_bytes()))
}
