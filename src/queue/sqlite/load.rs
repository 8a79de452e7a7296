//! Reads what a batch depends on: the first half of a transaction.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use rusqlite::types::FromSql;
use rusqlite::{Connection, OptionalExtension as _, Params, Row, RowIndex, params};
use serde_json::json;

use super::database::is_write_damaged;
use crate::pagerduty::{ApiSet, ApiVersion, EventType, IncidentKey, ServiceKey};
use crate::queue::store::{
    Dependencies, EventToBegin, EventToEdit, EventToSettle, FoldableTrigger, IncidentEvent, IncidentQueueKey,
    IntegrationIncident, Known, KnownIncident, Resolve, SharedIssue,
};
use crate::queue::{EventId, State};

/// The last number that was assigned to an event.
const LAST: &str = "SELECT seq FROM sqlite_sequence WHERE name = 'events'";

/// The last event of a queue, if alerts can be folded into it, and the last resolve of its incident. An attempt that
/// began before the event was put back counts as well: its bytes were already sent.
pub(super) const TAIL: &str = "SELECT events.id, count, first_seen, sentry_at, happened_at, resolves.received_at
    FROM (SELECT 1) LEFT JOIN events ON event_type = 'trigger' AND last_attempt_at IS NULL AND events.id = (
        SELECT MAX(id) FROM events AS ends WHERE ends.state = 'waiting'
        AND ends.service_key = ?1 AND ends.incident_key = ?2
    ) LEFT JOIN resolves ON resolves.incident_key = ?2";

pub(super) const ACCEPTED: &str = "SELECT service_key, is_open, apis, sentry_at FROM incidents WHERE incident_key = ?";

pub(super) const RESOLVE: &str = "SELECT happened_at, received_at FROM resolves WHERE incident_key = ?";

/// The waiting events of an incident, in their order.
pub(super) const WAITING: &str =
    "SELECT id, service_key, api, event_type, count, first_seen, sentry_at, last_attempt_at IS NULL AS is_fresh
    FROM events WHERE state = 'waiting' AND incident_key = ? ORDER BY id";

/// The same from an index alone. A waiting event that cannot be read is most likely the trigger that opens the
/// incident.
pub(super) const WAITING_UNREAD: &str = "SELECT id, service_key, 1 AS api, 'trigger' AS event_type, 1 AS count,
        NULL AS first_seen, NULL AS sentry_at, FALSE AS is_fresh
    FROM events INDEXED BY events_line WHERE state = 'waiting' AND incident_key = ? ORDER BY id";

/// The shared incidents in which an issue is or was open.
const SHARED_ISSUES: &str = "SELECT incident_key, service_key, is_open, received_at, sentry_at FROM incident_issues
    WHERE issue_key = ?";

/// Whether issues other than those of `?3`, a JSON array, are open in a shared incident.
const OPEN_OTHERWISE: &str = "SELECT EXISTS (
        SELECT 1 FROM incident_issues WHERE incident_key = ?1 AND service_key = ?2
        AND is_open <> 0 AND issue_key NOT IN (SELECT value FROM json_each(?3))
    )";

const SEEN: &str = "SELECT incident_key, event_type FROM seen_webhooks WHERE digest = ?";

pub(super) const SETTLING: &str = "SELECT events.service_key, events.incident_key, api, event_type, events.sentry_at,
        reason IS NOT NULL AS was_in_doubt, is_open IS NOT NULL AS is_known,
        CASE WHEN is_open THEN apis ELSE 0 END AS open_apis,
        CASE WHEN revived_at IS NULL THEN attempts WHEN last_attempt_at >= revived_at THEN 1 ELSE 0 END AS attempts
    FROM events LEFT JOIN incidents
        ON incidents.incident_key = events.incident_key AND incidents.service_key = events.service_key
    WHERE events.id = ? AND state = 'waiting'";

/// An event whose attempt begins (`?2`), without waiting for the events of `?3`, a JSON array; or one whose attempt
/// began without being recorded, whose body is read only if counts have to be inserted into it.
pub(super) const BEGINNING: &str = "SELECT api, received_at, count, first_seen, last_attempt_at IS NULL AS is_first,
        (SELECT counts_at FROM bodies WHERE bodies.id = events.id) AS counts_at,
        CASE WHEN ?2 OR count > 1 AND last_attempt_at IS NULL
            THEN (SELECT body FROM bodies WHERE bodies.id = events.id) END AS body,
        (
            SELECT MIN(earlier.id) FROM events AS earlier WHERE earlier.state = 'waiting'
            AND earlier.incident_key = events.incident_key AND earlier.service_key = events.service_key
            AND earlier.id < events.id AND earlier.id NOT IN (SELECT value FROM json_each(?3))
        ) AS earlier
    FROM events WHERE id = ?1 AND state = 'waiting'";

