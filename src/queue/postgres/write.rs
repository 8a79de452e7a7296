//! Writes the plan: the second half of a transaction. There is one statement per table, whose values are arrays.

use std::borrow::Cow;

use sqlx::{PgConnection, Row as _};

use super::edit::write_edited;
use super::rows::{numbers, stored};
use crate::pagerduty::ServiceKey;
use crate::queue::item::{MAX_REJECTED, MAX_REJECTED_BYTES};
use crate::queue::store::{Committed, EventWrite, Plan, TriggerMark};
use crate::queue::{EventId, HeldSender, HeldWebhook, RejectedId, RejectedWebhook};

/// Only waiting events are attempted and settled. This transaction has already loaded that they wait, and has locked
/// their incidents. If the statement checked it again, PostgreSQL could use the index of all waiting events.
const ATTEMPTS: &str = "UPDATE events SET attempts = attempts + added, last_attempt_at = attempted.at
    FROM unnest($1::bigint[], $2::bigint[], $3::bigint[]) AS attempted (id, added, at)
    WHERE events.id = attempted.id";

const BODIES: &str = "UPDATE bodies SET body = inserted.body, counts_at = NULL
    FROM unnest($1::bigint[], $2::bytea[]) AS inserted (id, body) WHERE bodies.id = inserted.id";

/// Rows that another bridge has locked are left to that bridge.
const FORGET_RESOLVES: &str = "DELETE FROM resolves WHERE incident_key IN (
        SELECT incident_key FROM resolves WHERE received_at NOT BETWEEN $1 AND $2 FOR UPDATE SKIP LOCKED
    )";

/// Marks the waiting and the dead triggers of an incident, at `$5` or everywhere.
const RESOLVED: &str = "WITH dead AS (
        UPDATE events SET resolved_at = $1 WHERE state = 'dead' AND incident_key = $2 AND event_type = 'trigger'
        AND ($5::text IS NULL OR service_key = $5)
        AND COALESCE(sentry_at / 1000 <= $3 / 1000 OR sentry_at > $4, TRUE)
    )
    UPDATE events SET resolved_at = $1 WHERE state = 'waiting' AND incident_key = $2 AND event_type = 'trigger'
    AND ($5::text IS NULL OR service_key = $5)
    AND COALESCE(sentry_at / 1000 <= $3 / 1000 OR sentry_at > $4, TRUE)";

const NOT_RESOLVED: &str = "UPDATE events SET resolved_at = NULL
    WHERE state = 'dead' AND incident_key = $1 AND ($2::text IS NULL OR service_key = $2)
    AND resolved_at IS NOT NULL";

/// Stores keys of the dedup window. The arguments are the parameters with the digests and with their times.
macro_rules! store_dedup_keys {
    ($digests:literal, $times:literal) => {
        concat!(
            "INSERT INTO dedup_window (digest, came_at) SELECT * FROM unnest(",
            $digests,
            "::bytea[], ",
            $times,
            "::bigint[]) ON CONFLICT (digest) DO UPDATE SET came_at = excluded.came_at, at = now()"
        )
    };
}

const STORE_DEDUP_KEYS: &str = store_dedup_keys!("$1", "$2");

/// The numbers are assigned in the order of the rows, and returned with the rows they were assigned to. The dedup keys
/// of the webhooks are written by the same statement, which saves a round trip.
const NEW: &str = concat!(
    "WITH numbered AS MATERIALIZED (
        SELECT nextval('event_ids') AS id, rows.* FROM (
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[],
                $8::bigint[], $9::bigint[], $10::bytea[], $11::bigint[], $12::bigint[]) WITH ORDINALITY
            AS rows (service_key, incident_key, event_type, description, count, received_at, first_seen, sentry_at,
                resolved_at, body, counts_at, api, line)
            ORDER BY line
        ) AS rows
    ), added AS (
        INSERT INTO events (id, service_key, incident_key, event_type, description, count, received_at, first_seen,
            sentry_at, resolved_at, api)
        SELECT id, service_key, incident_key, event_type, description, count, received_at, first_seen, sentry_at,
            resolved_at, api
        FROM numbered
    ), with_bodies AS (INSERT INTO bodies (id, body, counts_at) SELECT id, body, counts_at FROM numbered), dedup_keys AS (",
    store_dedup_keys!("$13", "$14"),
    ") SELECT line, id FROM numbered ORDER BY line"
);

