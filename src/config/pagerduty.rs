//! The settings of PagerDuty's REST API, and the names of service keys.

use std::fmt;

use sha2::{Digest, Sha256};
use thiserror::Error;
use url::Url;

use super::address::is_loopback;
use crate::pagerduty::ServiceKey;
use crate::pagerduty::keys::ServiceKeyError;

/// The minimum length of a token, in characters. REST API keys have 20.
const MIN_TOKEN: usize = 16;

/// The maximum length of a service key's name, in characters.
const MAX_NAME: usize = 100;

/// The token for PagerDuty's REST API.
///
/// Requests to PagerDuty carry the token itself, so it is kept in full; `Debug` does not show it.
#[derive(Clone)]
pub struct PagerDutyToken(String);

impl PagerDutyToken {
    /// Parses a token.
    ///
    /// # Errors
    ///
    /// When it is shorter than 16 characters, looks like an integration key, or contains anything other than ASCII
    /// letters, digits and punctuation.
    pub fn parse(text: &str) -> Result<Self, PagerDutySettingError> {
        if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(PagerDutySettingError::TokenCharacters);
        }
        if text.len() < MIN_TOKEN {
            return Err(PagerDutySettingError::ShortToken(text.len()));
        }
        if ServiceKey::parse(text).is_ok() {
            return Err(PagerDutySettingError::IntegrationKey);
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

impl fmt::Debug for PagerDutyToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PagerDutyToken(…)")
    }
}

/// A human-readable name of a service key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct KeyName {
    /// The key.
    pub key: ServiceKey,
    /// Its name: one line of at most 100 characters.
    pub name: String,
}

impl KeyName {
    /// Parses lines of `KEY,name`, which may also be separated by `;`. Blank lines and lines that begin with `#` are
    /// skipped.
    ///
    /// # Errors
    ///
    /// For the first line that cannot be parsed. The error contains the number of the line and never the key.
    pub fn parse_lines(text: &str) -> Result<Vec<Self>, PagerDutySettingError> {
        let lines = (1..).zip(text.split(['\n', ';'])).map(|(number, line)| (number, line.trim()));
        let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
        lines.map(|(number, line)| Self::parse(number, line)).collect()
    }

    fn parse(line: usize, text: &str) -> Result<Self, PagerDutySettingError> {
        let (key, name) = text.split_once(',').ok_or(PagerDutySettingError::NoName(line))?;
        let key = ServiceKey::parse(key).map_err(|error| PagerDutySettingError::Key(line, error))?;
        let name = name.trim();
        if name.is_empty() {
            return Err(PagerDutySettingError::NoName(line));
        }
        if name.chars().any(char::is_control) || name.chars().count() > MAX_NAME {
            return Err(PagerDutySettingError::OddName(line));
        }
        Ok(Self { key, name: name.to_owned() })
    }
}

/// What is wrong with a setting of PagerDuty's REST API or with a line of names. Never contains a token or a key.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PagerDutySettingError {
    /// Not an `http` or `https` URL with a host.
    #[error("is not a URL: write the root of PagerDuty's REST API, such as `https://api.pagerduty.com`")]
    NoAddress,
    /// It has a user or a password, or something after `?` or `#`.
    #[error("has more than a host and a path: remove user, password and everything after `?` or `#`")]
    NotRoot,
    /// The token would be sent unencrypted.
    #[error(
        "is plain `http` to {0}, where anyone on the network could read the API token: write `https`, or allow it with \
         BRIDGE_PAGERDUTY_ALLOW_HTTP=on"
    )]
    PlainHttp(String),
    /// Too short.
    #[error("has {0} characters, but a REST API key has 20: copy it whole from Integrations > API Access Keys")]
    ShortToken(usize),
    /// A character that no token contains, such as a space.
    #[error("has a character that a REST API key never has: it consists of letters, digits and signs, without spaces")]
    TokenCharacters,
    /// An integration key instead of a REST API key.
    #[error(
        "has the form of an integration key, which only sends events: make a read-only REST API key under Integrations > \
         API Access Keys"
    )]
    IntegrationKey,
    /// A line without a name.
    #[error("line {0} is not `KEY,name`")]
    NoName(usize),
    /// A name that is too long or contains control characters.
    #[error("line {0} has a name of more than {MAX_NAME} characters, or with control characters: shorten it")]
    OddName(usize),
    /// A line whose key is not a service key.
    #[error("line {0} begins with a key that {1}")]
    Key(usize, ServiceKeyError),
}

