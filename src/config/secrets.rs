//! The tokens of the webhook and the status page, the secrets that Sentry and PagerDuty sign with, and the tokens of their
//! APIs.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ValueError;
use crate::pagerduty::ServiceKey;

/// The minimum length of a secret or token, in characters. Sentry's client secrets have 64, as have API tokens of Sentry
/// 9.1; newer tokens have more. REST API keys of PagerDuty have 20.
const MIN_LENGTH: usize = 16;

/// How to make a token.
const MAKE_ONE: &str = "make one with `openssl rand -hex 24`";

/// Where a client secret comes from.
const COPY_FROM_SENTRY: &str = "copy the Client Secret from the page of the integration in Sentry";

/// Where the secret of a webhook subscription comes from.
const COPY_FROM_PAGERDUTY: &str = "copy the secret that PagerDuty shows once, when the webhook subscription is made";

/// Why a token of the webhook may not open the status page.
const SHARED: &str = "contains a token of BRIDGE_WEBHOOK_TOKEN, which Sentry and access logs know: make another one with \
     `openssl rand -hex 24`";

const NO_SENTRY_TOKEN: &str =
    "has a character that an API token of Sentry never has: it consists of letters, digits and signs, without spaces";

const NO_PAGERDUTY_TOKEN: &str =
    "has a character that a REST API key never has: it consists of letters, digits and signs, without spaces";

const INTEGRATION_KEY: &str = "has the form of an integration key, which only sends events: make a read-only REST API key \
     under Integrations > API Access Keys";

/// A token that requests to the bridge carry: in the webhook's address, or for the status page and `/api`.
///
/// Only its SHA-256 is kept, so neither `Debug` nor a memory dump shows it.
#[derive(Clone)]
pub struct AccessToken([u8; 32]);

impl AccessToken {
    /// Parses one token or, during a rotation, several separated by commas. Never returns an empty list.
    ///
    /// # Errors
    ///
    /// When a token is shorter than 16 characters or contains anything other than ASCII letters, digits and `-._~+=`,
    /// or when there is no token. The error never contains the text.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ValueError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+=".contains(&byte);
        parse_list(text, "token", MAKE_ONE, |place, token| {
            if !token.bytes().all(fits) {
                return Err(ValueError::new(format!(
                    "has a character in token {place} that a URL cannot contain: use letters, digits and `-._~+=` only, as \
                     `openssl rand -hex 24` does"
                )));
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

impl fmt::Debug for AccessToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AccessToken(…)")
    }
}

/// Returns an error if an admin token is also a token of the webhook.
pub(super) fn are_apart(admin: &[AccessToken], webhook: &[AccessToken]) -> Result<(), ValueError> {
    let is_shared = |token: &AccessToken| webhook.iter().any(|other| token.0.ct_eq(&other.0).into());
    if admin.iter().any(is_shared) { Err(ValueError::new(SHARED)) } else { Ok(()) }
}

/// A secret with which webhooks are signed: the Client Secret of a Sentry integration, or that of a webhook subscription in
/// PagerDuty.
///
/// Only the initial state of HMAC-SHA256 is kept, so neither `Debug` nor a memory dump shows it.
#[derive(Clone)]
pub struct SigningSecret(Hmac<Sha256>);

impl SigningSecret {
    /// Parses one Client Secret or, during a rotation, several separated by commas. Never returns an empty list.
    ///
    /// # Errors
    ///
    /// When a secret is shorter than 16 characters or contains anything other than ASCII letters, digits and
    /// punctuation, or when there is no secret. The error never contains the text.
    pub fn parse_sentry_list(text: &str) -> Result<Vec<Self>, ValueError> {
        Self::parse_list(text, COPY_FROM_SENTRY)
    }

    /// As [`parse_sentry_list`](Self::parse_sentry_list), for the secrets of webhook subscriptions in PagerDuty.
    ///
    /// # Errors
    ///
    /// As [`parse_sentry_list`](Self::parse_sentry_list).
    pub fn parse_pagerduty_list(text: &str) -> Result<Vec<Self>, ValueError> {
        Self::parse_list(text, COPY_FROM_PAGERDUTY)
    }

    fn parse_list(text: &str, remedy: &'static str) -> Result<Vec<Self>, ValueError> {
        parse_list(text, "secret", remedy, |place, secret| {
            let refused = || {
                ValueError::new(format!(
                    "has a character in secret {place} that such a secret never has: it consists of letters, digits and signs"
                ))
            };
            if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
                return Err(refused());
            }
            // HMAC takes keys of any length.
            Hmac::new_from_slice(secret.as_bytes()).map(Self).map_err(|_| refused())
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

impl fmt::Debug for SigningSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningSecret(…)")
    }
}

/// The token for Sentry's API or for PagerDuty's REST API.
///
/// Requests carry the token itself, so it is kept in full; `Debug` does not show it.
#[derive(Clone)]
pub struct ApiToken(String);

impl ApiToken {
    /// Parses a token for Sentry's API.
    ///
    /// # Errors
    ///
    /// When it is shorter than 16 characters or contains anything other than ASCII letters, digits and punctuation. The
    /// error never contains the text.
    pub fn parse_sentry(text: &str) -> Result<Self, ValueError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ValueError::new(NO_SENTRY_TOKEN));
        }
        if text.len() < MIN_LENGTH {
            let length = text.len();
            return Err(ValueError::new(format!(
                "has {length} characters, but an API token has at least {MIN_LENGTH}: copy it whole from Sentry"
            )));
        }
        Ok(Self(text.to_owned()))
    }