const REPLACED: &str = "WITH rows AS MATERIALIZED (
        SELECT * FROM unnest($1::bigint[], $2::text[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bytea[],
            $8::bigint[], $9::bigint[])
        AS rows (id, description, count, received_at, sentry_at, resolved_at, body, counts_at, api)
    ), folded AS (
        UPDATE events SET api = rows.api, description = rows.description, count = rows.count, received_at = rows.received_at,
            sentry_at = rows.sentry_at, resolved_at = rows.resolved_at
        FROM rows WHERE events.id = rows.id
    )
    UPDATE bodies SET body = rows.body, counts_at = rows.counts_at FROM rows WHERE bodies.id = rows.id";

const RESOLVES: &str = "INSERT INTO resolves (incident_key, happened_at, received_at)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])
    ON CONFLICT (incident_key) DO UPDATE SET happened_at = excluded.happened_at, received_at = excluded.received_at";

const SHARED_ISSUES: &str =
    "INSERT INTO incident_issues (issue_key, incident_key, service_key, is_open, received_at, sentry_at)
    SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::boolean[], $5::bigint[], $6::bigint[])
    ON CONFLICT (issue_key, incident_key, service_key) DO UPDATE SET is_open = excluded.is_open,
        received_at = excluded.received_at, sentry_at = excluded.sentry_at";

const SEEN: &str = "INSERT INTO seen_webhooks (digest, incident_key, event_type)
    SELECT * FROM unnest($1::bytea[], $2::text[], $3::text[]) ON CONFLICT (digest) DO NOTHING";

const SETTLED: &str = "UPDATE events SET state = settled.state, reason = settled.reason,
        finished_at = settled.finished_at, next_attempt_at = settled.next_attempt_at,
        blamed_ms = COALESCE(settled.blamed_ms, events.blamed_ms)
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::bigint[], $6::bigint[])
    AS settled (id, state, reason, finished_at, next_attempt_at, blamed_ms)
    WHERE events.id = settled.id";

/// GREATEST ignores NULL.
const INCIDENTS: &str = "INSERT INTO incidents (incident_key, service_key, is_open, changed_at, event_id, sentry_at, apis)
    SELECT * FROM unnest($1::text[], $2::text[], $3::boolean[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[])
    ON CONFLICT (incident_key, service_key) DO UPDATE SET is_open = excluded.is_open, changed_at = excluded.changed_at,
        apis = excluded.apis, event_id = excluded.event_id, sentry_at = GREATEST(incidents.sentry_at, excluded.sentry_at)";

/// The rows are numbered in the order of the webhooks.
const REJECTED: &str = "INSERT INTO rejected
        (received_at, resource, idempotency_key, sent_at, from_sentrys_pages, is_signed, reason, size, body)
    SELECT received_at, resource, idempotency_key, sent_at, from_sentrys_pages, is_signed, reason, size, body
    FROM unnest($1::bigint[], $2::text[], $3::text[], $4::bigint[], $5::boolean[], $6::boolean[], $7::text[], $8::bigint[],
        $9::bytea[]) WITH ORDINALITY
    AS webhooks (received_at, resource, idempotency_key, sent_at, from_sentrys_pages, is_signed, reason, size, body, line)
    ORDER BY line RETURNING id";

/// The rows are numbered in the order of the webhooks.
const HELD: &str = "INSERT INTO held (received_at, network, signature, resource, idempotency_key, sent_at, size, body)
    SELECT received_at, network, signature, resource, idempotency_key, sent_at, size, body
    FROM unnest($1::bigint[], $2::text[], $3::bytea[], $4::text[], $5::text[], $6::bigint[], $7::bigint[], $8::bytea[])
        WITH ORDINALITY
    AS webhooks (received_at, network, signature, resource, idempotency_key, sent_at, size, body, line)
    ORDER BY line";

/// Rows that another bridge deletes at the same moment are left to that bridge.
const SURPLUS_REJECTED: &str = "DELETE FROM rejected WHERE id IN (
        SELECT id FROM rejected WHERE id <= (
            SELECT MAX(id) FROM (
                SELECT id, ROW_NUMBER() OVER newer AS place, SUM(size) OVER newer AS bytes
                FROM rejected WINDOW newer AS (ORDER BY id DESC)
            ) AS placed WHERE place > $1 OR bytes > $2
        ) FOR UPDATE SKIP LOCKED
    )";

