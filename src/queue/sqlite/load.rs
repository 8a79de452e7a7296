//! Reads what a batch depends on: the first half of a transaction.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, Utc};
use serde_json::{Value, json};
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row as _, Sqlite, Type};

use super::database::is_damaged;
use super::numbers;
use super::statement_batch::{StatementBatch, fill, values};
use crate::pagerduty::{ApiSet, ApiVersion, EventType, IncidentKey, ServiceKey};
use crate::queue::store::{
    Attemptable, Editable, Incident, IncidentQueue, Known, KnownIncident, Member, Resolve, Seen, Settling, Tail,
    WaitingRow, Wanted,
};
use crate::queue::{EventId, HeldId, RejectedId, State};

/// How many incident queues one statement asks for, and how many rows one statement writes, at most.
pub(super) const ROWS: usize = 128;

/// The last number that was given to an event.
const LAST: &str = "SELECT 'last' AS kind, seq AS id FROM sqlite_sequence WHERE name = 'events'";

/// Finds the end of each queue, if it can be folded into. An attempt that was begun before somebody put the event back
/// counts as well: its bytes are known outside.
const TAILS: &str = "LEFT JOIN events ON event_type = 'trigger' AND last_attempt_at IS NULL AND id = (
        SELECT MAX(id) FROM events AS ends WHERE ends.state = 'waiting'
        AND ends.service_key = queues.service_key AND ends.incident_key = queues.incident_key
    )";

/// For when nothing is to be folded into what waits.
const NO_TAILS: &str = "LEFT JOIN (SELECT NULL AS id, NULL AS count, NULL AS first_seen, NULL AS sentry_at)";

const INCIDENTS: &str = "SELECT 'accepted' AS kind, wanted.key AS line, service_key, is_open, apis, sentry_at
    FROM json_each(?) AS wanted CROSS JOIN incidents ON incident_key = wanted.value";

const RESOLVES: &str = "SELECT 'resolve' AS kind, incident_key, happened_at, received_at
    FROM json_each(?) AS wanted CROSS JOIN resolves ON incident_key = wanted.value";

/// Those of an incident from `?`, a JSON array, in their order.
pub(super) const WAITING: &str =
    "SELECT 'waiting' AS kind, wanted.key AS line, events.id, service_key, api, event_type, count, first_seen, sentry_at,
        last_attempt_at IS NULL AS is_fresh
    FROM json_each(?) AS wanted CROSS JOIN events ON state = 'waiting' AND incident_key = wanted.value
    ORDER BY wanted.key, events.id";

/// The same from an index alone. What waits there and cannot be read is most likely what opens the incident.
const WAITING_UNREAD: &str =
    "SELECT 'waiting' AS kind, wanted.key AS line, events.id, service_key, 1 AS api, 'trigger' AS event_type, 1 AS count,
        NULL AS first_seen, NULL AS sentry_at, FALSE AS is_fresh
    FROM json_each(?) AS wanted CROSS JOIN events INDEXED BY events_line
    ON state = 'waiting' AND incident_key = wanted.value ORDER BY wanted.key, events.id";

/// In which shared incidents the issues of `?`, a JSON array, are or were open.
const MEMBERS: &str = "SELECT issue_key, incident_key, service_key, is_open, received_at, sentry_at
    FROM json_each(?) AS wanted CROSS JOIN incident_issues ON issue_key = wanted.value";

/// Those of the shared incidents of `?`, a JSON array of pairs, in which other issues are open than those of `?`.
const OPEN_OTHERWISE: &str =
    "SELECT value ->> 0 AS incident_key, value ->> 1 AS service_key FROM json_each(?) AS shared
    WHERE EXISTS (
        SELECT 1 FROM incident_issues WHERE incident_key = shared.value ->> 0 AND service_key = shared.value ->> 1
        AND is_open <> 0 AND issue_key NOT IN (SELECT value FROM json_each(?))
    )";

const SEEN: &str = "SELECT 'seen' AS kind, wanted.key AS line, incident_key, event_type
    FROM json_each(?) AS wanted CROSS JOIN seen_webhooks ON digest = unhex(wanted.value)";

