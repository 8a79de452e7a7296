//! The address of the queue's database, and how it is used.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use url::Url;

use super::ValueError;

/// The parameters that an address of PostgreSQL may have. Others could change what a commit means, or need a dedicated
/// session, which a pooler does not provide.
const TAKEN: &str = "host, sslmode, sslrootcert, sslcert, sslkey";

/// The modes of TLS, see PostgreSQL's manual under "SSL Mode Descriptions".
const SSL_MODES: &str = "disable, allow, prefer, require, verify-ca, verify-full";

const NO_DATABASE_URL: &str = "is not the URL of a database: write `sqlite:` and a path, such as `sqlite:bridge.db`, or \
     `postgres://USER:PASSWORD@HOST/DATABASE`";

const NO_FILE: &str = "does not name a file: write `sqlite:` and a path, such as `sqlite:bridge.db`";

/// A database in memory is lost when the process ends.
const IN_MEMORY: &str = "asks for a database in memory, but alerts must outlive the process: name a file";

/// Parameters of SQLite could turn off what keeps alerts safe.
const SQLITE_PARAMETERS: &str =
    "has parameters after `?` or `#`, but the bridge sets its own: write `sqlite:` and a path";

const NO_POSTGRES_URL: &str = "is no address of PostgreSQL: write `postgres://USER:PASSWORD@HOST/DATABASE`, with \
     characters like `@`, `/`, `#` and `?` of the password percent-encoded";

pub(super) const NEEDS_POSTGRES: &str =
    "is set, but BRIDGE_DATABASE_URL is no address of PostgreSQL: leave this one out";

const NO_DATABASE: &str = "names no database: write `postgres://USER:PASSWORD@HOST/DATABASE`";

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

impl DatabaseUrl {
    /// Parses `sqlite:PATH` or `sqlite://PATH`, whose path is taken literally, or an address of PostgreSQL.
    ///
    /// # Errors
    ///
    /// When it is not the address of a database, or is that of an unsupported database or of one in memory. The error
    /// never contains the text, which may contain a password.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let (scheme, rest) = text.trim().split_once(':').ok_or_else(|| ValueError::new(NO_DATABASE_URL))?;
        match scheme.to_ascii_lowercase().as_str() {
            "sqlite" => {}
            "postgres" | "postgresql" => return PostgresUrl::parse(text).map(Self::Postgres),
            _ => return Err(ValueError::new(NO_DATABASE_URL)),
        }
        let path = rest.strip_prefix("//").unwrap_or(rest);
        // SQLite interprets names that begin with `file:` as URIs, which can have parameters and name databases in
        // memory.
        if path.contains(":memory:") || path.contains("mode=memory") || path.starts_with("file:") {
            return Err(ValueError::new(IN_MEMORY));
        }
        if path.contains(['?', '#']) {
            return Err(ValueError::new(SQLITE_PARAMETERS));
        }
        if path.is_empty() || path.ends_with('/') || path.contains(char::is_control) {
            return Err(ValueError::new(NO_FILE));
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
    /// When it is not such an address, names no database, or has parameters that the bridge does not accept. The error never
    /// contains the text, which may contain a password.
    pub fn parse(text: &str) -> Result<Self, ValueError> {
        let url = Url::parse(text.trim()).map_err(|_| ValueError::new(NO_POSTGRES_URL))?;
        let has_socket = url.query_pairs().any(|(name, _)| name == "host");
        let has_host = url.host_str().is_some_and(|host| !host.is_empty());
        let is_postgres = matches!(url.scheme(), "postgres" | "postgresql");
        if !is_postgres || url.fragment().is_some() || !(has_host || has_socket) {
            return Err(ValueError::new(NO_POSTGRES_URL));
        }
        if url.path().trim_matches('/').is_empty() {
            return Err(ValueError::new(NO_DATABASE));
        }
        for (name, value) in url.query_pairs() {
            if !TAKEN.split(", ").any(|taken| taken == name) {
                return Err(ValueError::new(format!("has the parameter `{name}`, but the bridge takes only {TAKEN}")));
            }
            if name == "sslmode" && !SSL_MODES.split(", ").any(|mode| mode == value) {
                return Err(ValueError::new(format!("has an unknown `sslmode`: write one of {SSL_MODES}")));
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

/// Where the queue is, and how it is used. All fields except `url` apply only to PostgreSQL.
#[derive(Clone, Debug)]
pub struct DatabaseConfig {
    /// The database.
    pub url: DatabaseUrl,
    /// The same database, bypassing a pooler that provides no sessions.
    pub direct_url: Option<PostgresUrl>,
    /// The time a commit may take.
    pub timeout: Duration,
    /// The number of connections for reads by the deliveries.
    pub delivery_connections: u32,
    /// The number of connections for pages, metrics and checks.
    pub read_connections: u32,
}

impl From<DatabaseUrl> for DatabaseConfig {
    /// With the defaults of the settings.
    fn from(url: DatabaseUrl) -> Self {
        let timeout = Duration::from_millis(700);
        Self { url, direct_url: None, timeout, delivery_connections: 2, read_connections: 2 }
    }
}

impl From<&Path> for DatabaseConfig {
    /// An SQLite file.
    fn from(path: &Path) -> Self {
        DatabaseUrl::Sqlite(path.to_owned()).into()
    }
}

impl From<&PathBuf> for DatabaseConfig {
    fn from(path: &PathBuf) -> Self {
        path.as_path().into()
    }
}

impl From<&Self> for DatabaseConfig {
    fn from(config: &Self) -> Self {
        config.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            assert_eq!(DatabaseUrl::parse(text), Err(ValueError::new(IN_MEMORY)), "{text}");
        }
        assert_eq!(DatabaseUrl::parse("sqlite:a.db?vfs=unix-none"), Err(ValueError::new(SQLITE_PARAMETERS)));
        for text in ["sqlite:", "sqlite://", "sqlite:/data/", "sqlite:a\nb"] {
            assert_eq!(DatabaseUrl::parse(text), Err(ValueError::new(NO_FILE)), "{text}");
        }
    }

    #[test]
    fn other_databases_are_refused() {
        for text in ["mysql://bridge:hunter2@db/bridge", "bridge.db", "/data/bridge.db"] {
            assert_eq!(DatabaseUrl::parse(text), Err(ValueError::new(NO_DATABASE_URL)), "{text}");
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
            ("postgres://bridge:hunter2@db", NO_DATABASE),
            ("postgres://bridge:hunter2@db/", NO_DATABASE),
            ("postgres:bridge", NO_POSTGRES_URL),
            ("postgres:///bridge", NO_POSTGRES_URL),
            ("postgres://bridge:hunter2#@db/bridge", NO_POSTGRES_URL),
            (
                "postgres://bridge:hunter2@db/bridge?sslmode=on",
                "has an unknown `sslmode`: write one of disable, allow, prefer, require, verify-ca, verify-full",
            ),
            (
                "postgres://bridge:hunter2@db/bridge?options=-c%20fsync%3Doff",
                "has the parameter `options`, but the bridge takes only host, sslmode, sslrootcert, sslcert, sslkey",
            ),
        ] {
            let error = DatabaseUrl::parse(text).unwrap_err().to_string();
            assert_eq!(error, expected, "{text}");
            assert!(!error.contains("hunter2"));
        }
    }
}
