//! Writes what was decided: the second half of a transaction.

use serde_json::{Value, json};
use sqlx::SqliteConnection;

use super::load::{ROWS, hex};
use super::numbers;
use super::statement_batch::{StatementBatch, fill, values};
use crate::queue::item::{MAX_REJECTED, MAX_REJECTED_BYTES};
use crate::queue::store::{Committed, IncidentChange, KEEP_DISCARDED_ATTEMPTS, Plan, Row};
use crate::queue::{EventId, Held, HeldSender, Rejected, RejectedId};

/// SQLite takes at most 32,766 bind variables a text; an event and its body are written with thirteen.
const _: () = assert!(2 * ROWS * 13 <= 32_766);

/// How many bytes a probe writes; few alerts are larger.
const BALLAST: u32 = 64 * 1024;

/// How many seen webhooks are kept at most; about 20 MB. Sentry would have to send more than two resolves a second all day
/// for one to be forgotten within a day.
const MOST_SEEN: u32 = 200_000;

pub(super) const ATTEMPTS: &str = "UPDATE events SET attempts = attempts + added, last_attempt_at = last_at
    FROM (SELECT value ->> 'id' AS id, value ->> 'added' AS added, value ->> 'at' AS last_at FROM json_each(?)) AS attempt
    WHERE events.id = attempt.id AND state = 'waiting'";

pub(super) const REVIVED: &str = "UPDATE events SET state = 'waiting', blamed_ms = 0, next_attempt_at = NULL,
        finished_at = NULL, reason = NULL, revived_at = revived.at
    FROM (SELECT value ->> 'id' AS id, value ->> 'at' AS at FROM json_each(?)) AS revived
    WHERE events.id = revived.id AND state = 'dead'";

const DISCARDED_ATTEMPTS: &str = "INSERT INTO discarded (service_key, last_attempt_at, attempts)
    SELECT value ->> 'key', value ->> 'at', value ->> 'attempts' FROM json_each(?)";

pub(super) const SETTLED: &str = "UPDATE events SET state = settled.state, reason = settled.reason,
        finished_at = settled.finished_at, next_attempt_at = settled.next_attempt_at,
        blamed_ms = COALESCE(settled.blamed_ms, events.blamed_ms)
    FROM (
        SELECT value ->> 'id' AS id, value ->> 'state' AS state, value ->> 'reason' AS reason,
            value ->> 'finished' AS finished_at, value ->> 'next' AS next_attempt_at, value ->> 'blamed' AS blamed_ms
        FROM json_each(?)
    ) AS settled
    WHERE events.id = settled.id AND events.state = 'waiting'";

const INCIDENTS: &str =
    "INSERT INTO incidents (incident_key, service_key, is_open, apis, changed_at, event_id, sentry_at)
    SELECT value ->> 'incident', value ->> 'key', value ->> 'open', value ->> 'apis', value ->> 'at', value ->> 'event',
        value ->> 'sentry'
    FROM json_each(?) WHERE TRUE
    ON CONFLICT DO UPDATE SET is_open = excluded.is_open, apis = excluded.apis, changed_at = excluded.changed_at,
        event_id = excluded.event_id,
        sentry_at = MAX(COALESCE(sentry_at, excluded.sentry_at), COALESCE(excluded.sentry_at, sentry_at))";

const RESOLVES: &str = "INSERT INTO resolves (incident_key, happened_at, received_at)
    SELECT value ->> 'incident', value ->> 'happened', value ->> 'received' FROM json_each(?) WHERE TRUE
    ON CONFLICT DO UPDATE SET happened_at = excluded.happened_at, received_at = excluded.received_at";

const MEMBERS: &str =
    "INSERT INTO incident_issues (issue_key, incident_key, service_key, is_open, received_at, sentry_at)
    SELECT value ->> 'issue', value ->> 'incident', value ->> 'key', value ->> 'open', value ->> 'received', value ->> 'sentry'
    FROM json_each(?) WHERE TRUE
    ON CONFLICT DO UPDATE SET is_open = excluded.is_open, received_at = excluded.received_at,
        sentry_at = excluded.sentry_at";

const SEEN: &str = "INSERT OR IGNORE INTO seen_webhooks (digest, incident_key, event_type)
    SELECT unhex(value ->> 'digest'), value ->> 'incident', value ->> 'type' FROM json_each(?)";