pub(super) const SETTLING: &str =
    "SELECT 'settling' AS kind, events.id, events.service_key, events.incident_key, api, event_type, events.sentry_at,
        reason IS NOT NULL AS was_in_doubt, is_open IS NOT NULL AS is_known,
        CASE WHEN is_open THEN apis ELSE 0 END AS open_apis
    FROM json_each(?) AS wanted CROSS JOIN events ON events.id = wanted.value
    LEFT JOIN incidents ON incidents.incident_key = events.incident_key AND incidents.service_key = events.service_key
    WHERE state = 'waiting'";

/// The body of an unrecorded attempt is read only where counts have to be inserted into it.
pub(super) const BEGINNING: &str = "SELECT 'beginning' AS kind, events.id, api, received_at, count, first_seen,
        last_attempt_at IS NULL AS is_first,
        (SELECT counts_at FROM bodies WHERE bodies.id = events.id) AS counts_at,
        CASE WHEN wanted.value ->> 'begins' OR count > 1 AND last_attempt_at IS NULL
            THEN (SELECT body FROM bodies WHERE bodies.id = events.id) END AS body,
        wanted.value ->> 'begins' AS begins,
        (
            SELECT MIN(earlier.id) FROM events AS earlier WHERE earlier.state = 'waiting'
            AND earlier.incident_key = events.incident_key AND earlier.service_key = events.service_key
            AND earlier.id < events.id AND earlier.id NOT IN (SELECT value FROM json_each(wanted.value, '$.past'))
        ) AS earlier
    FROM json_each(?) AS wanted CROSS JOIN events ON events.id = wanted.value ->> 'id' WHERE state = 'waiting'";

/// Numbers of events that are revived or discarded, whatever of them can be read.
pub(super) const EDITING: &str = "SELECT 'editing' AS kind, events.id, state, events.service_key, events.incident_key,
        api, event_type, events.sentry_at, attempts, last_attempt_at, finished_at, resolved_at,
        EXISTS (
            SELECT 1 FROM events AS later WHERE later.state = 'waiting' AND later.event_type = 'trigger'
            AND later.incident_key = events.incident_key AND later.service_key = events.service_key
            AND later.id > events.id
        ) AS trigger_waits,
        incidents.event_id AS opener, incidents.changed_at AS opened_at, incidents.apis AS open_apis
    FROM json_each(?) AS wanted CROSS JOIN events ON events.id = wanted.value
    LEFT JOIN incidents ON incidents.incident_key = events.incident_key
        AND incidents.service_key = events.service_key AND is_open";

const REJECTED: &str = "SELECT 'rejected' AS kind, rejected.id FROM json_each(?) AS wanted CROSS JOIN rejected ON rejected.id = wanted.value";

const HELD: &str =
    "SELECT 'held' AS kind, held.id FROM json_each(?) AS wanted CROSS JOIN held ON held.id = wanted.value";

/// What is stored, and the last number that was given to an event.
#[derive(Debug, Default)]
pub(super) struct Loaded {
    pub(super) known: Known,
    pub(super) last: i64,
}

/// Loads `wanted`, together with what `statements` holds.
///
/// As much as possible goes in one text, since the thread that asks may wake up for the result of each. Where nothing is
/// wanted, nothing is run yet.
pub(super) async fn load(statements: &mut StatementBatch<'_>, wanted: &Wanted) -> sqlx::Result<Loaded> {
    match load_with(statements, wanted, WAITING).await {
        Err(error) if is_damaged(&error) && !(wanted.incidents.is_empty() && wanted.issues.is_empty()) => {
            load_with(statements, wanted, WAITING_UNREAD).await
        }
        loaded => loaded,
    }
}

