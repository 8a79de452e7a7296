//! The DSN of a project in Sentry: where events are sent, and the key that identifies the sender.

use std::fmt;

use sha2::{Digest, Sha256};
use thiserror::Error;
use url::Url;

/// A DSN (`https://PUBLIC_KEY@HOST/PROJECT`): the address and the key with which a project accepts events.
///
/// `Display` and `Debug` leave the key out. Source: `Dsn` in Sentry's SDKs, and `get_dsn` of `models/projectkey.py` in 9.1.2.
#[derive(Clone, Eq, PartialEq)]
pub struct Dsn {
    /// The store endpoint of the project.
    store: Url,
    public_key: String,
    project: String,
}

/// What is wrong with a DSN. Never contains the DSN.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum DsnError {
    /// Not an `http` or `https` URL with a host.
    #[error("is no DSN: copy it from Sentry, Project Settings > Client Keys (DSN); it looks like `https://KEY@HOST/1`")]
    NoAddress,
    /// No valid key before the `@`.
    #[error("has no key before its `@`: copy the DSN whole from Sentry, Project Settings > Client Keys (DSN)")]
    NoKey,
    /// The path does not end with a number.
    #[error(
        "does not end with the number of a project: copy the DSN whole from Sentry, Project Settings > Client Keys (DSN)"
    )]
    NoProject,
}

impl Dsn {
    /// Parses a DSN. A secret key after the public one, as shown by Sentry up to 9.1, is accepted and ignored, because
    /// no version of Sentry needs it.
    ///
    /// # Errors
    ///
    /// When it is not a URL, or lacks the key or the project.
    pub fn parse(text: &str) -> Result<Self, DsnError> {
        let mut url = Url::parse(text).map_err(|_| DsnError::NoAddress)?;
        if url.host().is_none() || !matches!(url.scheme(), "http" | "https") {
            return Err(DsnError::NoAddress);
        }
        let public_key = url.username().to_owned();
        // It goes into a header, where a quote or a comma would end it.
        if public_key.is_empty() || !public_key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(DsnError::NoKey);
        }
        let mut segments: Vec<String> =
            url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let is_number = |project: &String| project.bytes().all(|byte| byte.is_ascii_digit());
        let project = segments.pop().filter(is_number).ok_or(DsnError::NoProject)?;
        segments.extend(["api".to_owned(), project.clone(), "store".to_owned(), String::new()]);
        // Both succeed for an address with a host.
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| DsnError::NoAddress)?;
        url.set_path(&segments.join("/"));
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self { store: url, public_key, project })
    }

    /// Where events are posted to: `/api/PROJECT/store/`, which every Sentry since 9.1 has.
    #[must_use]
    pub fn store(&self) -> &Url {
        &self.store
    }

    /// The key by which Sentry identifies the sender.
    #[must_use]
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// The number of the project.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The digest that represents it in a [`Fingerprint`](super::Fingerprint), and that distinguishes DSNs where the
    /// DSN itself must not be shown.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.store.as_str())
            .chain_update([0])
            .chain_update(&self.public_key)
            .finalize()
            .into()
    }
}

impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "project {} at {}", self.project, self.store.origin().ascii_serialization())
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dsn({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dsn_names_the_store_endpoint_of_its_project() {
        for (text, store) in [
            (
                "https://abc123@o1.ingest.sentry.io/4505518370586624",
                "https://o1.ingest.sentry.io/api/4505518370586624/store/",
            ),
            ("http://abc123:secret@127.0.0.1:9000/2", "http://127.0.0.1:9000/api/2/store/"),
            ("https://abc123@example.com/sentry/7/", "https://example.com/sentry/api/7/store/"),
        ] {
            let dsn = Dsn::parse(text).unwrap();
            assert_eq!((dsn.store().as_str(), dsn.public_key()), (store, "abc123"));
            assert!(!format!("{dsn:?} {dsn}").contains("abc123"), "the key is not shown");
        }
    }

    #[test]
    fn what_is_no_dsn_is_refused_and_not_repeated() {
        for (text, expected) in [
            ("abc123", DsnError::NoAddress),
            ("ftp://abc123@example.com/1", DsnError::NoAddress),
            ("https://example.com/1", DsnError::NoKey),
            ("https://a%22b@example.com/1", DsnError::NoKey),
            ("https://abc123@example.com/", DsnError::NoProject),
            ("https://abc123@example.com/shop", DsnError::NoProject),
        ] {
            let error = Dsn::parse(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("abc123"), "{error}");
        }
    }
}
