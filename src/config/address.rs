//! The addresses of the database, of PagerDuty and of the fallback webhook.

use std::fmt;
use std::path::PathBuf;

use sha2::{Digest, Sha256};
use thiserror::Error;
use url::{Host, Url};

/// The address of the queue's database. `Display` and `Debug` leave out users and passwords.
#[derive(Clone, Eq, PartialEq)]
pub enum DatabaseUrl {
    /// An SQLite file, for one bridge.
    Sqlite(PathBuf),
    /// A database of PostgreSQL, which several bridges may share.
    Postgres(PostgresUrl),
}

/// The address of a database of PostgreSQL, as libpq writes it. `Display` and `Debug` leave out users and passwords.
#[derive(Clone, Eq, PartialEq)]
pub struct PostgresUrl(Url);

/// Why a text is not a [`DatabaseUrl`]. Never contains the text, because it may contain a password.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum DatabaseUrlError {
    /// Not a URL, or the URL of another kind of database.
    #[error(
        "is not the URL of a database: write `sqlite:` and a path, such as `sqlite:bridge.db`, or \
         `postgres://USER:PASSWORD@HOST/DATABASE`"
    )]
    Scheme,
    /// Nothing after `sqlite:`, or a folder.
    #[error("does not name a file: write `sqlite:` and a path, such as `sqlite:bridge.db`")]
    NoFile,
    /// A database in memory, which is lost when the process ends.
    #[error("asks for a database in memory, but alerts must outlive the process: name a file")]
    Memory,
    /// Parameters of SQLite, which could turn off what keeps alerts safe.
    #[error("has parameters after `?` or `#`, but the bridge sets its own: write `sqlite:` and a path")]
    Parameters,
    /// Not an address of PostgreSQL.
    #[error(
        "is no address of PostgreSQL: write `postgres://USER:PASSWORD@HOST/DATABASE`, with characters like `@`, `/`, `#` and \
         `?` of the password percent-encoded"
    )]
    Postgres,
    /// No name of a database.
    #[error("names no database: write `postgres://USER:PASSWORD@HOST/DATABASE`")]
    NoDatabase,
    /// A parameter that the bridge does not accept.
    #[error("has the parameter `{0}`, but the bridge takes only {TAKEN}")]
    Parameter(String),
    /// A mode of TLS that PostgreSQL does not know.
    #[error("has an unknown `sslmode`: write one of {SSL_MODES}")]
    SslMode,
    /// Given without an address of PostgreSQL in `BRIDGE_DATABASE_URL`.
    #[error("is set, but BRIDGE_DATABASE_URL is no address of PostgreSQL: leave this one out")]
    NeedsPostgres,
}

/// The parameters that an address of PostgreSQL may have. Others could change what a commit means, or need a dedicated
/// session, which a pooler does not provide.
const TAKEN: &str = "host, sslmode, sslrootcert, sslcert, sslkey";

/// The modes of TLS, see PostgreSQL's manual under "SSL Mode Descriptions".
const SSL_MODES: &str = "disable, allow, prefer, require, verify-ca, verify-full";

impl DatabaseUrl {
    /// Parses `sqlite:PATH` or `sqlite://PATH`, whose path is taken literally, or an address of PostgreSQL.
    ///
    /// # Errors
    ///
    /// When it is not the address of a database, or is that of an unsupported database or of one in memory.
    pub fn parse(text: &str) -> Result<Self, DatabaseUrlError> {
        let (scheme, rest) = text.trim().split_once(':').ok_or(DatabaseUrlError::Scheme)?;
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => {}
            "postgres" | "postgresql" => return PostgresUrl::parse(text).map(Self::Postgres),
            _ => return Err(DatabaseUrlError::Scheme),
        }
        let path = rest.strip_prefix("//").unwrap_or(rest);
        // SQLite interprets names that begin with `file:` as URIs, which can have parameters and name databases in
        // memory.
        if path.contains(":memory:") || path.contains("mode=memory") || path.starts_with("file:") {
            return Err(DatabaseUrlError::Memory);
        }
        if path.contains(['?', '#']) {
            return Err(DatabaseUrlError::Parameters);
        }
        if path.is_empty() || path.ends_with('/') || path.contains(char::is_control) {
            return Err(DatabaseUrlError::NoFile);
        }
        Ok(Self::Sqlite(path.into()))
    }
}

impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Postgres(url) => write!(f, "{url}"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DatabaseUrl({self})")
    }
}

impl PostgresUrl {
    /// Parses `postgres://` or `postgresql://` with a host, or with the folder of a Unix socket as the parameter
    /// `host`, and the name of a database.
    ///
    /// # Errors
    ///
    /// When it is not such an address, names no database, or has parameters that the bridge does not accept.
    pub fn parse(text: &str) -> Result<Self, DatabaseUrlError> {
        let url = Url::parse(text.trim()).map_err(|_| DatabaseUrlError::Postgres)?;
        let has_socket = url.query_pairs().any(|(name, _)| name == "host");
        let has_host = url.host_str().is_some_and(|host| !host.is_empty());
        let is_postgres = matches!(url.scheme(), "postgres" | "postgresql");
        if !is_postgres || url.fragment().is_some() || !(has_host || has_socket) {
            return Err(DatabaseUrlError::Postgres);
        }
        if url.path().trim_matches('/').is_empty() {
            return Err(DatabaseUrlError::NoDatabase);
        }
        for (name, value) in url.query_pairs() {
            if !TAKEN.split(", ").any(|taken| taken == name) {
                return Err(DatabaseUrlError::Parameter(name.into_owned()));
            }
            if name == "sslmode" && !SSL_MODES.split(", ").any(|mode| mode == value) {
                return Err(DatabaseUrlError::SslMode);
            }
        }
        Ok(Self(url))
    }

