//! Writes the plan: the second half of a transaction.

use rusqlite::{Connection, Params, params};

use super::numbers;
use crate::pagerduty::ServiceKey;
use crate::queue::external::CLOCK_TOLERANCE;
use crate::queue::item::{MAX_REJECTED, MAX_REJECTED_BYTES};
use crate::queue::store::{Committed, EventWrite, KEEP_DISCARDED_ATTEMPTS, Plan, TriggerMark};
use crate::queue::{EventId, HeldSender, HeldWebhook, RejectedId, RejectedWebhook};

/// How many bytes a probe writes; few alerts are larger.
const PROBE_BYTES: u32 = 64 * 1024;

/// How many seen webhooks are kept at most; about 20 MB. Sentry would have to send more than two resolves a second all day
/// for one to be forgotten within a day.
const MAX_SEEN: u32 = 200_000;

const EVENT: &str = "INSERT INTO events (id, service_key, api, incident_key, event_type, description, count,
        received_at, first_seen, sentry_at, resolved_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

const BODY: &str = "INSERT INTO bodies (id, body, counts_at) VALUES (?, ?, ?)";

const REPLACED_EVENT: &str = "INSERT INTO events (id, service_key, api, incident_key, event_type, description, count,
        received_at, first_seen, sentry_at, resolved_at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET api = excluded.api, description = excluded.description, count = excluded.count,
        received_at = excluded.received_at, sentry_at = excluded.sentry_at, resolved_at = excluded.resolved_at";

const REPLACED_BODY: &str = "INSERT INTO bodies (id, body, counts_at) VALUES (?, ?, ?)
    ON CONFLICT (id) DO UPDATE SET body = excluded.body, counts_at = excluded.counts_at";

pub(super) const ATTEMPTS: &str = "UPDATE events SET attempts = attempts + ?2, last_attempt_at = ?3
    WHERE id = ?1 AND state = 'waiting'";

pub(super) const REQUEUED: &str = "UPDATE events SET state = 'waiting', blamed_ms = 0, next_attempt_at = NULL,
        finished_at = NULL, reason = NULL, revived_at = ?2
    WHERE id = ?1 AND state = 'dead'";

/// Notes the alerts of triggers that are about to be deleted, so that catch-up does not find them missing.
const DEALT_WITH: &str = "INSERT INTO sentry_issues (incident_key, fired_at, noted_at)
    SELECT incident_key, MAX(received_at) + ?2, MAX(received_at) FROM events
        WHERE id IN (SELECT value FROM json_each(?1)) AND event_type = 'trigger' GROUP BY incident_key
    ON CONFLICT (incident_key) DO UPDATE SET
        fired_at = MAX(COALESCE(fired_at, excluded.fired_at), excluded.fired_at),
        noted_at = MAX(noted_at, excluded.noted_at)";

const DISCARDED_ATTEMPTS: &str = "INSERT INTO discarded (service_key, last_attempt_at, attempts) VALUES (?, ?, ?)";

pub(super) const SETTLED: &str = "UPDATE events SET state = ?2, reason = ?3, finished_at = ?4, next_attempt_at = ?5,
        blamed_ms = COALESCE(?6, blamed_ms)
    WHERE id = ?1 AND state = 'waiting'";