/// Writes `plan` inside the transaction that loaded what it was decided from.
pub(super) async fn apply(connection: &mut PgConnection, plan: &Plan<'_>) -> sqlx::Result<Committed> {
    write_edited(connection, plan).await?;
    write_attempts(connection, plan).await?;
    if let Some(times) = plan.forget_resolves {
        let query =
            sqlx::query(FORGET_RESOLVES).bind(times.since.timestamp_millis()).bind(times.until.timestamp_millis());
        query.execute(&mut *connection).await?;
    }
    for mark in &plan.trigger_marks {
        mark_triggers(connection, mark).await?;
    }
    let event_ids = write_rows(connection, plan).await?;
    write_shared_issues(connection, plan).await?;
    write_resolves(connection, plan).await?;
    write_dedup(connection, plan).await?;
    write_settled(connection, plan).await?;
    write_incidents(connection, plan).await?;
    let rejected = keep_rejected(connection, &plan.rejected).await?;
    hold(connection, &plan.held).await?;
    Ok(Committed { event_ids, rejected })
}

async fn write_attempts(connection: &mut PgConnection, plan: &Plan<'_>) -> sqlx::Result<()> {
    if !plan.attempts.is_empty() {
        let attempts = || plan.attempts.iter();
        sqlx::query(ATTEMPTS)
            .bind(attempts().map(|attempted| attempted.id.get()).collect::<Vec<_>>())
            .bind(attempts().map(|attempted| i64::from(attempted.added_attempts)).collect::<Vec<_>>())
            .bind(attempts().map(|attempted| attempted.last_at.timestamp_millis()).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
    }
    if !plan.bodies.is_empty() {
        let (ids, bodies): (Vec<_>, Vec<_>) = plan.bodies.iter().map(|(id, body)| (id.get(), body.as_slice())).unzip();
        sqlx::query(BODIES).bind(ids).bind(bodies).execute(connection).await?;
    }
    Ok(())
}

async fn mark_triggers(connection: &mut PgConnection, mark: &TriggerMark<'_>) -> sqlx::Result<()> {
    let query = match mark {
        TriggerMark::Resolved { incident_key, service_key, received_at, sent_at, now } => sqlx::query(RESOLVED)
            .bind(received_at.timestamp_millis())
            .bind(stored(incident_key.as_str()))
            .bind(sent_at.map(|at| at.timestamp_millis()))
            .bind(now.timestamp_millis())
            .bind(service_key.map(ServiceKey::expose)),
        TriggerMark::NotResolved { incident_key, service_key } => {
            sqlx::query(NOT_RESOLVED).bind(stored(incident_key.as_str())).bind(service_key.map(ServiceKey::expose))
        }
    };
    query.execute(connection).await.map(drop)
}

/// Writes rows and the dedup keys of their webhooks, and returns the numbers of the rows, in their order.
async fn write_rows(connection: &mut PgConnection, plan: &Plan<'_>) -> sqlx::Result<Vec<EventId>> {
    let (replaced, new): (Vec<_>, Vec<_>) = plan.rows.iter().partition(|row| row.replaces.is_some());
    let (digests, times): (Vec<_>, Vec<_>) =
        plan.dedup_keys.iter().map(|(key, at)| (key.as_bytes(), at.timestamp_millis())).unzip();
    let mut numbers = if new.is_empty() {
        if !digests.is_empty() {
            sqlx::query(STORE_DEDUP_KEYS).bind(digests).bind(times).execute(&mut *connection).await?;
        }
        Vec::new().into_iter()
    } else {
        write_new(connection, &new, digests, times).await?.into_iter()
    };
    write_replaced(connection, &replaced).await?;
    Ok(plan.rows.iter().filter_map(|row| row.replaces.or_else(|| numbers.next())).collect())
}

async fn write_new(
    connection: &mut PgConnection,
    new: &[&EventWrite<'_>],
    digests: Vec<&[u8]>,
    times: Vec<i64>,
) -> sqlx::Result<Vec<EventId>> {
    let envelopes = || new.iter().map(|row| &row.envelope);
    let written = sqlx::query(NEW)
        .bind(envelopes().map(|envelope| envelope.service_key.expose()).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| stored(envelope.incident_key.as_str())).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.event_type.as_str()).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| stored(&envelope.description)).collect::<Vec<_>>())
        .bind(new.iter().map(|row| i64::from(row.count)).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.received_at.timestamp_millis()).collect::<Vec<_>>())
        .bind(new.iter().map(|row| row.first_seen.timestamp_millis()).collect::<Vec<_>>())
        .bind(new.iter().map(|row| row.sentry_at.map(|at| at.timestamp_millis())).collect::<Vec<_>>())
        .bind(new.iter().map(|row| row.resolved_at.map(|at| at.timestamp_millis())).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.body.as_slice()).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| offset(envelope.counts_at)).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.api.number()).collect::<Vec<_>>())
        .bind(digests)
        .bind(times)
        .fetch_all(connection)
        .await?;
    let ids = written.iter().map(|row| row.try_get("id").map(EventId::new)).collect::<sqlx::Result<Vec<_>>>()?;
    // The order within an incident depends on this.
    if ids.len() != new.len() || !ids.is_sorted() {
        return Err(sqlx::Error::Protocol("the numbers of new events are not in the order of the events".to_owned()));
    }
    Ok(ids)
}

