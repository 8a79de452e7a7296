//! What is written besides the events and their attempts: retention, the metrics, and what is known from the APIs of
//! Sentry and PagerDuty.
//!
//! Retention deletes old rows, oldest first and a few at a time. Rows that another bridge has locked are left to that
//! bridge, so that two bridges never wait for each other.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::PgConnection;

use super::rows::stored;
use crate::metrics::{DailyActivity, PersistedMetrics};
use crate::pagerduty::ServiceKey;
use crate::queue::external::{
    CanaryChange, IssueUpdateChange, KEEP_NOTES, KEEP_UPDATES, MAX_CANARIES, Proof, REOPENED, SentryNotes, StatusChange,
};
use crate::queue::store::Prune;
use crate::queue::{OutageNotice, rows};

/// How many open incidents are remembered at most.
const MAX_OPEN: i64 = 200_000;

/// How many seen webhooks are kept at most.
const MAX_SEEN: i64 = 200_000;

/// How many rows of each small table one commit deletes at most.
const CHUNK: i64 = 1_000;

const DELIVERED: &str = "WITH old AS MATERIALIZED (
        SELECT id FROM events WHERE state = 'delivered' AND finished_at < $1
        ORDER BY finished_at, id LIMIT $2 FOR UPDATE SKIP LOCKED
    ), with_bodies AS (DELETE FROM bodies WHERE id IN (SELECT id FROM old)),
    with_proofs AS (DELETE FROM proofs WHERE event_id IN (SELECT id FROM old))
    DELETE FROM events WHERE id IN (SELECT id FROM old)";

const CLOSED_INCIDENTS: &str = "DELETE FROM incidents WHERE (incident_key, service_key) IN (
        SELECT incident_key, service_key FROM incidents WHERE NOT is_open AND changed_at < $1
        ORDER BY changed_at LIMIT $2 FOR UPDATE SKIP LOCKED
    )";

/// Open incidents are not deleted by age: after a clock was set forward, all of them would be deleted.
const OPEN_INCIDENTS: &str = "DELETE FROM incidents WHERE (incident_key, service_key) IN (
        SELECT incident_key, service_key FROM incidents WHERE is_open
        ORDER BY changed_at DESC OFFSET $1 LIMIT $2 FOR UPDATE SKIP LOCKED
    )";

const CLOSED_ISSUES: &str = "DELETE FROM incident_issues WHERE (issue_key, incident_key, service_key) IN (
        SELECT issue_key, incident_key, service_key FROM incident_issues WHERE NOT is_open AND received_at < $1
        ORDER BY received_at LIMIT $2 FOR UPDATE SKIP LOCKED
    )";

/// As for incidents.
const OPEN_ISSUES: &str = "DELETE FROM incident_issues WHERE (issue_key, incident_key, service_key) IN (
        SELECT issue_key, incident_key, service_key FROM incident_issues WHERE is_open
        ORDER BY received_at DESC OFFSET $1 LIMIT $2 FOR UPDATE SKIP LOCKED
    )";

/// Lock rows of incidents that were not used for a day by the server's clock. A row that is needed again is created
/// again.
const INCIDENT_QUEUES: &str = "DELETE FROM incident_queues WHERE incident_key IN (
        SELECT incident_key FROM incident_queues WHERE used_at < now() - interval '1 day'
        LIMIT $1 FOR UPDATE SKIP LOCKED
    )";

/// The mark of a commit whose response was lost is looked up within seconds.
const COMMITS: &str = "DELETE FROM commits WHERE at < now() - interval '1 hour'";

/// One hour is longer than the dedup window and any difference between two clocks that would not be noticed otherwise.
const DEDUP_WINDOW: &str = "DELETE FROM dedup_window WHERE digest IN (
        SELECT digest FROM dedup_window WHERE at < now() - interval '1 hour' LIMIT $1 FOR UPDATE SKIP LOCKED
    )";

