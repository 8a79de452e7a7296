//! What people change from outside, beside a running bridge or without one: short transactions that it notices.

use std::path::Path;

use async_trait::async_trait;
use chrono::{TimeDelta, Utc};
use sqlx::{Connection, Sqlite, SqliteConnection};

use super::database::Database;
use super::load::{Loaded, load};
use super::numbers;
use super::statement_batch::StatementBatch;
use super::{SqliteReads, schema, sentry, write};
use crate::queue::admin::Edits;
use crate::queue::decide::dedup_window::DedupWindow;
use crate::queue::decide::{self, Batch};
use crate::queue::sentry::SentryNotes;
use crate::queue::{Enqueue, Enqueued, EventId, QueueError, RejectedId, State};

type Query = sqlx::query::Query<'static, Sqlite, sqlx::sqlite::SqliteArguments>;

/// For how long the attempts of discarded events are kept, counted back from the latest of them. The rate limiter looks back over
/// one minute and the longest time an attempt takes.
const KEEP_ATTEMPTS: TimeDelta = TimeDelta::minutes(30);

/// How many events one commit changes at most, so that a running bridge never waits long for it.
const CHUNK: usize = 500;

/// A connection that writes beside that of a bridge.
#[derive(Debug)]
pub(in crate::queue) struct SqliteEdits {
    database: Database,
    connection: SqliteConnection,
}

impl SqliteEdits {
    pub(in crate::queue) async fn open(path: &Path) -> Result<Self, QueueError> {
        let database = Database::new(path);
        if !path.exists() {
            return Err(QueueError::Missing { database: database.name() });
        }
        let mut connection = database.connect().await?;
        schema::check(&mut connection, &database).await?;
        Ok(Self { database, connection })
    }

    pub(in crate::queue) fn reads(&self) -> SqliteReads {
        SqliteReads::beside(&self.database)
    }

    async fn revive_all(&mut self, ids: &[EventId], insists: bool) -> Result<Vec<EventId>, QueueError> {
        let mut revived = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            revived.append(&mut self.revive_chunk(chunk, insists).await?);
        }
        Ok(revived)
    }

    /// Those that were resolved since only where somebody `insists`.
    async fn revive_chunk(&mut self, ids: &[EventId], insists: bool) -> Result<Vec<EventId>, QueueError> {
        let ids = numbers(ids);
        let revived = self
            .transact(async |connection| {
                // Blame alone decides when an event is given up. Its attempts stay known, for the rate limiter counts them.
                let revived = sqlx::query_scalar(
                    "UPDATE events SET state = 'waiting', blamed_ms = 0, next_attempt_at = NULL, finished_at = NULL, \
                     reason = NULL, revived_at = ? \
                     WHERE state = 'dead' AND id IN (SELECT value FROM json_each(?)) \
                     AND (resolved_at IS NULL OR ?) \
                     AND NOT (event_type = 'resolve' AND (EXISTS ( \
                         SELECT 1 FROM events AS later WHERE later.state = 'waiting' AND later.event_type = 'trigger' \
                         AND later.incident_key = events.incident_key AND later.service_key = events.service_key \
                         AND later.id > events.id \
                     ) OR EXISTS ( \
                         SELECT 1 FROM incidents WHERE incidents.is_open \
                         AND incidents.incident_key = events.incident_key \
                         AND incidents.service_key = events.service_key \
                         AND COALESCE(incidents.event_id > events.id, incidents.changed_at > events.finished_at) \
                     ))) RETURNING id",
                );
                let now = Utc::now().timestamp_millis();
                revived.bind(now).bind(&ids).bind(insists).fetch_all(connection).await
            })
            .await?;
        Ok(revived.into_iter().map(EventId::new).collect())
    }

    async fn discard_chunk(&mut self, state: State, ids: &[EventId]) -> Result<Vec<EventId>, QueueError> {
        let ids = numbers(ids);
        let gone = self
            .transact(async |connection| {
                remember_attempts(connection, state, &ids).await?;
                if state == State::Waiting {
                    perhaps_accepted(connection, &ids).await?;
                }
                let events = sqlx::query_scalar(
                    "DELETE FROM events WHERE state = ? AND id IN (SELECT value FROM json_each(?)) RETURNING id",
                );
                let gone: Vec<i64> = events.bind(state.as_str()).bind(&ids).fetch_all(&mut *connection).await?;
                let gone: Vec<_> = gone.into_iter().map(EventId::new).collect();
                sqlx::query("DELETE FROM bodies WHERE id IN (SELECT value FROM json_each(?))")
                    .bind(numbers(&gone))
                    .execute(connection)
                    .await?;
                Ok(gone)
            })
            .await?;
        Ok(gone)
    }

    async fn change_one(&mut self, query: Query) -> Result<bool, QueueError> {
        self.transact(async |connection| Ok(query.execute(connection).await?.rows_affected() == 1)).await
    }

    /// Commits what `change` does together with the sign by which a running bridge notices. After an error the
    /// transaction is over as well, and the connection can be used again.
    async fn transact<T>(
        &mut self,
        change: impl AsyncFnOnce(&mut SqliteConnection) -> sqlx::Result<T>,
    ) -> Result<T, QueueError> {
        let connection = &mut self.connection;
        let changed = async {
            sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
            let changed = change(connection).await?;
            sqlx::query("UPDATE changes SET generation = generation + 1").execute(&mut *connection).await?;
            sqlx::query("COMMIT").execute(&mut *connection).await?;
            Ok(changed)
        };
        match changed.await {
            Ok(changed) => Ok(changed),
            Err(error) => {
                // It fails where there is nothing to roll back, which is as good.
                let _ = sqlx::query("ROLLBACK").execute(&mut self.connection).await;
                Err(self.database.error(error))
            }
        }
    }
}