/// An event that is requeued or discarded, even if not all of it can be read.
pub(super) const EDITING: &str = "SELECT state, events.service_key, events.incident_key, api, event_type,
        events.sentry_at, attempts, last_attempt_at, finished_at, resolved_at,
        EXISTS (
            SELECT 1 FROM events AS later WHERE later.state = 'waiting' AND later.event_type = 'trigger'
            AND later.incident_key = events.incident_key AND later.service_key = events.service_key
            AND later.id > events.id
        ) AS trigger_waits,
        incidents.event_id AS opener, incidents.changed_at AS opened_at, incidents.apis AS open_apis
    FROM events LEFT JOIN incidents ON incidents.incident_key = events.incident_key
        AND incidents.service_key = events.service_key AND is_open
    WHERE events.id = ?";

const REJECTED: &str = "SELECT 1 FROM rejected WHERE id = ?";

const HELD: &str = "SELECT 1 FROM held WHERE id = ?";

/// Loads `dependencies`. Also returns the last number that was assigned to an event, or 0 if no event is enqueued.
pub(super) fn load(connection: &Connection, dependencies: &Dependencies) -> rusqlite::Result<(Known, i64)> {
    // No other bridge uses the file, so no fence is needed, and the dedup window is in memory.
    let Dependencies {
        queues,
        incidents,
        issues,
        shared_incidents: _,
        seen,
        dedup_keys: _,
        to_settle,
        to_begin,
        unrecorded,
        to_edit,
        rejected,
        held,
        skips_folding,
        fences: _,
    } = dependencies;
    let (mut known, mut last) = (Known::default(), 0);
    load_shared_issues(connection, dependencies, &mut known)?;
    let shared = known.shared_issues.keys().map(|(_, queue)| &queue.incident_key);
    let all: BTreeSet<_> = incidents.iter().chain(shared).cloned().collect();
    if !queues.is_empty() || !all.is_empty() {
        last = one(connection, LAST, [], |row| row.get(0))?.unwrap_or_default();
    }
    for incident_key in all {
        let incident = load_incident(connection, &incident_key)?;
        if incident != KnownIncident::default() {
            known.incidents.insert(incident_key, incident);
        }
    }
    load_resolves(connection, incidents.iter().chain(issues), &mut known)?;
    for key in seen {
        let read = |row: &Row<'_>| {
            let incident_key = parsed(row, "incident_key", IncidentKey::parse)?;
            Ok((incident_key, parsed(row, "event_type", EventType::parse)?))
        };
        known.seen.extend(one(connection, SEEN, [key.as_bytes()], read)?.map(|seen| (key.clone(), seen)));
    }
    for &id in to_edit {
        known.to_edit.extend(one(connection, EDITING, [id.get()], event_to_edit)?.flatten().map(|event| (id, event)));
    }
    for &id in rejected {
        known.rejected.extend(one(connection, REJECTED, [id.get()], |_| Ok(id))?);
    }
    for &id in held {
        known.held.extend(one(connection, HELD, [id.get()], |_| Ok(id))?);
    }
    for &id in to_settle {
        known.to_settle.extend(one(connection, SETTLING, [id.get()], self::to_settle)?.map(|event| (id, event)));
    }
    for (id, skipped) in to_begin {
        let skipped: Vec<_> = skipped.iter().map(|id| id.get()).collect();
        let values = params![id.get(), true, json!(skipped).to_string()];
        let event = one(connection, BEGINNING, values, |row| event_to_begin(row, true))?;
        known.to_begin.extend(event.map(|event| (*id, event)));
    }
    for &id in unrecorded {
        let event = one(connection, BEGINNING, params![id.get(), false, "[]"], |row| event_to_begin(row, false))?;
        known.to_begin.extend(event.map(|event| (id, event)));
    }
    if *skips_folding {
        // Nothing may be folded into waiting events.
        load_resolves(connection, queues.iter().map(|queue| &queue.incident_key), &mut known)?;
    } else {
        load_tails(connection, queues, &mut known)?;
    }
    Ok((known, last))
}