async fn load_with(statements: &mut StatementBatch<'_>, wanted: &Wanted, waiting: &str) -> sqlx::Result<Loaded> {
    // Nobody else uses the file, so that no right is needed, and what was said is known.
    let Wanted {
        queues,
        incidents: _,
        issues,
        shared: _,
        seen,
        said: _,
        settling,
        beginning,
        unrecorded,
        editing,
        rejected,
        held,
        unfolded,
        fences: _,
    } = wanted;
    let mut loaded = Loaded::default();
    if *wanted == Wanted::default() {
        return Ok(loaded);
    }
    if !issues.is_empty() {
        load_members(statements, wanted, &mut loaded.known).await?;
    }
    let incidents = with_shared(wanted, &loaded.known);
    if !queues.is_empty() || !incidents.is_empty() {
        statements.add(LAST);
    }
    if !incidents.is_empty() {
        let keys = json!(incidents).to_string();
        statements.add(INCIDENTS).bind(&keys).add(waiting).bind(keys);
    }
    if !wanted.incidents.is_empty() || !issues.is_empty() {
        let keys: BTreeSet<_> = wanted.incidents.iter().chain(issues).collect();
        statements.add(RESOLVES).bind(json!(keys).to_string());
    }
    if !seen.is_empty() {
        let digests: Vec<_> = seen.iter().map(|key| hex(key.as_bytes())).collect();
        statements.add(SEEN).bind(json!(digests).to_string());
    }
    if !editing.is_empty() {
        statements.add(EDITING).bind(numbers(editing));
    }
    if !rejected.is_empty() {
        let ids: Vec<_> = rejected.iter().map(|id| id.get()).collect();
        statements.add(REJECTED).bind(json!(ids).to_string());
    }
    if !held.is_empty() {
        let ids: Vec<_> = held.iter().map(|id| id.get()).collect();
        statements.add(HELD).bind(json!(ids).to_string());
    }
    if !settling.is_empty() {
        statements.add(SETTLING).bind(numbers(settling));
    }
    if !beginning.is_empty() || !unrecorded.is_empty() {
        let begins = beginning.iter().map(|(id, past)| {
            let past: Vec<_> = past.iter().map(|id| id.get()).collect();
            json!({ "id": id.get(), "begins": true, "past": past })
        });
        let began = unrecorded.iter().map(|id| json!({ "id": id.get(), "begins": false, "past": [] }));
        statements.add(BEGINNING).bind(begins.chain(began).collect::<Value>().to_string());
    }
    let tails = if *unfolded { NO_TAILS } else { TAILS };
    // Also where there is no chunk.
    let chunks = queues.chunks(ROWS).map(Some).chain(queues.is_empty().then_some(None));
    for (number, chunk) in chunks.enumerate() {
        chunk.inspect(|chunk| ask_for_tails(statements, chunk, tails));
        for row in statements.rows().await? {
            take(&mut loaded, wanted, &incidents, number * ROWS, &row)?;
        }
    }
    Ok(loaded)
}

/// Loads what is known of issues that share incidents with others.
async fn load_members(statements: &mut StatementBatch<'_>, wanted: &Wanted, known: &mut Known) -> sqlx::Result<()> {
    let issues = json!(wanted.issues).to_string();
    statements.add(MEMBERS).bind(&issues);
    for row in statements.rows().await? {
        // What is no service key is delivered to nobody.
        let Ok(queue) = shared_queue(&row) else { continue };
        let issue_key = parsed(&row, "issue_key", IncidentKey::parse)?;
        let member = Member {
            is_open: row.try_get("is_open")?,
            received_at: time(&row, "received_at")?.unwrap_or_default(),
            sentry_at: time(&row, "sentry_at")?,
        };
        known.members.insert((issue_key, queue), member);
    }
    let shared: BTreeSet<_> = wanted.shared.iter().chain(known.members.keys().map(|(_, queue)| queue)).collect();
    if !shared.is_empty() {
        let shared: Value =
            shared.into_iter().map(|queue| json!([queue.incident_key, queue.service_key.expose()])).collect();
        statements.add(OPEN_OTHERWISE).bind(shared.to_string()).bind(issues);
        for row in statements.rows().await? {
            known.open_otherwise.extend(shared_queue(&row).ok());
        }
    }
    Ok(())
}

fn shared_queue(row: &SqliteRow) -> sqlx::Result<IncidentQueue> {
    let incident_key = parsed(row, "incident_key", IncidentKey::parse)?;
    let service_key = parsed(row, "service_key", |text| ServiceKey::parse(text).ok())?;
    Ok(IncidentQueue { incident_key, service_key })
}

/// The incidents of which all is wanted: those that are named, and those that the named issues share.
fn with_shared(wanted: &Wanted, known: &Known) -> Vec<IncidentKey> {
    let shared = known.members.keys().map(|(_, queue)| &queue.incident_key);
    let incidents: BTreeSet<_> = wanted.incidents.iter().chain(shared).collect();
    incidents.into_iter().cloned().collect()
}

