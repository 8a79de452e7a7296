//! The tokens of the webhook and the status page, and the secrets that Sentry and PagerDuty sign with.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// The minimum length of a secret, in characters; Sentry's client secrets have 64.
const MIN_LENGTH: usize = 16;

/// How to make a token.
const MAKE_ONE: &str = "make one with `openssl rand -hex 24`";

/// Where a client secret comes from.
const COPY_IT: &str = "copy the Client Secret from the page of the integration in Sentry";

/// Where the secret of a webhook subscription comes from.
const COPY_FROM_PAGERDUTY: &str = "copy the secret that PagerDuty shows once, when the webhook subscription is made";

/// Why a text is not a list of secrets. Never contains the text.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum SecretError {
    /// Nothing but commas.
    #[error("contains no {what}: {remedy}")]
    None {
        /// `token` or `secret`.
        what: &'static str,
        /// Where to get one.
        remedy: &'static str,
    },
    /// A secret that is too short, so that it could be guessed.
    #[error("has {length} characters in {what} {place}, but needs at least {MIN_LENGTH}: {remedy}")]
    Short {
        /// `token` or `secret`.
        what: &'static str,
        /// Its position in the list, from 1.
        place: usize,
        /// How many characters it has.
        length: usize,
        /// Where to get one.
        remedy: &'static str,
    },
    /// A token with a character that a URL cannot contain.
    #[error(
        "has a character in token {place} that a URL cannot contain: use letters, digits and `-._~+=` only, as \
         `openssl rand -hex 24` does"
    )]
    TokenCharacters {
        /// Its position in the list, from 1.
        place: usize,
    },
    /// A character that no secret contains, such as a space.
    #[error("has a character in secret {place} that such a secret never has: it consists of letters, digits and signs")]
    SecretCharacters {
        /// Its position in the list, from 1.
        place: usize,
    },
    /// An admin token that is also a token of the webhook.
    #[error(
        "contains a token of BRIDGE_WEBHOOK_TOKEN, which Sentry and access logs know: make another one with \
         `openssl rand -hex 24`"
    )]
    Shared,
}

/// A secret in the webhook's address.
///
/// Only its SHA-256 is kept, so neither `Debug` nor a memory dump shows it.
#[derive(Clone)]
pub struct WebhookToken([u8; 32]);

impl WebhookToken {
    /// Parses one token or, during a rotation, several separated by commas. Never returns an empty list.
    ///
    /// # Errors
    ///
    /// When a token is shorter than 16 characters or contains anything other than ASCII letters, digits and `-._~+=`,
    /// or when there is no token.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, SecretError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+=".contains(&byte);
        parse_list(text, "token", MAKE_ONE, |place, token| {
            if !token.bytes().all(fits) {
                return Err(SecretError::TokenCharacters { place });
            }
            Ok(Self(Sha256::digest(token).into()))
        })
    }

    /// Whether `candidate` is this token. The time that this takes depends only on the candidate: comparing digests
    /// reveals neither how much of it was right nor how long the token is.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(candidate).into();
        self.0.ct_eq(&digest).into()
    }

    /// The digest that represents it in a [`Fingerprint`](super::Fingerprint); must not be shown.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.0
    }
}

impl fmt::Debug for WebhookToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookToken(…)")
    }
}

/// A token for the status page and `/api`. Stored like a [`WebhookToken`], and never equal to one.
#[derive(Clone, Debug)]
pub struct AdminToken(WebhookToken);

impl AdminToken {
    /// Parses one token or, during a rotation, several separated by commas. Never returns an empty list.
    ///
    /// # Errors
    ///
    /// As [`WebhookToken::parse_list`].
    pub fn parse_list(text: &str) -> Result<Vec<Self>, SecretError> {
        Ok(WebhookToken::parse_list(text)?.into_iter().map(Self).collect())
    }

