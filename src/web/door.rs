//! Who may come in: the secret in the webhook's path, or as the password of HTTP Basic.

use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::settings::WebhookToken;

/// Knows the secrets that open the webhook.
#[derive(Clone, Debug)]
pub struct Door {
    tokens: Vec<WebhookToken>,
}

impl Door {
    /// A door that any of `tokens` opens; with none it stays shut.
    #[must_use]
    pub fn new(tokens: Vec<WebhookToken>) -> Self {
        Self { tokens }
    }

    /// Whether `candidate` is one of the secrets. All of them are compared, in constant time each.
    #[must_use]
    pub fn opens_to(&self, candidate: &[u8]) -> bool {
        self.tokens.iter().fold(false, |open, token| token.matches(candidate) | open)
    }

    /// Whether the request carries one of the secrets as the password of HTTP Basic (RFC 7617); the user's name does
    /// not matter. Sentry sends it for a callback URL like `https://sentry:TOKEN@host/sentry`.
    #[must_use]
    pub fn opens_to_basic(&self, headers: &HeaderMap) -> bool {
        let password = headers
            .get(AUTHORIZATION)
            .and_then(|value| value.to_str().ok())
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("basic"))
            .and_then(|(_, credentials)| STANDARD.decode(credentials.trim()).ok())
            .and_then(|credentials| {
                let colon = credentials.iter().position(|byte| *byte == b':')?;
                Some(credentials[colon + 1..].to_vec())
            });
        password.is_some_and(|password| self.opens_to(&password))
    }
}
