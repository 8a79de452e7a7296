//! Who may look and act: the admin token, as a bearer token for `/api` and by a form for the status page.
//!
//! - [`Admin`]: knows the tokens
//! - [`session`]: what a browser holds after its log-in; pure
//! - [`attempts`]: how many wrong tokens are answered; pure
//! - [`origin`]: where a browser's request comes from; pure
//!
//! What makes guessing hopeless is the length of the token: at 100,000 guesses a second, 16 random characters of
//! `openssl rand -hex` last for millions of years. So a right token always opens, also while wrong ones are limited:
//! behind a proxy everybody has the proxy's address, and nobody who guesses there may lock out the operator at night.

pub mod attempts;
pub mod origin;
pub mod session;

use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use chrono::{DateTime, Utc};
use log::warn;

use self::attempts::Attempts;
use self::session::{Ended, Seal, Session};
use crate::config::AdminToken;

/// Knows the admin tokens, and the sessions that were begun with them.
/// By default there is no token, and nobody comes in.
#[derive(Debug)]
pub struct Admin {
    tokens: Vec<AdminToken>,
    seal: Seal,
    attempts: Mutex<Attempts>,
    ended: Mutex<Ended>,
}

/// Why somebody may not come in.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Refusal {
    /// There is no token in the request.
    Missing,
    /// The token is wrong.
    Wrong,
    /// The token is wrong, and there were too many of those; the next one is looked at after so long.
    Limited(Duration),
}

impl Default for Admin {
    fn default() -> Self {
        Self::new(Vec::new(), [0; 32])
    }
}

impl Admin {
    /// A door that any of `tokens` opens; without one there is no door. Sessions are sealed with `secret`: 32 random
    /// bytes of this process, so that a restart, which is what takes a token away, ends them all.
    #[must_use]
    pub fn new(tokens: Vec<AdminToken>, secret: [u8; 32]) -> Self {
        Self { tokens, seal: Seal::new(&secret), attempts: Mutex::default(), ended: Mutex::default() }
    }

    /// Whether there is a token at all. If not, page and `/api` are answered 404.
    #[must_use]
    pub fn exists(&self) -> bool {
        !self.tokens.is_empty()
    }

    /// Whether the request carries a right token as `Authorization: Bearer` (RFC 6750).
    ///
    /// # Errors
    ///
    /// When it carries none or a wrong one.
    pub fn bearer(&self, headers: &HeaderMap, peer: IpAddr, now: DateTime<Utc>) -> Result<(), Refusal> {
        let token = headers.get(AUTHORIZATION).and_then(|value| {
            let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
        });
        self.prove(token.ok_or(Refusal::Missing)?, peer, now)
    }

    /// Begins a session for whoever has a right token, named by the random bytes `id`.
    ///
    /// # Errors
    ///
    /// When the token is wrong.
    pub fn log_in(&self, token: &str, peer: IpAddr, now: DateTime<Utc>, id: [u8; 16]) -> Result<Session, Refusal> {
        self.prove(token.trim(), peer, now)?;
        Ok(self.seal.begin(id, now))
    }

    /// The session that the request's cookie proves, if it has not ended.
    #[must_use]
    pub fn session(&self, headers: &HeaderMap, now: DateTime<Utc>) -> Option<Session> {
        let session = session::cookies(headers).find_map(|value| self.seal.open(value, now))?;
        (self.exists() && !self.ended().has(&session)).then_some(session)
    }

    /// Ends a session before its time: neither its cookie nor what its forms carry is worth anything from now on.
    pub fn log_out(&self, session: &Session) {
        self.ended().end(session);
    }

    fn ended(&self) -> MutexGuard<'_, Ended> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn prove(&self, token: &str, peer: IpAddr, now: DateTime<Utc>) -> Result<(), Refusal> {
        // All of them are compared, in constant time each.
        if self.tokens.iter().fold(false, |right, one| one.matches(token.as_bytes()) | right) {
            return Ok(());
        }
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        match attempts.failed(peer, now) {
            Ok(()) => {
                warn!(peer:%; "somebody tried a wrong admin token");
                Err(Refusal::Wrong)
            }
            // Said nowhere but in the answer, so that nobody fills the log with it.
            Err(wait) => Err(Refusal::Limited(wait)),
        }
    }
}

/// Who sends the request: the address of the connection, which is the proxy's where there is one. Nothing that a header
/// says is trusted.
#[must_use]
pub fn peer(request: &HttpRequest) -> IpAddr {
    request.peer_addr().map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |address| address.ip())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{COOKIE, HeaderValue};

    use super::*;

    const TOKEN: &str = "b9d1c2a47f6e5d80";
    const PEER: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn admin() -> Admin {
        Admin::new(AdminToken::parse_list(TOKEN).unwrap(), [7; 32])
    }

    fn with(name: actix_web::http::header::HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn a_bearer_of_the_token_comes_in_and_nobody_else() {
        let now = DateTime::UNIX_EPOCH;
        let ask = |value: &str| admin().bearer(&with(AUTHORIZATION, value), PEER, now);
        assert_eq!(ask(&format!("Bearer {TOKEN}")), Ok(()));
        assert_eq!(ask(&format!("bearer  {TOKEN}")), Ok(()));
        assert_eq!(ask(&format!("Bearer {TOKEN}0")), Err(Refusal::Wrong));
        assert_eq!(ask("Bearer "), Err(Refusal::Wrong));
        for other in [format!("Basic {TOKEN}"), TOKEN.to_owned(), "Bearer".to_owned()] {
            assert_eq!(ask(&other), Err(Refusal::Missing), "{other}");
        }
        assert_eq!(admin().bearer(&HeaderMap::new(), PEER, now), Err(Refusal::Missing));
    }

    #[test]
    fn wrong_tokens_are_limited_and_the_right_one_never_is() {
        let (admin, now) = (admin(), DateTime::UNIX_EPOCH);
        let guess = || admin.log_in("a-guess", PEER, now, [0; 16]).unwrap_err();
        for _ in 0..Attempts::PER_PEER {
            assert_eq!(guess(), Refusal::Wrong);
        }
        assert_eq!(guess(), Refusal::Limited(Duration::from_mins(1)));
        assert!(admin.log_in(&format!(" {TOKEN}\n"), PEER, now, [0; 16]).is_ok());
        assert_eq!(admin.bearer(&with(AUTHORIZATION, &format!("Bearer {TOKEN}")), PEER, now), Ok(()));
    }

    #[test]
    fn a_cookie_proves_a_session_to_the_bridge_that_gave_it() {
        let (one, now) = (admin(), DateTime::UNIX_EPOCH);
        let session = one.log_in(TOKEN, PEER, now, [1; 16]).unwrap();
        let set = session.cookie(false);
        let headers = with(COOKIE, &format!("a=b; {}; c", set.split(';').next().unwrap()));
        assert_eq!(one.session(&headers, now), Some(session));
        let other = Admin::new(AdminToken::parse_list(TOKEN).unwrap(), [8; 32]);
        assert_eq!(other.session(&headers, now), None);
        assert_eq!(Admin::new(Vec::new(), [7; 32]).session(&headers, now), None);
    }
}
