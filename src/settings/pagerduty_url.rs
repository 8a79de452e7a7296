//! The root of PagerDuty's Events API.

use thiserror::Error;
use url::{Host, Url};

/// Why a text is not the root of PagerDuty's Events API; never repeats it, for a pasted address may hold a password.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PagerDutyUrlError {
    /// No `http` or `https` address with a host.
    #[error("is no web address: write the root alone, such as `https://events.pagerduty.com`")]
    NoAddress,
    /// A user or a password.
    #[error("holds a user or password, but PagerDuty knows the sender by the integration key: leave them out")]
    UserInfo,
    /// The address of an endpoint.
    #[error(
        "has a path, but only the root is wanted: write `{0}`, the bridge adds `/generic/2010-04-15/create_event.json`"
    )]
    Path(String),
    /// Something behind `?` or `#`.
    #[error("has something behind a `?` or `#`, but only the root is wanted: write `{0}`")]
    Parameters(String),
    /// Keys would travel for all to read.
    #[error(
        "is plain `http` to {0}, where everybody between could read the integration keys: write `https`, or allow it \
         with BRIDGE_PAGERDUTY_ALLOW_HTTP=on"
    )]
    PlainHttp(String),
}

/// Reads the root; plain `http` must be allowed, or go to this machine itself.
pub(super) fn parse(text: &str, allow_http: bool) -> Result<Url, PagerDutyUrlError> {
    let url = Url::parse(text).map_err(|_| PagerDutyUrlError::NoAddress)?;
    let host = url.host().ok_or(PagerDutyUrlError::NoAddress)?;
    if !matches!(url.scheme(), "http" | "https") {
        return Err(PagerDutyUrlError::NoAddress);
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(PagerDutyUrlError::UserInfo);
    }
    let root = url.origin().ascii_serialization();
    if url.path() != "/" {
        return Err(PagerDutyUrlError::Path(root));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(PagerDutyUrlError::Parameters(root));
    }
    if url.scheme() == "http" && !allow_http && !is_loopback(&host) {
        return Err(PagerDutyUrlError::PlainHttp(host.to_string()));
    }
    Ok(url)
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_of_either_region_is_taken() {
        for text in ["https://events.pagerduty.com", "https://events.eu.pagerduty.com/", "https://10.0.0.7:8443"] {
            assert_eq!(parse(text, false).unwrap().as_str().trim_end_matches('/'), text.trim_end_matches('/'));
        }
    }

    #[test]
    fn plain_http_stays_on_this_machine_unless_allowed() {
        for text in ["http://127.0.0.1:8081", "http://127.9.9.9", "http://[::1]:8081", "http://LOCALHOST:8081"] {
            assert!(parse(text, false).is_ok(), "{text}");
        }
        for text in ["http://events.pagerduty.com", "http://128.0.0.1", "http://0.0.0.0", "http://localhost.example"] {
            assert!(matches!(parse(text, false), Err(PagerDutyUrlError::PlainHttp(_))), "{text}");
            assert!(parse(text, true).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_pasted_endpoint_is_answered_with_its_root() {
        for path in ["/generic/2010-04-15/create_event.json", "/v2/enqueue"] {
            let error = parse(&format!("https://events.eu.pagerduty.com{path}"), false).unwrap_err();
            assert_eq!(error, PagerDutyUrlError::Path("https://events.eu.pagerduty.com".to_owned()));
        }
        let error = parse("https://events.pagerduty.com:8443?key=hunter2", false).unwrap_err();
        assert_eq!(error, PagerDutyUrlError::Parameters("https://events.pagerduty.com:8443".to_owned()));
        assert!(parse("https://events.pagerduty.com#hunter2", false).is_err());
    }

    #[test]
    fn passwords_are_refused_and_not_repeated() {
        for text in ["https://me:hunter2@events.pagerduty.com/", "https://hunter2@events.pagerduty.com/v2/enqueue"] {
            let error = parse(text, true).unwrap_err();
            assert_eq!(error, PagerDutyUrlError::UserInfo);
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn what_is_no_web_address_is_refused() {
        for text in ["events.pagerduty.com", "ftp://events.pagerduty.com", "https://", "mailto:me@example.com", "/v2"] {
            assert_eq!(parse(text, true), Err(PagerDutyUrlError::NoAddress), "{text}");
        }
    }
}
