//! What a browser holds after its log-in: a cookie that proves itself, so that the bridge remembers nothing but which
//! sessions were ended before their time. Pure.

use std::collections::HashMap;
use std::fmt;

use actix_web::http::header::{COOKIE, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;
use subtle::ConstantTimeEq;

/// The cookie's name.
const NAME: &str = "bridge_session";

/// What a seal is put under says what it is for, so that none of one kind passes for the other.
const SESSION: &[u8] = b"session";
const CSRF: &[u8] = b"csrf";

/// How long a session lasts.
pub const LIFE: TimeDelta = TimeDelta::hours(12);

/// Puts seals (HMAC-SHA256) under sessions and knows its own again.
#[derive(Clone)]
pub struct Seal(Hmac<Sha256>);

/// A browser that has shown a right token.
#[derive(Clone, Eq, PartialEq)]
pub struct Session {
    id: [u8; 16],
    cookie: String,
    csrf: String,
    ends_at: DateTime<Utc>,
}

/// The sessions that were ended by logging out, each of which its cookie would prove until its twelve hours are over.
#[derive(Debug, Default)]
pub struct Ended {
    ids: HashMap<[u8; 16], DateTime<Utc>>,
    /// Every session that would end by then has been ended.
    until: Option<DateTime<Utc>>,
}

impl Ended {
    /// How many are told apart. Beyond it all that began before the newest of them are ended.
    const MOST: usize = 10_000;

    /// Ends a session for good. No clock makes it valid again, nor does anybody else's logging out.
    pub fn end(&mut self, session: &Session) {
        if self.ids.len() >= Self::MOST {
            self.until = self.ids.drain().map(|(_, ends_at)| ends_at).chain(self.until).max();
        }
        self.ids.insert(session.id, session.ends_at);
    }

    /// Whether a session was ended.
    #[must_use]
    pub fn has(&self, session: &Session) -> bool {
        self.ids.contains_key(&session.id) || self.until.is_some_and(|until| session.ends_at <= until)
    }
}

impl Seal {
    /// The seal of a secret that nobody else has.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        let mut block = [0; 64];
        block[..32].copy_from_slice(secret);
        // HMAC fills a key up to a block with zeros, so this is the HMAC of the 32 bytes, made without a way to fail.
        Self(Hmac::new(&block.into()))
    }

    /// A session from `now` on, named by the random bytes `id`.
    #[must_use]
    pub fn begin(&self, id: [u8; 16], now: DateTime<Utc>) -> Session {
        let mut claim = [0; 24];
        claim[..16].copy_from_slice(&id);
        claim[16..].copy_from_slice(&(now + LIFE).timestamp().to_be_bytes());
        self.session(&claim)
    }

    /// The session that a cookie's value proves, if this seal is under it and it has not ended.
    #[must_use]
    pub fn open(&self, value: &str, now: DateTime<Utc>) -> Option<Session> {
        let bytes: [u8; 56] = URL_SAFE_NO_PAD.decode(value).ok()?.try_into().ok()?;
        let (claim, seal) = bytes.split_first_chunk::<24>()?;
        self.under(SESSION, claim).verify_slice(seal).ok()?;
        Some(self.session(claim)).filter(|session| now < session.ends_at)
    }

    fn session(&self, claim: &[u8; 24]) -> Session {
        let (id, _) = claim.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
        let seconds = claim.last_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
        let seal = self.under(SESSION, claim).finalize().into_bytes();
        Session {
            id: *id,
            cookie: URL_SAFE_NO_PAD.encode([claim, &seal[..]].concat()),
            csrf: URL_SAFE_NO_PAD.encode(self.under(CSRF, claim).finalize().into_bytes()),
            ends_at: DateTime::from_timestamp(seconds, 0).unwrap_or_default(),
        }
    }

    fn under(&self, purpose: &[u8], claim: &[u8; 24]) -> Hmac<Sha256> {
        self.0.clone().chain_update(purpose).chain_update(claim)
    }
}

impl Session {
    /// The value of `Set-Cookie` that hands it to the browser. With `secure` the browser sends it by https alone; see
    /// [`came_by_https`](super::origin::came_by_https).
    #[must_use]
    pub fn cookie(&self, secure: bool) -> String {
        set(&self.cookie, LIFE.num_seconds(), secure)
    }

    /// The value of `Set-Cookie` that takes it from the browser.
    #[must_use]
    pub fn end() -> String {
        set("", 0, false)
    }

    /// What every form of the page carries, to show that the page wrote it: another site cannot read it.
    #[must_use]
    pub fn csrf(&self) -> &str {
        &self.csrf
    }