    /// Whether `candidate` is this token, in a time that depends only on the candidate.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.0.matches(candidate)
    }

    /// The digest that represents it in a [`Fingerprint`](super::Fingerprint); must not be shown.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.0.digest()
    }
}

/// Returns an error if an admin token is also a token of the webhook.
pub(super) fn are_apart(admin: &[AdminToken], webhook: &[WebhookToken]) -> Result<(), SecretError> {
    let is_shared = |token: &AdminToken| webhook.iter().any(|other| token.0.0.ct_eq(&other.0).into());
    if admin.iter().any(is_shared) { Err(SecretError::Shared) } else { Ok(()) }
}

/// The client secret of a Sentry integration, which signs its webhooks.
///
/// Only the initial state of HMAC-SHA256 is kept, so neither `Debug` nor a memory dump shows it.
#[derive(Clone)]
pub struct ClientSecret(Hmac<Sha256>);

impl ClientSecret {
    /// Parses one secret or, during a rotation, several separated by commas. Never returns an empty list.
    ///
    /// # Errors
    ///
    /// When a secret is shorter than 16 characters or contains anything other than ASCII letters, digits and
    /// punctuation, or when there is no secret.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, SecretError> {
        Self::parse_list_from(text, COPY_IT)
    }

    fn parse_list_from(text: &str, remedy: &'static str) -> Result<Vec<Self>, SecretError> {
        parse_list(text, "secret", remedy, |place, secret| {
            let refused = SecretError::SecretCharacters { place };
            if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(refused);
            }
            // HMAC takes keys of any length.
            Hmac::new_from_slice(secret.as_bytes()).map(Self).map_err(|_| refused)
        })
    }

    /// Whether `signature` is the HMAC-SHA256 of `message` under this secret, in constant time.
    #[must_use]
    pub fn signed(&self, message: &[u8], signature: &[u8; 32]) -> bool {
        self.0.clone().chain_update(message).verify(signature.into()).is_ok()
    }

    /// Returns the HMAC-SHA256 of `message` under this secret, for requests that the bridge signs itself, for example
    /// in a rehearsal.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        self.0.clone().chain_update(message).finalize().into_bytes().into()
    }

    /// The digest that represents it in a [`Fingerprint`](super::Fingerprint): its signature of a text that is not a
    /// webhook. Must not be shown.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.sign(b"fingerprint")
    }
}

/// The secret of a webhook subscription, with which PagerDuty signs its webhooks. Stored like a [`ClientSecret`].
#[derive(Clone, Debug)]
pub struct PagerDutySecret(ClientSecret);

impl PagerDutySecret {
    /// Parses one secret or, during a rotation, several separated by commas. Never returns an empty list.
    ///
    /// # Errors
    ///
    /// As [`ClientSecret::parse_list`].
    pub fn parse_list(text: &str) -> Result<Vec<Self>, SecretError> {
        let secrets = ClientSecret::parse_list_from(text, COPY_FROM_PAGERDUTY)?;
        Ok(secrets.into_iter().map(Self).collect())
    }

    /// Whether `signature` is the HMAC-SHA256 of `message` under this secret, in constant time.
    #[must_use]
    pub fn signed(&self, message: &[u8], signature: &[u8; 32]) -> bool {
        self.0.signed(message, signature)
    }

    /// Returns the HMAC-SHA256 of `message` under this secret.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        self.0.sign(message)
    }

    /// The digest that represents it in a [`Fingerprint`](super::Fingerprint); must not be shown.
    pub(super) fn digest(&self) -> [u8; 32] {
        self.0.digest()
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}

