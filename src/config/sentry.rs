//! The settings of Sentry's own API: its address, the organization and the token.

use std::fmt;

use sha2::{Digest, Sha256};
use thiserror::Error;
use url::Url;

use super::address::is_loopback;

/// The minimum length of an API token, in characters. Tokens of Sentry 9.1 have 64, newer ones more.
const MIN_TOKEN: usize = 16;

/// The token for Sentry's API.
///
/// Requests to Sentry carry the token itself, so it is kept in full; `Debug` does not show it.
#[derive(Clone)]
pub struct ApiToken(String);

impl ApiToken {
    /// Parses a token.
    ///
    /// # Errors
    ///
    /// When it is shorter than 16 characters or contains anything other than ASCII letters, digits and punctuation.
    pub fn parse(text: &str) -> Result<Self, SentrySettingError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(SentrySettingError::TokenCharacters);
        }
        if text.len() < MIN_TOKEN {
            return Err(SentrySettingError::ShortToken(text.len()));
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

/// What is wrong with a setting of Sentry's API. Never contains an address or a token.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum SentrySettingError {
    /// Not an `http` or `https` URL with a host.
    #[error("is not a URL: write the root of Sentry, such as `https://sentry.io` or `https://sentry.example.com`")]
    NoAddress,
    /// A user or a password.
    #[error("contains a user or password, but Sentry identifies the caller by BRIDGE_SENTRY_API_TOKEN: remove them")]
    UserInfo,
    /// The API's own path, or something after `?` or `#`.
    #[error("is more than the root of Sentry: remove `/api/0/` and everything after `?` or `#`")]
    NotRoot,
    /// The token would be sent unencrypted.
    #[error(
        "is plain `http` to {0}, where anyone on the network could read the API token: write `https`, or allow it with \
         BRIDGE_SENTRY_ALLOW_HTTP=on"
    )]
    PlainHttp(String),
    /// Not a slug.
    #[error("is not a slug: write it as in the addresses of the organization's pages, such as `acme`")]
    NoSlug,
    /// Too short.
    #[error("has {0} characters, but an API token has at least {MIN_TOKEN}: copy it whole from Sentry")]
    ShortToken(usize),
    /// A character that no token contains, such as a space.
    #[error(
        "has a character that an API token of Sentry never has: it consists of letters, digits and signs, without spaces"
    )]
    TokenCharacters,
}

/// Parses the root URL of a Sentry. It may have a path, because a Sentry can be served under one.
pub(super) fn root(text: &str) -> Result<Url, SentrySettingError> {
    let url = Url::parse(text).map_err(|_| SentrySettingError::NoAddress)?;
    if url.host().is_none() || !matches!(url.scheme(), "http" | "https") {
        return Err(SentrySettingError::NoAddress);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(SentrySettingError::UserInfo);
    }
    let has_api = url.path_segments().is_some_and(|mut segments| segments.any(|segment| segment == "api"));
    if has_api || url.query().is_some() || url.fragment().is_some() {
        return Err(SentrySettingError::NotRoot);
    }
    Ok(url)
}

/// Checks that the token may be sent to `url`: plain `http` must be allowed or go to this machine itself.
pub(super) fn may_carry_token(url: &Url, allow_http: bool) -> Result<(), SentrySettingError> {
    match url.host() {
        Some(host) if url.scheme() == "http" && !allow_http && !is_loopback(&host) => {
            Err(SentrySettingError::PlainHttp(host.to_string()))
        }
        _ => Ok(()),
    }
}

/// Parses the slug of an organization.
pub(super) fn organization(text: &str) -> Result<String, SentrySettingError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if text.bytes().all(fits) { Ok(text.to_owned()) } else { Err(SentrySettingError::NoSlug) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_a_sentry_may_be_a_folder_and_nothing_below_it() {
        for text in ["https://sentry.io", "https://example.com/sentry/", "http://127.0.0.1:9000"] {
            assert!(root(text).is_ok(), "{text}");
        }
        assert_eq!(root("sentry.io"), Err(SentrySettingError::NoAddress));
        assert_eq!(root("ftp://sentry.io"), Err(SentrySettingError::NoAddress));
        assert_eq!(root("https://me:SECRET@sentry.io"), Err(SentrySettingError::UserInfo));
        for text in ["https://sentry.io/api/0/", "https://sentry.io/?a=b", "https://sentry.io/#a"] {
            assert_eq!(root(text), Err(SentrySettingError::NotRoot), "{text}");
        }
    }

    #[test]
    fn a_token_goes_over_plain_http_to_this_machine_alone_unless_that_is_allowed() {
        let far = root("http://sentry.example.com").unwrap();
        assert_eq!(may_carry_token(&far, false), Err(SentrySettingError::PlainHttp("sentry.example.com".to_owned())));
        assert_eq!(may_carry_token(&far, true), Ok(()));
        for near in ["http://127.0.0.1:9000", "http://localhost", "http://[::1]:9000", "https://sentry.example.com"] {
            assert_eq!(may_carry_token(&root(near).unwrap(), false), Ok(()), "{near}");
        }
    }

    #[test]
    fn an_api_token_is_never_printed() {
        let token = ApiToken::parse("sntryu_0123456789abcdef").unwrap();
        assert_eq!(format!("{token:?}"), "ApiToken(…)");
        assert_eq!(ApiToken::parse("too short").unwrap_err(), SentrySettingError::TokenCharacters);
        assert_eq!(ApiToken::parse("short").unwrap_err(), SentrySettingError::ShortToken(5));
        assert_eq!(organization("acme/x").unwrap_err(), SentrySettingError::NoSlug);
    }
}