const INCIDENT: &str =
    "INSERT INTO incidents (incident_key, service_key, is_open, apis, changed_at, event_id, sentry_at)
    VALUES (?, ?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET is_open = excluded.is_open, apis = excluded.apis, changed_at = excluded.changed_at,
        event_id = excluded.event_id,
        sentry_at = MAX(COALESCE(sentry_at, excluded.sentry_at), COALESCE(excluded.sentry_at, sentry_at))";

const RESOLVE: &str = "INSERT INTO resolves (incident_key, happened_at, received_at) VALUES (?, ?, ?)
    ON CONFLICT DO UPDATE SET happened_at = excluded.happened_at, received_at = excluded.received_at";

const SHARED_ISSUE: &str =
    "INSERT INTO incident_issues (issue_key, incident_key, service_key, is_open, received_at, sentry_at)
    VALUES (?, ?, ?, ?, ?, ?)
    ON CONFLICT DO UPDATE SET is_open = excluded.is_open, received_at = excluded.received_at,
        sentry_at = excluded.sentry_at";

const SEEN: &str = "INSERT OR IGNORE INTO seen_webhooks (digest, incident_key, event_type) VALUES (?, ?, ?)";

/// Marks the waiting and the dead triggers of an incident, at `?5` or everywhere, each found by an index of its own.
const RESOLVED: [&str; 2] = [
    "UPDATE events SET resolved_at = ?1 WHERE state = 'waiting' AND incident_key = ?2
        AND (?5 IS NULL OR service_key = ?5)
        AND event_type = 'trigger' AND COALESCE(sentry_at / 1000 <= ?3 / 1000 OR sentry_at > ?4, TRUE)",
    "UPDATE events SET resolved_at = ?1 WHERE state = 'dead' AND incident_key = ?2
        AND (?5 IS NULL OR service_key = ?5)
        AND event_type = 'trigger' AND COALESCE(sentry_at / 1000 <= ?3 / 1000 OR sentry_at > ?4, TRUE)",
];

const NOT_RESOLVED: &str = "UPDATE events SET resolved_at = NULL WHERE state = 'dead' AND incident_key = ?1
        AND (?2 IS NULL OR service_key = ?2) AND resolved_at IS NOT NULL";

/// Writes `plan` inside the transaction that loaded what it was decided from; `last` is the last number that was
/// assigned to an event.
pub(super) fn apply(connection: &Connection, plan: &Plan<'_>, last: i64) -> rusqlite::Result<Committed> {
    if plan.is_probe {
        run(connection, "UPDATE heartbeat SET beats = beats + 1, ballast = zeroblob(?)", [PROBE_BYTES])?;
    }
    edit(connection, plan)?;
    for attempted in &plan.attempts {
        let values = params![attempted.id.get(), attempted.added_attempts, attempted.last_at.timestamp_millis()];
        run(connection, ATTEMPTS, values)?;
    }
    for (id, body) in &plan.bodies {
        run(connection, "UPDATE bodies SET body = ?, counts_at = NULL WHERE id = ?", params![body, id.get()])?;
    }
    if let Some(times) = plan.forget_resolves {
        let values = [times.since.timestamp_millis(), times.until.timestamp_millis()];
        run(connection, "DELETE FROM resolves WHERE received_at NOT BETWEEN ? AND ?", values)?;
    }
    for mark in &plan.trigger_marks {
        mark_triggers(connection, mark)?;
    }
    let event_ids = write_rows(connection, &plan.rows, last)?;
    write_seen(connection, plan)?;
    for (issue_key, queue, member) in &plan.shared_issues {
        let values = params![
            issue_key.as_str(),
            queue.incident_key.as_str(),
            queue.service_key.expose(),
            member.is_open,
            member.received_at.timestamp_millis(),
            member.sentry_at.map(|at| at.timestamp_millis()),
        ];
        run(connection, SHARED_ISSUE, values)?;
    }
    for settled in &plan.settled {
        let values = params![
            settled.id.get(),
            settled.state.as_str(),
            settled.reason,
            settled.finished_at.map(|at| at.timestamp_millis()),
            settled.next_attempt_at.map(|at| at.timestamp_millis()),
            settled.blamed_ms,
        ];
        run(connection, SETTLED, values)?;
    }
    for update in &plan.incidents {
        let values = params![
            update.queue.incident_key.as_str(),
            update.queue.service_key.expose(),
            update.is_open,
            update.apis.number(),
            update.changed_at.timestamp_millis(),
            update.event_id.get(),
            update.sentry_at.map(|at| at.timestamp_millis()),
        ];
        run(connection, INCIDENT, values)?;
    }
    let rejected = keep_rejected(connection, &plan.rejected)?;
    hold(connection, &plan.held)?;
    Ok(Committed { event_ids, rejected })
}

/// Runs a statement that is prepared once for the connection, and returns how many rows it changed.
pub(super) fn run(connection: &Connection, sql: &str, values: impl Params) -> rusqlite::Result<usize> {
    connection.prepare_cached(sql)?.execute(values)
}

/// Writes the changes that people make.
fn edit(connection: &Connection, plan: &Plan<'_>) -> rusqlite::Result<()> {
    for (id, at) in &plan.requeued {
        run(connection, REQUEUED, [id.get(), at.timestamp_millis()])?;
    }
    if !plan.discarded.is_empty() {
        let ids = numbers(&plan.discarded);
        run(connection, DEALT_WITH, params![ids, CLOCK_TOLERANCE.num_milliseconds()])?;
        run(connection, "DELETE FROM events WHERE id IN (SELECT value FROM json_each(?))", [&ids])?;
        run(connection, "DELETE FROM proofs WHERE event_id IN (SELECT value FROM json_each(?))", [&ids])?;
        run(connection, "DELETE FROM bodies WHERE id IN (SELECT value FROM json_each(?))", [&ids])?;
    }
    if !plan.discarded_attempts.is_empty() {
        for (service_key, last_at, attempts) in &plan.discarded_attempts {
            let values = params![service_key.expose(), last_at.timestamp_millis(), attempts];
            run(connection, DISCARDED_ATTEMPTS, values)?;
        }
        run(
            connection,
            "DELETE FROM discarded WHERE last_attempt_at < (SELECT MAX(last_attempt_at) FROM discarded) - ?",
            [KEEP_DISCARDED_ATTEMPTS.num_milliseconds()],
        )?;
    }
    for id in &plan.forget_rejected {
        run(connection, "DELETE FROM rejected WHERE id = ?", [id.get()])?;
    }
    for id in &plan.forget_held {
        run(connection, "DELETE FROM held WHERE id = ?", [id.get()])?;
    }
    for (id, reason) in &plan.reasons {
        run(connection, "UPDATE rejected SET reason = ? WHERE id = ?", params![reason, id.get()])?;
    }
    Ok(())
}

/// Stores held webhooks. The caller keeps them within their limits.
fn hold(connection: &Connection, webhooks: &[&HeldWebhook]) -> rusqlite::Result<()> {
    for held in webhooks {
        let network = match held.sender {
            HeldSender::Token => None,
            HeldSender::Network(network) => Some(network.to_string()),
        };
        run(
            connection,
            "INSERT INTO held (received_at, network, signature, resource, idempotency_key, sent_at, size, body)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                held.received_at.timestamp_millis(),
                network,
                held.signature,
                held.resource,
                held.idempotency_key,
                held.sent_at.map(|at| at.timestamp_millis()),
                i64::try_from(held.body.len()).unwrap_or(i64::MAX),
                held.body,
            ],
        )?;
    }
    Ok(())
}

