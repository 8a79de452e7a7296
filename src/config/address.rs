//! The addresses of the database, of PagerDuty and of the fallback webhook.

use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;
use url::{Host, Url};

/// The address of the queue's database: an SQLite file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DatabaseUrl {
    path: PathBuf,
}

/// Why a text is no [`DatabaseUrl`]; never repeats it, for it may hold a password.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum DatabaseUrlError {
    /// No address, or one of another database.
    #[error("is not the URL of a database: write `sqlite:` and a path, such as `sqlite:bridge.db`")]
    Scheme,
    /// PostgreSQL.
    #[error(
        "is the URL of a PostgreSQL database, but this version keeps its queue in SQLite only: write `sqlite:` and a path"
    )]
    Postgres,
    /// Nothing after `sqlite:`, or a folder.
    #[error("does not name a file: write `sqlite:` and a path, such as `sqlite:bridge.db`")]
    NoFile,
    /// A database that dies with the process.
    #[error("asks for a database in memory, but alerts must outlive the process: name a file")]
    Memory,
    /// Parameters, which could turn off what keeps alerts safe.
    #[error("has parameters after `?` or `#`, but the bridge sets its own: write `sqlite:` and a path")]
    Parameters,
}

impl DatabaseUrl {
    /// Reads `sqlite:PATH` or `sqlite://PATH`; the path is taken literally.
    ///
    /// # Errors
    ///
    /// When it is the address of another database, of none, or of one in memory.
    pub fn parse(text: &str) -> Result<Self, DatabaseUrlError> {
        let (scheme, rest) = text.trim().split_once(':').ok_or(DatabaseUrlError::Scheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => {}
            "postgres" | "postgresql" => return Err(DatabaseUrlError::Postgres),
            _ => return Err(DatabaseUrlError::Scheme),
        }
        let path = rest.strip_prefix("//").unwrap_or(rest);
        // SQLite reads names that begin with `file:` as addresses, with parameters and memory of their own.
        if path.contains(":memory:") || path.contains("mode=memory") || path.starts_with("file:") {
            return Err(DatabaseUrlError::Memory);
        }
        if path.contains(['?', '#']) {
            return Err(DatabaseUrlError::Parameters);
        }
        if path.is_empty() || path.ends_with('/') || path.contains(char::is_control) {
            return Err(DatabaseUrlError::NoFile);
        }
        Ok(Self { path: path.into() })
    }

    /// The SQLite file.
    #[must_use]
    pub fn sqlite_path(&self) -> &Path {
        &self.path
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "sqlite:{}", self.path.display())
    }
}

/// Why a text is not the root of PagerDuty's Events API; never repeats it, for a pasted address may hold a password.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PagerDutyUrlError {
    /// No `http` or `https` address with a host.
    #[error("is not a URL: write the root only, such as `https://events.pagerduty.com`")]
    NoAddress,
    /// A user or a password.
    #[error("contains a user or password, but PagerDuty identifies the sender by the integration key: remove them")]
    UserInfo,
    /// The address of an endpoint.
    #[error(
        "has a path, but only the root is needed: write `{0}`, the bridge adds `/generic/2010-04-15/create_event.json`"
    )]
    Path(String),
    /// Something after `?` or `#`.
    #[error("has a query or fragment, but only the root is needed: write `{0}`")]
    Parameters(String),
    /// Keys would travel for all to read.
    #[error(
        "is plain `http` to {0}, where anyone on the network could read the integration keys: write `https`, or allow it \
         with BRIDGE_PAGERDUTY_ALLOW_HTTP=on"
    )]
    PlainHttp(String),
}

/// Reads the root of PagerDuty's Events API.
pub(super) fn pagerduty_root(text: &str) -> Result<Url, PagerDutyUrlError> {
    let url = Url::parse(text).map_err(|_| PagerDutyUrlError::NoAddress)?;
    if url.host().is_none() || !matches!(url.scheme(), "http" | "https") {
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
    Ok(url)
}

/// Whether integration keys may be sent to `url`: plain `http` must be allowed, or go to this machine itself.
pub(super) fn may_carry_keys(url: &Url, allow_http: bool) -> Result<(), PagerDutyUrlError> {
    match url.host() {
        Some(host) if url.scheme() == "http" && !allow_http && !is_loopback(&host) => {
            Err(PagerDutyUrlError::PlainHttp(host.to_string()))
        }
        _ => Ok(()),
    }
}

/// The address of the fallback webhook. Chat tools put their secret into it, so `Display` and `Debug` show its host alone.
#[derive(Clone)]
pub struct FallbackUrl(Url);

/// Why a text is no [`FallbackUrl`]; never repeats it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum FallbackUrlError {
    /// No `http` or `https` address with a host.
    #[error("is no web address: write the whole address of the webhook, beginning with `https://`")]
    NoAddress,
    /// A user or a password.
    #[error("holds a user or password, which would not be sent: leave them out")]
    UserInfo,
    /// Something after `#`.
    #[error("has something behind a `#`, which is never sent: leave it out")]
    Fragment,
    /// The secret in it would travel for all to read.
    #[error("is plain `http` to {0}, where anyone on the network could read the secret in the address: write `https`")]
    PlainHttp(String),
}

