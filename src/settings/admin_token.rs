//! The secret that opens the status page and `/api`.

use thiserror::Error;

use super::{WebhookToken, WebhookTokenError};

/// A secret that opens the status page and `/api`; kept like a [`WebhookToken`], and never one of those.
#[derive(Clone, Debug)]
pub struct AdminToken(WebhookToken);

/// Why a text is no list of [`AdminToken`]s; never repeats it.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum AdminTokenError {
    /// A text that is no token.
    #[error(transparent)]
    Token(#[from] WebhookTokenError),
    /// A token that opens the webhook as well.
    #[error(
        "holds a token of BRIDGE_WEBHOOK_TOKEN, which Sentry and access logs know: make another one with \
         `openssl rand -hex 24`"
    )]
    OfTheWebhook,
}

impl AdminToken {
    /// Reads one token or, while rotating, several with commas between, none of which may be among `of_the_webhook`;
    /// never returns an empty list.
    ///
    /// # Errors
    ///
    /// When a token is none that a [`WebhookToken`] could be, or is one of those, and when there is none.
    pub fn parse_list(text: &str, of_the_webhook: &[WebhookToken]) -> Result<Vec<Self>, AdminTokenError> {
        let tokens = WebhookToken::parse_list(text)?;
        let is_known = |token: &WebhookToken| of_the_webhook.iter().any(|other| token.is_same(other));
        if tokens.iter().any(is_known) {
            return Err(AdminTokenError::OfTheWebhook);
        }
        Ok(tokens.into_iter().map(Self).collect())
    }

    /// Whether `candidate` is this token, in a time that depends on the candidate alone.
    #[must_use]
    pub fn matches(&self, candidate: &[u8]) -> bool {
        self.0.matches(candidate)
    }

    /// What stands for it in a [`Fingerprint`](super::Fingerprint); not to be shown.
    pub(super) fn fingerprint(&self) -> [u8; 32] {
        self.0.fingerprint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKEN: &str = "b9d1c2a47f6e5d80";

    #[test]
    fn a_token_of_the_webhook_is_none_for_the_admin() {
        let webhook = WebhookToken::parse_list(TOKEN).unwrap();
        let list = format!("another-{TOKEN},{TOKEN}");
        assert_eq!(AdminToken::parse_list(&list, &webhook).unwrap_err(), AdminTokenError::OfTheWebhook);
        let tokens = AdminToken::parse_list(&list, &[]).unwrap();
        assert!(tokens[1].matches(TOKEN.as_bytes()) && !tokens[0].matches(TOKEN.as_bytes()));
        assert!(!format!("{tokens:?}").contains(TOKEN));
    }
}