async fn write_replaced(connection: &mut PgConnection, replaced: &[&EventWrite<'_>]) -> sqlx::Result<()> {
    if replaced.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = replaced.iter().filter_map(|row| row.replaces).collect();
    let envelopes = || replaced.iter().map(|row| &row.envelope);
    sqlx::query(REPLACED)
        .bind(numbers(&ids))
        .bind(envelopes().map(|envelope| stored(&envelope.description)).collect::<Vec<_>>())
        .bind(replaced.iter().map(|row| i64::from(row.count)).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.received_at.timestamp_millis()).collect::<Vec<_>>())
        .bind(replaced.iter().map(|row| row.sentry_at.map(|at| at.timestamp_millis())).collect::<Vec<_>>())
        .bind(replaced.iter().map(|row| row.resolved_at.map(|at| at.timestamp_millis())).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.body.as_slice()).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| offset(envelope.counts_at)).collect::<Vec<_>>())
        .bind(envelopes().map(|envelope| envelope.api.number()).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
}

fn offset(counts_at: Option<usize>) -> Option<i64> {
    counts_at.and_then(|offset| i64::try_from(offset).ok())
}

async fn write_resolves(connection: &mut PgConnection, plan: &Plan<'_>) -> sqlx::Result<()> {
    let kept = plan.resolves.iter().filter_map(|(incident_key, resolve)| Some((incident_key, (*resolve)?)));
    let (mut keys, mut happened, mut received) = (Vec::new(), Vec::new(), Vec::new());
    for (incident_key, resolve) in kept {
        keys.push(stored(incident_key.as_str()));
        happened.push(resolve.sentry_at.timestamp_millis());
        received.push(resolve.received_at.timestamp_millis());
    }
    if !keys.is_empty() {
        sqlx::query(RESOLVES).bind(keys).bind(happened).bind(received).execute(&mut *connection).await?;
    }
    let forgotten = plan.resolves.iter().filter(|(_, resolve)| resolve.is_none());
    let forgotten: Vec<_> = forgotten.map(|(incident_key, _)| stored(incident_key.as_str())).collect();
    if !forgotten.is_empty() {
        let query = sqlx::query("DELETE FROM resolves WHERE incident_key = ANY($1::text[])").bind(forgotten);
        query.execute(connection).await?;
    }
    Ok(())
}