    /// Whether that is what a form carried, in constant time.
    #[must_use]
    pub fn is_csrf_right(&self, candidate: &str) -> bool {
        self.csrf.as_bytes().ct_eq(candidate.as_bytes()).into()
    }

    /// When it ends.
    #[must_use]
    pub fn ends_at(&self) -> DateTime<Utc> {
        self.ends_at
    }
}

fn set(value: &str, seconds: i64, secure: bool) -> String {
    let secure = if secure { "; Secure" } else { "" };
    format!("{NAME}={value}; Max-Age={seconds}; Path=/; HttpOnly; SameSite=Strict{secure}")
}

/// The values of this cookie in a request, of which a browser sends one at most.
pub(super) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let pairs = headers.get_all(COOKIE).filter_map(|header| header.to_str().ok()).flat_map(|header| header.split(';'));
    let values = pairs.filter_map(|pair| pair.trim().strip_prefix(NAME)?.strip_prefix('='));
    // So that nobody has seals checked over and over.
    values.take(2)
}

impl fmt::Debug for Seal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Seal(…)")
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session(until {})", self.ends_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

    #[test]
    fn a_session_lasts_twelve_hours() {
        let seal = Seal::new(&[7; 32]);
        let session = seal.begin([1; 16], NOW);
        assert_eq!(session.ends_at(), NOW + LIFE);
        let second = TimeDelta::seconds(1);
        assert_eq!(seal.open(&session.cookie, NOW + LIFE - second), Some(session.clone()));
        assert_eq!(seal.open(&session.cookie, NOW + LIFE), None);
        assert!(seal.begin([1; 16], NOW + second).cookie != session.cookie);
    }

    #[test]
    fn what_was_ended_stays_ended_however_many_there_are() {
        let seal = Seal::new(&[7; 32]);
        let session = |number: u32, now| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            seal.begin(id, now)
        };
        let most = u32::try_from(Ended::MOST).unwrap();
        let mut ended = Ended::default();
        for number in 0..3 * most {
            ended.end(&session(number, NOW));
        }
        assert!((0..3 * most).step_by(997).all(|number| ended.has(&session(number, NOW))));
        assert!(ended.ids.len() <= Ended::MOST);
        assert!(!ended.has(&session(3 * most, NOW + TimeDelta::seconds(1))), "what began later goes on");
    }

    #[test]
    fn nothing_in_a_cookie_can_be_changed() {
        let seal = Seal::new(&[7; 32]);
        let bytes = URL_SAFE_NO_PAD.decode(seal.begin([1; 16], NOW).cookie).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(seal.open(&URL_SAFE_NO_PAD.encode(changed), NOW), None, "bit {bit}");
        }
        for odd in ["", "=", "ü", &URL_SAFE_NO_PAD.encode(&bytes[1..]), &URL_SAFE_NO_PAD.encode([0; 56])] {
            assert_eq!(seal.open(odd, NOW), None, "{odd}");
        }
        assert_eq!(Seal::new(&[8; 32]).open(&URL_SAFE_NO_PAD.encode(bytes), NOW), None);
    }

    #[test]
    fn the_word_of_a_form_belongs_to_one_session_and_is_not_its_cookie() {
        let seal = Seal::new(&[7; 32]);
        let (one, other) = (seal.begin([1; 16], NOW), seal.begin([2; 16], NOW));
        assert!(one.is_csrf_right(one.csrf()) && !one.is_csrf_right(other.csrf()) && !one.is_csrf_right(""));
        assert!(!one.cookie.contains(one.csrf()));
    }

    #[test]
    fn a_seal_is_an_hmac_under_the_secret_itself() {
        let whole: Hmac<Sha256> = Hmac::new_from_slice(&[7; 32]).unwrap();
        let whole = whole.chain_update(SESSION).chain_update([0; 24]).finalize().into_bytes();
        assert_eq!(Seal::new(&[7; 32]).under(SESSION, &[0; 24]).finalize().into_bytes(), whole);
    }

    #[test]
    fn the_cookie_is_for_this_site_and_no_script() {
        let session = Seal::new(&[7; 32]).begin([1; 16], NOW);
        let value = &session.cookie;
        let usual = format!("bridge_session={value}; Max-Age=43200; Path=/; HttpOnly; SameSite=Strict");
        assert_eq!(session.cookie(false), usual);
        assert_eq!(session.cookie(true), format!("{usual}; Secure"));
        assert_eq!(Session::end(), "bridge_session=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict");
        assert!(!format!("{session:?}").contains(value));
    }
}
