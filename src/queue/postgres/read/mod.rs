//! Reads what is committed, through two small connection pools: no delivery waits for what people ask for.
//!
//! - `delivery`, `list`, `status`: what the deliveries, pages and commands, and the monitor read
//! - `external`: what is known from the APIs of Sentry and PagerDuty

mod delivery;
mod external;
mod list;
mod status;

use std::borrow::Cow;

use async_trait::async_trait;
use sqlx::Row as _;
use sqlx::postgres::PgRow;

use super::rows::{PgQuery, restored};
use super::{ReadPool, Server, schema};
use crate::config::{DatabaseConfig, PostgresUrl};
use crate::queue::reader::Reads;
use crate::queue::rows::{ColumnError, TypedRow};
use crate::queue::{EventId, QueueError};

/// A query that begins with a table `keys` of the service keys that have waiting events. Its last row is null.
///
/// The keys are found by skipping from one to the next in the index, so the cost depends on the number of keys and not on
/// the number of events.
macro_rules! with_keys {
    ($query:literal) => {
        concat!(
            "WITH RECURSIVE keys (service_key) AS (
                SELECT MIN(service_key) FROM events WHERE state = 'waiting' AND id > 0
                UNION ALL
                SELECT (
                    SELECT MIN(service_key) FROM events
                    WHERE state = 'waiting' AND id > 0 AND service_key > keys.service_key
                )
                FROM keys WHERE keys.service_key IS NOT NULL
            ) ",
            $query
        )
    };
}
pub(super) use with_keys;

/// Reads a queue in PostgreSQL; clones share their connections.
#[derive(Clone, Debug)]
pub(in crate::queue) struct PostgresReads {
    deliveries: ReadPool,
    /// For people, and for the checks of the bridge's health.
    people: ReadPool,
}

impl PostgresReads {
    pub(super) fn beside(server: &Server, config: &DatabaseConfig) -> Self {
        let (deliveries, people) = (config.delivery_connections, config.read_connections);
        Self { deliveries: server.pool(deliveries), people: server.pool(people) }
    }

    pub(in crate::queue) async fn open(config: &DatabaseConfig, url: &PostgresUrl) -> Result<Self, QueueError> {
        let server = Server::new(config, url)?;
        schema::check(&mut server.connect().await?, &server).await?;
        Ok(Self::beside(&server, config))
    }

    /// The connections of the deliveries.
    pub(in crate::queue) fn delivery_pool(&self) -> &ReadPool {
        &self.deliveries
    }

    /// Runs `query` on the connections for people, and reads its rows.
    async fn query<T>(
        &self,
        query: PgQuery<'_>,
        read: impl Fn(&PgRow) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, QueueError> {
        self.all(&self.people, query, read).await
    }

    /// The same on the connections of the deliveries.
    async fn delivery_query<T>(
        &self,
        query: PgQuery<'_>,
        read: impl Fn(&PgRow) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, QueueError> {
        self.all(&self.deliveries, query, read).await
    }

    async fn all<T>(
        &self,
        pool: &ReadPool,
        query: PgQuery<'_>,
        read: impl Fn(&PgRow) -> Result<T, ColumnError>,
    ) -> Result<Vec<T>, QueueError> {
        let rows = pool.with(async |connection| query.fetch_all(connection).await).await?;
        // Each row is dropped as soon as it is read, because its bytes may be many.
        rows.into_iter().map(|row| self.read_row(&row, &read)).collect()
    }

    /// Reads one row. If it contains a value that the bridge does not write, the error names the number of the row.
    fn read_row<T>(&self, row: &PgRow, read: impl Fn(&PgRow) -> Result<T, ColumnError>) -> Result<T, QueueError> {
        read(row).map_err(|error| match error {
            ColumnError::Sqlx(error) => self.people.server().error(error),
            ColumnError::Invalid(column) => self.unreadable(row.id().unwrap_or(EventId::new(0)), column),
        })
    }

    fn unreadable(&self, id: EventId, column: &'static str) -> QueueError {
        QueueError::Unreadable { database: self.database(), id, column }
    }
}

#[async_trait]
impl Reads for PostgresReads {
    fn database(&self) -> String {
        self.people.server().name()
    }

    async fn close(&self) {
        self.deliveries.close().await;
        self.people.close().await;
    }
}

impl TypedRow for PgRow {
    fn decode_integer(&self, column: &'static str) -> sqlx::Result<Option<i64>> {
        self.try_get(column)
    }

    fn decode_flag(&self, column: &'static str) -> sqlx::Result<Option<bool>> {
        self.try_get(column)
    }

    fn decode_text(&self, column: &'static str) -> sqlx::Result<Option<Cow<'_, str>>> {
        Ok(self.try_get::<Option<&str>, _>(column)?.map(restored))
    }

    fn decode_bytes(&self, column: &'static str) -> sqlx::Result<Option<Vec<u8>>> {
        self.try_get(column)
    }
}
