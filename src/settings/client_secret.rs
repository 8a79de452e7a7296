//! The secret that Sentry signs webhooks of the integration platform with.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use thiserror::Error;

/// The client secret of a Sentry integration.
///
/// Only the state that HMAC-SHA256 begins with is kept, so neither `Debug` nor a dump of the memory tells it.
#[derive(Clone)]
pub struct ClientSecret(Hmac<Sha256>);

/// Why a text is no list of [`ClientSecret`]s; never repeats it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum ClientSecretError {
    /// Nothing but commas.
    #[error("holds no secret: copy the Client Secret from the page of the integration in Sentry")]
    None,
    /// A secret that Sentry did not make.
    #[error(
        "has {length} characters in secret {place}, but it takes {}: copy the Client Secret from the page of the \
         integration in Sentry",
        ClientSecret::MIN_LENGTH
    )]
    Short {
        /// Which of the secrets, from 1.
        place: usize,
        /// How many characters it has.
        length: usize,
    },
    /// A blank or the like inside a secret.
    #[error("has a character in secret {place} that no secret of Sentry has: it is made of letters and digits")]
    Characters {
        /// Which of the secrets, from 1.
        place: usize,
    },
}

impl ClientSecret {
    /// The fewest characters a secret may have; Sentry's have 64.
    pub const MIN_LENGTH: usize = 16;

    /// Reads one secret or, while rotating, several with commas between; never returns an empty list.
    ///
    /// # Errors
    ///
    /// When a secret is shorter than [`ClientSecret::MIN_LENGTH`] or holds something besides ASCII letters, digits and
    /// signs, and when there is none.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, ClientSecretError> {
        let secrets = text
            .split(',')
            .map(str::trim)
            .filter(|secret| !secret.is_empty())
            .enumerate()
            .map(|(index, secret)| Self::parse(secret, index + 1))
            .collect::<Result<Vec<_>, _>>()?;
        if secrets.is_empty() { Err(ClientSecretError::None) } else { Ok(secrets) }
    }

    fn parse(secret: &str, place: usize) -> Result<Self, ClientSecretError> {
        if !secret.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(ClientSecretError::Characters { place });
        }
        let short = ClientSecretError::Short { place, length: secret.len() };
        if secret.len() < Self::MIN_LENGTH {
            return Err(short);
        }
        // HMAC takes keys of any length.
        Hmac::new_from_slice(secret.as_bytes()).map(Self).map_err(|_| short)
    }

    /// Whether `signature` is the HMAC-SHA256 of `message` under this secret, in constant time.
    #[must_use]
    pub fn signed(&self, message: &[u8], signature: &[u8; 32]) -> bool {
        self.0.clone().chain_update(message).verify(signature.into()).is_ok()
    }

    /// What stands for it in a [`Fingerprint`](super::Fingerprint): its signature of a text that is no webhook; not to
    /// be shown.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        self.0.clone().chain_update("fingerprint").finalize().into_bytes().into()
    }
}

impl fmt::Debug for ClientSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ClientSecret(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "5f1d3b7a9c2e4f60";

    #[test]
    fn several_secrets_are_read_while_rotating() {
        assert_eq!(ClientSecret::parse_list(SECRET).unwrap().len(), 1);
        assert_eq!(ClientSecret::parse_list(&format!("{SECRET}, {SECRET}0 ,")).unwrap().len(), 2);
    }

    #[test]
    fn what_is_no_secret_is_refused_without_repeating_it() {
        let fault = |text: &str| ClientSecret::parse_list(text).unwrap_err();
        assert_eq!(fault(" , ,"), ClientSecretError::None);
        assert_eq!(fault(&SECRET[1..]), ClientSecretError::Short { place: 1, length: 15 });
        assert_eq!(fault(&format!("{SECRET},short")), ClientSecretError::Short { place: 2, length: 5 });
        for bad in [' ', '\t', 'é', '\u{7f}'] {
            assert_eq!(fault(&format!("{SECRET}{bad}{SECRET}")), ClientSecretError::Characters { place: 1 }, "{bad:?}");
        }
    }

    #[test]
    fn a_secret_is_never_printed() {
        assert_eq!(format!("{:?}", ClientSecret::parse_list(SECRET).unwrap()), "[ClientSecret(…)]");
    }
}
