//! The session cookie that a browser gets at log-in, and the site that a form was sent from according to the browser.
//! Pure.
//!
//! The cookie is signed, so that the bridge only has to keep the sessions that were ended by logging out. No other site
//! can use it: it is `SameSite=Strict`, and a form is accepted only if the browser says that a page of the same origin
//! sent it.

use std::collections::HashMap;
use std::fmt;

use actix_web::http::header::{COOKIE, HOST, HeaderMap, HeaderValue, ORIGIN};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The cookie's name.
const NAME: &str = "bridge_session";

/// The prefix of the signed data, which states its purpose.
const SESSION: &[u8] = b"session";

/// The header in which browsers say how the page that sent a request relates to the bridge's origin. Pages cannot set it.
/// Browsers send it only to https and loopback addresses.
const FETCH_SITE: &str = "Sec-Fetch-Site";

/// How long a session lasts.
const LIFE: TimeDelta = TimeDelta::hours(12);

/// Signs sessions (HMAC-SHA256).
#[derive(Clone)]
pub struct SessionKey(Hmac<Sha256>);

/// The session of a browser that has logged in.
#[derive(Clone, Eq, PartialEq)]
pub struct Session {
    id: [u8; 16],
    cookie: String,
    ends_at: DateTime<Utc>,
}

/// The sessions that were ended by logging out; their cookies would be valid until their twelve hours are over.
#[derive(Debug, Default)]
pub struct EndedSessions {
    ids: HashMap<[u8; 16], DateTime<Utc>>,
    /// Every session that would expire by then counts as ended.
    until: Option<DateTime<Utc>>,
}

impl EndedSessions {
    /// How many are kept at most. Beyond that, every session that began no later than the newest of them is ended.
    const MOST: usize = 10_000;

    /// Ends a session for good, whatever the clock does and however many others are ended.
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

impl SessionKey {
    /// Creates a key that signs with this secret.
    #[must_use]
    pub fn new(secret: &[u8; 32]) -> Self {
        let mut block = [0; 64];
        block[..32].copy_from_slice(secret);
        // HMAC fills a key up to a block with zeros, so this is the HMAC of the 32 bytes, made without a way to fail.
        Self(Hmac::new(&block.into()))
    }

    /// Begins a session at `now` that is identified by the random bytes `id`.
    #[must_use]
    pub fn begin(&self, id: [u8; 16], now: DateTime<Utc>) -> Session {
        let mut claim = [0; 24];
        claim[..16].copy_from_slice(&id);
        claim[16..].copy_from_slice(&(now + LIFE).timestamp().to_be_bytes());
        self.session(&claim)
    }

    /// The session of a cookie's value, if it is signed with this key and has not ended.
    #[must_use]
    pub fn open(&self, value: &str, now: DateTime<Utc>) -> Option<Session> {
        let bytes: [u8; 56] = URL_SAFE_NO_PAD.decode(value).ok()?.try_into().ok()?;
        let (claim, signature) = bytes.split_first_chunk::<24>()?;
        self.hmac(claim).verify_slice(signature).ok()?;
        Some(self.session(claim)).filter(|session| now < session.ends_at)
    }

    fn session(&self, claim: &[u8; 24]) -> Session {
        let (id, _) = claim.split_first_chunk::<16>().unwrap_or((&[0; 16], &[]));
        let seconds = claim.last_chunk().map_or(0, |bytes| i64::from_be_bytes(*bytes));
        let signature = self.hmac(claim).finalize().into_bytes();
        Session {
            id: *id,
            cookie: URL_SAFE_NO_PAD.encode([claim, &signature[..]].concat()),
            ends_at: DateTime::from_timestamp(seconds, 0).unwrap_or_default(),
        }
    }

    fn hmac(&self, claim: &[u8; 24]) -> Hmac<Sha256> {
        self.0.clone().chain_update(SESSION).chain_update(claim)
    }
}

impl Session {
    /// The value of `Set-Cookie`. With `secure`, the browser sends the cookie only over https; see [`is_https`].
    #[must_use]
    pub fn cookie(&self, secure: bool) -> String {
        set(&self.cookie, LIFE.num_seconds(), secure)
    }

    /// The value of `Set-Cookie` that deletes the cookie.
    #[must_use]
    pub fn end() -> String {
        set("", 0, false)
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

/// The values of this cookie in a request. A browser sends at most one.
pub(super) fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let pairs = headers.get_all(COOKIE).filter_map(|header| header.to_str().ok()).flat_map(|header| header.split(';'));
    let values = pairs.filter_map(|pair| pair.trim().strip_prefix(NAME)?.strip_prefix('='));
    // So that a client cannot have signatures verified over and over.
    values.take(2)
}

/// Where a browser says that a form was sent from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum FormOrigin {
    /// A page of this origin.
    Same,
    /// A page of another origin, which includes another port of this host.
    Other,
    /// Not known: this client does not say where the form was sent from, although every browser does.
    Unknown,
}

impl FormOrigin {
    /// Determines the origin from the headers of the browser.
    ///
    /// A page with `Referrer-Policy: no-referrer` sends `Origin: null`, which counts as another origin; a page with
    /// `same-origin` does not.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let is_same = if let Some(site) = headers.get(FETCH_SITE) {
            // `none`: the user made the request, not a page.
            site == "same-origin" || site == "none"
        } else if let Some(origin) = headers.get(ORIGIN) {
            let authority =
                origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, authority)| authority);
            let host = headers.get(HOST).map(HeaderValue::as_bytes);
            authority.zip(host).is_some_and(|(authority, host)| {
                !authority.is_empty() && authority.as_bytes().eq_ignore_ascii_case(host)
            })
        } else {
            return Self::Unknown;
        };
        if is_same { Self::Same } else { Self::Other }
    }
}