fn ask_for_tails(statements: &mut StatementBatch<'_>, queues: &[IncidentQueue], tails: &str) {
    let size = queues.len().next_power_of_two();
    statements.add(&format!(
        "WITH queues (line, service_key, incident_key) AS (VALUES {})
        SELECT 'tail' AS kind, line, id, count, first_seen, sentry_at, happened_at, resolves.received_at AS came_at
        FROM queues {tails} LEFT JOIN resolves ON resolves.incident_key = queues.incident_key
        WHERE id IS NOT NULL OR happened_at IS NOT NULL",
        values(3, size)
    ));
    for (line, queue) in (0_i64..).zip(queues) {
        statements.bind(line).bind(queue.service_key.expose()).bind(queue.incident_key.as_str());
    }
    fill(statements, 3 * (size - queues.len()));
}

/// Adds a row to what is known; those of tails count from the queue `first`.
fn take(
    loaded: &mut Loaded,
    wanted: &Wanted,
    incidents: &[IncidentKey],
    first: usize,
    row: &SqliteRow,
) -> sqlx::Result<()> {
    let Loaded { known, last } = loaded;
    match row.try_get("kind")? {
        "last" => *last = row.try_get("id")?,
        "tail" => {
            let Some(queue) = line(row)?.and_then(|line| wanted.queues.get(first + line)) else { return Ok(()) };
            if let Some(tail) = tail(row)? {
                known.tails.insert(queue.clone(), tail);
            }
            if let (Some(happened_at), Some(received_at)) = (time(row, "happened_at")?, time(row, "came_at")?) {
                known.resolves.insert(queue.incident_key.clone(), Resolve { happened_at, received_at });
            }
        }
        "accepted" | "waiting" => {
            let Some(key) = line(row)?.and_then(|line| incidents.get(line)) else { return Ok(()) };
            take_incident(known.incidents.entry(key.clone()).or_default(), row)?;
        }
        "resolve" => {
            let key = parsed(row, "incident_key", IncidentKey::parse)?;
            if let (Some(happened_at), Some(received_at)) = (time(row, "happened_at")?, time(row, "received_at")?) {
                known.resolves.insert(key, Resolve { happened_at, received_at });
            }
        }
        "seen" => {
            let Some(key) = line(row)?.and_then(|line| wanted.seen.get(line)) else { return Ok(()) };
            let incident_key = parsed(row, "incident_key", IncidentKey::parse)?;
            let event_type = parsed(row, "event_type", EventType::parse)?;
            known.seen.insert(key.clone(), Seen { incident_key, event_type });
        }
        "settling" => {
            let settling = Settling {
                queue: IncidentQueue {
                    incident_key: parsed(row, "incident_key", IncidentKey::parse)?,
                    service_key: parsed(row, "service_key", |text| ServiceKey::parse(text).ok())?,
                },
                event_type: parsed(row, "event_type", EventType::parse)?,
                sentry_at: time(row, "sentry_at")?,
                api: api(row),
                was_in_doubt: row.try_get("was_in_doubt")?,
                is_known: row.try_get("is_known")?,
                open_apis: apis(row, "open_apis"),
            };
            known.settling.insert(id(row)?, settling);
        }
        "editing" => {
            let id = id(row)?;
            known.editing.extend(editable(row)?.map(|event| (id, event)));
        }
        "rejected" => drop(known.rejected.insert(RejectedId::new(row.try_get("id")?))),
        "held" => drop(known.held.insert(HeldId::new(row.try_get("id")?))),
        "beginning" => drop(known.beginning.insert(id(row)?, attemptable(row)?)),
        _ => {}
    }
    Ok(())
}

/// Adds a row of an incident. What is no service key is delivered to nobody.
pub(super) fn take_incident(known: &mut KnownIncident, row: &SqliteRow) -> sqlx::Result<()> {
    let Ok(service_key) = ServiceKey::parse(row.try_get("service_key")?) else { return Ok(()) };
    let sentry_at = time(row, "sentry_at")?;
    if row.try_get::<&str, _>("kind")? == "accepted" {
        let incident = Incident { is_open: row.try_get("is_open")?, apis: apis(row, "apis"), triggered_at: sentry_at };
        known.accepted.push((service_key, incident));
        return Ok(());
    }
    let Some(event_type) = EventType::parse(row.try_get("event_type")?) else { return Ok(()) };
    let is_fresh = row.try_get("is_fresh")? && event_type == EventType::Trigger;
    let tail = if is_fresh { tail(row)? } else { None };
    known.waiting.push(WaitingRow { service_key, api: api(row), event_type, sentry_at, tail });
    Ok(())
}