#[async_trait]
impl Edits for SqliteEdits {
    async fn revive(&mut self, ids: &[EventId]) -> Result<Vec<EventId>, QueueError> {
        self.revive_all(ids, false).await
    }

    async fn revive_resolved(&mut self, ids: &[EventId]) -> Result<Vec<EventId>, QueueError> {
        self.revive_all(ids, true).await
    }

    async fn discard(&mut self, state: State, ids: &[EventId]) -> Result<Vec<EventId>, QueueError> {
        let mut gone = Vec::new();
        for chunk in ids.chunks(CHUNK) {
            gone.append(&mut self.discard_chunk(state, chunk).await?);
        }
        Ok(gone)
    }

    async fn discard_rejected(&mut self, id: RejectedId) -> Result<bool, QueueError> {
        self.change_one(sqlx::query("DELETE FROM rejected WHERE id = ?").bind(id.get())).await
    }

    async fn reject_again(&mut self, id: RejectedId, reason: String) -> Result<bool, QueueError> {
        self.change_one(sqlx::query("UPDATE rejected SET reason = ? WHERE id = ?").bind(reason).bind(id.get())).await
    }

    async fn readmit(&mut self, id: RejectedId, enqueue: Enqueue) -> Result<Option<Enqueued>, QueueError> {
        self.transact(async |connection| {
            let deleted = sqlx::query("DELETE FROM rejected WHERE id = ?").bind(id.get());
            if deleted.execute(&mut *connection).await?.rows_affected() == 0 {
                return Ok(None);
            }
            admit(connection, &enqueue).await
        })
        .await
    }

    async fn admit(&mut self, enqueue: Enqueue) -> Result<Enqueued, QueueError> {
        let admitted = self.transact(async |connection| admit(connection, &enqueue).await).await?;
        // A batch of one has one answer.
        admitted.ok_or(QueueError::Closed)
    }

    async fn write_sentry_notes(&mut self, notes: SentryNotes) -> Result<(), QueueError> {
        self.transact(async |connection| sentry::write(connection, &notes).await).await
    }

    async fn close(self: Box<Self>) -> Result<(), QueueError> {
        self.connection.close().await.map_err(|error| self.database.error(error))
    }
}

/// Receives something that comes late.
async fn admit(connection: &mut SqliteConnection, enqueue: &Enqueue) -> sqlx::Result<Option<Enqueued>> {
    let batch = Batch { enqueues: vec![enqueue], is_late: true, ..Batch::default() };
    let mut statements = StatementBatch::on(connection);
    let Loaded { known, last } = load(&mut statements, &decide::wanted(&batch)).await?;
    let decision = decide::decide(&batch, &known, &DedupWindow::default());
    let committed = write::apply(&mut statements, &decision.plan, last).await?;
    statements.run().await?;
    Ok(decision.enqueued.into_iter().next().map(|planned| planned.numbered(&committed.rows)))
}

/// Keeps what the rate limiter has to know after a restart of events that are about to be deleted.
async fn remember_attempts(connection: &mut SqliteConnection, state: State, ids: &str) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO discarded (service_key, last_attempt_at, attempts) \
         SELECT service_key, last_attempt_at, attempts FROM events \
         WHERE state = ? AND last_attempt_at IS NOT NULL AND id IN (SELECT value FROM json_each(?))",
    )
    .bind(state.as_str())
    .bind(ids)
    .execute(&mut *connection)
    .await?;
    sqlx::query("DELETE FROM discarded WHERE last_attempt_at < (SELECT MAX(last_attempt_at) FROM discarded) - ?")
        .bind(KEEP_ATTEMPTS.num_milliseconds())
        .execute(connection)
        .await?;
    Ok(())
}

/// Opens the incidents of waiting triggers that are about to be deleted and were attempted: PagerDuty may have accepted
/// them. Their resolves are then sent all the same.
async fn perhaps_accepted(connection: &mut SqliteConnection, ids: &str) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO incidents (incident_key, service_key, is_open, changed_at, event_id, sentry_at) \
         SELECT incident_key, service_key, 1, MAX(last_attempt_at), MAX(id), MAX(sentry_at) FROM events \
         WHERE state = 'waiting' AND event_type = 'trigger' AND last_attempt_at IS NOT NULL \
         AND id IN (SELECT value FROM json_each(?)) GROUP BY incident_key, service_key \
         ON CONFLICT DO UPDATE SET is_open = 1, changed_at = excluded.changed_at, event_id = excluded.event_id, \
         sentry_at = MAX(COALESCE(sentry_at, excluded.sentry_at), COALESCE(excluded.sentry_at, sentry_at))",
    )
    .bind(ids)
    .execute(connection)
    .await?;
    Ok(())
}