/// Whether the browser says that it sent a form over https.
///
/// The bridge itself speaks http, and ignores X-Forwarded-*. But the browser knows, and a client that forges this harms
/// only itself: it decides whether its own cookie is `Secure`.
#[must_use]
pub fn is_https(headers: &HeaderMap) -> bool {
    headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

impl fmt::Debug for SessionKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionKey(…)")
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Session(until {})", self.ends_at)
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderName;

    use super::*;

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

    #[test]
    fn a_session_lasts_twelve_hours() {
        let key = SessionKey::new(&[7; 32]);
        let session = key.begin([1; 16], NOW);
        assert_eq!(session.ends_at(), NOW + LIFE);
        let second = TimeDelta::seconds(1);
        assert_eq!(key.open(&session.cookie, NOW + LIFE - second), Some(session.clone()));
        assert_eq!(key.open(&session.cookie, NOW + LIFE), None);
        assert!(key.begin([1; 16], NOW + second).cookie != session.cookie);
    }

    #[test]
    fn what_was_ended_stays_ended_however_many_there_are() {
        let key = SessionKey::new(&[7; 32]);
        let session = |number: u32, now| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            key.begin(id, now)
        };
        let most = u32::try_from(EndedSessions::MOST).unwrap();
        let mut ended = EndedSessions::default();
        for number in 0..3 * most {
            ended.end(&session(number, NOW));
        }
        assert!((0..3 * most).step_by(997).all(|number| ended.has(&session(number, NOW))));
        assert!(ended.ids.len() <= EndedSessions::MOST);
        assert!(!ended.has(&session(3 * most, NOW + TimeDelta::seconds(1))), "what began later goes on");
    }

    #[test]
    fn nothing_in_a_cookie_can_be_changed() {
        let key = SessionKey::new(&[7; 32]);
        let bytes = URL_SAFE_NO_PAD.decode(key.begin([1; 16], NOW).cookie).unwrap();
        for bit in 0..bytes.len() * 8 {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(key.open(&URL_SAFE_NO_PAD.encode(changed), NOW), None, "bit {bit}");
        }
        for odd in ["", "=", "ü", &URL_SAFE_NO_PAD.encode(&bytes[1..]), &URL_SAFE_NO_PAD.encode([0; 56])] {
            assert_eq!(key.open(odd, NOW), None, "{odd}");
        }
        assert_eq!(SessionKey::new(&[8; 32]).open(&URL_SAFE_NO_PAD.encode(bytes), NOW), None);
    }

    #[test]
    fn a_session_is_signed_by_an_hmac_with_the_secret_itself() {
        let whole: Hmac<Sha256> = Hmac::new_from_slice(&[7; 32]).unwrap();
        let whole = whole.chain_update(SESSION).chain_update([0; 24]).finalize().into_bytes();
        assert_eq!(SessionKey::new(&[7; 32]).hmac(&[0; 24]).finalize().into_bytes(), whole);
    }

    #[test]
    fn the_cookie_is_for_this_site_and_no_script() {
        let session = SessionKey::new(&[7; 32]).begin([1; 16], NOW);
        let value = &session.cookie;
        let usual = format!("bridge_session={value}; Max-Age=43200; Path=/; HttpOnly; SameSite=Strict");
        assert_eq!(session.cookie(false), usual);
        assert_eq!(session.cookie(true), format!("{usual}; Secure"));
        assert_eq!(Session::end(), "bridge_session=; Max-Age=0; Path=/; HttpOnly; SameSite=Strict");
        assert!(!format!("{session:?}").contains(value));
    }

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_browsers_own_word_goes_first() {
        for (site, origin) in [
            ("same-origin", FormOrigin::Same),
            ("none", FormOrigin::Same),
            ("same-site", FormOrigin::Other),
            ("cross-site", FormOrigin::Other),
            ("", FormOrigin::Other),
        ] {
            let headers = headers(&[("sec-fetch-site", site), ("origin", "null"), ("host", "bridge.example.com")]);
            assert_eq!(FormOrigin::of(&headers), origin, "{site}");
        }
    }

    #[test]
    fn an_origin_is_that_of_the_host_asked() {
        let asked = |origin: &str| FormOrigin::of(&headers(&[("origin", origin), ("host", "10.0.0.7:8080")]));
        for same in ["http://10.0.0.7:8080", "https://10.0.0.7:8080"] {
            assert_eq!(asked(same), FormOrigin::Same, "{same}");
        }
        for other in ["null", "", "http://10.0.0.7", "http://10.0.0.7:8080.evil.test", "http://evil.test", "http://"] {
            assert_eq!(asked(other), FormOrigin::Other, "{other}");
        }
        assert_eq!(FormOrigin::of(&headers(&[("origin", "http://10.0.0.7:8080")])), FormOrigin::Other);
        assert_eq!(FormOrigin::of(&headers(&[("host", "10.0.0.7:8080")])), FormOrigin::Unknown);
    }

    #[test]
    fn only_the_browser_knows_about_tls() {
        assert!(is_https(&headers(&[("origin", "https://bridge.example.com")])));
        for others in [&[("origin", "http://bridge.example.com")][..], &[("x-forwarded-proto", "https")], &[]] {
            assert!(!is_https(&headers(others)), "{others:?}");
        }
    }
}
