//! Arriving events: rows of their own, or folded into one that waits.

use std::collections::HashMap;
use std::iter;

use chrono::{DateTime, Utc};
use sqlx::Row as _;
use sqlx::sqlite::SqliteRow;

use super::incidents;
use super::statements::Statements;
use crate::pagerduty::{EventType, IncidentKey};
use crate::queue::decide::{self, Window};
use crate::queue::fold::{Arriving, Place, Row, Tail};
use crate::queue::writer::Folding;
use crate::queue::{Arrival, EventId, NewEvent};

/// How many rows one statement asks for or writes at most.
const ROWS: usize = 128;

/// SQLite takes at most 32,766 bind variables a text, an event is asked for with three, and written with eleven.
const _: () = assert!(ROWS * 11 <= 32_766);

/// What became of events that arrived together.
#[derive(Debug, Default)]
pub(super) struct Arrived {
    /// Where each went, in their order, and what that row does; an event that was closed went to two places.
    pub(super) places: Vec<(Place<EventId>, EventType)>,
    /// Those that are new in line, in its order.
    pub(super) arrivals: Vec<Arrival>,
}

/// Has `events` written, each with when it happened by Sentry's clock. A trigger that was resolved later than that, by a
/// resolve of this `window`, is closed again. What is folded into what waits already is up to
/// `folding`.
pub(super) async fn accept(
    statements: &mut Statements<'_>,
    events: Vec<(NewEvent, Option<DateTime<Utc>>)>,
    window: Window,
    folding: &Folding,
) -> sqlx::Result<Arrived> {
    let (events, times): (Vec<_>, Vec<_>) = events.into_iter().unzip();
    let arriving = Arriving::new(events);
    let Known { mut tails, mut resolves, resolves_to_come, last } =
        look_up(statements, &arriving, window, folding.allowed).await?;
    tails.retain(|_, tail| !folding.attempted.contains(&tail.id));
    for incident_key in resolves_to_come {
        incidents::forget_resolve(statements, &incident_key);
    }
    let mut is_overtaken = |(event, happened_at): (&NewEvent, Option<DateTime<Utc>>)| {
        let Some(resolved_at) = resolves.get(&event.incident_key).filter(|_| event.is_trigger()) else { return false };
        if decide::is_overtaken(happened_at, *resolved_at) {
            return true;
        }
        // The incident is open again, and closing it for another trigger that comes late would hide that.
        resolves.remove(&event.incident_key);
        incidents::forget_resolve(statements, &event.incident_key);
        false
    };
    let overtaken: Vec<_> = arriving.events().iter().zip(times.iter().copied()).map(&mut is_overtaken).collect();
    let plan = arriving.plan(tails, &overtaken);
    // Of several in one row the latest counts.
    let mut row_times = vec![None; plan.rows.len()];
    for place in &plan.places {
        row_times[place.row] = row_times[place.row].max(times[place.event]);
    }
    let kinds: Vec<_> = plan.rows.iter().map(|row| row.event.event_type).collect();

    let mut numbers = (last + 1..).map(EventId::new);
    let mut ids = Vec::with_capacity(plan.rows.len());
    let mut arrivals = Vec::with_capacity(plan.rows.len());
    let (mut new, mut replaced) = (Vec::with_capacity(plan.rows.len()), Vec::new());
    for (row, sentry_at) in plan.rows.into_iter().zip(row_times) {
        if let Some(id) = row.replaces {
            ids.push(id);
            replaced.push((id, row, sentry_at));
        } else if let Some(id) = numbers.next() {
            ids.push(id);
            arrivals.push(arrival(id, &row));
            new.push((id, row, sentry_at));
        }
    }
    write(statements, new, Conflict::IsAnError).await?;
    write(statements, replaced, Conflict::Replaces).await?;
    for place in plan.places.iter().filter(|place| overtaken[place.event] && kinds[place.row] == EventType::Trigger) {
        incidents::mark_resolved_row(statements, ids[place.row], window.now);
    }
    let places =
        plan.places.into_iter().map(|Place { event, row, count }| (Place { event, row: ids[row], count }, kinds[row]));
    Ok(Arrived { places: places.collect(), arrivals })
}

fn arrival(id: EventId, row: &Row) -> Arrival {
    let NewEvent { service_key, incident_key, event_type, .. } = &row.event;
    Arrival {
        id,
        service_key: service_key.clone(),
        incident_key: incident_key.clone(),
        event_type: *event_type,
        received_at: row.first_seen,
    }
}

/// What is on disk about arriving events.
#[derive(Debug, Default)]
struct Known {
    /// The triggers at the ends of their lines that were never attempted.
    tails: HashMap<usize, Tail>,
    /// When those of their incidents were resolved in Sentry whose resolve came a short while ago.
    resolves: HashMap<IncidentKey, DateTime<Utc>>,
    /// Incidents whose resolve came before the clock was set back.
    resolves_to_come: Vec<IncidentKey>,
    /// The last number that was given to an event.
    last: i64,
}