const SEEN: &str = "DELETE FROM seen_webhooks WHERE id IN (
        SELECT id FROM seen_webhooks WHERE id <= (SELECT MAX(id) FROM seen_webhooks) - $1
        ORDER BY id LIMIT $2 FOR UPDATE SKIP LOCKED
    )";

/// Leases of service keys that are not in use: nothing waits, nothing was delivered within a day, and no attempt of a
/// discarded event can be in flight. A lease that is needed again is created again. It may then get a number that it
/// had before, which does no harm: no statement of that time is still running.
macro_rules! unused_leases {
    ($before:literal, $after:literal) => {
        concat!(
            $before,
            " name <> 'periodic'
            AND NOT EXISTS (SELECT 1 FROM events WHERE service_key = name AND state = 'waiting' AND id > 0)
            AND NOT EXISTS (SELECT 1 FROM lately_delivered WHERE service_key = name
                AND at > EXTRACT(EPOCH FROM now() - interval '1 day') * 1000)
            AND NOT EXISTS (SELECT 1 FROM discarded WHERE service_key = name
                AND last_attempt_at > EXTRACT(EPOCH FROM now() - interval '1 day') * 1000)",
            $after
        )
    };
}

/// Locks these leases first, so that no attempt begins under them while the second statement checks again whether they
/// are in use.
const LOCK_UNUSED_LEASES: &str =
    unused_leases!("SELECT name FROM leases WHERE", " ORDER BY name FOR UPDATE SKIP LOCKED");

const UNUSED_LEASES: &str = unused_leases!("DELETE FROM leases WHERE name = ANY($1::text[]) AND", "");

/// Merges the tallies of many transactions into one row for each service key and state.
const TALLIES: &str = "WITH counted AS (
        DELETE FROM tallies WHERE id IN (SELECT id FROM tallies ORDER BY id LIMIT 100000 FOR UPDATE SKIP LOCKED)
        RETURNING service_key, state, events
    )
    INSERT INTO tallies (service_key, state, events)
    SELECT service_key, state, SUM(events) FROM counted GROUP BY service_key, state HAVING SUM(events) <> 0";

/// A time in milliseconds since 1970 or, where that is later, the time of the server's clock; NULL stays NULL. Of the last
/// webhook and the last deliveries the latest time is kept, so that a bridge whose clock is ahead would keep alarms from being
/// raised until its times are past.
macro_rules! not_after_now {
    ($time:literal) => {
        concat!(
            "CASE WHEN ",
            $time,
            " > EXTRACT(EPOCH FROM clock_timestamp()) * 1000 THEN EXTRACT(EPOCH FROM clock_timestamp()) * 1000 ELSE ",
            $time,
            " END"
        )
    };
}

const LAST_TIMES: &str = concat!(
    "UPDATE lately SET untrusted = $3, last_webhook_at = ",
    not_after_now!("GREATEST($1, last_webhook_at)"),
    ", last_delivered_at = ",
    not_after_now!("GREATEST($2, last_delivered_at)")
);

const LAST_DELIVERIES: &str = concat!(
    "INSERT INTO lately_delivered (service_key, at) SELECT service_key, ",
    not_after_now!("at"),
    " FROM unnest($1::text[], $2::bigint[]) AS delivered (service_key, at)
    ON CONFLICT (service_key) DO UPDATE SET at = ",
    not_after_now!("GREATEST(lately_delivered.at, excluded.at)")
);

/// A bridge that takes over a key does not know since when its attempts fail: the earlier time stays, unless an event was
/// delivered since.
const FAILING: &str = concat!(
    "INSERT INTO failing_keys (service_key, kind, since) SELECT service_key, kind, ",
    not_after_now!("since"),
    " FROM (VALUES ($1, $2, $3::bigint)) AS failing (service_key, kind, since)
    ON CONFLICT (service_key) DO UPDATE SET kind = excluded.kind, since = CASE
        WHEN failing_keys.since < (SELECT at FROM lately_delivered WHERE service_key = excluded.service_key)
        THEN excluded.since ELSE LEAST(failing_keys.since, excluded.since) END"
);