/// Reads the only row of a statement, if it has one.
fn one<T>(
    connection: &Connection,
    sql: &str,
    values: impl Params,
    read: impl FnOnce(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Option<T>> {
    connection.prepare_cached(sql)?.query_row(values, read).optional()
}

/// Loads what is known of issues that share incidents with others.
fn load_shared_issues(connection: &Connection, dependencies: &Dependencies, known: &mut Known) -> rusqlite::Result<()> {
    if dependencies.issues.is_empty() {
        return Ok(());
    }
    for issue_key in &dependencies.issues {
        let mut statement = connection.prepare_cached(SHARED_ISSUES)?;
        let mut rows = statement.query([issue_key.as_str()])?;
        while let Some(row) = rows.next()? {
            // Rows with an invalid service key are skipped: they are never delivered.
            let Ok(queue) = queue(row) else { continue };
            let member = SharedIssue {
                is_open: get(row, "is_open")?,
                received_at: time(row, "received_at")?.unwrap_or_default(),
                sentry_at: time(row, "sentry_at")?,
            };
            known.shared_issues.insert((issue_key.clone(), queue), member);
        }
    }
    let issues = json!(dependencies.issues).to_string();
    let shared: BTreeSet<_> =
        dependencies.shared_incidents.iter().chain(known.shared_issues.keys().map(|(_, queue)| queue)).collect();
    for queue in shared {
        let values = [queue.incident_key.as_str(), queue.service_key.expose(), &issues];
        if one(connection, OPEN_OTHERWISE, values, |row| row.get(0))?.unwrap_or_default() {
            known.open_otherwise.insert(queue.clone());
        }
    }
    Ok(())
}

/// Loads an incident at all integrations, with its waiting events. Rows with an invalid service key are skipped: they
/// are never delivered.
fn load_incident(connection: &Connection, incident_key: &IncidentKey) -> rusqlite::Result<KnownIncident> {
    let mut known = KnownIncident::default();
    let mut statement = connection.prepare_cached(ACCEPTED)?;
    let mut rows = statement.query([incident_key.as_str()])?;
    while let Some(row) = rows.next()? {
        let Ok(service_key) = ServiceKey::parse(text(row, "service_key")?) else { continue };
        let (is_open, triggered_at) = (get(row, "is_open")?, time(row, "sentry_at")?);
        known.delivered.push((service_key, IntegrationIncident { is_open, apis: apis(row, "apis"), triggered_at }));
    }
    known.waiting = match load_waiting(connection, WAITING, incident_key) {
        Err(error) if is_write_damaged(&error) => load_waiting(connection, WAITING_UNREAD, incident_key)?,
        waiting => waiting?,
    };
    Ok(known)
}

fn load_waiting(
    connection: &Connection,
    sql: &str,
    incident_key: &IncidentKey,
) -> rusqlite::Result<Vec<IncidentEvent>> {
    let mut waiting = Vec::new();
    let mut statement = connection.prepare_cached(sql)?;
    let mut rows = statement.query([incident_key.as_str()])?;
    while let Some(row) = rows.next()? {
        let Ok(service_key) = ServiceKey::parse(text(row, "service_key")?) else { continue };
        let Some(event_type) = EventType::parse(text(row, "event_type")?) else { continue };
        let sentry_at = time(row, "sentry_at")?;
        let is_fresh = get(row, "is_fresh")? && event_type == EventType::Trigger;
        let first_seen = if is_fresh { time(row, "first_seen")? } else { None };
        let foldable = match first_seen {
            Some(first_seen) => {
                Some(FoldableTrigger { id: id(row, "id")?, count: get(row, "count")?, first_seen, sentry_at })
            }
            None => None,
        };
        waiting.push(IncidentEvent { service_key, api: api(row), event_type, sentry_at, foldable });
    }
    Ok(waiting)
}

/// Loads the last events of queues and the last resolves of their incidents.
fn load_tails(connection: &Connection, queues: &[IncidentQueueKey], known: &mut Known) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(TAIL)?;
    for queue in queues {
        let (foldable, resolve) =
            statement.query_row([queue.service_key.expose(), queue.incident_key.as_str()], |row| {
                let foldable = match time(row, 2)? {
                    Some(first_seen) => Some(FoldableTrigger {
                        id: id(row, 0)?,
                        count: get(row, 1)?,
                        first_seen,
                        sentry_at: time(row, 3)?,
                    }),
                    None => None,
                };
                Ok((foldable, resolve(row, 4)?))
            })?;
        known.foldable.extend(foldable.map(|foldable| (queue.clone(), foldable)));
        known.resolves.extend(resolve.map(|resolve| (queue.incident_key.clone(), resolve)));
    }
    Ok(())
}

/// Loads the last resolves of incidents.
fn load_resolves<'k>(
    connection: &Connection,
    incidents: impl Iterator<Item = &'k IncidentKey>,
    known: &mut Known,
) -> rusqlite::Result<()> {
    for incident_key in incidents {
        let resolve = one(connection, RESOLVE, [incident_key.as_str()], |row| resolve(row, 0))?.flatten();
        known.resolves.extend(resolve.map(|resolve| (incident_key.clone(), resolve)));
    }
    Ok(())
}

/// Parses a resolve, whose times are in the columns from `first` on.
fn resolve(row: &Row<'_>, first: usize) -> rusqlite::Result<Option<Resolve>> {
    let times = time(row, first)?.zip(time(row, first + 1)?);
    Ok(times.map(|(sentry_at, received_at)| Resolve { sentry_at, received_at }))
}

