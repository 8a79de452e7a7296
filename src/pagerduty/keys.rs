//! The keys of integrations and incidents, as types that hold only what PagerDuty accepts, and the names by which people
//! know integrations.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use serde::Serialize;
use sha2::{Digest, Sha256};
use thiserror::Error;

use crate::alert::{SentryId, Subject};

/// An integration key: 32 ASCII letters and digits.
///
/// PagerDuty documents a hexadecimal UUID, but keys with other letters are in use, and PagerDuty enforces only the
/// length ("Service key is the wrong length (should be 32 characters)").
///
/// It is a secret: `Display` and `Debug` show only the last four characters. Serialising writes all of it.
#[derive(Clone, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct ServiceKey(String);

/// Why a text is not a [`ServiceKey`]. Never contains the text.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ServiceKeyError {
    /// It does not have 32 characters, but this many.
    #[error("has {0} characters, but an integration key has 32{hint}", hint = if *.0 == 20 { " (20 is the length of a REST API key: copy the key from the service's Integrations page)" } else { "" })]
    Length(usize),
    /// It contains something other than ASCII letters and digits.
    #[error("contains something other than letters and digits")]
    Characters,
}

impl ServiceKey {
    /// How many characters a key has.
    pub const LENGTH: usize = 32;

    /// Parses a key. White space around it is ignored.
    ///
    /// # Errors
    ///
    /// When it is not 32 ASCII letters and digits.
    pub fn parse(text: &str) -> Result<Self, ServiceKeyError> {
        let text = text.trim();
        let length = text.chars().count();
        if length != Self::LENGTH {
            return Err(ServiceKeyError::Length(length));
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(ServiceKeyError::Characters);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text with every occurrence of this key masked.
    #[must_use]
    pub fn mask(&self, text: String) -> String {
        if text.contains(&self.0) { text.replace(&self.0, &self.to_string()) } else { text }
    }

    /// The whole key, for the database and for `--show-keys`.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "…{}", &self.0[Self::LENGTH - 4..])
    }
}

impl fmt::Debug for ServiceKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ServiceKey({self})")
    }
}

/// Names of service keys; clones share them. A name from the settings takes precedence over one from PagerDuty's API.
#[derive(Clone, Debug, Default)]
pub struct KeyNames {
    set: Arc<RwLock<BTreeMap<ServiceKey, String>>>,
    learned: Arc<RwLock<BTreeMap<ServiceKey, String>>>,
}

impl KeyNames {
    /// Makes a value with the names from the settings.
    #[must_use]
    pub fn new(set: impl IntoIterator<Item = (ServiceKey, String)>) -> Self {
        Self { set: Arc::new(RwLock::new(set.into_iter().collect())), learned: Arc::default() }
    }

    /// Replaces the names from the settings.
    pub fn set(&self, names: impl IntoIterator<Item = (ServiceKey, String)>) {
        *self.set.write().unwrap_or_else(PoisonError::into_inner) = names.into_iter().collect();
    }

    /// Replaces the names from PagerDuty's API.
    pub fn learn(&self, names: BTreeMap<ServiceKey, String>) {
        *self.learned.write().unwrap_or_else(PoisonError::into_inner) = names;
    }

    /// The name of a key, if it has one.
    #[must_use]
    pub fn get(&self, key: &ServiceKey) -> Option<String> {
        let name_in = |names: &RwLock<BTreeMap<ServiceKey, String>>| {
            names.read().unwrap_or_else(PoisonError::into_inner).get(key).cloned()
        };
        name_in(&self.set).or_else(|| name_in(&self.learned))
    }

    /// The key as it is shown to people: its name and its last four characters, or only the latter.
    #[must_use]
    pub fn show(&self, key: &ServiceKey) -> String {
        self.get(key).map_or_else(|| key.to_string(), |name| format!("{name} ({key})"))
    }
}

/// The key of an incident: a string of 1 to 255 characters, always written as a JSON string.
///
/// Sending an integer here was the bug for which this project exists (sentry-plugins#469).
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(transparent)]
pub struct IncidentKey(String);

impl IncidentKey {
    /// PagerDuty's limit, in characters.
    pub const MAX_LENGTH: usize = 255;

    /// How much of a key that is too long stays readable before its digest, in UTF-16 units.
    const READABLE: usize = 200;

    /// The key of an issue or metric alert: `prefix` and its name.
    ///
    /// A key that would be too long is cut and ends in the SHA-256 of the whole key, so that no two issues share an
    /// incident.
    #[must_use]
    pub fn of(prefix: &str, subject: &Subject) -> Self {
        Self::bounded(format!("{prefix}{}", subject.name()))
    }