const SIGNATURES: &str = "SELECT number, first_at, lasted_ms, senders, more FROM wrong_signatures";

const WRITE_SIGNATURES: &str = "INSERT INTO wrong_signatures (id, number, first_at, lasted_ms, senders, more)
    VALUES (1, $1, $2, $3, $4, $5)
    ON CONFLICT (id) DO UPDATE SET number = excluded.number, first_at = excluded.first_at, lasted_ms = excluded.lasted_ms,
        senders = excluded.senders, more = excluded.more";

/// Deletes delivered events and returns how many. Also deletes other rows that are no longer needed.
pub(super) async fn prune(connection: &mut PgConnection, prune: Prune) -> sqlx::Result<u64> {
    let limit = i64::from(prune.limit);
    let delivered = sqlx::query(DELIVERED).bind(prune.before.timestamp_millis()).bind(limit);
    let gone = delivered.execute(&mut *connection).await?.rows_affected();
    let closed = sqlx::query(CLOSED_INCIDENTS).bind(prune.incidents_before.timestamp_millis()).bind(limit);
    closed.execute(&mut *connection).await?;
    sqlx::query(OPEN_INCIDENTS).bind(MAX_OPEN).bind(limit).execute(&mut *connection).await?;
    let closed = sqlx::query(CLOSED_ISSUES).bind(prune.incidents_before.timestamp_millis()).bind(limit);
    closed.execute(&mut *connection).await?;
    sqlx::query(OPEN_ISSUES).bind(MAX_OPEN).bind(limit).execute(&mut *connection).await?;
    sqlx::query(INCIDENT_QUEUES).bind(CHUNK).execute(&mut *connection).await?;
    sqlx::query(COMMITS).execute(&mut *connection).await?;
    // This table has the most rows: at least one for every webhook.
    sqlx::query(DEDUP_WINDOW).bind(20 * CHUNK).execute(&mut *connection).await?;
    sqlx::query(SEEN).bind(MAX_SEEN).bind(CHUNK).execute(&mut *connection).await?;
    sqlx::query(TALLIES).execute(&mut *connection).await?;
    // Last, because the exchanges of all bridges wait for these locks.
    let unused: Vec<String> = sqlx::query_scalar(LOCK_UNUSED_LEASES).fetch_all(&mut *connection).await?;
    if !unused.is_empty() {
        sqlx::query(UNUSED_LEASES).bind(unused).execute(connection).await?;
    }
    Ok(gone)
}

