//! Arriving events: rows of their own, or folded into one that waits.

use std::collections::HashMap;

use chrono::DateTime;
use sqlx::{QueryBuilder, Row as _, Sqlite, SqliteConnection};

use crate::queue::fold::{Arriving, Row, Tail};
use crate::queue::{Accepted, EventId, NewEvent};

/// How many rows one statement asks for or writes at most.
const ROWS: usize = 512;

/// SQLite takes at most 32,766 bind variables a statement, and an event has eight.
const _: () = assert!(ROWS * 8 <= 32_766);

pub(super) async fn accept(connection: &mut SqliteConnection, events: Vec<NewEvent>) -> sqlx::Result<Vec<Accepted>> {
    let arriving = Arriving::new(events);
    let tails = tails(connection, arriving.asked()).await?;
    let plan = arriving.plan(tails);

    let last: Option<i64> = sqlx::query_scalar("SELECT seq FROM sqlite_sequence WHERE name = 'events'")
        .fetch_optional(&mut *connection)
        .await?;
    let mut numbers = (last.unwrap_or_default() + 1..).map(EventId::new);
    let mut ids = Vec::with_capacity(plan.rows.len());
    let (mut new, mut replaced) = (Vec::new(), Vec::new());
    for row in plan.rows {
        let (id, rows) = match row.replaces {
            Some(id) => (Some(id), &mut replaced),
            None => (numbers.next(), &mut new),
        };
        let Some(id) = id else { continue };
        ids.push(id);
        rows.push((id, row));
    }
    write(connection, new, Conflict::IsAnError).await?;
    write(connection, replaced, Conflict::Replaces).await?;
    Ok(plan.places.into_iter().map(|(row, count)| Accepted { id: ids[row], count }).collect())
}

/// The sizes of the statements that together serve `total` entries. Powers of two, so that a handful of prepared
/// statements serves every number.
fn sizes(total: usize) -> impl Iterator<Item = usize> {
    let mut left = total;
    std::iter::from_fn(move || {
        let size = (1 << left.checked_ilog2()?).min(ROWS);
        left -= size;
        Some(size)
    })
}

/// The triggers at the ends of these lines that were never attempted.
async fn tails(
    connection: &mut SqliteConnection,
    lines: impl Iterator<Item = (usize, &NewEvent)>,
) -> sqlx::Result<HashMap<usize, Tail>> {
    let lines: Vec<_> = lines.collect();
    let mut rest = lines.as_slice();
    let mut tails = HashMap::new();
    for size in sizes(lines.len()) {
        let (chunk, others) = rest.split_at(size);
        rest = others;
        let mut query = QueryBuilder::<Sqlite>::new("WITH lines (line, service_key, incident_key) AS (");
        query.push_values(chunk, |mut row, (line, event)| {
            row.push_bind(i64::try_from(*line).unwrap_or(i64::MAX))
                .push_bind(event.service_key.expose())
                .push_bind(event.incident_key.as_str());
        });
        // An attempt that was begun before somebody revived the event counts as well: its bytes are known outside.
        query.push(
            ") SELECT line, id, count, first_seen FROM lines JOIN events ON id = (
                SELECT MAX(id) FROM events AS ends WHERE ends.state = 'waiting'
                AND ends.service_key = lines.service_key AND ends.incident_key = lines.incident_key
            ) WHERE event_type = 'trigger' AND last_attempt_at IS NULL",
        );
        for row in query.build().fetch_all(&mut *connection).await? {
            let first_seen = DateTime::from_timestamp_millis(row.try_get("first_seen")?);
            if let Some(first_seen) = first_seen
                && let Ok(line) = usize::try_from(row.try_get::<i64, _>("line")?)
            {
                tails.insert(
                    line,
                    Tail { id: EventId::new(row.try_get("id")?), count: row.try_get("count")?, first_seen },
                );
            }
        }
    }
    Ok(tails)
}

/// What is done with a row whose number is taken.
#[derive(Clone, Copy)]
enum Conflict {
    IsAnError,
    Replaces,
}

async fn write(connection: &mut SqliteConnection, rows: Vec<(EventId, Row)>, conflict: Conflict) -> sqlx::Result<()> {
    let sizes = sizes(rows.len());
    let mut rows = rows.into_iter();
    for size in sizes {
        write_chunk(connection, rows.by_ref().take(size), conflict).await?;
    }
    Ok(())
}

async fn write_chunk(
    connection: &mut SqliteConnection,
    rows: impl Iterator<Item = (EventId, Row)>,
    conflict: Conflict,
) -> sqlx::Result<()> {
    let mut bodies = Vec::new();
    let mut insert = QueryBuilder::<Sqlite>::new(
        "INSERT INTO events (id, service_key, incident_key, event_type, description, count, received_at, first_seen) ",
    );
    insert.push_values(rows, |mut values, (id, mut row)| {
        bodies.push((id, row.take_body()));
        let event = row.event;
        values
            .push_bind(id.get())
            .push_bind(event.service_key.expose().to_owned())
            .push_bind(event.incident_key.as_str().to_owned())
            .push_bind(event.event_type.as_str())
            .push_bind(event.description)
            .push_bind(row.count)
            .push_bind(event.received_at.timestamp_millis())
            .push_bind(row.first_seen.timestamp_millis());
    });
    if let Conflict::Replaces = conflict {
        insert.push(
            " ON CONFLICT (id) DO UPDATE SET description = excluded.description, count = excluded.count, \
             received_at = excluded.received_at",
        );
    }
    insert.build().execute(&mut *connection).await?;

    let mut insert = QueryBuilder::<Sqlite>::new("INSERT INTO bodies (id, body) ");
    insert.push_values(bodies, |mut values, (id, body)| {
        values.push_bind(id.get()).push_bind(body);
    });
    if let Conflict::Replaces = conflict {
        insert.push(" ON CONFLICT (id) DO UPDATE SET body = excluded.body");
    }
    insert.build().execute(connection).await?;
    Ok(())
}
