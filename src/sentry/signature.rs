//! Verifies that Sentry's integration platform sent a body.
//!
//! The signature is the HMAC-SHA256 of the raw body under the client secret, in lower-case hexadecimal digits
//! (`build_signature` in Sentry's `models/sentry_app.py`). It has to be checked over the bytes as received: JSON that was
//! parsed and written again differs in numbers, escapes and blanks (sentry#71025). Nothing else is signed, not even a
//! time, so the signature of a captured body stays valid for ever.

use std::fmt;

use crate::config::SigningSecret;

/// The header of webhooks.
pub const HOOK_SIGNATURE: &str = "Sentry-Hook-Signature";

/// The header of requests that Sentry's own pages send, such as the validation of an alert rule's action.
pub const APP_SIGNATURE: &str = "Sentry-App-Signature";

/// The header that says when a webhook was sent, in seconds since 1970. It is not signed.
pub const HOOK_TIMESTAMP: &str = "Sentry-Hook-Timestamp";

/// The value of a signature header.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Signature([u8; 32]);

impl Signature {
    /// Parses 64 lower-case hexadecimal digits; `None` for anything else.
    #[must_use]
    pub fn parse(text: &[u8]) -> Option<Self> {
        let digits = text.trim_ascii();
        let mut bytes = [0; 32];
        hex::decode_to_slice(digits, &mut bytes).ok()?;
        // Sentry writes lower case, and one form of a signature is enough.
        (!digits.iter().any(u8::is_ascii_uppercase)).then_some(Self(bytes))
    }

    /// The signature of `body` with `secret`.
    #[must_use]
    pub fn of(body: &[u8], secret: &SigningSecret) -> Self {
        Self(secret.sign(body))
    }

    /// The signature that has these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn bytes(&self) -> [u8; 32] {
        self.0
    }

    /// Whether it is the signature of `body` with any of the secrets. All of them are tried, each in constant time.
    #[must_use]
    pub fn is_by(&self, secrets: &[SigningSecret], body: &[u8]) -> bool {
        secrets.iter().fold(false, |right, secret| secret.signed(body, &self.0) | right)
    }
}

impl fmt::Display for Signature {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "old-client-secret-of-the-integration";
    const NEW: &str = "new-client-secret-of-the-integration";
    const BODY: &[u8] = b"{\"action\": \"resolved\", \"data\": {\"score\": 10.0, \"text\": \"caf\\u00e9\"}}";

    /// By `printf %s BODY | openssl dgst -sha256 -hmac OLD`.
    const BY_OLD: &str = "d6d06efaabbd08cce9b23865a2398ad5fbed3f69d677e34adb98f70749c26172";

    /// The same with NEW.
    const BY_NEW: &str = "a14bbe833760a0d51ebca8ce097519e15cc5be7a2172c16002e0bd8f178a6177";

    fn is_signed(secrets: &str, body: &[u8], signature: &str) -> bool {
        let secrets = SigningSecret::parse_sentry_list(secrets).unwrap();
        Signature::parse(signature.as_bytes()).is_some_and(|signature| signature.is_by(&secrets, body))
    }

    #[test]
    fn the_signature_of_the_raw_body_is_right() {
        assert!(is_signed(OLD, BODY, BY_OLD));
        assert!(is_signed(NEW, BODY, BY_NEW));
        let secret = SigningSecret::parse_sentry_list(OLD).unwrap();
        assert_eq!(Signature::of(BODY, &secret[0]).to_string(), BY_OLD);
    }

    #[test]
    fn while_rotating_both_secrets_are_right_and_afterwards_one() {
        let both = format!("{NEW},{OLD}");
        assert!(is_signed(&both, BODY, BY_OLD));
        assert!(is_signed(&both, BODY, BY_NEW));
        assert!(!is_signed(NEW, BODY, BY_OLD));
    }

    #[test]
    fn a_body_that_was_touched_is_not_signed() {
        let mut tampered = BODY.to_vec();
        tampered[12] ^= 1;
        assert!(!is_signed(OLD, &tampered, BY_OLD));
        assert!(!is_signed(OLD, &BODY[..BODY.len() - 1], BY_OLD));

        let written_again = serde_json::from_slice::<serde_json::Value>(BODY).unwrap().to_string();
        assert_ne!(written_again.as_bytes(), BODY);
        assert!(!is_signed(OLD, written_again.as_bytes(), BY_OLD));
    }

    #[test]
    fn what_is_no_signature_is_none() {
        assert!(is_signed(OLD, BODY, &format!(" {BY_OLD} ")));
        let odd = [
            String::new(),
            BY_OLD[1..].to_owned(),
            format!("{BY_OLD}0"),
            BY_OLD.to_uppercase(),
            format!("sha256={BY_OLD}"),
            "g".repeat(64),
            "é".repeat(32),
        ];
        for signature in odd {
            assert_eq!(Signature::parse(signature.as_bytes()), None, "{signature}");
        }
    }
}
