//! Who may use the status page and `/api`: the admin token, as a bearer token or in the log-in form.
//!
//! The length of the token is what makes guessing hopeless: at 100,000 guesses a second, 16 random characters of
//! `openssl rand -hex` last for millions of years. So a correct token is always accepted, even while wrong ones are
//! limited: behind a proxy all clients have the proxy's address, and a client that guesses there must not lock out the
//! operator.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use actix_web::http::header::HeaderMap;
use chrono::{DateTime, TimeDelta, Utc};
use log::warn;
use tokio::sync::watch;

use super::session::{EndedSessions, Session, SessionKey, cookies};
use super::{bearer, network};
use crate::config::AccessToken;

/// The admin tokens, and the sessions that were begun with them. By default there is no token, and nobody is authenticated.
#[derive(Debug)]
pub struct AdminAuth {
    secrets: watch::Sender<Arc<AdminSecrets>>,
    attempts: Mutex<FailedAttempts>,
    ended: Mutex<EndedSessions>,
}

#[derive(Debug)]
struct AdminSecrets {
    tokens: Vec<AccessToken>,
    key: SessionKey,
}

/// Why a request is not authenticated.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum AdminAuthError {
    /// There is no token in the request.
    Missing,
    /// The token is wrong.
    Wrong,
    /// The token is wrong, and there were too many wrong ones; the client may try again after this time.
    Limited(Duration),
}

impl Default for AdminAuth {
    fn default() -> Self {
        Self::new(Vec::new(), [0; 32])
    }
}

impl AdminAuth {
    /// Accepts any of `tokens`. Sessions are signed with `secret`: 32 random bytes, new in every run and whenever the
    /// tokens are replaced, so that revoking a token ends all sessions.
    #[must_use]
    pub fn new(tokens: Vec<AccessToken>, secret: [u8; 32]) -> Self {
        let secrets = watch::Sender::new(Arc::new(AdminSecrets { tokens, key: SessionKey::new(&secret) }));
        Self { secrets, attempts: Mutex::default(), ended: Mutex::default() }
    }

    /// Accepts these tokens from now on, and no others. All sessions end, because they were signed with the old secret.
    pub fn replace(&self, tokens: Vec<AccessToken>, secret: [u8; 32]) {
        self.secrets.send_replace(Arc::new(AdminSecrets { tokens, key: SessionKey::new(&secret) }));
    }

    fn secrets(&self) -> Arc<AdminSecrets> {
        Arc::clone(&self.secrets.borrow())
    }

    /// Whether there is a token at all. If not, the status page and `/api` are answered 404.
    #[must_use]
    pub fn is_enabled(&self) -> bool {
        !self.secrets().tokens.is_empty()
    }

    /// Checks that the request carries a correct token as `Authorization: Bearer` (RFC 6750).
    ///
    /// # Errors
    ///
    /// When it carries none or a wrong one.
    pub fn bearer(&self, headers: &HeaderMap, peer: Option<IpAddr>, now: DateTime<Utc>) -> Result<(), AdminAuthError> {
        self.verify(bearer(headers).ok_or(AdminAuthError::Missing)?, peer, now)
    }

    /// Begins a session for a client with a correct token. The random bytes `id` identify the session.
    ///
    /// # Errors
    ///
    /// When the token is wrong.
    pub fn log_in(
        &self,
        token: &str,
        peer: Option<IpAddr>,
        now: DateTime<Utc>,
        id: [u8; 16],
    ) -> Result<Session, AdminAuthError> {
        self.verify(token.trim(), peer, now)?;
        Ok(self.secrets().key.begin(id, now))
    }

    /// The session of the request's cookie, if it has not ended.
    #[must_use]
    pub fn session(&self, headers: &HeaderMap, now: DateTime<Utc>) -> Option<Session> {
        let secrets = self.secrets();
        let session = cookies(headers).find_map(|value| secrets.key.open(value, now))?;
        (self.is_enabled() && !self.ended().has(&session)).then_some(session)
    }

