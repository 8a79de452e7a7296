//! The addresses of PagerDuty, of Sentry, of the canary's project and of the fallback webhook.

use std::fmt;

use sha2::{Digest, Sha256};
use url::{Host, Url};

use super::ValueError;

const NO_EVENTS_ROOT: &str = "is not a URL: write the root only, such as `https://events.pagerduty.com`";

const NO_PAGERDUTY_API: &str =
    "is not a URL: write the root of PagerDuty's REST API, such as `https://api.pagerduty.com`";

const NO_SENTRY: &str =
    "is not a URL: write the root of Sentry, such as `https://sentry.io` or `https://sentry.example.com`";

const NO_FALLBACK: &str = "is no web address: write the whole address of the webhook, beginning with `https://`";

const NO_DSN: &str =
    "is no DSN: copy it from Sentry, Project Settings > Client Keys (DSN); it looks like `https://KEY@HOST/1`";

const NO_DSN_KEY: &str =
    "has no key before its `@`: copy the DSN whole from Sentry, Project Settings > Client Keys (DSN)";

const NO_DSN_PROJECT: &str =
    "does not end with the number of a project: copy the DSN whole from Sentry, Project Settings > Client Keys (DSN)";

/// Parses an `http` or `https` URL with a host. The error never contains the text, because a pasted address may contain a
/// password; `otherwise` is its sentence.
fn web_address(text: &str, otherwise: &'static str) -> Result<Url, ValueError> {
    let url = Url::parse(text).map_err(|_| ValueError::new(otherwise))?;
    if url.host().is_none() || !matches!(url.scheme(), "http" | "https") {
        return Err(ValueError::new(otherwise));
    }
    Ok(url)
}

fn has_user(url: &Url) -> bool {
    !url.username().is_empty() || url.password().is_some()
}

/// Parses the root of PagerDuty's Events API.
pub(super) fn pagerduty_root(text: &str) -> Result<Url, ValueError> {
    let url = web_address(text, NO_EVENTS_ROOT)?;
    if has_user(&url) {
        return Err(ValueError::new(
            "contains a user or password, but PagerDuty identifies the sender by the integration key: remove them",
        ));
    }
    let root = url.origin().ascii_serialization();
    if url.path() != "/" {
        return Err(ValueError::new(format!(
            "has a path, but only the root is needed: write `{root}`, the bridge adds the paths of the Events APIs"
        )));
    }
    if url.query().is_some() || url.fragment().is_some() {
        return Err(ValueError::new(format!("has a query or fragment, but only the root is needed: write `{root}`")));
    }
    Ok(url)
}

/// Parses the root URL of PagerDuty's REST API. It may have a path, as that of the sandbox does.
pub(super) fn pagerduty_api_root(text: &str) -> Result<Url, ValueError> {
    let url = web_address(text, NO_PAGERDUTY_API)?;
    if has_user(&url) || url.query().is_some() || url.fragment().is_some() {
        return Err(ValueError::new(
            "has more than a host and a path: remove user, password and everything after `?` or `#`",
        ));
    }
    Ok(url)
}

/// Returns the root of the REST API that belongs to this root of the Events API; `None` if `events` is not one of
/// PagerDuty's own addresses.
pub(super) fn pagerduty_api_root_of(events: &Url) -> Option<Url> {
    let host = match events.host_str()? {
        "events.pagerduty.com" => "https://api.pagerduty.com",
        "events.eu.pagerduty.com" => "https://api.eu.pagerduty.com",
        _ => return None,
    };
    Url::parse(host).ok()
}

/// Parses the root URL of a Sentry. It may have a path, because a Sentry can be served under one.
pub(super) fn sentry_root(text: &str) -> Result<Url, ValueError> {
    let url = web_address(text, NO_SENTRY)?;
    if has_user(&url) {
        return Err(ValueError::new(
            "contains a user or password, but Sentry identifies the caller by BRIDGE_SENTRY_API_TOKEN: remove them",
        ));
    }
    let has_api = url.path_segments().is_some_and(|mut segments| segments.any(|segment| segment == "api"));
    if has_api || url.query().is_some() || url.fragment().is_some() {
        return Err(ValueError::new(
            "is more than the root of Sentry: remove `/api/0/` and everything after `?` or `#`",
        ));
    }
    Ok(url)
}

