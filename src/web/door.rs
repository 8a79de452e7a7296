//! Who may come in: the secret in the webhook's path, as the password of HTTP Basic or as a bearer token, and Sentry's
//! signature.

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::RESOURCE;
use crate::config::{ClientSecret, WebhookToken};
use crate::sentry::signature::{APP_SIGNATURE, HOOK_SIGNATURE, Signature};

/// Knows the secrets that open the webhook.
#[derive(Clone, Debug)]
pub struct Door {
    tokens: Vec<WebhookToken>,
    secrets: Vec<ClientSecret>,
}

impl Door {
    /// A door that any of `tokens` opens, and a signature by any of `secrets`; with neither it stays shut.
    #[must_use]
    pub fn new(tokens: Vec<WebhookToken>, secrets: Vec<ClientSecret>) -> Self {
        Self { tokens, secrets }
    }

    /// Whether the request has to be signed: it says that Sentry's integration platform sent it, and there is a secret
    /// to check that with.
    #[must_use]
    pub fn wants_signature(&self, headers: &HeaderMap) -> bool {
        let is_of_the_platform =
            [RESOURCE, HOOK_SIGNATURE, APP_SIGNATURE].iter().any(|name| headers.contains_key(*name));
        is_of_the_platform && !self.secrets.is_empty()
    }

    /// Whether a signature of the request has the form of one, without which its body need not be read.
    #[must_use]
    pub fn may_be_signed(&self, headers: &HeaderMap) -> bool {
        !self.secrets.is_empty() && signatures(headers).next().is_some()
    }

    /// Whether a signature of the request is that of `body` under one of the secrets.
    #[must_use]
    pub fn is_signed(&self, headers: &HeaderMap, body: &[u8]) -> bool {
        signatures(headers).any(|signature| signature.is_by(&self.secrets, body))
    }

    /// Whether `candidate` is one of the secrets. All of them are compared, in constant time each.
    #[must_use]
    pub fn opens_to(&self, candidate: &[u8]) -> bool {
        self.tokens.iter().fold(false, |open, token| token.matches(candidate) | open)
    }

    /// Whether the request carries one of the secrets in its header `Authorization`: as the password of HTTP Basic or as a
    /// bearer token.
    #[must_use]
    pub fn opens_to_authorization(&self, headers: &HeaderMap) -> bool {
        self.opens_to_basic(headers) || self.opens_to_bearer(headers)
    }

    /// Whether the request carries one of the secrets as a bearer token (RFC 6750), as custom headers of Sentry's
    /// integrations can say since July 2026.
    #[must_use]
    pub fn opens_to_bearer(&self, headers: &HeaderMap) -> bool {
        credentials(headers, "bearer").is_some_and(|token| self.opens_to(token.as_bytes()))
    }

    /// Whether the request carries one of the secrets as the password of HTTP Basic (RFC 7617); the user's name does
    /// not matter. Sentry sends it for a callback URL like `https://sentry:TOKEN@host/sentry`.
    #[must_use]
    pub fn opens_to_basic(&self, headers: &HeaderMap) -> bool {
        let password = credentials(headers, "basic")
            .and_then(|credentials| STANDARD.decode(credentials).ok())
            .and_then(|credentials| {
                let colon = credentials.iter().position(|byte| *byte == b':')?;
                Some(credentials[colon + 1..].to_vec())
            });
        password.is_some_and(|password| self.opens_to(&password))
    }
}

/// What the header `Authorization` says under this scheme.
fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (found, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then_some(credentials.trim())
}

/// The signatures of a request: one of either header at most, so that nobody has the body hashed over and over.
fn signatures(headers: &HeaderMap) -> impl Iterator<Item = Signature> {
    [HOOK_SIGNATURE, APP_SIGNATURE].into_iter().filter_map(|name| Signature::parse(headers.get(name)?.as_bytes()))
}