impl FallbackUrl {
    /// Reads the address of a webhook: `https`, or `http` to this machine itself.
    ///
    /// # Errors
    ///
    /// When it is no such address.
    pub fn parse(text: &str) -> Result<Self, FallbackUrlError> {
        let url = Url::parse(text).map_err(|_| FallbackUrlError::NoAddress)?;
        let host = url.host().ok_or(FallbackUrlError::NoAddress)?;
        match url.scheme() {
            "https" => {}
            "http" if is_loopback(&host) => {}
            "http" => return Err(FallbackUrlError::PlainHttp(host.to_string())),
            _ => return Err(FallbackUrlError::NoAddress),
        }
        if !url.username().is_empty() || url.password().is_some() {
            return Err(FallbackUrlError::UserInfo);
        }
        if url.fragment().is_some() {
            return Err(FallbackUrlError::Fragment);
        }
        Ok(Self(url))
    }

    /// The address itself, for sending to it.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }

    /// What represents it in a [`Fingerprint`](super::Fingerprint); not to be shown.
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

pub(super) fn is_loopback(host: &Host<&str>) -> bool {
    match host {
        Host::Domain(name) => *name == "localhost",
        Host::Ipv4(address) => address.is_loopback(),
        Host::Ipv6(address) => address.is_loopback(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, allow_http: bool) -> Result<Url, PagerDutyUrlError> {
        let url = pagerduty_root(text)?;
        may_carry_keys(&url, allow_http).map(|()| url)
    }

    #[test]
    fn an_sqlite_file_is_named_in_three_ways() {
        for (text, path) in [
            ("sqlite:bridge.db", "bridge.db"),
            ("sqlite:/data/bridge.db", "/data/bridge.db"),
            ("sqlite://bridge.db", "bridge.db"),
            ("sqlite:///data/bridge.db", "/data/bridge.db"),
            (" SQLite:my%20queue.db\n", "my%20queue.db"),
        ] {
            let database = DatabaseUrl::parse(text).unwrap();
            assert_eq!(database.sqlite_path(), Path::new(path), "{text}");
            assert_eq!(database.to_string(), format!("sqlite:{path}"));
        }
    }

    #[test]
    fn whatever_could_lose_an_alert_is_refused() {
        for text in [
            "sqlite::memory:",
            "sqlite://:memory:",
            "sqlite:file::memory:",
            "sqlite:file:a.db",
            "sqlite:a.db?mode=memory",
        ] {
            assert_eq!(DatabaseUrl::parse(text), Err(DatabaseUrlError::Memory), "{text}");
        }
        assert_eq!(DatabaseUrl::parse("sqlite:a.db?vfs=unix-none"), Err(DatabaseUrlError::Parameters));
        for text in ["sqlite:", "sqlite://", "sqlite:/data/", "sqlite:a\nb"] {
            assert_eq!(DatabaseUrl::parse(text), Err(DatabaseUrlError::NoFile), "{text}");
        }
    }

    #[test]
    fn other_databases_are_refused_without_their_password() {
        for text in ["postgres://bridge:hunter2@db/bridge", "postgresql://bridge:hunter2@db/bridge"] {
            let error = DatabaseUrl::parse(text).unwrap_err();
            assert_eq!(error, DatabaseUrlError::Postgres);
            assert!(!error.to_string().contains("hunter2"));
        }
        for text in ["mysql://bridge:hunter2@db/bridge", "bridge.db", "/data/bridge.db"] {
            assert_eq!(DatabaseUrl::parse(text), Err(DatabaseUrlError::Scheme), "{text}");
        }
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

    #[test]
    fn a_fallback_webhook_is_told_by_https_or_on_this_machine_and_shows_its_host_alone() {
        let address = "https://hooks.example.com/services/T0/B0/hunter2?token=hunter2";
        let url = FallbackUrl::parse(address).unwrap();
        assert_eq!(url.expose().as_str(), address);
        assert_eq!(format!("{url} {url:?}"), "hooks.example.com FallbackUrl(hooks.example.com)");
        assert!(FallbackUrl::parse("http://127.0.0.1:8065/hooks/hunter2").is_ok());
        for (text, expected) in [
            ("http://hooks.example.com/hunter2", FallbackUrlError::PlainHttp("hooks.example.com".to_owned())),
            ("https://hunter2@hooks.example.com/", FallbackUrlError::UserInfo),
            ("https://me:hunter2@hooks.example.com/", FallbackUrlError::UserInfo),
            ("https://hooks.example.com/#hunter2", FallbackUrlError::Fragment),
            ("hooks.example.com/hunter2", FallbackUrlError::NoAddress),
            ("ftp://hooks.example.com/hunter2", FallbackUrlError::NoAddress),
        ] {
            let error = FallbackUrl::parse(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        }
    }
}