/// Stores webhooks that have no effect a second time. The keys of the dedup window are written with the rows.
async fn write_dedup(connection: &mut PgConnection, plan: &Plan<'_>) -> sqlx::Result<()> {
    if !plan.forget_seen.is_empty() {
        let keys: Vec<_> = plan.forget_seen.iter().map(|key| stored(key.as_str())).collect();
        sqlx::query("DELETE FROM seen_webhooks WHERE event_type = 'resolve' AND incident_key = ANY($1::text[])")
            .bind(keys)
            .execute(&mut *connection)
            .await?;
    }
    if !plan.seen.is_empty() {
        let seen = || plan.seen.iter();
        sqlx::query(SEEN)
            .bind(seen().map(|(key, ..)| key.as_bytes()).collect::<Vec<_>>())
            .bind(seen().map(|(_, incident_key, _)| stored(incident_key.as_str())).collect::<Vec<_>>())
            .bind(seen().map(|(.., event_type)| event_type.as_str()).collect::<Vec<_>>())
            .execute(connection)
            .await?;
    }
    Ok(())
}

async fn write_settled(connection: &mut PgConnection, plan: &Plan<'_>) -> sqlx::Result<()> {
    if plan.settled.is_empty() {
        return Ok(());
    }
    let settled = || plan.settled.iter();
    sqlx::query(SETTLED)
        .bind(settled().map(|settled| settled.id.get()).collect::<Vec<_>>())
        .bind(settled().map(|settled| settled.state.as_str()).collect::<Vec<_>>())
        .bind(settled().map(|settled| settled.reason.map(stored)).collect::<Vec<Option<Cow<'_, str>>>>())
        .bind(settled().map(|settled| settled.finished_at.map(|at| at.timestamp_millis())).collect::<Vec<_>>())
        .bind(settled().map(|settled| settled.next_attempt_at.map(|at| at.timestamp_millis())).collect::<Vec<_>>())
        .bind(settled().map(|settled| settled.blamed_ms).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
}

async fn write_shared_issues(connection: &mut PgConnection, plan: &Plan<'_>) -> sqlx::Result<()> {
    if plan.shared_issues.is_empty() {
        return Ok(());
    }
    let shared_issues = || plan.shared_issues.iter();
    sqlx::query(SHARED_ISSUES)
        .bind(shared_issues().map(|(issue_key, ..)| stored(issue_key.as_str())).collect::<Vec<_>>())
        .bind(shared_issues().map(|(_, queue, _)| stored(queue.incident_key.as_str())).collect::<Vec<_>>())
        .bind(shared_issues().map(|(_, queue, _)| queue.service_key.expose()).collect::<Vec<_>>())
        .bind(shared_issues().map(|(.., member)| member.is_open).collect::<Vec<_>>())
        .bind(shared_issues().map(|(.., member)| member.received_at.timestamp_millis()).collect::<Vec<_>>())
        .bind(shared_issues().map(|(.., member)| member.sentry_at.map(|at| at.timestamp_millis())).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
}

async fn write_incidents(connection: &mut PgConnection, plan: &Plan<'_>) -> sqlx::Result<()> {
    if plan.incidents.is_empty() {
        return Ok(());
    }
    let updates = || plan.incidents.iter();
    sqlx::query(INCIDENTS)
        .bind(updates().map(|update| stored(update.queue.incident_key.as_str())).collect::<Vec<_>>())
        .bind(updates().map(|update| update.queue.service_key.expose()).collect::<Vec<_>>())
        .bind(updates().map(|update| update.is_open).collect::<Vec<_>>())
        .bind(updates().map(|update| update.changed_at.timestamp_millis()).collect::<Vec<_>>())
        .bind(updates().map(|update| update.event_id.get()).collect::<Vec<_>>())
        .bind(updates().map(|update| update.sentry_at.map(|at| at.timestamp_millis())).collect::<Vec<_>>())
        .bind(updates().map(|update| update.apis.number()).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
}

/// Stores held webhooks. The caller keeps them within their limits.
async fn hold(connection: &mut PgConnection, webhooks: &[&HeldWebhook]) -> sqlx::Result<()> {
    if webhooks.is_empty() {
        return Ok(());
    }
    let all = || webhooks.iter();
    let network = |held: &&HeldWebhook| match held.sender {
        HeldSender::Token => None,
        HeldSender::Network(network) => Some(network.to_string()),
    };
    sqlx::query(HELD)
        .bind(all().map(|held| held.received_at.timestamp_millis()).collect::<Vec<_>>())
        .bind(all().map(network).collect::<Vec<_>>())
        .bind(all().map(|held| held.signature.as_slice()).collect::<Vec<_>>())
        .bind(all().map(|held| held.resource.as_deref().map(stored)).collect::<Vec<_>>())
        .bind(all().map(|held| held.idempotency_key.as_deref().map(stored)).collect::<Vec<_>>())
        .bind(all().map(|held| held.sent_at.map(|at| at.timestamp_millis())).collect::<Vec<_>>())
        .bind(all().map(|held| i64::try_from(held.body.len()).unwrap_or(i64::MAX)).collect::<Vec<_>>())
        .bind(all().map(|held| held.body.as_slice()).collect::<Vec<_>>())
        .execute(connection)
        .await
        .map(drop)
}

/// Stores rejected webhooks, and deletes the oldest ones until they are within their limits again.
async fn keep_rejected(connection: &mut PgConnection, webhooks: &[&RejectedWebhook]) -> sqlx::Result<Vec<RejectedId>> {
    if webhooks.is_empty() {
        return Ok(Vec::new());
    }
    let all = || webhooks.iter();
    let ids: Vec<i64> = sqlx::query_scalar(REJECTED)
        .bind(all().map(|webhook| webhook.received_at.timestamp_millis()).collect::<Vec<_>>())
        .bind(all().map(|webhook| webhook.resource.as_deref().map(stored)).collect::<Vec<_>>())
        .bind(all().map(|webhook| webhook.idempotency_key.as_deref().map(stored)).collect::<Vec<_>>())
        .bind(all().map(|webhook| webhook.sent_at.map(|at| at.timestamp_millis())).collect::<Vec<_>>())
        .bind(all().map(|webhook| webhook.has_app_signature).collect::<Vec<_>>())
        .bind(all().map(|webhook| webhook.is_signature_verified).collect::<Vec<_>>())
        .bind(all().map(|webhook| stored(&webhook.reason)).collect::<Vec<_>>())
        .bind(all().map(|webhook| i64::try_from(webhook.body.len()).unwrap_or(i64::MAX)).collect::<Vec<_>>())
        .bind(all().map(|webhook| webhook.body.as_slice()).collect::<Vec<_>>())
        .fetch_all(&mut *connection)
        .await?;
    let query = sqlx::query(SURPLUS_REJECTED).bind(i64::from(MAX_REJECTED)).bind(i64::from(MAX_REJECTED_BYTES));
    query.execute(connection).await?;
    Ok(ids.into_iter().map(RejectedId::new).collect())
}