    /// Parses a token for PagerDuty's REST API.
    ///
    /// # Errors
    ///
    /// As [`parse_sentry`](Self::parse_sentry), and when it has the form of an integration key.
    pub fn parse_pagerduty(text: &str) -> Result<Self, ValueError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ValueError::new(NO_PAGERDUTY_TOKEN));
        }
        if text.len() < MIN_LENGTH {
            let length = text.len();
            return Err(ValueError::new(format!(
                "has {length} characters, but a REST API key has 20: copy it whole from Integrations > API Access Keys"
            )));
        }
        if ServiceKey::parse(text).is_ok() {
            return Err(ValueError::new(INTEGRATION_KEY));
        }
        Ok(Self(text.to_owned()))
    }

    /// Returns the token itself, for a request header.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// The digest that represents it in a [`Fingerprint`](super::Fingerprint); must not be shown.
    pub(super) fn digest(&self) -> [u8; 32] {
        Sha256::digest(&self.0).into()
    }
}

impl fmt::Debug for ApiToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiToken(…)")
    }
}

/// Parses a comma-separated list of secrets, each with `parse`, which gets its position in the list, from 1.
fn parse_list<T>(
    text: &str,
    what: &'static str,
    remedy: &'static str,
    parse: impl Fn(usize, &str) -> Result<T, ValueError>,
) -> Result<Vec<T>, ValueError> {
    let mut secrets = Vec::new();
    for (place, secret) in (1..).zip(text.split(',').map(str::trim).filter(|secret| !secret.is_empty())) {
        let parsed = parse(place, secret)?;
        if secret.len() < MIN_LENGTH {
            let length = secret.len();
            return Err(ValueError::new(format!(
                "has {length} characters in {what} {place}, but needs at least {MIN_LENGTH}: {remedy}"
            )));
        }
        secrets.push(parsed);
    }
    if secrets.is_empty() {
        return Err(ValueError::new(format!("contains no {what}: {remedy}")));
    }
    Ok(secrets)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "b9d1c2a47f6e5d80";
    const SECRET: &str = "5f1d3b7a9c2e4f60";

    #[test]
    fn a_token_matches_itself_alone() {
        let tokens = AccessToken::parse_list(TOKEN).unwrap();
        assert!(tokens[0].matches(TOKEN.as_bytes()));
        for other in ["", "b9d1c2a47f6e5d8", "b9d1c2a47f6e5d800", "B9D1C2A47F6E5D80", "b9d1c2a47f6e5d80\n"] {
            assert!(!tokens[0].matches(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn several_secrets_are_read_while_rotating() {
        let tokens = AccessToken::parse_list(&format!("{TOKEN}, another.token+of_~mine= ,")).unwrap();
        assert_eq!(tokens.len(), 2);
        assert!(tokens[1].matches(b"another.token+of_~mine="));
        assert_eq!(SigningSecret::parse_sentry_list(SECRET).unwrap().len(), 1);
        assert_eq!(SigningSecret::parse_sentry_list(&format!("{SECRET}, {SECRET}0 ,")).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        let fault = |text: &str| AccessToken::parse_list(text).unwrap_err().to_string();
        let short = |place: usize, length: usize| {
            format!("has {length} characters in token {place}, but needs at least 16: {MAKE_ONE}")
        };
        assert_eq!(fault(" , ,"), format!("contains no token: {MAKE_ONE}"));
        assert_eq!(fault("0123456789abcde"), short(1, 15));
        assert_eq!(fault(&format!("{TOKEN},short")), short(2, 5));
        for bad in ['/', '?', '#', '%', ' ', '\t', '@', ':', '\\', '"', 'é', '\u{7f}'] {
            let text = format!("{TOKEN}{bad}{TOKEN}");
            assert!(fault(&text).starts_with("has a character in token 1 that a URL cannot contain: "), "{bad:?}");
            assert!(!fault(&text).contains(TOKEN), "{bad:?}");
        }
    }

    #[test]
    fn what_is_no_client_secret_is_refused_without_repeating_it() {
        let fault = |text: &str| SigningSecret::parse_sentry_list(text).unwrap_err().to_string();
        let short = |place: usize, length: usize| {
            format!("has {length} characters in secret {place}, but needs at least 16: {COPY_FROM_SENTRY}")
        };
        assert_eq!(fault(" , ,"), format!("contains no secret: {COPY_FROM_SENTRY}"));
        assert_eq!(fault(&SECRET[1..]), short(1, 15));
        assert_eq!(fault(&format!("{SECRET},short")), short(2, 5));
        for bad in [' ', '\t', 'é', '\u{7f}'] {
            let text = format!("{SECRET}{bad}{SECRET}");
            assert!(fault(&text).starts_with("has a character in secret 1 that such a secret never has: "), "{bad:?}");
            assert!(!fault(&text).contains(SECRET), "{bad:?}");
        }
    }

    #[test]
    fn a_token_of_the_webhook_is_none_for_the_admin() {
        let webhook = AccessToken::parse_list(TOKEN).unwrap();
        let admin = AccessToken::parse_list(&format!("another-{TOKEN},{TOKEN}")).unwrap();
        assert_eq!(are_apart(&admin, &webhook), Err(ValueError::new(SHARED)));
        assert_eq!(are_apart(&admin[..1], &webhook), Ok(()));
        assert!(admin[1].matches(TOKEN.as_bytes()) && !admin[0].matches(TOKEN.as_bytes()));
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", AccessToken::parse_list(TOKEN).unwrap()), "[AccessToken(…)]");
        assert_eq!(format!("{:?}", SigningSecret::parse_sentry_list(SECRET).unwrap()), "[SigningSecret(…)]");
    }

    #[test]
    fn a_token_is_never_printed_and_an_integration_key_is_none() {
        let token = ApiToken::parse_pagerduty("u+3rdPartyRestApiKey").unwrap();
        assert_eq!(format!("{token:?}"), "ApiToken(…)");
        let error = |text: &str| ApiToken::parse_pagerduty(text).unwrap_err().to_string();
        assert_eq!(error("0123456789abcdef0123456789abcdef"), INTEGRATION_KEY);
        assert!(error("short").starts_with("has 5 characters, but a REST API key has 20: "));
        assert_eq!(error("with a space in it, long"), NO_PAGERDUTY_TOKEN);
    }

    #[test]
    fn an_api_token_is_never_printed() {
        let token = ApiToken::parse_sentry("sntryu_0123456789abcdef").unwrap();
        assert_eq!(format!("{token:?}"), "ApiToken(…)");
        assert_eq!(ApiToken::parse_sentry("too short").unwrap_err().to_string(), NO_SENTRY_TOKEN);
        let error = ApiToken::parse_sentry("short").unwrap_err().to_string();
        assert!(error.starts_with("has 5 characters, but an API token has at least 16: "), "{error}");
    }
}