/// Writes `plan` inside the transaction that loaded what it was decided from; `last` is the last number that was given to
/// an event. The last statements are left to be run together with the COMMIT.
pub(super) async fn apply(statements: &mut StatementBatch<'_>, plan: &Plan<'_>, last: i64) -> sqlx::Result<Committed> {
    if plan.probe {
        statements.add("UPDATE heartbeat SET beats = beats + 1, ballast = zeroblob(?)").bind(BALLAST);
    }
    edit(statements, plan);
    if !plan.attempts.is_empty() {
        let attempts = plan.attempts.iter().map(|attempted| {
            json!({ "id": attempted.id.get(), "added": attempted.attempts, "at": attempted.last_at.timestamp_millis() })
        });
        statements.add(ATTEMPTS).bind(array(attempts));
    }
    for (id, body) in &plan.bodies {
        // One row a text: otherwise every number of rows would be another text to prepare.
        statements.run().await?;
        statements
            .add("UPDATE bodies SET body = ?, counts_at = NULL WHERE id = ?")
            .bind(body.as_slice())
            .bind(id.get());
    }
    if let Some(times) = plan.forget_resolves {
        statements
            .add("DELETE FROM resolves WHERE received_at NOT BETWEEN ? AND ?")
            .bind(times.since.timestamp_millis())
            .bind(times.until.timestamp_millis());
    }
    for change in &plan.changes {
        statements.run().await?;
        self::change(statements, change);
    }
    let rows = write_rows(statements, &plan.rows, last).await?;
    write_seen(statements, plan);
    if !plan.members.is_empty() {
        let members = plan.members.iter().map(|(issue_key, queue, member)| {
            json!({
                "issue": issue_key,
                "incident": queue.incident_key,
                "key": queue.service_key.expose(),
                "open": member.is_open,
                "received": member.received_at.timestamp_millis(),
                "sentry": member.sentry_at.map(|at| at.timestamp_millis()),
            })
        });
        statements.add(MEMBERS).bind(array(members));
    }
    if !plan.settled.is_empty() {
        let settled = plan.settled.iter().map(|settled| {
            json!({
                "id": settled.id.get(),
                "state": settled.state.as_str(),
                "reason": settled.reason,
                "finished": settled.finished_at.map(|at| at.timestamp_millis()),
                "next": settled.next_attempt_at.map(|at| at.timestamp_millis()),
                "blamed": settled.blamed_ms,
            })
        });
        statements.add(SETTLED).bind(array(settled));
    }
    if !plan.incidents.is_empty() {
        let incidents = plan.incidents.iter().map(|update| {
            json!({
                "incident": update.queue.incident_key,
                "key": update.queue.service_key.expose(),
                "open": update.is_open,
                "apis": update.apis.number(),
                "at": update.changed_at.timestamp_millis(),
                "event": update.event_id.get(),
                "sentry": update.sentry_at.map(|at| at.timestamp_millis()),
            })
        });
        statements.add(INCIDENTS).bind(array(incidents));
    }
    let mut rejected = Vec::new();
    if !plan.rejected.is_empty() {
        rejected = keep_rejected(statements.connection().await?, &plan.rejected).await?;
    }
    hold(statements, &plan.held).await?;
    Ok(Committed { rows, rejected })
}

/// What people change.
fn edit(statements: &mut StatementBatch<'_>, plan: &Plan<'_>) {
    if !plan.revived.is_empty() {
        let revived = plan.revived.iter().map(|(id, at)| json!({ "id": id.get(), "at": at.timestamp_millis() }));
        statements.add(REVIVED).bind(array(revived));
    }
    if !plan.discarded.is_empty() {
        let ids = numbers(&plan.discarded);
        statements.add("DELETE FROM events WHERE id IN (SELECT value FROM json_each(?))").bind(&ids);
        statements.add("DELETE FROM proofs WHERE event_id IN (SELECT value FROM json_each(?))").bind(&ids);
        statements.add("DELETE FROM bodies WHERE id IN (SELECT value FROM json_each(?))").bind(ids);
    }
    if !plan.discarded_attempts.is_empty() {
        let attempts = plan.discarded_attempts.iter().map(|(service_key, last_at, attempts)| {
            json!({ "key": service_key.expose(), "at": last_at.timestamp_millis(), "attempts": attempts })
        });
        statements
            .add(DISCARDED_ATTEMPTS)
            .bind(array(attempts))
            .add("DELETE FROM discarded WHERE last_attempt_at < (SELECT MAX(last_attempt_at) FROM discarded) - ?")
            .bind(KEEP_DISCARDED_ATTEMPTS.num_milliseconds());
    }
    for id in &plan.forget_rejected {
        statements.add("DELETE FROM rejected WHERE id = ?").bind(id.get());
    }
    if !plan.forget_held.is_empty() {
        let ids: Vec<_> = plan.forget_held.iter().map(|id| id.get()).collect();
        statements.add("DELETE FROM held WHERE id IN (SELECT value FROM json_each(?))").bind(json!(ids).to_string());
    }
    for (id, reason) in &plan.reasons {
        statements.add("UPDATE rejected SET reason = ? WHERE id = ?").bind(*reason).bind(id.get());
    }
}