/// Adds what this bridge counted, stores what has changed, and deletes activity that is more than a day older than the
/// newest. Of the times of several bridges, the latest are kept, but none that is later than the server's clock.
pub(super) async fn write_metrics(connection: &mut PgConnection, metrics: &PersistedMetrics) -> sqlx::Result<()> {
    sqlx::query(LAST_TIMES)
        .bind(metrics.last_webhook_at.as_ref().map(DateTime::timestamp_millis))
        .bind(metrics.last_delivered_at.as_ref().map(DateTime::timestamp_millis))
        .bind(metrics.untrusted.as_deref().map(stored))
        .execute(&mut *connection)
        .await?;
    if !metrics.delivered.is_empty() {
        sqlx::query(LAST_DELIVERIES)
            .bind(metrics.delivered.keys().map(ServiceKey::expose).collect::<Vec<_>>())
            .bind(metrics.delivered.values().map(DateTime::timestamp_millis).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
    }
    for (key, failing) in &metrics.failing {
        let query = match failing {
            Some(failing) => {
                sqlx::query(FAILING).bind(key.expose()).bind(failing.kind.name()).bind(failing.since.timestamp_millis())
            }
            None => sqlx::query("DELETE FROM failing_keys WHERE service_key = $1").bind(key.expose()),
        };
        query.execute(&mut *connection).await?;
    }
    if let Some(change) = &metrics.wrong_signatures {
        // Bridges do this one after the other, because each has locked the row of `lately` by now.
        let row = sqlx::query(SIGNATURES).fetch_optional(&mut *connection).await?;
        let stored = row.and_then(|row| rows::signatures(&row).ok()).unwrap_or_default();
        let row = stored.then(change.clone());
        sqlx::query(WRITE_SIGNATURES)
            .bind(i64::from(row.number))
            .bind(row.first_at.as_ref().map(DateTime::timestamp_millis))
            .bind(i64::try_from(row.lasted.as_millis()).unwrap_or(i64::MAX))
            .bind(row.senders.addresses())
            .bind(row.senders.has_more)
            .execute(&mut *connection)
            .await?;
    }
    for bucket in &metrics.buckets {
        sqlx::query(
            "INSERT INTO activity (began_at, received, delivered, throttled, failed) VALUES ($1, $2, $3, $4, $5) \
             ON CONFLICT (began_at) DO UPDATE SET received = activity.received + excluded.received, \
             delivered = activity.delivered + excluded.delivered, \
             throttled = activity.throttled + excluded.throttled, failed = activity.failed + excluded.failed",
        )
        .bind(bucket.from.timestamp_millis())
        .bind(signed(bucket.received))
        .bind(signed(bucket.delivered))
        .bind(signed(bucket.throttled))
        .bind(signed(bucket.failed))
        .execute(&mut *connection)
        .await?;
    }
    if let Some(newest) = metrics.buckets.last() {
        sqlx::query("DELETE FROM activity WHERE began_at < $1")
            .bind(DailyActivity::horizon(newest.from).timestamp_millis())
            .execute(connection)
            .await?;
    }
    Ok(())
}

/// Replaces the stored notice that was last sent to the fallback webhook.
pub(super) async fn write_outage_notice(connection: &mut PgConnection, notice: OutageNotice) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO fallback (id, told_at, outage_since) VALUES (1, $1, $2) \
         ON CONFLICT (id) DO UPDATE SET told_at = excluded.told_at, outage_since = excluded.outage_since",
    )
    .bind(notice.told_at.timestamp_millis())
    .bind(notice.outage_since.as_ref().map(DateTime::timestamp_millis))
    .execute(connection)
    .await
    .map(drop)
}

const CANARY_SENT: &str =
    "INSERT INTO canaries (event_id, sent_at) VALUES ($1, $2) ON CONFLICT (event_id) DO NOTHING RETURNING sent_at";

const CANARY_ANSWERED: &str = "UPDATE canaries SET taken = $2, failure = $3 WHERE event_id = $1 RETURNING sent_at";

const CANARY_RETURNED: &str =
    "UPDATE canaries SET returned_at = $2 WHERE event_id = $1 AND returned_at IS NULL RETURNING sent_at";

/// Canaries with a time after `$2` were sent while the clock was ahead, and must not displace new ones.
const SURPLUS_CANARIES: &str = "DELETE FROM canaries WHERE event_id IN (
        SELECT event_id FROM canaries ORDER BY sent_at > $2, sent_at DESC OFFSET $1 FOR UPDATE SKIP LOCKED
    )";

/// Stores what happened to a canary. Returns when it was sent, or `None` if nothing changed.
pub(super) async fn write_canary(
    connection: &mut PgConnection,
    change: &CanaryChange,
) -> sqlx::Result<Option<DateTime<Utc>>> {
    let query = match change {
        CanaryChange::Sent { id, at } => {
            sqlx::query_scalar(CANARY_SENT).bind(id.to_string()).bind(at.timestamp_millis())
        }
        CanaryChange::Answered { id, failure } => {
            let failure = failure.as_deref().map(stored);
            sqlx::query_scalar(CANARY_ANSWERED).bind(id.to_string()).bind(failure.is_none()).bind(failure)
        }
        CanaryChange::Returned { id, at } => {
            sqlx::query_scalar(CANARY_RETURNED).bind(id.to_string()).bind(at.timestamp_millis())
        }
    };
    let sent_at: Option<i64> = query.fetch_optional(&mut *connection).await?;
    if let CanaryChange::Sent { at, .. } = change {
        let surplus = sqlx::query(SURPLUS_CANARIES).bind(i64::from(MAX_CANARIES)).bind(at.timestamp_millis());
        surplus.execute(connection).await?;
    }
    Ok(sent_at.and_then(DateTime::from_timestamp_millis))
}

