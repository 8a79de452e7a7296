//! Reads what a batch depends on: the first half of a transaction.
//!
//! First the incidents are locked, then the leases of attempts, both in the order of their names, so that two batches
//! never wait for each other. Every later statement sees what earlier transactions have committed.

use std::collections::{BTreeSet, HashMap};

use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::edit::load_edited;
use super::leases::load_fenced;
use super::rows::stored;
use super::rows::{
    api, apis, event_type, id, incident_key, issue_key, number, numbers, optional_time, rows, service_key, time,
    waiting,
};
use crate::envelope::DedupKey;
use crate::pagerduty::{EventType, IncidentKey};
use crate::queue::EventId;
use crate::queue::store::{
    Dependencies, EventToBegin, EventToSettle, FoldableTrigger, IncidentEvent, IncidentQueueKey, IntegrationIncident,
    Known, KnownIncident, Resolve, SharedIssue,
};

/// Locks incidents until the end of the transaction. An existing row is locked without being written, unless it was
/// last written more than an hour ago.
macro_rules! lock {
    ($incidents:literal) => {
        concat!(
            "INSERT INTO incident_queues (incident_key, used_at)
    SELECT incident_key, now() FROM (",
            $incidents,
            ") AS wanted ORDER BY incident_key COLLATE \"C\"
    ON CONFLICT (incident_key) DO UPDATE SET used_at = excluded.used_at
    WHERE incident_queues.used_at < excluded.used_at - interval '1 hour'"
        )
    };
}

/// Locks the incidents with these keys, which is all that most webhooks need.
const LOCK: &str = lock!("SELECT DISTINCT unnest($1::text[]) AS incident_key");

/// Locks the incidents with these keys, and those of the events with these numbers. Without any number, PostgreSQL
/// might read the whole table.
const LOCK_EVENTS: &str = lock!(
    "SELECT unnest($1::text[]) AS incident_key UNION SELECT incident_key FROM events WHERE id = ANY($2::bigint[])"
);

/// Locks the incidents with these keys, and those that these issues share with others.
const LOCK_SHARED: &str = lock!(
    "SELECT unnest($1::text[]) AS incident_key
        UNION SELECT incident_key FROM incident_issues WHERE issue_key = ANY($2::text[])"
);

/// Locks all of these.
const LOCK_ALL: &str = lock!(
    "SELECT unnest($1::text[]) AS incident_key
        UNION SELECT incident_key FROM events WHERE id = ANY($2::bigint[])
        UNION SELECT incident_key FROM incident_issues WHERE issue_key = ANY($3::text[])"
);

/// What most batches depend on, in one round trip: one `kind` of rows after the other.
///
/// - 0: the last event of each queue, if alerts can be folded into it. An attempt that began before the event was put
///   back counts as well: its bytes were already sent. OFFSET makes PostgreSQL look up the few events of the incident
///   by its index, even if the planner would rather scan all events backwards.
/// - 1: the last resolves of incidents
/// - 2: webhooks that were seen
/// - 3: keys of the dedup window
const KNOWN: &str = "SELECT 0 AS kind, line, id, count, first_seen, sentry_at, NULL::text AS incident_key,
        NULL::bigint AS happened_at, NULL::bigint AS received_at, NULL::text AS event_type, NULL::bytea AS digest
    FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS queues (incident_key, service_key, line)
    CROSS JOIN LATERAL (
        SELECT * FROM (
            SELECT id, service_key, count, first_seen, sentry_at, event_type, last_attempt_at FROM events
            WHERE state = 'waiting' AND incident_key = queues.incident_key OFFSET 0
        ) AS incident WHERE service_key = queues.service_key ORDER BY id DESC LIMIT 1
    ) AS last WHERE event_type = 'trigger' AND last_attempt_at IS NULL
    UNION ALL
    SELECT 1, NULL, NULL, NULL, NULL, NULL, incident_key, happened_at, received_at, NULL, NULL
    FROM resolves WHERE incident_key = ANY($3::text[])
    UNION ALL
    SELECT 2, NULL, NULL, NULL, NULL, NULL, incident_key, NULL, NULL, event_type, digest
    FROM seen_webhooks WHERE digest = ANY($4::bytea[])
    UNION ALL
    SELECT 3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, came_at, NULL, digest
    FROM dedup_window WHERE digest = ANY($5::bytea[])";

const INCIDENTS: &str = "SELECT line, service_key, is_open, apis, sentry_at
    FROM unnest($1::text[]) WITH ORDINALITY AS wanted (incident_key, line) JOIN incidents USING (incident_key)
    ORDER BY line, service_key";

/// The waiting events of incidents, in their order. OFFSET makes PostgreSQL look them up for one incident after the
/// other, however many rows the planner expects.
const WAITING: &str = "SELECT line, waiting.*
    FROM unnest($1::text[]) WITH ORDINALITY AS wanted (incident_key, line)
    CROSS JOIN LATERAL (
        SELECT id, service_key, api, event_type, count, first_seen, sentry_at, last_attempt_at IS NULL AS is_fresh
        FROM events WHERE state = 'waiting' AND incident_key = wanted.incident_key OFFSET 0
    ) AS waiting ORDER BY line, id";

/// The shared incidents in which issues are or were open.
const SHARED_ISSUES: &str =
    "SELECT issue_key, incident_key, service_key, is_open, received_at, sentry_at FROM incident_issues
    WHERE issue_key = ANY($1::text[])";

/// Selects those of the shared incidents `$1`, at the integrations `$2`, in which issues other than `$3` are open.
const OPEN_OTHERWISE: &str =
    "SELECT incident_key, service_key FROM unnest($1::text[], $2::text[]) AS shared (incident_key, service_key)
    WHERE EXISTS (
        SELECT 1 FROM incident_issues AS other
        WHERE other.incident_key = shared.incident_key AND other.service_key = shared.service_key
        AND is_open AND issue_key <> ALL($3::text[])
    )";

/// Whether an event waits is checked on the loaded row and not in the query, which might then use the index of all
/// waiting events.
const SETTLING: &str =
    "SELECT id, state, service_key, incident_key, api, event_type, events.sentry_at, reason IS NOT NULL AS was_in_doubt,
        is_open IS NOT NULL AS is_known, CASE WHEN is_open THEN apis ELSE 0 END AS open_apis,
        CASE WHEN revived_at IS NULL THEN attempts WHEN last_attempt_at >= revived_at THEN 1 ELSE 0 END AS attempts
    FROM events LEFT JOIN incidents USING (incident_key, service_key) WHERE id = ANY($1::bigint[])";

/// `skipped` is the number of events that an attempt does not wait for: at most that many earlier events, plus one, have
/// to be looked at. The body of an unrecorded attempt is read only if counts have to be inserted into it.
const BEGINNING: &str = "SELECT events.id, state, begins, service_key, api, received_at, count, first_seen,
        last_attempt_at IS NULL AS is_first, counts_at,
        CASE WHEN begins OR count > 1 AND last_attempt_at IS NULL THEN body END AS body,
        ARRAY (
            SELECT earlier.id FROM (
                SELECT id, service_key FROM events AS waiting
                WHERE waiting.state = 'waiting' AND waiting.incident_key = events.incident_key OFFSET 0
            ) AS earlier
            WHERE earlier.service_key = events.service_key AND earlier.id < events.id
            ORDER BY earlier.id LIMIT past + 1
        ) AS earlier
    FROM unnest($1::bigint[], $2::boolean[], $3::bigint[]) AS wanted (id, begins, past)
    JOIN events ON events.id = wanted.id LEFT JOIN bodies ON bodies.id = events.id";

/// Loads `dependencies`.
pub(super) async fn load(connection: &mut PgConnection, dependencies: &Dependencies) -> sqlx::Result<Known> {
    lock(connection, dependencies).await?;
    let mut known = Known::default();
    load_fenced(connection, dependencies, &mut known).await?;
    load_known(connection, dependencies, &mut known).await?;
    if !dependencies.issues.is_empty() {
        load_shared_issues(connection, dependencies, &mut known).await?;
    }
    let shared = known.shared_issues.keys().map(|(_, queue)| &queue.incident_key);
    let incidents: BTreeSet<_> = dependencies.incidents.iter().chain(shared).cloned().collect();
    if !incidents.is_empty() {
        load_incidents(connection, &Vec::from_iter(incidents), &mut known.incidents).await?;
    }
    if !dependencies.to_settle.is_empty() {
        for row in waiting(sqlx::query(SETTLING).bind(numbers(&dependencies.to_settle)), connection).await? {
            known.to_settle.insert(id(&row)?, to_settle(&row)?);
        }
    }
    if !dependencies.to_begin.is_empty() || !dependencies.unrecorded.is_empty() {
        load_attempts(connection, dependencies, &mut known).await?;
    }
    known.to_settle.retain(|id, _| !known.fenced.contains(id));
    known.to_begin.retain(|id, _| !known.fenced.contains(id));
    load_edited(connection, dependencies, &mut known).await?;
    Ok(known)
}

async fn lock(connection: &mut PgConnection, dependencies: &Dependencies) -> sqlx::Result<()> {
    let queues = dependencies.queues.iter().map(|queue| &queue.incident_key);
    let keys = queues.chain(&dependencies.incidents).chain(&dependencies.issues);
    let keys: Vec<_> = keys.map(|key| stored(key.as_str())).collect();
    let issues: Vec<_> = dependencies.issues.iter().map(|key| stored(key.as_str())).collect();
    let begins = dependencies.to_begin.iter().map(|(id, _)| id);
    let ids = dependencies.to_settle.iter().chain(begins).chain(&dependencies.unrecorded).chain(&dependencies.to_edit);
    let ids: Vec<_> = ids.map(|id| id.get()).collect();
    let query = match (ids.is_empty(), issues.is_empty()) {
        (true, true) if keys.is_empty() => return Ok(()),
        (true, true) => sqlx::query(LOCK).bind(keys),
        (false, true) => sqlx::query(LOCK_EVENTS).bind(keys).bind(ids),
        (true, false) => sqlx::query(LOCK_SHARED).bind(keys).bind(issues),
        (false, false) => sqlx::query(LOCK_ALL).bind(keys).bind(ids).bind(issues),
    };
    query.execute(connection).await.map(drop)
}

async fn load_known(connection: &mut PgConnection, dependencies: &Dependencies, known: &mut Known) -> sqlx::Result<()> {
    let queues = || dependencies.queues.iter();
    let incidents =
        queues().map(|queue| &queue.incident_key).chain(&dependencies.incidents).chain(&dependencies.issues);
    let resolved: Vec<_> = incidents.map(|key| stored(key.as_str())).collect();
    if resolved.is_empty() && dependencies.seen.is_empty() && dependencies.dedup_keys.is_empty() {
        return Ok(());
    }
    let folded = || queues().filter(|_| !dependencies.skips_folding);
    let query = sqlx::query(KNOWN)
        .bind(folded().map(|queue| stored(queue.incident_key.as_str())).collect::<Vec<_>>())
        .bind(folded().map(|queue| queue.service_key.expose()).collect::<Vec<_>>())
        .bind(resolved)
        .bind(digests(&dependencies.seen))
        .bind(digests(&dependencies.dedup_keys));
    for row in rows(query, connection).await? {
        match row.try_get::<i32, _>("kind")? {
            0 => {
                if let Some(queue) = dependencies.queues.get(line(&row)?) {
                    known.foldable.insert(queue.clone(), foldable(&row)?);
                }
            }
            1 => {
                let (sentry_at, received_at) = (time(&row, "happened_at")?, time(&row, "received_at")?);
                known.resolves.insert(incident_key(&row)?, Resolve { sentry_at, received_at });
            }
            2 => {
                let seen = (incident_key(&row)?, event_type(&row)?);
                known.seen.extend(dedup_key(&dependencies.seen, &row)?.map(|key| (key, seen)));
            }
            _ => {
                let came_at = time(&row, "received_at")?;
                known.dedup_keys.extend(dedup_key(&dependencies.dedup_keys, &row)?.map(|key| (key, came_at)));
            }
        }
    }
    Ok(())
}

/// Loads what is known of issues that share incidents with others.
async fn load_shared_issues(
    connection: &mut PgConnection,
    dependencies: &Dependencies,
    known: &mut Known,
) -> sqlx::Result<()> {
    let issues: Vec<_> = dependencies.issues.iter().map(|key| stored(key.as_str())).collect();
    for row in rows(sqlx::query(SHARED_ISSUES).bind(&issues), connection).await? {
        // Rows with an invalid service key are skipped: they are never delivered.
        let Ok(service_key) = service_key(&row) else { continue };
        let queue = IncidentQueueKey { incident_key: incident_key(&row)?, service_key };
        let member = SharedIssue {
            is_open: row.try_get("is_open")?,
            received_at: time(&row, "received_at")?,
            sentry_at: optional_time(&row, "sentry_at")?,
        };
        known.shared_issues.insert((issue_key(&row)?, queue), member);
    }
    let shared: BTreeSet<_> =
        dependencies.shared_incidents.iter().chain(known.shared_issues.keys().map(|(_, queue)| queue)).collect();
    if shared.is_empty() {
        return Ok(());
    }
    let query = sqlx::query(OPEN_OTHERWISE)
        .bind(shared.iter().map(|queue| stored(queue.incident_key.as_str())).collect::<Vec<_>>())
        .bind(shared.iter().map(|queue| queue.service_key.expose().to_owned()).collect::<Vec<_>>())
        .bind(issues);
    for row in rows(query, connection).await? {
        let queue = IncidentQueueKey { incident_key: incident_key(&row)?, service_key: service_key(&row)? };
        known.open_otherwise.insert(queue);
    }
    Ok(())
}

/// Loads what is known of incidents.
pub(super) async fn load_incidents(
    connection: &mut PgConnection,
    keys: &[IncidentKey],
    known: &mut HashMap<IncidentKey, KnownIncident>,
) -> sqlx::Result<()> {
    let stored: Vec<_> = keys.iter().map(|key| stored(key.as_str())).collect();
    for row in rows(sqlx::query(INCIDENTS).bind(&stored), connection).await? {
        // Rows with an invalid service key are skipped: they are never delivered.
        if let (Some(key), Ok(service_key)) = (keys.get(line(&row)?), service_key(&row)) {
            let incident = IntegrationIncident {
                is_open: row.try_get("is_open")?,
                apis: apis(&row, "apis")?,
                triggered_at: optional_time(&row, "sentry_at")?,
            };
            known.entry(key.clone()).or_default().delivered.push((service_key, incident));
        }
    }
    for row in rows(sqlx::query(WAITING).bind(&stored), connection).await? {
        let (Some(key), Ok(service_key)) = (keys.get(line(&row)?), service_key(&row)) else { continue };
        let Ok(event_type) = event_type(&row) else { continue };
        let is_fresh = row.try_get("is_fresh")? && event_type == EventType::Trigger;
        let foldable = if is_fresh { Some(foldable(&row)?) } else { None };
        let sentry_at = optional_time(&row, "sentry_at")?;
        let waiting = IncidentEvent { service_key, api: api(&row)?, event_type, sentry_at, foldable };
        known.entry(key.clone()).or_default().waiting.push(waiting);
    }
    Ok(())
}

async fn load_attempts(
    connection: &mut PgConnection,
    dependencies: &Dependencies,
    known: &mut Known,
) -> sqlx::Result<()> {
    let skipped: HashMap<_, _> = dependencies.to_begin.iter().map(|(id, skipped)| (*id, skipped)).collect();
    let begin = dependencies
        .to_begin
        .iter()
        .map(|(id, skipped)| (id.get(), true, i64::try_from(skipped.len()).unwrap_or(i64::MAX)));
    let unrecorded = dependencies.unrecorded.iter().map(|id| (id.get(), false, 0));
    let (mut ids, mut begins, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    for (id, is_begin, number) in begin.chain(unrecorded) {
        ids.push(id);
        begins.push(is_begin);
        numbers.push(number);
    }
    for row in waiting(sqlx::query(BEGINNING).bind(ids).bind(begins).bind(numbers), connection).await? {
        let id = id(&row)?;
        let is_skipped = |earlier: &EventId| skipped.get(&id).is_some_and(|skipped| skipped.contains(earlier));
        let earlier: Vec<i64> = row.try_get("earlier")?;
        let earlier = earlier.into_iter().map(EventId::new).find(|earlier| !is_skipped(earlier));
        known.to_begin.insert(id, event_to_begin(&row, earlier)?);
    }
    Ok(())
}

fn event_to_begin(row: &PgRow, earlier: Option<EventId>) -> sqlx::Result<EventToBegin> {
    let body = if row.try_get("begins")? { Some(row.try_get("body")?) } else { row.try_get("body")? };
    let received_at = time(row, "received_at")?;
    Ok(EventToBegin {
        earlier,
        is_first: row.try_get("is_first")?,
        api: api(row)?,
        body,
        counts_at: row.try_get::<Option<i64>, _>("counts_at")?.and_then(|offset| usize::try_from(offset).ok()),
        count: number(row, "count")?,
        first_seen: time(row, "first_seen")?,
        received_at,
    })
}

fn to_settle(row: &PgRow) -> sqlx::Result<EventToSettle> {
    Ok(EventToSettle {
        queue: IncidentQueueKey { incident_key: incident_key(row)?, service_key: service_key(row)? },
        api: api(row)?,
        event_type: event_type(row)?,
        sentry_at: optional_time(row, "sentry_at")?,
        was_in_doubt: row.try_get("was_in_doubt")?,
        attempts: number(row, "attempts")?,
        is_known: row.try_get("is_known")?,
        open_apis: apis(row, "open_apis")?,
    })
}

fn foldable(row: &PgRow) -> sqlx::Result<FoldableTrigger> {
    Ok(FoldableTrigger {
        id: id(row)?,
        count: number(row, "count")?,
        first_seen: time(row, "first_seen")?,
        sentry_at: optional_time(row, "sentry_at")?,
    })
}

/// Returns the key of `keys` that a row is about.
fn dedup_key(keys: &[DedupKey], row: &PgRow) -> sqlx::Result<Option<DedupKey>> {
    let digest: Vec<u8> = row.try_get("digest")?;
    let found = keys.binary_search_by(|key| key.as_bytes().cmp(&digest));
    Ok(found.ok().and_then(|place| keys.get(place)).cloned())
}

pub(super) fn digests(keys: &[DedupKey]) -> Vec<&[u8]> {
    keys.iter().map(DedupKey::as_bytes).collect()
}

/// The index of the row's incident in the list of parameters, from 0.
fn line(row: &PgRow) -> sqlx::Result<usize> {
    Ok(usize::try_from(row.try_get::<i64, _>("line")? - 1).unwrap_or(usize::MAX))
}