/// Parses a comma-separated list of secrets, each with `parse`, which gets its position in the list, from 1.
fn parse_list<T>(
    text: &str,
    what: &'static str,
    remedy: &'static str,
    parse: impl Fn(usize, &str) -> Result<T, SecretError>,
) -> Result<Vec<T>, SecretError> {
    let mut secrets = Vec::new();
    for (place, secret) in (1..).zip(text.split(',').map(str::trim).filter(|secret| !secret.is_empty())) {
        let parsed = parse(place, secret)?;
        if secret.len() < MIN_LENGTH {
            return Err(SecretError::Short { what, place, length: secret.len(), remedy });
        }
        secrets.push(parsed);
    }
    if secrets.is_empty() { Err(SecretError::None { what, remedy }) } else { Ok(secrets) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "b9d1c2a47f6e5d80";
    const SECRET: &str = "5f1d3b7a9c2e4f60";

    #[test]
    fn a_token_matches_itself_alone() {
        let tokens = WebhookToken::parse_list(TOKEN).unwrap();
        assert!(tokens[0].matches(TOKEN.as_bytes()));
        for other in ["", "b9d1c2a47f6e5d8", "b9d1c2a47f6e5d800", "B9D1C2A47F6E5D80", "b9d1c2a47f6e5d80\n"] {
            assert!(!tokens[0].matches(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn several_secrets_are_read_while_rotating() {
        let tokens = WebhookToken::parse_list(&format!("{TOKEN}, another.token+of_~mine= ,")).unwrap();
        assert_eq!(tokens.len(), 2);
        assert!(tokens[1].matches(b"another.token+of_~mine="));
        assert_eq!(ClientSecret::parse_list(SECRET).unwrap().len(), 1);
        assert_eq!(ClientSecret::parse_list(&format!("{SECRET}, {SECRET}0 ,")).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        let fault = |text: &str| WebhookToken::parse_list(text).unwrap_err();
        let short = |place, length| SecretError::Short { what: "token", place, length, remedy: MAKE_ONE };
        assert_eq!(fault(" , ,"), SecretError::None { what: "token", remedy: MAKE_ONE });
        assert_eq!(fault("0123456789abcde"), short(1, 15));
        assert_eq!(fault(&format!("{TOKEN},short")), short(2, 5));
        for bad in ['/', '?', '#', '%', ' ', '\t', '@', ':', '\\', '"', 'é', '\u{7f}'] {
            let text = format!("{TOKEN}{bad}{TOKEN}");
            assert_eq!(fault(&text), SecretError::TokenCharacters { place: 1 }, "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_client_secret_is_refused_without_repeating_it() {
        let fault = |text: &str| ClientSecret::parse_list(text).unwrap_err();
        let short = |place, length| SecretError::Short { what: "secret", place, length, remedy: COPY_IT };
        assert_eq!(fault(" , ,"), SecretError::None { what: "secret", remedy: COPY_IT });
        assert_eq!(fault(&SECRET[1..]), short(1, 15));
        assert_eq!(fault(&format!("{SECRET},short")), short(2, 5));
        for bad in [' ', '\t', 'é', '\u{7f}'] {
            let text = format!("{SECRET}{bad}{SECRET}");
            assert_eq!(fault(&text), SecretError::SecretCharacters { place: 1 }, "{bad:?}");
        }
    }

    #[test]
    fn a_token_of_the_webhook_is_none_for_the_admin() {
        let webhook = WebhookToken::parse_list(TOKEN).unwrap();
        let admin = AdminToken::parse_list(&format!("another-{TOKEN},{TOKEN}")).unwrap();
        assert_eq!(are_apart(&admin, &webhook), Err(SecretError::Shared));
        assert_eq!(are_apart(&admin[..1], &webhook), Ok(()));
        assert!(admin[1].matches(TOKEN.as_bytes()) && !admin[0].matches(TOKEN.as_bytes()));
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", WebhookToken::parse_list(TOKEN).unwrap()), "[WebhookToken(…)]");
        assert_eq!(format!("{:?}", AdminToken::parse_list(TOKEN).unwrap()), "[AdminToken(WebhookToken(…))]");
        assert_eq!(format!("{:?}", ClientSecret::parse_list(SECRET).unwrap()), "[ClientSecret(…)]");
    }
}