const UPDATE_RECEIVED: &str = "INSERT INTO issue_updates
        (webhook_id, incident_key, change, state, happened_at, received_at, attempts, next_attempt_at)
    VALUES ($1, $2, $3, 'waiting', $4, $5, 0, $6) ON CONFLICT (webhook_id) DO NOTHING";

const UPDATE_FAILED: &str = "UPDATE issue_updates SET attempts = attempts + 1, next_attempt_at = $2, reason = $3
    WHERE webhook_id = $1 AND state = 'waiting'";

const UPDATE_ENDED: &str = "UPDATE issue_updates SET attempts = attempts + 1, state = $2, finished_at = $3, reason = $4
    WHERE webhook_id = $1 AND state = 'waiting'";

const UPDATE_WITHDRAWN: &str = "UPDATE issue_updates SET state = 'done', finished_at = $3, reason = $4
    WHERE incident_key = $1 AND change = 'resolve' AND state = 'waiting' AND happened_at <= $2";

/// Marks the incident as open, so that Sentry can resolve it again.
const OPENED_INCIDENT: &str = "UPDATE incidents SET is_open = TRUE WHERE incident_key = $1";

const OLD_UPDATES: &str = "DELETE FROM issue_updates WHERE state IN ('done', 'dead') AND received_at < $1";

/// Stores what happened to an update, and returns whether anything changed: not for a webhook that was received before,
/// nor for an update that has ended.
pub(super) async fn write_issue_update(
    connection: &mut PgConnection,
    change: &IssueUpdateChange,
) -> sqlx::Result<bool> {
    let query = match change {
        IssueUpdateChange::Received(update) => sqlx::query(UPDATE_RECEIVED)
            .bind(stored(&update.webhook_id).into_owned())
            .bind(stored(update.incident_key.as_str()).into_owned())
            .bind(update.change.name())
            .bind(update.happened_at.timestamp_millis())
            .bind(update.received_at.timestamp_millis())
            .bind(update.next_attempt_at.timestamp_millis()),
        IssueUpdateChange::Failed { webhook_id, next_attempt_at, reason } => sqlx::query(UPDATE_FAILED)
            .bind(stored(webhook_id).into_owned())
            .bind(next_attempt_at.timestamp_millis())
            .bind(stored(reason).into_owned()),
        IssueUpdateChange::Ended { webhook_id, at, end, reason } => {
            let state: &'static str = end.into();
            sqlx::query(UPDATE_ENDED)
                .bind(stored(webhook_id).into_owned())
                .bind(state)
                .bind(at.timestamp_millis())
                .bind(reason.as_deref().map(|reason| stored(reason).into_owned()))
        }
        IssueUpdateChange::Reopened { incident_key, reopened_at, at } => sqlx::query(UPDATE_WITHDRAWN)
            .bind(stored(incident_key.as_str()).into_owned())
            .bind(reopened_at.timestamp_millis())
            .bind(at.timestamp_millis())
            .bind(REOPENED),
    };
    let is_news = query.execute(&mut *connection).await?.rows_affected() > 0;
    if let IssueUpdateChange::Received(update) = change {
        if is_news && update.change == StatusChange::Unresolve {
            let incident_key = stored(update.incident_key.as_str()).into_owned();
            sqlx::query(OPENED_INCIDENT).bind(incident_key).execute(&mut *connection).await?;
        }
        let before = (update.received_at - KEEP_UPDATES).timestamp_millis();
        sqlx::query(OLD_UPDATES).bind(before).execute(connection).await?;
    }
    Ok(is_news)
}