    /// The key of an issue.
    #[must_use]
    pub fn of_issue(prefix: &str, issue: &SentryId) -> Self {
        Self::bounded(format!("{prefix}{}", issue.as_str()))
    }

    /// The key of an incident that several issues share: `kind` says what they have in common, such as `rule`, and
    /// `names` which one.
    #[must_use]
    pub fn of_shared(prefix: &str, kind: &str, names: &[&str]) -> Self {
        // No issue has this key, for the same reason as in `of_alarm`.
        Self::bounded(format!("{}{}", Self::shared_prefix(prefix, kind), names.join("/")))
    }

    /// What the keys of all incidents begin with that issues share for this `kind` of reason.
    #[must_use]
    pub fn shared_prefix(prefix: &str, kind: &str) -> String {
        format!("{prefix}{kind}/")
    }

    /// The key of the incident of a test page that is sent at `at`.
    #[must_use]
    pub(super) fn of_test_page(prefix: &str, name: &str, at: DateTime<Utc>) -> Self {
        Self::bounded(format!("{prefix}{name}-{}", at.format("%Y%m%dT%H%M%S%.3fZ")))
    }

    /// The key of an alarm of the bridge itself.
    #[must_use]
    pub fn of_alarm(prefix: &str, name: &str) -> Self {
        // No issue has this key: ids in Sentry have no slash.
        Self::bounded(format!("{prefix}sentry-pagerduty-bridge/{name}"))
    }

    /// Parses a stored key. Returns `None` if the text cannot be an incident key.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let length = text.encode_utf16().count();
        (!text.trim().is_empty() && length <= Self::MAX_LENGTH).then(|| Self(text.to_owned()))
    }

    fn bounded(key: String) -> Self {
        if key.encode_utf16().count() <= Self::MAX_LENGTH {
            return Self(key);
        }
        let mut units = 0;
        let readable: String = key
            .chars()
            .take_while(|character| {
                units += character.len_utf16();
                units <= Self::READABLE
            })
            .collect();
        Self(format!("{readable}-{}", URL_SAFE_NO_PAD.encode(Sha256::digest(key.as_bytes()))))
    }

    /// The key as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for IncidentKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_key_is_masked_wherever_it_is_printed() {
        let key = ServiceKey::parse("0123456789abcdef0123456789abWXYZ").unwrap();
        assert_eq!(key.to_string(), "…WXYZ");
        assert_eq!(format!("{key:?}"), "ServiceKey(…WXYZ)");
        assert_eq!(serde_json::to_string(&key).unwrap(), "\"0123456789abcdef0123456789abWXYZ\"");
    }

    #[test]
    fn a_service_key_is_32_letters_and_digits() {
        assert_eq!(ServiceKey::parse("u+3rdPartyRestApiKey"), Err(ServiceKeyError::Length(20)));
        assert_eq!(ServiceKey::parse("0123456789abcdef0123456789ab-XYZ"), Err(ServiceKeyError::Characters));
        assert_eq!(ServiceKey::parse(&"é".repeat(32)), Err(ServiceKeyError::Characters));
        assert!(ServiceKey::parse("  NN2EZIJQPVVQF3KIKN2MDMSUV7E6GLFN\n").is_ok());
    }

    #[test]
    fn an_incident_key_is_written_as_a_string() {
        let key = IncidentKey::of_issue("", &SentryId::new("42").unwrap());
        assert_eq!(serde_json::to_string(&key).unwrap(), "\"42\"");
    }

    #[test]
    fn keys_that_are_too_long_stay_apart() {
        let long = "9".repeat(300);
        let one = IncidentKey::of_issue("", &SentryId::new(&format!("{long}1")).unwrap());
        let two = IncidentKey::of_issue("", &SentryId::new(&format!("{long}2")).unwrap());
        assert_ne!(one, two);
        assert!(one.as_str().chars().count() <= IncidentKey::MAX_LENGTH);
        assert_eq!(IncidentKey::of_issue("", &SentryId::new(&"9".repeat(255)).unwrap()).as_str(), "9".repeat(255));
    }

    #[test]
    fn a_name_of_the_settings_goes_before_a_learned_one() {
        let key = |text: &str| ServiceKey::parse(text).unwrap();
        let [one, two] = [key("0123456789abcdef0123456789abcdef"), key("NN2EZIJQPVVQF3KIKN2MDMSUV7E6GLFN")];
        let names = KeyNames::new([(one.clone(), "Payments".to_owned())]);
        names.learn([(one.clone(), "svc-1".to_owned()), (two.clone(), "Web".to_owned())].into());
        assert_eq!(names.show(&one), "Payments (…cdef)");
        assert_eq!(names.show(&two), "Web (…GLFN)");
        names.learn(BTreeMap::new());
        assert_eq!(names.show(&two), "…GLFN");
    }
}