    /// Ends a session: its cookie is not accepted from now on.
    pub fn log_out(&self, session: &Session) {
        self.ended().end(session);
    }

    fn ended(&self) -> MutexGuard<'_, EndedSessions> {
        self.ended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn verify(&self, token: &str, peer: Option<IpAddr>, now: DateTime<Utc>) -> Result<(), AdminAuthError> {
        // All tokens are compared, each in constant time.
        if self.secrets().tokens.iter().fold(false, |right, one| one.matches(token.as_bytes()) | right) {
            return Ok(());
        }
        let peer = peer.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner);
        match attempts.failed(peer, now) {
            Ok(()) => {
                warn!(peer:%; "a wrong admin token was tried");
                Err(AdminAuthError::Wrong)
            }
            // Not logged, so that a client cannot fill the log.
            Err(wait) => Err(AdminAuthError::Limited(wait)),
        }
    }
}

/// Counts wrong tokens per minute, for each peer and in total. Pure.
///
/// It takes little memory however many peers there are, because it counts no more of them than the total limit allows.
#[derive(Debug, Default)]
struct FailedAttempts {
    begun_at: DateTime<Utc>,
    total: u32,
    by_peer: HashMap<IpAddr, u32>,
}

impl FailedAttempts {
    /// How many wrong tokens of one peer are answered 401 in a minute.
    const PER_PEER: u32 = 5;

    /// How many wrong tokens are answered 401 in a minute in total.
    const IN_TOTAL: u32 = 100;

    const WINDOW: TimeDelta = TimeDelta::minutes(1);

    /// Counts a wrong token of `peer`. If there were too many already, returns the time until the count starts again.
    fn failed(&mut self, peer: IpAddr, now: DateTime<Utc>) -> Result<(), Duration> {
        let passed = now - self.begun_at;
        // Starts again after the clock was set back, too.
        if self.total == 0 || passed < TimeDelta::zero() || passed >= Self::WINDOW {
            *self = Self { begun_at: now, ..Self::default() };
        }
        let left = (self.begun_at + Self::WINDOW - now).to_std().unwrap_or_default();
        let peer = network(peer);
        let of_peer = self.by_peer.get(&peer).copied().unwrap_or_default();
        if self.total >= Self::IN_TOTAL || of_peer >= Self::PER_PEER {
            return Err(left);
        }
        self.total += 1;
        self.by_peer.insert(peer, of_peer + 1);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{AUTHORIZATION, COOKIE, HeaderValue};

    use super::*;

    const TOKEN: &str = "b9d1c2a47f6e5d80";
    const PEER: Option<IpAddr> = Some(IpAddr::V4(Ipv4Addr::LOCALHOST));

    fn admin() -> AdminAuth {
        AdminAuth::new(AccessToken::parse_list(TOKEN).unwrap(), [7; 32])
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
        assert_eq!(ask(&format!("Bearer {TOKEN}0")), Err(AdminAuthError::Wrong));
        assert_eq!(ask("Bearer "), Err(AdminAuthError::Wrong));
        for other in [format!("Basic {TOKEN}"), TOKEN.to_owned(), "Bearer".to_owned()] {
            assert_eq!(ask(&other), Err(AdminAuthError::Missing), "{other}");
        }
        assert_eq!(admin().bearer(&HeaderMap::new(), PEER, now), Err(AdminAuthError::Missing));
    }

    #[test]
    fn wrong_tokens_are_limited_and_the_right_one_never_is() {
        let (admin, now) = (admin(), DateTime::UNIX_EPOCH);
        let guess = || admin.log_in("a-guess", PEER, now, [0; 16]).unwrap_err();
        for _ in 0..FailedAttempts::PER_PEER {
            assert_eq!(guess(), AdminAuthError::Wrong);
        }
        assert_eq!(guess(), AdminAuthError::Limited(Duration::from_mins(1)));
        assert!(admin.log_in(&format!(" {TOKEN}\n"), PEER, now, [0; 16]).is_ok());
        assert_eq!(admin.bearer(&with(AUTHORIZATION, &format!("Bearer {TOKEN}")), PEER, now), Ok(()));
    }

    #[test]
    fn tokens_that_are_replaced_open_nothing_and_end_their_sessions() {
        let (admin, now) = (admin(), DateTime::UNIX_EPOCH);
        let session = admin.log_in(TOKEN, PEER, now, [1; 16]).unwrap();
        let set = session.cookie(false);
        let headers = with(COOKIE, set.split(';').next().unwrap());
        assert!(admin.session(&headers, now).is_some());
        admin.replace(AccessToken::parse_list("the-next-admin-token").unwrap(), [8; 32]);
        assert_eq!(admin.session(&headers, now), None);
        assert_eq!(admin.log_in(TOKEN, PEER, now, [2; 16]).unwrap_err(), AdminAuthError::Wrong);
        assert!(admin.log_in("the-next-admin-token", PEER, now, [3; 16]).is_ok());
    }

    #[test]
    fn a_cookie_proves_a_session_to_the_bridge_that_gave_it() {
        let (one, now) = (admin(), DateTime::UNIX_EPOCH);
        let session = one.log_in(TOKEN, PEER, now, [1; 16]).unwrap();
        let set = session.cookie(false);
        let headers = with(COOKIE, &format!("a=b; {}; c", set.split(';').next().unwrap()));
        assert_eq!(one.session(&headers, now), Some(session));
        let other = AdminAuth::new(AccessToken::parse_list(TOKEN).unwrap(), [8; 32]);
        assert_eq!(other.session(&headers, now), None);
        assert_eq!(AdminAuth::new(Vec::new(), [7; 32]).session(&headers, now), None);
    }

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(second)
    }

