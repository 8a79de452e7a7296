//! The statements of one commit.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{QueryBuilder, Sqlite, SqliteConnection};

use crate::queue::writer::{Batch, Committed};
use crate::queue::{EventId, NewEvent, Settlement, State};

/// How many rows one statement inserts at most.
const ROWS: usize = 512;

/// SQLite takes at most 32,766 bind variables a statement, and an event has seven.
const _: () = assert!(ROWS * 7 <= 32_766);

/// Writes `batch` in one transaction. After an error the connection has to be closed, which rolls back.
pub(super) async fn commit(connection: &mut SqliteConnection, batch: Batch) -> sqlx::Result<Committed> {
    let mut committed = Committed::default();
    // The write lock is taken at once: a transaction that starts by reading could lose the race for it later.
    sqlx::query("BEGIN IMMEDIATE").execute(&mut *connection).await?;
    if batch.is_empty() {
        sqlx::query("UPDATE heartbeat SET beats = beats + 1").execute(&mut *connection).await?;
    }
    if !batch.events.is_empty() {
        committed.events = insert(connection, batch.events).await?;
    }
    for (id, settlement, at) in batch.settlements {
        committed.settlements.push(settle(connection, id, settlement, at).await?);
    }
    for (id, at) in batch.begins {
        committed.begins.push(begin(connection, id, at).await?);
    }
    sqlx::query("COMMIT").execute(connection).await?;
    Ok(committed)
}

async fn insert(connection: &mut SqliteConnection, events: Vec<NewEvent>) -> sqlx::Result<Vec<EventId>> {
    let last: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        .fetch_optional(&mut *connection)
        .await?;
    let first = last.unwrap_or_default() + 1;
    let mut left = events.len();
    let ids = (first..).map(EventId::new).take(left).collect();
    let mut rows = (first..).zip(events);
    while left > 0 {
        // Powers of two, so that a handful of prepared statements serves batches of every size.
        let size = (1 << left.ilog2()).min(ROWS);
        insert_chunk(connection, rows.by_ref().take(size)).await?;
        left -= size;
    }
    Ok(ids)
}

async fn insert_chunk(
    connection: &mut SqliteConnection,
    rows: impl Iterator<Item = (i64, NewEvent)>,
) -> sqlx::Result<()> {
    let mut bodies = Vec::new();
    let mut insert = QueryBuilder::<Sqlite>::new(
        "INSERT INTO events (id, service_key, incident_key, event_type, description, received_at, first_seen) ",
    );
    insert.push_values(rows, |mut row, (id, event)| {
        row.push_bind(id)
            .push_bind(event.service_key.expose())
            .push_bind(event.incident_key.as_str())
            .push_bind(event.event_type.as_str())
            .push_bind(event.description)
            .push_bind(event.received_at.timestamp_millis())
            .push_bind(event.received_at.timestamp_millis());
        bodies.push((id, event.body));
    });
    insert.build().execute(&mut *connection).await?;

    let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO bodies (id, body) ");
    insert.push_values(bodies, |mut row, (id, body)| {
        row.push_bind(id).push_bind(body);
    });
    insert.build().execute(connection).await?;
    Ok(())
}

async fn settle(
    connection: &mut SqliteConnection,
    id: EventId,
    settlement: Settlement,
    at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let update = match settlement {
        Settlement::Delivered { note } => finish(State::Delivered, note, at),
        Settlement::Dead { reason } => finish(State::Dead, Some(reason), at),
        Settlement::Retry { reason, next_attempt_at, blamed } => sqlx::query(
            "UPDATE events SET reason = ?, next_attempt_at = ?, blamed_ms = ? WHERE state = 'waiting' AND id = ?",
        )
        .bind(reason)
        .bind(next_attempt_at.timestamp_millis())
        .bind(milliseconds(blamed)),
    };
    Ok(update.bind(id.get()).execute(connection).await?.rows_affected() == 1)
}

type Query = sqlx::query::Query<'static, Sqlite, sqlx::sqlite::SqliteArguments>;

fn finish(state: State, reason: Option<String>, at: DateTime<Utc>) -> Query {
    sqlx::query(
        "UPDATE events SET state = ?, reason = ?, finished_at = ?, next_attempt_at = NULL \
         WHERE state = 'waiting' AND id = ?",
    )
    .bind(state.as_str())
    .bind(reason)
    .bind(at.timestamp_millis())
}

async fn begin(connection: &mut SqliteConnection, id: EventId, at: DateTime<Utc>) -> sqlx::Result<Option<Vec<u8>>> {
    sqlx::query_scalar(
        "UPDATE events SET attempts = attempts + 1, last_attempt_at = ? WHERE state = 'waiting' AND id = ? \
         RETURNING (SELECT body FROM bodies WHERE bodies.id = events.id)",
    )
    .bind(at.timestamp_millis())
    .bind(id.get())
    .fetch_optional(connection)
    .await
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
