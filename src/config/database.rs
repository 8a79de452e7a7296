//! Where the queue is, and how it is used: the part of the configuration that opens a queue.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::{DatabaseUrl, PostgresUrl};

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