/// Whoever holds them keeps them within bounds.
async fn hold(statements: &mut StatementBatch<'_>, webhooks: &[&Held]) -> sqlx::Result<()> {
    for held in webhooks {
        // One row a text, as for bodies.
        statements.run().await?;
        statements
            .add(
                "INSERT INTO held (received_at, network, signature, resource, idempotency_key, sent_at, size, body) \
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            )
            .bind(held.received_at.timestamp_millis())
            .bind(match held.sender {
                HeldSender::Token => None,
                HeldSender::Network(network) => Some(network.to_string()),
            })
            .bind(held.signature.as_slice())
            .bind(held.resource.as_deref())
            .bind(held.idempotency_key.as_deref())
            .bind(held.sent_at.map(|at| at.timestamp_millis()))
            .bind(i64::try_from(held.body.len()).unwrap_or(i64::MAX))
            .bind(held.body.as_slice());
    }
    Ok(())
}

fn array(values: impl Iterator<Item = Value>) -> String {
    values.collect::<Value>().to_string()
}

fn change(statements: &mut StatementBatch<'_>, change: &IncidentChange<'_>) {
    match change {
        IncidentChange::Resolved { incident_key, received_at, sent_at, now } => {
            for state in ["waiting", "dead"] {
                statements
                    .add(&format!(
                        "UPDATE events SET resolved_at = ? WHERE state = '{state}' AND incident_key = ? \
                         AND event_type = 'trigger' AND COALESCE(sentry_at / 1000 <= ? / 1000 OR sentry_at > ?, TRUE)"
                    ))
                    .bind(received_at.timestamp_millis())
                    .bind(incident_key.as_str())
                    .bind(sent_at.map(|at| at.timestamp_millis()))
                    .bind(now.timestamp_millis());
            }
        }
        IncidentChange::Reopened(incident_key) => {
            statements
                .add(
                    "UPDATE events SET resolved_at = NULL \
                     WHERE state = 'dead' AND incident_key = ? AND resolved_at IS NOT NULL",
                )
                .bind(incident_key.as_str());
        }
    }
}

/// Resolves that may overtake what comes, and webhooks that do nothing a second time.
fn write_seen(statements: &mut StatementBatch<'_>, plan: &Plan<'_>) {
    let (kept, forgotten): (Vec<_>, Vec<_>) = plan.resolves.iter().partition(|(_, resolve)| resolve.is_some());
    if !kept.is_empty() {
        let kept = kept.iter().filter_map(|(incident_key, resolve)| {
            let resolve = (*resolve)?;
            let (happened, received) = (resolve.happened_at.timestamp_millis(), resolve.received_at.timestamp_millis());
            Some(json!({ "incident": incident_key, "happened": happened, "received": received }))
        });
        statements.add(RESOLVES).bind(array(kept));
    }
    if !forgotten.is_empty() {
        let keys = array(forgotten.iter().map(|(incident_key, _)| json!(incident_key)));
        statements.add("DELETE FROM resolves WHERE incident_key IN (SELECT value FROM json_each(?))").bind(keys);
    }
    if !plan.forget_seen.is_empty() {
        statements
            .add("DELETE FROM seen_webhooks WHERE event_type = 'resolve' AND incident_key IN (SELECT value FROM json_each(?))")
            .bind(json!(plan.forget_seen).to_string());
    }
    if !plan.seen.is_empty() {
        let seen = plan.seen.iter().map(|(key, incident_key, event_type)| {
            json!({ "digest": hex(key.as_bytes()), "incident": incident_key, "type": event_type.as_str() })
        });
        statements
            .add(SEEN)
            .bind(array(seen))
            .add("DELETE FROM seen_webhooks WHERE id <= (SELECT MAX(id) FROM seen_webhooks) - ?")
            .bind(MOST_SEEN);
    }
}

/// Writes rows and returns their numbers, in their order.
async fn write_rows(statements: &mut StatementBatch<'_>, rows: &[Row<'_>], last: i64) -> sqlx::Result<Vec<EventId>> {
    let mut numbers = (last + 1..).map(EventId::new);
    let numbered: Vec<_> =
        rows.iter().filter_map(|row| Some((row.replaces.or_else(|| numbers.next())?, row))).collect();
    let (replaced, new): (Vec<_>, Vec<_>) = numbered.iter().partition(|(_, row)| row.replaces.is_some());
    write_all(statements, &new, Conflict::IsAnError).await?;
    write_all(statements, &replaced, Conflict::Replaces).await?;
    Ok(numbered.into_iter().map(|(id, _)| id).collect())
}

