//! The statements of one commit.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::{Sqlite, SqliteConnection};

use super::receive::{self, Coming};
use super::statements::Statements;
use super::{incidents, memory, prune, read, rejected, row};
use crate::queue::writer::{Batch, Begin, Committed, NotFirst};
use crate::queue::{Begun, EventId, Settlement, State};

/// How many bytes a probe writes; few alerts are larger.
const BALLAST: u32 = 64 * 1024;

/// Writes `batch` in one transaction. After an error the connection has to be closed, which rolls back.
pub(super) async fn commit(connection: &mut SqliteConnection, batch: Batch) -> sqlx::Result<Committed> {
    let mut committed = Committed::default();
    let mut statements = Statements::on(connection);
    // The write lock is taken at once: a transaction that starts by reading could lose the race for it later.
    statements.add("BEGIN IMMEDIATE");
    if batch.probe {
        statements.add("UPDATE heartbeat SET beats = beats + 1, ballast = zeroblob(?)").bind(BALLAST);
    }
    for (id, at) in batch.owed {
        mark(statements.connection().await?, id, at).await?;
    }
    if !batch.incoming.is_empty() {
        (committed.receptions, committed.arrivals) =
            receive::receive(&mut statements, batch.incoming, Coming::Now, batch.folding).await?;
    }
    for (id, settlement, at) in batch.settlements {
        committed.settlements.push(settle(statements.connection().await?, id, settlement, at).await?);
    }
    for begin in batch.begins {
        committed.begins.push(self::begin(statements.connection().await?, &begin).await?);
    }
    if !batch.rejected.is_empty() {
        committed.rejected = rejected::keep(statements.connection().await?, batch.rejected).await?;
    }
    for prune in batch.prunes {
        committed.prunes.push(prune::delivered(statements.connection().await?, prune).await?);
    }
    if let Some(memory) = batch.memory {
        memory::keep(statements.connection().await?, memory).await?;
    }
    statements.add("COMMIT").run().await?;
    Ok(committed)
}

async fn settle(
    connection: &mut SqliteConnection,
    id: EventId,
    settlement: Settlement,
    at: DateTime<Utc>,
) -> sqlx::Result<bool> {
    let is_taken = matches!(settlement, Settlement::Delivered { .. });
    if matches!(settlement, Settlement::Dead { .. }) {
        incidents::perhaps_taken(connection, id, at).await?;
    }
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
    let was_waiting = update.bind(id.get()).execute(&mut *connection).await?.rows_affected() == 1;
    if was_waiting && is_taken {
        incidents::taken(connection, id, at).await?;
    }
    Ok(was_waiting)
}

macro_rules! mark {
    () => {
        "UPDATE events SET attempts = attempts + 1, last_attempt_at = ?1 WHERE state = 'waiting' AND id = ?2 "
    };
}

macro_rules! returning {
    () => {
        "RETURNING (SELECT body FROM bodies WHERE bodies.id = events.id) AS body, received_at"
    };
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

/// Marks an attempt, unless an earlier event of its incident is in line: whatever was put back there meanwhile, and
/// whether or not the deliveries have heard of it, goes first.
async fn begin(connection: &mut SqliteConnection, begin: &Begin) -> sqlx::Result<Result<Begun, NotFirst>> {
    // All in one statement, but for what hardly ever is: each costs a visit to the thread that SQLite runs on.
    let statement = if begin.past.is_empty() {
        concat!(
            mark!(),
            "AND NOT EXISTS (SELECT 1 FROM events AS earlier WHERE earlier.state = 'waiting' \
             AND earlier.incident_key = events.incident_key AND earlier.service_key = events.service_key \
             AND earlier.id < events.id) ",
            returning!()
        )
    } else if let Some(earlier) = read::first_before(connection, begin).await? {
        return Ok(Err(NotFirst::Behind(earlier)));
    } else {
        concat!(mark!(), returning!())
    };
    let mark = sqlx::query(statement).bind(begin.at.timestamp_millis()).bind(begin.id.get());
    if let Some(row) = mark.fetch_optional(&mut *connection).await? {
        return row::to_send(&row).map(Ok);
    }
    let earlier = read::first_before(connection, begin).await?;
    Ok(Err(earlier.map_or(NotFirst::NotWaiting, NotFirst::Behind)))
}

/// Marks an attempt that was made.
async fn mark(connection: &mut SqliteConnection, id: EventId, at: DateTime<Utc>) -> sqlx::Result<()> {
    let mark = sqlx::query(mark!()).bind(at.timestamp_millis()).bind(id.get());
    mark.execute(connection).await.map(drop)
}

fn milliseconds(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