fn mark_triggers(connection: &Connection, mark: &TriggerMark<'_>) -> rusqlite::Result<()> {
    match mark {
        TriggerMark::Resolved { incident_key, service_key, received_at, sent_at, now } => {
            for sql in RESOLVED {
                let values = params![
                    received_at.timestamp_millis(),
                    incident_key.as_str(),
                    sent_at.map(|at| at.timestamp_millis()),
                    now.timestamp_millis(),
                    service_key.map(ServiceKey::expose),
                ];
                run(connection, sql, values)?;
            }
        }
        TriggerMark::NotResolved { incident_key, service_key } => {
            run(connection, NOT_RESOLVED, params![incident_key.as_str(), service_key.map(ServiceKey::expose)])?;
        }
    }
    Ok(())
}

/// Stores resolves that may overtake later webhooks, and webhooks that have no effect a second time.
fn write_seen(connection: &Connection, plan: &Plan<'_>) -> rusqlite::Result<()> {
    for (incident_key, resolve) in &plan.resolves {
        if let Some(resolve) = resolve {
            let (happened, received) = (resolve.sentry_at.timestamp_millis(), resolve.received_at.timestamp_millis());
            run(connection, RESOLVE, params![incident_key.as_str(), happened, received])?;
        } else {
            run(connection, "DELETE FROM resolves WHERE incident_key = ?", [incident_key.as_str()])?;
        }
    }
    for incident_key in &plan.forget_seen {
        run(
            connection,
            "DELETE FROM seen_webhooks WHERE event_type = 'resolve' AND incident_key = ?",
            [incident_key.as_str()],
        )?;
    }
    if !plan.seen.is_empty() {
        for (key, incident_key, event_type) in &plan.seen {
            run(connection, SEEN, params![key.as_bytes(), incident_key.as_str(), event_type.as_str()])?;
        }
        let forget = "DELETE FROM seen_webhooks WHERE id <= (SELECT MAX(id) FROM seen_webhooks) - ?";
        run(connection, forget, [MAX_SEEN])?;
    }
    Ok(())
}

