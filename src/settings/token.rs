//! The secret that opens the webhook.

use std::fmt;

use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use thiserror::Error;

/// A secret in the webhook's address.
///
/// Only its SHA-256 is kept, so neither `Debug` nor a dump of the memory tells it.
#[derive(Clone)]
pub struct WebhookToken([u8; 32]);

/// Why a text is no list of [`WebhookToken`]s; never repeats it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum WebhookTokenError {
    /// Nothing but commas.
    #[error("holds no token: make one with `openssl rand -hex 24`")]
    None,
    /// A token that could be guessed.
    #[error(
        "has {length} characters in token {place}, but it takes {}: make one with `openssl rand -hex 24`",
        WebhookToken::MIN_LENGTH
    )]
    Short {
        /// Which of the tokens, from 1.
        place: usize,
        /// How many characters it has.
        length: usize,
    },
    /// A token that a web address cannot hold as it stands.
    #[error(
        "has a character in token {place} that does not stand in a web address as it is: keep to letters, digits and \
         `-._~+=`, as `openssl rand -hex 24` does"
    )]
    Characters {
        /// Which of the tokens, from 1.
        place: usize,
    },
}

impl WebhookToken {
    /// The fewest characters a token may have.
    pub const MIN_LENGTH: usize = 16;

    /// Reads one token or, while rotating, several with commas between; never returns an empty list.
    ///
    /// # Errors
    ///
    /// When a token is shorter than [`WebhookToken::MIN_LENGTH`] or holds something besides ASCII letters, digits and
    /// `-._~+=`, and when there is none.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, WebhookTokenError> {
        let tokens = text
            .split(',')
            .map(str::trim)
            .filter(|token| !token.is_empty())
            .enumerate()
            .map(|(index, token)| Self::parse(token, index + 1))
            .collect::<Result<Vec<_>, _>>()?;
        if tokens.is_empty() { Err(WebhookTokenError::None) } else { Ok(tokens) }
    }

    fn parse(token: &str, place: usize) -> Result<Self, WebhookTokenError> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+=".contains(&byte);
        if !token.bytes().all(fits) {
            return Err(WebhookTokenError::Characters { place });
        }
        if token.len() < Self::MIN_LENGTH {
            return Err(WebhookTokenError::Short { place, length: token.len() });
        }
        Ok(Self(Sha256::digest(token).into()))
    }

    /// Whether `candidate` is this token. The time it takes depends on the candidate alone: comparing digests tells
    /// neither how much of it was right nor how long the token is.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        let digest: [u8; 32] = Sha256::digest(candidate).into();
        self.0.ct_eq(&digest).into()
    }

    /// What stands for it in a [`Fingerprint`](super::Fingerprint); not to be shown.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        self.0
    }

    /// Whether both are the same secret.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.0.ct_eq(&other.0).into()
    }
}

impl fmt::Debug for WebhookToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WebhookToken(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "b9d1c2a47f6e5d80";

    #[test]
    fn a_token_matches_itself_alone() {
        let tokens = WebhookToken::parse_list(TOKEN).unwrap();
        assert!(tokens[0].matches(TOKEN.as_bytes()));
        for other in ["", "b9d1c2a47f6e5d8", "b9d1c2a47f6e5d800", "B9D1C2A47F6E5D80", "b9d1c2a47f6e5d80\n"] {
            assert!(!tokens[0].matches(other.as_bytes()), "{other:?}");
        }
    }

    #[test]
    fn several_tokens_open_while_rotating() {
        let tokens = WebhookToken::parse_list(&format!("{TOKEN}, another.token+of_~mine= ,")).unwrap();
        assert_eq!(tokens.len(), 2);
        assert!(tokens[1].matches(b"another.token+of_~mine="));
    }

    #[test]
    fn what_is_no_token_is_refused_without_repeating_it() {
        let fault = |text: &str| WebhookToken::parse_list(text).unwrap_err();
        assert_eq!(fault(" , ,"), WebhookTokenError::None);
        assert_eq!(fault("0123456789abcde"), WebhookTokenError::Short { place: 1, length: 15 });
        assert_eq!(fault(&format!("{TOKEN},short")), WebhookTokenError::Short { place: 2, length: 5 });
        for bad in ['/', '?', '#', '%', ' ', '\t', '@', ':', '\\', '"', 'é', '\u{7f}'] {
            let text = format!("{TOKEN}{bad}{TOKEN}");
            assert_eq!(fault(&text), WebhookTokenError::Characters { place: 1 }, "{bad:?}");
        }
    }

    #[test]
    fn a_token_is_never_printed() {
        let tokens = WebhookToken::parse_list(TOKEN).unwrap();
        assert_eq!(format!("{tokens:?}"), "[WebhookToken(…)]");
    }
}