    fn peer(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_peer_has_five_a_minute_and_others_have_theirs() {
        let mut attempts = FailedAttempts::default();
        for second in 0..5 {
            assert_eq!(attempts.failed(peer("192.0.2.1"), at(100 + second)), Ok(()));
        }
        assert_eq!(attempts.failed(peer("192.0.2.1"), at(110)), Err(Duration::from_secs(50)));
        assert_eq!(attempts.failed(peer("::ffff:192.0.2.1"), at(159)), Err(Duration::from_secs(1)));
        assert_eq!(attempts.failed(peer("192.0.2.2"), at(159)), Ok(()));
        assert_eq!(attempts.failed(peer("192.0.2.1"), at(160)), Ok(()));
    }

    #[test]
    fn all_together_have_a_hundred_a_minute_and_no_more_are_remembered() {
        let mut attempts = FailedAttempts::default();
        for host in 0..100_000_u32 {
            let expected = if host < FailedAttempts::IN_TOTAL { Ok(()) } else { Err(Duration::from_mins(1)) };
            assert_eq!(attempts.failed(IpAddr::V4(host.into()), at(0)), expected);
        }
        assert_eq!(attempts.by_peer.len(), 100);
    }

    #[test]
    fn a_host_with_many_addresses_is_one_peer() {
        let mut attempts = FailedAttempts::default();
        for host in 1..=5 {
            assert_eq!(attempts.failed(peer(&format!("2001:db8::{host}")), at(0)), Ok(()));
        }
        assert!(attempts.failed(peer("2001:db8::6"), at(0)).is_err());
        assert_eq!(attempts.failed(peer("2001:db8:0:1::1"), at(0)), Ok(()));
    }

    #[test]
    fn a_clock_that_is_set_back_locks_nobody_out() {
        let mut attempts = FailedAttempts::default();
        for _ in 0..6 {
            let _ = attempts.failed(peer("192.0.2.1"), at(1_000));
        }
        assert_eq!(attempts.failed(peer("192.0.2.1"), at(10)), Ok(()));
    }
}