/// Writes rows and returns their numbers, in their order. New rows are written first.
fn write_rows(connection: &Connection, rows: &[EventWrite<'_>], last: i64) -> rusqlite::Result<Vec<EventId>> {
    let mut numbers = (last + 1..).map(EventId::new);
    let numbered: Vec<_> =
        rows.iter().filter_map(|row| Some((row.replaces.or_else(|| numbers.next())?, row))).collect();
    let (replaced, new): (Vec<_>, Vec<_>) = numbered.iter().partition(|(_, row)| row.replaces.is_some());
    write_all(connection, &new, EVENT, BODY)?;
    write_all(connection, &replaced, REPLACED_EVENT, REPLACED_BODY)?;
    Ok(numbered.into_iter().map(|(id, _)| id).collect())
}

fn write_all(
    connection: &Connection,
    rows: &[(EventId, &EventWrite<'_>)],
    event: &str,
    body: &str,
) -> rusqlite::Result<()> {
    if rows.is_empty() {
        return Ok(());
    }
    let (mut event, mut body) = (connection.prepare_cached(event)?, connection.prepare_cached(body)?);
    for (id, row) in rows {
        let envelope = &row.envelope;
        event.execute(params![
            id.get(),
            envelope.service_key.expose(),
            envelope.api.number(),
            envelope.incident_key.as_str(),
            envelope.event_type.as_str(),
            envelope.description,
            row.count,
            envelope.received_at.timestamp_millis(),
            row.first_seen.timestamp_millis(),
            row.sentry_at.map(|at| at.timestamp_millis()),
            row.resolved_at.map(|at| at.timestamp_millis()),
        ])?;
        let counts_at = envelope.counts_at.and_then(|offset| i64::try_from(offset).ok());
        body.execute(params![id.get(), envelope.body, counts_at])?;
    }
    Ok(())
}

/// Stores rejected webhooks, and deletes the oldest ones until they are within their limits again.
fn keep_rejected(connection: &Connection, webhooks: &[&RejectedWebhook]) -> rusqlite::Result<Vec<RejectedId>> {
    let mut ids = Vec::with_capacity(webhooks.len());
    for webhook in webhooks {
        run(
            connection,
            "INSERT INTO rejected
             (received_at, resource, idempotency_key, sent_at, from_sentrys_pages, is_signed, reason, size, body)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            params![
                webhook.received_at.timestamp_millis(),
                webhook.resource,
                webhook.idempotency_key,
                webhook.sent_at.map(|at| at.timestamp_millis()),
                webhook.has_app_signature,
                webhook.is_signature_verified,
                webhook.reason,
                i64::try_from(webhook.body.len()).unwrap_or(i64::MAX),
                webhook.body,
            ],
        )?;
        ids.push(RejectedId::new(connection.last_insert_rowid()));
    }
    if !ids.is_empty() {
        run(
            connection,
            "DELETE FROM rejected WHERE id IN (
                SELECT id FROM (
                    SELECT id, ROW_NUMBER() OVER newer AS place, SUM(size) OVER newer AS bytes
                    FROM rejected WINDOW newer AS (ORDER BY id DESC)
                ) WHERE place > ? OR bytes > ?
            )",
            [MAX_REJECTED, MAX_REJECTED_BYTES],
        )?;
    }
    Ok(ids)
}