/// What cannot be read of the counts and the times keeps nothing from being sent.
fn attemptable(row: &SqliteRow) -> sqlx::Result<Attemptable> {
    let begins: bool = row.try_get("begins")?;
    let body = if begins { Some(row.try_get("body")?) } else { row.try_get("body")? };
    let received_at = time(row, "received_at")?.unwrap_or_default();
    Ok(Attemptable {
        earlier: row.try_get::<Option<i64>, _>("earlier")?.map(EventId::new),
        is_first: row.try_get("is_first")?,
        api: api(row),
        body,
        counts_at: row.try_get::<Option<i64>, _>("counts_at")?.and_then(|offset| usize::try_from(offset).ok()),
        count: row.try_get("count").unwrap_or(1),
        first_seen: time(row, "first_seen")?.unwrap_or(received_at),
        received_at,
    })
}

fn editable(row: &SqliteRow) -> sqlx::Result<Option<Editable>> {
    let Some(state) = State::parse(row.try_get("state")?) else { return Ok(None) };
    let queue = || {
        let service_key = ServiceKey::parse(row.try_get("service_key").ok()?).ok()?;
        let incident_key = IncidentKey::parse(row.try_get("incident_key").ok()?)?;
        Some(IncidentQueue { incident_key, service_key })
    };
    let opener = row.try_get::<Option<i64>, _>("opener")?.map(EventId::new);
    Ok(Some(Editable {
        state,
        queue: queue(),
        api: api(row),
        event_type: row.try_get("event_type").ok().and_then(EventType::parse),
        sentry_at: time(row, "sentry_at")?,
        attempts: row.try_get("attempts")?,
        last_attempt_at: time(row, "last_attempt_at")?,
        finished_at: time(row, "finished_at")?,
        resolved_at: time(row, "resolved_at")?,
        trigger_waits: row.try_get("trigger_waits")?,
        opened: time(row, "opened_at")?.map(|at| (opener, at)),
        open_apis: apis(row, "open_apis"),
    }))
}

/// The API of an event. A number that cannot be read keeps nothing from being sent.
fn api(row: &SqliteRow) -> ApiVersion {
    row.try_get("api").map_or_else(|_| ApiVersion::default(), ApiVersion::of_number)
}

/// The APIs of an incident; none where it is not open.
fn apis(row: &SqliteRow, column: &str) -> ApiSet {
    let number: Option<i64> =
        row.try_get(column).unwrap_or_else(|_| Some(ApiSet::only(ApiVersion::default()).number()));
    number.map_or_else(ApiSet::default, ApiSet::of_number)
}

fn tail(row: &SqliteRow) -> sqlx::Result<Option<Tail>> {
    let Some(first_seen) = time(row, "first_seen")? else { return Ok(None) };
    Ok(Some(Tail { id: id(row)?, count: row.try_get("count")?, first_seen, sentry_at: time(row, "sentry_at")? }))
}

fn id(row: &SqliteRow) -> sqlx::Result<EventId> {
    row.try_get("id").map(EventId::new)
}

/// The place in the list that was asked for.
fn line(row: &SqliteRow) -> sqlx::Result<Option<usize>> {
    Ok(row.try_get::<Option<i64>, _>("line")?.and_then(|line| usize::try_from(line).ok()))
}

fn time(row: &SqliteRow, column: &str) -> sqlx::Result<Option<DateTime<Utc>>> {
    let milliseconds: Option<i64> = row.try_get(column)?;
    Ok(milliseconds.and_then(DateTime::from_timestamp_millis))
}

/// What is none is damage.
fn parsed<'r, S, T>(row: &'r SqliteRow, column: &str, parse: impl Fn(S) -> Option<T>) -> sqlx::Result<T>
where
    S: Decode<'r, Sqlite> + Type<Sqlite>,
{
    parse(row.try_get(column)?).ok_or_else(|| sqlx::Error::ColumnDecode {
        index: column.to_owned(),
        source: "it is not what the bridge writes".into(),
    })
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// One incident.
pub(super) async fn incident(
    connection: &mut sqlx::SqliteConnection,
    incident_key: &IncidentKey,
) -> sqlx::Result<KnownIncident> {
    let wanted = Wanted { incidents: vec![incident_key.clone()], ..Wanted::default() };
    let loaded = load(&mut StatementBatch::on(connection), &wanted).await?;
    let mut incidents: HashMap<_, _> = loaded.known.incidents;
    Ok(incidents.remove(incident_key).unwrap_or_default())
}