/// Checks that `secrets`, such as `integration keys`, may be sent to `url`: plain `http` must be allowed or go to this machine
/// itself. `setting`: the one that allows it, if there is one.
pub(super) fn may_carry(
    url: &Url,
    secrets: &str,
    allow_http: bool,
    setting: Option<&'static str>,
) -> Result<(), ValueError> {
    match url.host() {
        Some(host) if url.scheme() == "http" && !allow_http && !is_loopback(&host) => {
            let remedy = setting.map(|setting| format!(", or allow it with {setting}=on")).unwrap_or_default();
            Err(ValueError::new(format!(
                "is plain `http` to {host}, where anyone on the network could read the {secrets}: write `https`{remedy}"
            )))
        }
        _ => Ok(()),
    }
}

fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

/// The address of the fallback webhook. Chat tools put their secret into it, so `Display` and `Debug` show only its
/// host.
#[derive(Clone)]
pub struct FallbackUrl(Url);

impl FallbackUrl {
    /// Parses the address of a webhook: `https`, or `http` to this machine itself.
    ///
    /// # Errors
    ///
    /// When it is not such an address. The error never contains the text.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let url = web_address(text, NO_FALLBACK)?;
        may_carry(&url, "secret in the address", false, None)?;
        if has_user(&url) {
            return Err(ValueError::new("holds a user or password, which would not be sent: leave them out"));
        }
        if url.fragment().is_some() {
            return Err(ValueError::new("has something behind a `#`, which is never sent: leave it out"));
        }
        Ok(Self(url))
    }

    /// Returns the whole address, for sending requests to it.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// The digest that represents it in a [`Fingerprint`](super::Fingerprint); must not be shown.
    pub(super) fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.0.as_str()).into()
    }
}

impl fmt::Display for FallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.host_str().unwrap_or_default())
    }
}

impl fmt::Debug for FallbackUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "FallbackUrl({self})")
    }
}

/// A DSN (`https://PUBLIC_KEY@HOST/PROJECT`): the address and the key with which a project accepts events.
///
/// `Display` and `Debug` leave the key out. Source: `Dsn` in Sentry's SDKs, and `get_dsn` of `models/projectkey.py` in 9.1.2.
#[derive(Clone, Eq, PartialEq)]
pub struct Dsn {
    /// The store endpoint of the project.
    store: Url,
    public_key: String,
    project: String,
}

impl Dsn {
    /// Parses a DSN. A secret key after the public one, as shown by Sentry up to 9.1, is accepted and ignored, because
    /// no version of Sentry needs it.
    ///
    /// # Errors
    ///
    /// When it is not a URL, or lacks the key or the project. The error never contains the text.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let mut url = web_address(text, NO_DSN)?;
        let public_key = url.username().to_owned();
        // It goes into a header, where a quote or a comma would end it.
        if public_key.is_empty() || !public_key.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(ValueError::new(NO_DSN_KEY));
        }
        let mut segments: Vec<String> =
            url.path_segments().into_iter().flatten().filter(|part| !part.is_empty()).map(str::to_owned).collect();
        let is_number = |project: &String| project.bytes().all(|byte| byte.is_ascii_digit());
        let project = segments.pop().filter(is_number).ok_or_else(|| ValueError::new(NO_DSN_PROJECT))?;
        segments.extend(["api".to_owned(), project.clone(), "store".to_owned(), String::new()]);
        // Both succeed for an address with a host.
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| ValueError::new(NO_DSN))?;
        url.set_path(&segments.join("/"));
        url.set_query(None);
        url.set_fragment(None);
        Ok(Self { store: url, public_key, project })
    }

    /// Where events are posted to: `/api/PROJECT/store/`, which every Sentry since 9.1 has.
    #[must_use]
    pub fn store(&self) -> &Url {
        &self.store
    }

    /// The key by which Sentry identifies the sender.
    #[must_use]
    pub fn public_key(&self) -> &str {
        &self.public_key
    }

    /// The number of the project.
    #[must_use]
    pub fn project(&self) -> &str {
        &self.project
    }

    /// The digest that represents it in a [`Fingerprint`](super::Fingerprint), and that distinguishes DSNs where the
    /// DSN itself must not be shown.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::new()
            .chain_update(self.store.as_str())
            .chain_update([0])
            .chain_update(&self.public_key)
            .finalize()
            .into()
    }
}

impl fmt::Display for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "project {} at {}", self.project, self.store.origin().ascii_serialization())
    }
}

