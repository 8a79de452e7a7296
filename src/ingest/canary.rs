//! The mark of the canary. The canary is an event that the bridge sends through Sentry; the bridge has to recognise its
//! webhook in every form, so that it never pages.
//!
//! Webhooks about an event carry its id, which Sentry neither shortens nor scrubs. The id is a UUID of version 7 whose
//! last 62 bits are a message authentication code of the bits before them. Webhooks about an issue have no event id;
//! there the title is compared, which ends with such a code too. The key of both codes is the default service key, which
//! no outsider has, so that no alert can be passed off as a canary.

use std::fmt;

use chrono::{DateTime, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use crate::alert::Alert;
use crate::config::Dsn;
use crate::pagerduty::ServiceKey;

/// The tag that the canary's alert in Sentry requires.
pub const TAG: &str = "bridge_canary";

/// The inputs of the code in event ids and of the code in titles. They differ, so that one code cannot be used as the
/// other.
const OF_EVENT: &[u8] = b"sentry-pagerduty-bridge canary event";
const OF_TITLE: &[u8] = b"sentry-pagerduty-bridge canary title";

/// The version bits in the first half of a UUID, and their value for version 7.
const VERSION: u64 = 0xf000;
const VERSION_7: u64 = 0x7000;

/// The variant bits in the second half of a UUID, and the remaining bits, which hold the code.
const VARIANT: u64 = 0b10 << 62;
const CODE_BITS: u64 = (1 << 62) - 1;

/// The value of [`TAG`] for canaries of this DSN. It is not secret, and stays the same as long as the DSN does.
#[must_use]
pub fn tag_value(dsn: &Dsn) -> String {
    hex::encode(&dsn.digest()[..6])
}

/// The id of a canary's event; `Display` writes 32 hexadecimal digits, as Sentry does.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CanaryId(u128);

impl CanaryId {
    /// Parses 32 hexadecimal digits. Does not check that the bridge made the id.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let is_hex = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        u128::from_str_radix(text, 16).ok().filter(|_| is_hex).map(Self)
    }
}

impl fmt::Display for CanaryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

/// Makes the ids and titles of canaries, and recognises them.
#[derive(Clone)]
pub struct CanaryMark(Hmac<Sha256>);

impl fmt::Debug for CanaryMark {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("CanaryMark(…)")
    }
}

impl CanaryMark {
    /// The mark of the bridge with this default service key.
    #[must_use]
    pub fn new(default_key: &ServiceKey) -> Self {
        // A key as long as HMAC's block. HMAC itself fills shorter keys with zeros.
        let mut key = [0; 64];
        key[..32].copy_from_slice(&Sha256::digest(default_key.expose()));
        Self(Hmac::new(&key.into()))
    }

    /// The id of a canary that is sent at `at`; `random` distinguishes canaries of the same millisecond.
    #[must_use]
    pub fn event_id(&self, at: DateTime<Utc>, random: u16) -> CanaryId {
        let milliseconds = u64::try_from(at.timestamp_millis()).unwrap_or_default();
        let first = (milliseconds << 16) | VERSION_7 | (u64::from(random) & 0x0fff);
        let second = VARIANT | self.code(first);
        CanaryId((u128::from(first) << 64) | u128::from(second))
    }

    /// The title of the canary's issue.
    #[must_use]
    pub fn title(&self) -> String {
        let code = self.0.clone().chain_update(OF_TITLE).finalize().into_bytes();
        format!("sentry-pagerduty-bridge canary {}", hex::encode(&code[..12]))
    }

    /// Returns `Some` if `alert` is about a canary, with the id of its event if it is about one event.
    #[must_use]
    pub fn recognize(&self, alert: &Alert) -> Option<Option<CanaryId>> {
        let Some(id) = &alert.event_id else {
            let mut titles = [&alert.title, &alert.message].into_iter().flatten();
            return titles.any(|title| self.is_title(title)).then_some(None);
        };
        let id = CanaryId::parse(id)?;
        let [first, second] =
            [id.0 >> 64, id.0 & u128::from(u64::MAX)].map(|half| u64::try_from(half).unwrap_or_default());
        // Sentry's own ids have version 4; no code has to be computed for them.
        if first & VERSION != VERSION_7 {
            return None;
        }
        let expected = VARIANT | self.code(first);
        bool::from(second.ct_eq(&expected)).then_some(Some(id))
    }

    /// Whether this is the title of the canary's issue.
    #[must_use]
    pub fn is_title(&self, title: &str) -> bool {
        title.as_bytes().ct_eq(self.title().as_bytes()).into()
    }

    fn code(&self, first: u64) -> u64 {
        let code = self.0.clone().chain_update(OF_EVENT).chain_update(first.to_be_bytes()).finalize().into_bytes();
        let mut bytes = [0; 8];
        bytes.copy_from_slice(&code[..8]);
        u64::from_be_bytes(bytes) & CODE_BITS
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ingest::Webhook;

    const KEY: &str = "0123456789abcdef0123456789abcdef";

    fn mark(key: &str) -> CanaryMark {
        CanaryMark::new(&ServiceKey::parse(key).unwrap())
    }

    fn at() -> DateTime<Utc> {
        "2026-11-26T18:00:00.123Z".parse().unwrap()
    }

    fn alert_of(event_id: &str, title: &str) -> Alert {
        let body = serde_json::json!({
            "id": "7", "project": "shop", "url": "http://sentry.example/organizations/acme/issues/7/",
            "event": {"event_id": event_id, "title": title},
        });
        Webhook::of_body(body.to_string().as_bytes(), at()).parse().unwrap().0
    }

    #[test]
    fn an_event_id_is_a_uuid_of_version_7_that_begins_with_its_time() {
        let id = mark(KEY).event_id(at(), 0xffff).to_string();
        assert_eq!(id.len(), 32);
        assert_eq!(&id[..16], format!("{:012x}7fff", at().timestamp_millis()));
        assert!(matches!(&id[16..17], "8" | "9" | "a" | "b"), "{id}");
        assert_eq!(CanaryId::parse(&id), Some(mark(KEY).event_id(at(), 0xffff)));
    }

    #[test]
    fn only_who_has_the_key_makes_an_event_that_is_taken_for_a_canary() {
        let id = mark(KEY).event_id(at(), 5);
        assert_eq!(mark(KEY).recognize(&alert_of(&id.to_string(), "any")), Some(Some(id)));
        assert_eq!(mark(&KEY.replace('0', "1")).recognize(&alert_of(&id.to_string(), "any")), None);
        for bit in 0..128 {
            let other = CanaryId(id.0 ^ (1 << bit)).to_string();
            assert_eq!(mark(KEY).recognize(&alert_of(&other, "any")), None, "bit {bit}");
        }
        // The sender of an event can choose its title, so the title counts only in webhooks without an event.
        let title = mark(KEY).title();
        assert_eq!(mark(KEY).recognize(&alert_of("0123456789abcdef0123456789abcdef", &title)), None);
        assert_eq!(mark(KEY).recognize(&alert_of("", &title)), Some(None));
        assert_eq!(mark(KEY).recognize(&alert_of("", &format!("{title} "))), None);
    }
}
