//! Where alerts wait.

use std::fmt;
use std::path::{Path, PathBuf};

use thiserror::Error;

/// The address of the queue's database: an SQLite file.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct DatabaseUrl {
    path: PathBuf,
}

/// Why a text is no [`DatabaseUrl`]; never repeats it, for it may hold a password.
#[derive(Clone, Copy, Debug, Eq, Error, PartialEq)]
pub enum DatabaseUrlError {
    /// No address, or one of another database.
    #[error("is no address of a database: write `sqlite:` and a path, such as `sqlite:bridge.db`")]
    Scheme,
    /// PostgreSQL.
    #[error("is an address of PostgreSQL, but this version keeps its queue in SQLite only: write `sqlite:` and a path")]
    Postgres,
    /// Nothing behind `sqlite:`, or a folder.
    #[error("names no file: write `sqlite:` and a path, such as `sqlite:bridge.db`")]
    NoFile,
    /// A database that dies with the process.
    #[error("asks for a database in memory, but alerts must outlive the process: name a file")]
    Memory,
    /// Parameters, which could turn off what keeps alerts safe.
    #[error("has parameters behind a `?` or `#`, but the bridge sets its own: write `sqlite:` and a path")]
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
}