impl fmt::Debug for Dsn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Dsn({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, allow_http: bool) -> Result<Url, ValueError> {
        let url = pagerduty_root(text)?;
        may_carry(&url, "integration keys", allow_http, Some("BRIDGE_PAGERDUTY_ALLOW_HTTP")).map(|()| url)
    }

    fn may_carry_token(url: &Url, allow_http: bool) -> Result<(), ValueError> {
        may_carry(url, "API token", allow_http, Some("BRIDGE_SENTRY_ALLOW_HTTP"))
    }

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
            let error = parse(text, false).unwrap_err().to_string();
            assert!(error.starts_with("is plain `http` to "), "{text}");
            assert!(error.ends_with("write `https`, or allow it with BRIDGE_PAGERDUTY_ALLOW_HTTP=on"), "{text}");
            assert!(parse(text, true).is_ok(), "{text}");
        }
    }

    #[test]
    fn a_pasted_endpoint_is_answered_with_its_root() {
        for path in ["/generic/2010-04-15/create_event.json", "/v2/enqueue"] {
            let error = parse(&format!("https://events.eu.pagerduty.com{path}"), false).unwrap_err();
            assert!(error.to_string().starts_with("has a path, but only the root is needed: "), "{error}");
            assert!(error.to_string().contains("write `https://events.eu.pagerduty.com`, "), "{error}");
        }
        let error = parse("https://events.pagerduty.com:8443?key=hunter2", false).unwrap_err();
        assert!(error.to_string().starts_with("has a query or fragment, but only the root is needed: "), "{error}");
        assert!(error.to_string().ends_with("write `https://events.pagerduty.com:8443`"), "{error}");
        assert!(parse("https://events.pagerduty.com#hunter2", false).is_err());
    }

    #[test]
    fn passwords_are_refused_and_not_repeated() {
        for text in ["https://me:hunter2@events.pagerduty.com/", "https://hunter2@events.pagerduty.com/v2/enqueue"] {
            let error = parse(text, true).unwrap_err().to_string();
            assert!(error.starts_with("contains a user or password, but PagerDuty identifies the sender"), "{error}");
            assert!(!error.contains("hunter2"));
        }
    }

    #[test]
    fn what_is_no_web_address_is_refused() {
        for text in ["events.pagerduty.com", "ftp://events.pagerduty.com", "https://", "mailto:me@example.com", "/v2"] {
            assert_eq!(parse(text, true), Err(ValueError::new(NO_EVENTS_ROOT)), "{text}");
        }
    }

    #[test]
    fn a_fallback_webhook_is_told_by_https_or_on_this_machine_and_shows_its_host_alone() {
        let address = "https://hooks.example.com/services/T0/B0/hunter2?token=hunter2";
        let url = FallbackUrl::parse(address).unwrap();
        assert_eq!(url.expose().as_str(), address);
        assert_eq!(format!("{url} {url:?}"), "hooks.example.com FallbackUrl(hooks.example.com)");
        assert!(FallbackUrl::parse("http://127.0.0.1:8065/hooks/hunter2").is_ok());
        for (text, expected) in [
            (
                "http://hooks.example.com/hunter2",
                "is plain `http` to hooks.example.com, where anyone on the network could read the secret in the address: write `https`",
            ),
            ("https://hunter2@hooks.example.com/", "holds a user or password, which would not be sent: leave them out"),
            (
                "https://me:hunter2@hooks.example.com/",
                "holds a user or password, which would not be sent: leave them out",
            ),
            ("https://hooks.example.com/#hunter2", "has something behind a `#`, which is never sent: leave it out"),
            ("hooks.example.com/hunter2", NO_FALLBACK),
            ("ftp://hooks.example.com/hunter2", NO_FALLBACK),
        ] {
            let error = FallbackUrl::parse(text).unwrap_err().to_string();
            assert_eq!(error, expected, "{text}");
            assert!(!error.contains("hunter2"), "{error}");
        }
    }

    #[test]
    fn the_rest_api_of_pagerdutys_own_addresses_is_known() {
        let root = |events: &str| pagerduty_api_root_of(&events.parse().unwrap()).map(String::from);
        assert_eq!(root("https://events.pagerduty.com").as_deref(), Some("https://api.pagerduty.com/"));
        assert_eq!(root("https://events.eu.pagerduty.com").as_deref(), Some("https://api.eu.pagerduty.com/"));
        assert_eq!(root("http://127.0.0.1:8090"), None);
    }

    #[test]
    fn a_root_may_have_a_path_and_plain_http_goes_to_this_machine_alone() {
        let near = pagerduty_api_root("http://127.0.0.1:8090/rest").unwrap();
        assert_eq!(may_carry_token(&near, false), Ok(()));
        let far = pagerduty_api_root("http://pd.example.com").unwrap();
        let error = may_carry_token(&far, false).unwrap_err().to_string();
        assert!(
            error
                .starts_with("is plain `http` to pd.example.com, where anyone on the network could read the API token")
        );
        assert_eq!(pagerduty_api_root("api.pagerduty.com"), Err(ValueError::new(NO_PAGERDUTY_API)));
        for text in ["https://me@api.pagerduty.com", "https://api.pagerduty.com/?a=b"] {
            let error = pagerduty_api_root(text).unwrap_err().to_string();
            assert!(error.starts_with("has more than a host and a path: "), "{text}");
        }
    }

    #[test]
    fn the_root_of_a_sentry_may_be_a_folder_and_nothing_below_it() {
        for text in ["https://sentry.io", "https://example.com/sentry/", "http://127.0.0.1:9000"] {
            assert!(sentry_root(text).is_ok(), "{text}");
        }
        assert_eq!(sentry_root("sentry.io"), Err(ValueError::new(NO_SENTRY)));
        assert_eq!(sentry_root("ftp://sentry.io"), Err(ValueError::new(NO_SENTRY)));
        let error = sentry_root("https://me:SECRET@sentry.io").unwrap_err().to_string();
        assert!(error.starts_with("contains a user or password, but Sentry identifies the caller"), "{error}");
        assert!(!error.contains("SECRET"), "{error}");
        for text in ["https://sentry.io/api/0/", "https://sentry.io/?a=b", "https://sentry.io/#a"] {
            let error = sentry_root(text).unwrap_err().to_string();
            assert!(error.starts_with("is more than the root of Sentry: "), "{text}");
        }
    }

    #[test]
    fn a_token_goes_over_plain_http_to_this_machine_alone_unless_that_is_allowed() {
        let far = sentry_root("http://sentry.example.com").unwrap();
        let error = may_carry_token(&far, false).unwrap_err().to_string();
        assert!(error.starts_with("is plain `http` to sentry.example.com, where anyone on the network could read the"));
        assert!(error.ends_with(" API token: write `https`, or allow it with BRIDGE_SENTRY_ALLOW_HTTP=on"), "{error}");
        assert_eq!(may_carry_token(&far, true), Ok(()));
        for near in ["http://127.0.0.1:9000", "http://localhost", "http://[::1]:9000", "https://sentry.example.com"] {
            assert_eq!(may_carry_token(&sentry_root(near).unwrap(), false), Ok(()), "{near}");
        }
    }

    #[test]
    fn a_dsn_names_the_store_endpoint_of_its_project() {
        for (text, store) in [
            (
                "https://abc123@o1.ingest.sentry.io/4505518370586624",
                "https://o1.ingest.sentry.io/api/4505518370586624/store/",
            ),
            ("http://abc123:secret@127.0.0.1:9000/2", "http://127.0.0.1:9000/api/2/store/"),
            ("https://abc123@example.com/sentry/7/", "https://example.com/sentry/api/7/store/"),
        ] {
            let dsn = Dsn::parse(text).unwrap();
            assert_eq!((dsn.store().as_str(), dsn.public_key()), (store, "abc123"));
            assert!(!format!("{dsn:?} {dsn}").contains("abc123"), "the key is not shown");
        }
    }

    #[test]
    fn what_is_no_dsn_is_refused_and_not_repeated() {
        for (text, expected) in [
            ("abc123", NO_DSN),
            ("ftp://abc123@example.com/1", NO_DSN),
            ("https://example.com/1", NO_DSN_KEY),
            ("https://a%22b@example.com/1", NO_DSN_KEY),
            ("https://abc123@example.com/", NO_DSN_PROJECT),
            ("https://abc123@example.com/shop", NO_DSN_PROJECT),
        ] {
            let error = Dsn::parse(text).unwrap_err().to_string();
            assert_eq!(error, expected, "{text}");
            assert!(!error.contains("abc123"), "{error}");
        }
    }
}