/// Stores the proof of an event, unless the event no longer exists.
pub(super) async fn write_proof(connection: &mut PgConnection, proof: &Proof) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO proofs \
         (event_id, service_key, state, delivered_at, judged_at, incident_number, incident_url, reason) \
         SELECT $1, $2, $3, $4, $5, $6, $7, $8 WHERE EXISTS (SELECT 1 FROM events WHERE id = $1) \
         ON CONFLICT (event_id) DO UPDATE SET state = excluded.state, judged_at = excluded.judged_at, \
         incident_number = excluded.incident_number, incident_url = excluded.incident_url, reason = excluded.reason",
    )
    .bind(proof.event.get())
    .bind(proof.service_key.expose())
    .bind(proof.state.name())
    .bind(proof.delivered_at.timestamp_millis())
    .bind(proof.judged_at.timestamp_millis())
    .bind(proof.incident_number.and_then(|number| i64::try_from(number).ok()))
    .bind(proof.incident_url.as_deref().map(stored))
    .bind(proof.reason.as_deref().map(stored))
    .execute(connection)
    .await
    .map(drop)
}

const ISSUE_NOTES: &str = "INSERT INTO sentry_issues (incident_key, fired_at, seen_at, noted_at)
    SELECT incident_key, fired_at, seen_at, $4 FROM unnest($1::text[], $2::bigint[], $3::bigint[])
        AS notes (incident_key, fired_at, seen_at) ORDER BY incident_key
    ON CONFLICT (incident_key) DO UPDATE SET fired_at = COALESCE(excluded.fired_at, sentry_issues.fired_at),
        seen_at = COALESCE(excluded.seen_at, sentry_issues.seen_at), noted_at = excluded.noted_at";

const CATCH_UP_RUN: &str = "INSERT INTO catch_up (id, until, ran_at, found, enqueued, reported, summarized)
    VALUES (1, $1, $2, $3, $4, $5, $6)
    ON CONFLICT (id) DO UPDATE SET until = excluded.until, ran_at = excluded.ran_at, found = excluded.found,
        enqueued = excluded.enqueued, reported = excluded.reported, summarized = excluded.summarized";

/// Stores what has changed, and deletes what is too old. If an incident has several notes, the last one counts.
pub(super) async fn write_sentry_notes(connection: &mut PgConnection, notes: &SentryNotes) -> sqlx::Result<()> {
    let latest: BTreeMap<_, _> = notes.issues.iter().map(|note| (note.incident_key.as_str(), note)).collect();
    if !latest.is_empty() {
        let millis = |at: &Option<DateTime<Utc>>| at.as_ref().map(DateTime::timestamp_millis);
        sqlx::query(ISSUE_NOTES)
            .bind(latest.keys().map(|key| stored(key).into_owned()).collect::<Vec<_>>())
            .bind(latest.values().map(|note| millis(&note.fired_at)).collect::<Vec<_>>())
            .bind(latest.values().map(|note| millis(&note.seen_at)).collect::<Vec<_>>())
            .bind(notes.at.timestamp_millis())
            .execute(&mut *connection)
            .await?;
    }
    if let Some(run) = &notes.run {
        sqlx::query(CATCH_UP_RUN)
            .bind(run.until.timestamp_millis())
            .bind(run.ran_at.timestamp_millis())
            .bind(signed(run.found))
            .bind(signed(run.enqueued))
            .bind(signed(run.reported))
            .bind(signed(run.summarized))
            .execute(&mut *connection)
            .await?;
    }
    let before = (notes.at - KEEP_NOTES).timestamp_millis();
    sqlx::query("DELETE FROM sentry_issues WHERE noted_at < $1").bind(before).execute(connection).await.map(drop)
}

fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