    /// Returns the whole URL, including the password.
    #[must_use]
    pub fn expose(&self) -> &Url {
        &self.0
    }
}

impl fmt::Display for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        if let Some(host) = self.0.host_str().filter(|host| !host.is_empty()) {
            f.write_str(host)?;
        } else if let Some((_, folder)) = self.0.query_pairs().find(|(name, _)| name == "host") {
            f.write_str(&folder)?;
        }
        if let Some(port) = self.0.port() {
            write!(f, ":{port}")?;
        }
        f.write_str(self.0.path())
    }
}

impl fmt::Debug for PostgresUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgresUrl({self})")
    }
}

/// Why a text is not the root of PagerDuty's Events API. Never contains the text, because a pasted address may contain
/// a password.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum PagerDutyUrlError {
    /// Not an `http` or `https` URL with a host.
    #[error("is not a URL: write the root only, such as `https://events.pagerduty.com`")]
    NoAddress,
    /// A user or a password.
    #[error("contains a user or password, but PagerDuty identifies the sender by the integration key: remove them")]
    UserInfo,
    /// The address of an endpoint.
    #[error("has a path, but only the root is needed: write `{0}`, the bridge adds the paths of the Events APIs")]
    Path(String),
    /// Something after `?` or `#`.
    #[error("has a query or fragment, but only the root is needed: write `{0}`")]
    Parameters(String),
    /// Integration keys would be sent unencrypted.
    #[error(
        "is plain `http` to {0}, where anyone on the network could read the integration keys: write `https`, or allow it \
         with BRIDGE_PAGERDUTY_ALLOW_HTTP=on"
    )]
    PlainHttp(String),
}

/// Parses the root of PagerDuty's Events API.
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

/// Checks that integration keys may be sent to `url`: plain `http` must be allowed or go to this machine itself.
pub(super) fn may_carry_keys(url: &Url, allow_http: bool) -> Result<(), PagerDutyUrlError> {
    match url.host() {
        Some(host) if url.scheme() == "http" && !allow_http && !is_loopback(&host) => {
            Err(PagerDutyUrlError::PlainHttp(host.to_string()))
        }
        _ => Ok(()),
    }
}

/// The address of the fallback webhook. Chat tools put their secret into it, so `Display` and `Debug` show only its
/// host.
#[derive(Clone)]
pub struct FallbackUrl(Url);

/// Why a text is not a [`FallbackUrl`]. Never contains the text.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum FallbackUrlError {
    /// Not an `http` or `https` URL with a host.
    #[error("is no web address: write the whole address of the webhook, beginning with `https://`")]
    NoAddress,
    /// A user or a password.
    #[error("holds a user or password, which would not be sent: leave them out")]
    UserInfo,
    /// Something after `#`.
    #[error("has something behind a `#`, which is never sent: leave it out")]
    Fragment,
    /// The secret in it would be sent unencrypted.
    #[error("is plain `http` to {0}, where anyone on the network could read the secret in the address: write `https`")]
    PlainHttp(String),
}

impl FallbackUrl {
    /// Parses the address of a webhook: `https`, or `http` to this machine itself.
    ///
    /// # Errors
    ///
    /// When it is not such an address.
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
            assert_eq!(database, DatabaseUrl::Sqlite(path.into()), "{text}");
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
    fn a_database_of_postgresql_is_shown_without_its_password() {
        for (text, shown) in [
            ("postgres://bridge:hunter2@db/bridge", "postgres://db/bridge"),
            (
                "postgresql://bridge:hunter2@db.example:6432/bridge?sslmode=verify-full",
                "postgres://db.example:6432/bridge",
            ),
            ("postgres://bridge:hunter2@[::1]/bridge", "postgres://[::1]/bridge"),
            (" postgres:///bridge?host=/run/postgresql\n", "postgres:///run/postgresql/bridge"),
        ] {
            let database = DatabaseUrl::parse(text).unwrap();
            assert_eq!(database.to_string(), shown);
            assert!(!format!("{database:?}").contains("hunter2"));
        }
    }

    #[test]
    fn what_is_wrong_with_an_address_of_postgresql_is_said_without_its_password() {
        for (text, expected) in [
            ("postgres://bridge:hunter2@db", DatabaseUrlError::NoDatabase),
            ("postgres://bridge:hunter2@db/", DatabaseUrlError::NoDatabase),
            ("postgres:bridge", DatabaseUrlError::Postgres),
            ("postgres:///bridge", DatabaseUrlError::Postgres),
            ("postgres://bridge:hunter2#@db/bridge", DatabaseUrlError::Postgres),
            ("postgres://bridge:hunter2@db/bridge?sslmode=on", DatabaseUrlError::SslMode),
            (
                "postgres://bridge:hunter2@db/bridge?options=-c%20fsync%3Doff",
                DatabaseUrlError::Parameter("options".to_owned()),
            ),
        ] {
            let error = DatabaseUrl::parse(text).unwrap_err();
            assert_eq!(error, expected, "{text}");
            assert!(!error.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn other_databases_are_refused() {
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
