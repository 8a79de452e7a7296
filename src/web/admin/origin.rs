//! Where a browser's request comes from. Pure.

use actix_web::http::header::{HOST, HeaderMap, ORIGIN};

/// What browsers say about the page a request comes from, and no page can say for them. Sent to https and loopback only.
const FETCH_SITE: &str = "Sec-Fetch-Site";

/// Whether a form was sent by a page of this very site, as far as the browser says. One that says nothing passes: it is
/// the session's [`csrf`](super::session::Session::csrf) that decides then.
///
/// A page with `Referrer-Policy: no-referrer` sends `Origin: null`, which does not pass: `same-origin` does as well.
#[must_use]
pub fn is_same_site(headers: &HeaderMap) -> bool {
    let text = |name| headers.get(name).map(|value| value.to_str().unwrap_or_default());
    if let Some(site) = text(FETCH_SITE) {
        return site == "same-origin" || site == "none";
    }
    match (headers.get(ORIGIN).map(|origin| origin.to_str().unwrap_or_default()), headers.get(HOST)) {
        (None, _) => true,
        (Some(origin), Some(host)) => {
            let authority = origin.split_once("://").map_or("", |(_, authority)| authority);
            !authority.is_empty() && authority.as_bytes().eq_ignore_ascii_case(host.as_bytes())
        }
        (Some(_), None) => false,
    }
}

/// Whether the browser says that it sent a form by https.
///
/// The bridge itself speaks http, whether there is TLS before it or not, and trusts no proxy's word. But the browser
/// knows, and whoever forges its word harms nobody but themselves: it decides whether their own cookie is `Secure`.
#[must_use]
pub fn came_by_https(headers: &HeaderMap) -> bool {
    headers.get(ORIGIN).is_some_and(|origin| origin.as_bytes().starts_with(b"https://"))
}

#[cfg(test)]
mod tests {
    use actix_web::http::header::{HeaderName, HeaderValue};

    use super::*;

    fn headers(pairs: &[(&str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.insert(HeaderName::try_from(*name).unwrap(), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    #[test]
    fn the_browsers_own_word_goes_first() {
        for (site, same) in [("same-origin", true), ("none", true), ("same-site", false), ("cross-site", false)] {
            let said = headers(&[("sec-fetch-site", site), ("origin", "null"), ("host", "bridge.example.com")]);
            assert_eq!(is_same_site(&said), same, "{site}");
        }
    }

    #[test]
    fn an_origin_is_that_of_the_host_asked() {
        let asked = |origin: &str| is_same_site(&headers(&[("origin", origin), ("host", "10.0.0.7:8080")]));
        assert!(asked("http://10.0.0.7:8080") && asked("https://10.0.0.7:8080"));
        for other in ["null", "", "http://10.0.0.7", "http://10.0.0.7:8080.evil.test", "http://evil.test", "http://"] {
            assert!(!asked(other), "{other}");
        }
        assert!(!is_same_site(&headers(&[("origin", "http://10.0.0.7:8080")])));
        assert!(is_same_site(&headers(&[("host", "10.0.0.7:8080")])));
    }

    #[test]
    fn only_the_browser_knows_about_tls() {
        assert!(came_by_https(&headers(&[("origin", "https://bridge.example.com")])));
        for others in [&[("origin", "http://bridge.example.com")][..], &[("x-forwarded-proto", "https")], &[]] {
            assert!(!came_by_https(&headers(others)), "{others:?}");
        }
    }
}