/// What is done with a row whose number is taken.
#[derive(Clone, Copy)]
enum Conflict {
    IsAnError,
    Replaces,
}

async fn write_all(
    statements: &mut StatementBatch<'_>,
    rows: &[(EventId, &Row<'_>)],
    conflict: Conflict,
) -> sqlx::Result<()> {
    let mut chunks = rows.chunks(ROWS).peekable();
    while let Some(chunk) = chunks.next() {
        write_chunk(statements, chunk, conflict);
        if chunks.peek().is_some() {
            statements.run().await?;
        }
    }
    Ok(())
}

fn write_chunk(statements: &mut StatementBatch<'_>, rows: &[(EventId, &Row<'_>)], conflict: Conflict) {
    let size = rows.len().next_power_of_two();
    let missing = size - rows.len();
    let (events, bodies) = match conflict {
        Conflict::IsAnError => ("", ""),
        Conflict::Replaces => (
            "ON CONFLICT (id) DO UPDATE SET api = excluded.api, description = excluded.description, count = excluded.count, \
             received_at = excluded.received_at, sentry_at = excluded.sentry_at, resolved_at = excluded.resolved_at",
            "ON CONFLICT (id) DO UPDATE SET body = excluded.body, counts_at = excluded.counts_at",
        ),
    };
    statements.add(&format!(
        "INSERT INTO events (id, service_key, api, incident_key, event_type, description, count, received_at, \
         first_seen, sentry_at, resolved_at) SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL {events}",
        values(11, size)
    ));
    for (id, row) in rows {
        let envelope = &row.envelope;
        statements
            .bind(id.get())
            .bind(envelope.service_key.expose())
            .bind(envelope.api.number())
            .bind(envelope.incident_key.as_str())
            .bind(envelope.event_type.as_str())
            .bind(envelope.description.as_str())
            .bind(row.count)
            .bind(envelope.received_at.timestamp_millis())
            .bind(row.first_seen.timestamp_millis())
            .bind(row.sentry_at.map(|at| at.timestamp_millis()))
            .bind(row.resolved_at.map(|at| at.timestamp_millis()));
    }
    fill(statements, 11 * missing);

    statements.add(&format!(
        "INSERT INTO bodies (id, body, counts_at) SELECT * FROM (VALUES {}) WHERE column1 IS NOT NULL {bodies}",
        values(3, size)
    ));
    for (id, row) in rows {
        let counts_at = row.envelope.counts_at.and_then(|offset| i64::try_from(offset).ok());
        statements.bind(id.get()).bind(row.envelope.body.as_slice()).bind(counts_at);
    }
    fill(statements, 3 * missing);
}

/// Keeps rejected webhooks and deletes the oldest until the bounds hold again.
async fn keep_rejected(connection: &mut SqliteConnection, webhooks: &[&Rejected]) -> sqlx::Result<Vec<RejectedId>> {
    let mut ids = Vec::with_capacity(webhooks.len());
    for webhook in webhooks {
        let id: i64 = sqlx::query_scalar(
            "INSERT INTO rejected \
             (received_at, resource, idempotency_key, sent_at, from_sentrys_pages, is_signed, reason, size, body) \
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        )
        .bind(webhook.received_at.timestamp_millis())
        .bind(&webhook.resource)
        .bind(&webhook.idempotency_key)
        .bind(webhook.sent_at.map(|at| at.timestamp_millis()))
        .bind(webhook.from_sentrys_pages)
        .bind(webhook.is_signed)
        .bind(&webhook.reason)
        .bind(i64::try_from(webhook.body.len()).unwrap_or(i64::MAX))
        .bind(&webhook.body)
        .fetch_one(&mut *connection)
        .await?;
        ids.push(RejectedId::new(id));
    }
    sqlx::query(
        "DELETE FROM rejected WHERE id IN (
            SELECT id FROM (
                SELECT id, ROW_NUMBER() OVER newer AS place, SUM(size) OVER newer AS bytes
                FROM rejected WINDOW newer AS (ORDER BY id DESC)
            ) WHERE place > ? OR bytes > ?
        )",
    )
    .bind(MAX_REJECTED)
    .bind(MAX_REJECTED_BYTES)
    .execute(connection)
    .await?;
    Ok(ids)
}