fn to_settle(row: &Row<'_>) -> rusqlite::Result<EventToSettle> {
    Ok(EventToSettle {
        queue: queue(row)?,
        event_type: parsed(row, "event_type", EventType::parse)?,
        sentry_at: time(row, "sentry_at")?,
        api: api(row),
        was_in_doubt: get(row, "was_in_doubt")?,
        attempts: get(row, "attempts")?,
        is_known: get(row, "is_known")?,
        open_apis: apis(row, "open_apis"),
    })
}

/// Parses an event. Counts and times that cannot be read do not prevent it from being sent.
fn event_to_begin(row: &Row<'_>, begins: bool) -> rusqlite::Result<EventToBegin> {
    let body = row.get_ref("body")?.as_bytes_or_null()?.map(<[u8]>::to_vec);
    let received_at = time(row, "received_at")?.unwrap_or_default();
    Ok(EventToBegin {
        earlier: row.get::<_, Option<i64>>("earlier")?.map(EventId::new),
        is_first: get(row, "is_first")?,
        api: api(row),
        body: if begins { Some(body.unwrap_or_default()) } else { body },
        counts_at: row.get::<_, Option<i64>>("counts_at")?.and_then(|offset| usize::try_from(offset).ok()),
        count: get(row, "count").unwrap_or(1),
        first_seen: time(row, "first_seen")?.unwrap_or(received_at),
        received_at,
    })
}

fn event_to_edit(row: &Row<'_>) -> rusqlite::Result<Option<EventToEdit>> {
    let Some(state) = State::parse(text(row, "state")?) else { return Ok(None) };
    let opener = row.get::<_, Option<i64>>("opener")?.map(EventId::new);
    Ok(Some(EventToEdit {
        state,
        queue: queue(row).ok(),
        api: api(row),
        event_type: parsed(row, "event_type", EventType::parse).ok(),
        sentry_at: time(row, "sentry_at")?,
        attempts: get(row, "attempts")?,
        last_attempt_at: time(row, "last_attempt_at")?,
        finished_at: time(row, "finished_at")?,
        resolved_at: time(row, "resolved_at")?,
        trigger_waits: get(row, "trigger_waits")?,
        opened: time(row, "opened_at")?.map(|at| (opener, at)),
        open_apis: apis(row, "open_apis"),
    }))
}

fn queue(row: &Row<'_>) -> rusqlite::Result<IncidentQueueKey> {
    let incident_key = parsed(row, "incident_key", IncidentKey::parse)?;
    let service_key = parsed(row, "service_key", |text| ServiceKey::parse(text).ok())?;
    Ok(IncidentQueueKey { incident_key, service_key })
}

/// The API of an event. A number that cannot be read does not prevent the event from being sent.
fn api(row: &Row<'_>) -> ApiVersion {
    get(row, "api").map_or_else(|_| ApiVersion::default(), ApiVersion::of_number)
}

/// The APIs of an incident; none where it is not open.
fn apis(row: &Row<'_>, column: &str) -> ApiSet {
    let number: Option<i64> = row.get(column).unwrap_or_else(|_| Some(ApiSet::only(ApiVersion::default()).number()));
    number.map_or_else(ApiSet::default, ApiSet::of_number)
}

fn id(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<EventId> {
    get(row, column).map(EventId::new)
}

fn time(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<Option<DateTime<Utc>>> {
    let milliseconds: Option<i64> = row.get(column)?;
    Ok(milliseconds.and_then(DateTime::from_timestamp_millis))
}

/// Reads a number that is never NULL in the table. On a damaged page it may be: that is read as zero, here and below.
fn get<T: FromSql + Default>(row: &Row<'_>, column: impl RowIndex) -> rusqlite::Result<T> {
    row.get(column).map(Option::unwrap_or_default)
}

/// Reads a text in the same way: NULL is read as empty.
fn text<'r>(row: &'r Row<'_>, column: &str) -> rusqlite::Result<&'r str> {
    match row.get_ref(column)?.as_str_or_null() {
        Ok(text) => Ok(text.unwrap_or_default()),
        Err(_) => Err(invalid(row, column)),
    }
}

/// Parses a text. Returns an error if it cannot be parsed, which means that the row is damaged.
fn parsed<T>(row: &Row<'_>, column: &str, parse: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    parse(text(row, column)?).ok_or_else(|| invalid(row, column))
}

fn invalid(row: &Row<'_>, column: &str) -> rusqlite::Error {
    let found = row.as_ref().column_index(column).and_then(|index| Ok((index, row.get_ref(index)?.data_type())));
    let reason = format!("its column {column} has an invalid value");
    found.map_or_else(
        |error| error,
        |(index, kind)| rusqlite::Error::FromSqlConversionFailure(index, kind, reason.into()),
    )
}
