//! Authentication: who may do what.
//!
//! - [`webhook`]: who may post webhooks: the webhook token, or Sentry's signature
//! - [`admin`]: who may use the status page and `/api`: the admin token, or a session that was begun with it
//! - [`session`]: the session's cookie, and which site a form was sent from

pub mod admin;
pub mod session;
pub mod webhook;

use std::net::IpAddr;

use actix_web::HttpRequest;
use actix_web::http::header::{AUTHORIZATION, HeaderMap};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The address at the other end of the connection: the proxy's where there is one. X-Forwarded-* is ignored.
#[must_use]
pub fn peer(request: &HttpRequest) -> Option<IpAddr> {
    request.peer_addr().map(|address| address.ip())
}

/// Returns the network that an address belongs to: a single IPv6 host has a whole /64 to itself.
#[must_use]
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6((address.to_bits() >> 64 << 64).into()),
        address @ IpAddr::V4(_) => address,
    }
}

/// The token of `Authorization: Bearer` (RFC 6750).
fn bearer(headers: &HeaderMap) -> Option<&str> {
    credentials(headers, "bearer")
}

/// The password of `Authorization: Basic` (RFC 7617), whatever the user name is.
fn basic_password(headers: &HeaderMap) -> Option<Vec<u8>> {
    let user_and_password = STANDARD.decode(credentials(headers, "basic")?).ok()?;
    let colon = user_and_password.iter().position(|byte| *byte == b':')?;
    Some(user_and_password[colon + 1..].to_vec())
}

/// Returns the credentials in the header `Authorization`, if they are of this scheme.
///
/// Does not use `actix-web-httpauth`, which does not recognise `basic` and `BASIC`, although RFC 9110 allows them, and
/// treats additional spaces before the credentials as a part of them.
fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let (found, credentials) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then_some(credentials.trim())
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::HeaderValue;

    use super::*;

    fn with(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn the_scheme_is_read_in_any_case_and_with_any_number_of_spaces() {
        let encoded = STANDARD.encode("sentry:a:password");
        for scheme in ["Basic", "basic", "BASIC", "Basic "] {
            let headers = with(&format!("{scheme} {encoded}"));
            assert_eq!(basic_password(&headers).as_deref(), Some(&b"a:password"[..]), "{scheme}");
            assert_eq!(bearer(&headers), None);
        }
        assert_eq!(bearer(&with("bearer  a-token ")), Some("a-token"));
        assert_eq!(bearer(&with("Bearer ")), Some(""));
    }

    #[test]
    fn what_holds_no_credentials_is_read_as_none() {
        for odd in ["", "Basic", "Basic !", "Digest a=b", "a-token", &format!("Basic {}", STANDARD.encode("no-colon"))]
        {
            let headers = with(odd);
            assert_eq!((basic_password(&headers), bearer(&headers)), (None, None), "{odd}");
        }
    }
}