async fn look_up(
    statements: &mut Statements<'_>,
    arriving: &Arriving,
    window: Window,
    folds: bool,
) -> sqlx::Result<Known> {
    let mut known = Known::default();
    let heads: Vec<_> = arriving.heads().collect();
    for (chunk, heads) in heads.chunks(ROWS).enumerate() {
        let tails = if folds { TAILS } else { NO_TAILS };
        for row in ask(statements, heads, window.since, tails).await? {
            let Some(line) = row.try_get::<Option<i64>, _>("line")? else {
                known.last = row.try_get("id")?;
                continue;
            };
            let Ok(line) = usize::try_from(line) else { continue };
            let millis = |column| {
                Ok::<_, sqlx::Error>(row.try_get::<Option<i64>, _>(column)?.and_then(DateTime::from_timestamp_millis))
            };
            if let Some(first_seen) = millis("first_seen")? {
                let tail = Tail { id: EventId::new(row.try_get("id")?), count: row.try_get("count")?, first_seen };
                known.tails.insert(chunk * ROWS + line, tail);
            }
            if let (Some(resolved_at), Some(came_at)) = (millis("happened_at")?, millis("came_at")?) {
                let incident_key = heads[line].incident_key.clone();
                if came_at > window.until {
                    known.resolves_to_come.push(incident_key);
                } else {
                    known.resolves.insert(incident_key, resolved_at);
                }
            }
        }
    }
    Ok(known)
}

/// Finds the end of each line, if it can be folded into. An attempt that was begun before somebody revived the event counts
/// as well: its bytes are known outside.
const TAILS: &str = "LEFT JOIN events ON event_type = 'trigger' AND last_attempt_at IS NULL AND id = (
        SELECT MAX(id) FROM events AS ends WHERE ends.state = 'waiting'
        AND ends.service_key = lines.service_key AND ends.incident_key = lines.incident_key
    )";

/// For when nothing is to be folded into what waits.
const NO_TAILS: &str = "LEFT JOIN (SELECT NULL AS id, NULL AS count, NULL AS first_seen)";

/// Asks for the last number, and for what is on disk about these lines; all in one statement, since the thread that asks
/// may wake up for the result of each.
async fn ask(
    statements: &mut Statements<'_>,
    heads: &[&NewEvent],
    since: DateTime<Utc>,
    tails: &str,
) -> sqlx::Result<Vec<SqliteRow>> {
    let size = heads.len().next_power_of_two();
    statements.add(&format!(
        "WITH lines (line, service_key, incident_key) AS (VALUES {})
        SELECT line, id, count, first_seen, happened_at, resolves.received_at AS came_at FROM lines {tails}
        LEFT JOIN resolves ON resolves.incident_key = lines.incident_key AND resolves.received_at >= ?
        WHERE id IS NOT NULL OR happened_at IS NOT NULL
        UNION ALL SELECT NULL, seq, NULL, NULL, NULL, NULL FROM sqlite_sequence WHERE name = 'events'",
        values(3, size)
    ));
    for (line, event) in heads.iter().enumerate() {
        statements
            .bind(i64::try_from(line).unwrap_or(i64::MAX))
            .bind(event.service_key.expose())
            .bind(event.incident_key.as_str());
    }
    fill(statements, 3 * (size - heads.len()));
    statements.bind(since.timestamp_millis()).rows().await
}

/// A row with its number, and when Sentry received the newest event that it stands for.
type Written = (EventId, Row, Option<DateTime<Utc>>);

/// What is done with a row whose number is taken.
#[derive(Clone, Copy)]
enum Conflict {
    IsAnError,
    Replaces,
}

async fn write(statements: &mut Statements<'_>, rows: Vec<Written>, conflict: Conflict) -> sqlx::Result<()> {
    let mut rows = rows.into_iter();
    loop {
        let chunk: Vec<_> = rows.by_ref().take(ROWS).collect();
        if chunk.is_empty() {
            return Ok(());
        }
        write_chunk(statements, chunk, conflict);
        if rows.len() > 0 {
            statements.run().await?;
        }
    }
}

fn write_chunk(statements: &mut Statements<'_>, rows: Vec<Written>, conflict: Conflict) {
    let size = rows.len().next_power_of_two();
    let missing = size - rows.len();
    let (events, bodies) = match conflict {
        Conflict::IsAnError => ("", ""),
        Conflict::Replaces => (
            "ON CONFLICT (id) DO UPDATE SET description = excluded.description, count = excluded.count, \
             received_at = excluded.received_at, \
             sentry_at = MAX(COALESCE(sentry_at, excluded.sentry_at), COALESCE(excluded.sentry_at, sentry_at)), \
             resolved_at = NULL",
            "ON CONFLICT (id) DO UPDATE SET body = excluded.body",
        ),
    };
    statements.add(&format!(
        "INSERT INTO events (id, service_key, incident_key, event_type, description, count, received_at, first_seen, \
         sentry_at) \
         SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL {events}",
        values(9, size)
    ));
    let mut written = Vec::with_capacity(rows.len());
    for (id, mut row, sentry_at) in rows {
        written.push((id, row.take_body()));
        let event = row.event;
        statements
            .bind(id.get())
            .bind(event.service_key.expose())
            .bind(event.incident_key.as_str())
            .bind(event.event_type.as_str())
            .bind(event.description)
            .bind(row.count)
            .bind(event.received_at.timestamp_millis())
            .bind(row.first_seen.timestamp_millis())
            .bind(sentry_at.map(|at| at.timestamp_millis()));
    }
    fill(statements, 9 * missing);

    statements.add(&format!(
        "INSERT INTO bodies (id, body) SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL {bodies}",
        values(2, size)
    ));
    for (id, body) in written {
        statements.bind(id.get()).bind(body);
    }
    fill(statements, 2 * missing);
}

/// So many rows of so many values. Their number is a power of two, so that a handful of prepared statements serves every
/// number of events; the rows too many are filled with NULL.
fn values(columns: usize, rows: usize) -> String {
    let row = format!("({})", vec!["?"; columns].join(","));
    vec![row; rows].join(",")
}

fn fill(statements: &mut Statements<'_>, values: usize) {
    for null in iter::repeat_n(None::<i64>, values) {
        statements.bind(null);
    }
}