/// Parses the root URL of a REST API. It may have a path, as that of the sandbox does.
pub(super) fn api_root(text: &str) -> Result<Url, PagerDutySettingError> {
    let url = Url::parse(text).map_err(|_| PagerDutySettingError::NoAddress)?;
    if url.host().is_none() || !matches!(url.scheme(), "http" | "https") {
        return Err(PagerDutySettingError::NoAddress);
    }
    let has_more = url.query().is_some() || url.fragment().is_some();
    if !url.username().is_empty() || url.password().is_some() || has_more {
        return Err(PagerDutySettingError::NotRoot);
    }
    Ok(url)
}

/// Returns the root of the REST API that belongs to this root of the Events API; `None` if `events` is not one of
/// PagerDuty's own addresses.
pub(super) fn api_root_of(events: &Url) -> Option<Url> {
    let host = match events.host_str()? {
        "events.pagerduty.com" => "https://api.pagerduty.com",
        "events.eu.pagerduty.com" => "https://api.eu.pagerduty.com",
        _ => return None,
    };
    Url::parse(host).ok()
}

/// Checks that the token may be sent to `url`: plain `http` must be allowed or go to this machine itself.
pub(super) fn may_carry_token(url: &Url, allow_http: bool) -> Result<(), PagerDutySettingError> {
    match url.host() {
        Some(host) if url.scheme() == "http" && !allow_http && !is_loopback(&host) => {
            Err(PagerDutySettingError::PlainHttp(host.to_string()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_never_printed_and_an_integration_key_is_none() {
        let token = PagerDutyToken::parse("u+3rdPartyRestApiKey").unwrap();
        assert_eq!(format!("{token:?}"), "PagerDutyToken(…)");
        let error = |text: &str| PagerDutyToken::parse(text).unwrap_err();
        assert_eq!(error("0123456789abcdef0123456789abcdef"), PagerDutySettingError::IntegrationKey);
        assert_eq!(error("short"), PagerDutySettingError::ShortToken(5));
        assert_eq!(error("with a space in it, long"), PagerDutySettingError::TokenCharacters);
    }

    #[test]
    fn names_stand_behind_their_keys_and_may_hold_commas() {
        let text = "# ours\n0123456789abcdef0123456789abcdef, Payments, EU ;\nNN2EZIJQPVVQF3KIKN2MDMSUV7E6GLFN,Web\n";
        let names = KeyName::parse_lines(text).unwrap();
        let names: Vec<_> = names.iter().map(|name| (name.key.to_string(), name.name.as_str())).collect();
        assert_eq!(names, [("…cdef".to_owned(), "Payments, EU"), ("…GLFN".to_owned(), "Web")]);
        let error = |text: &str| KeyName::parse_lines(text).unwrap_err().to_string();
        assert_eq!(error("\nweb"), "line 2 is not `KEY,name`");
        assert_eq!(error("0123456789abcdef0123456789abcdef, "), "line 1 is not `KEY,name`");
        assert!(error("SECRET,web").starts_with("line 1 begins with a key that has 6 characters"));
        assert!(!error("SECRET,web").contains("SECRET"));
    }

    #[test]
    fn the_rest_api_of_pagerdutys_own_addresses_is_known() {
        let root = |events: &str| api_root_of(&events.parse().unwrap()).map(String::from);
        assert_eq!(root("https://events.pagerduty.com").as_deref(), Some("https://api.pagerduty.com/"));
        assert_eq!(root("https://events.eu.pagerduty.com").as_deref(), Some("https://api.eu.pagerduty.com/"));
        assert_eq!(root("http://127.0.0.1:8090"), None);
    }

    #[test]
    fn a_root_may_have_a_path_and_plain_http_goes_to_this_machine_alone() {
        let near = api_root("http://127.0.0.1:8090/rest").unwrap();
        assert_eq!(may_carry_token(&near, false), Ok(()));
        let far = api_root("http://pd.example.com").unwrap();
        assert_eq!(may_carry_token(&far, false), Err(PagerDutySettingError::PlainHttp("pd.example.com".to_owned())));
        assert_eq!(api_root("api.pagerduty.com"), Err(PagerDutySettingError::NoAddress));
        for text in ["https://me@api.pagerduty.com", "https://api.pagerduty.com/?a=b"] {
            assert_eq!(api_root(text), Err(PagerDutySettingError::NotRoot), "{text}");
        }
    }
}
