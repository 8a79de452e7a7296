//! Changes that people make from outside, with or without running bridges: transactions that running bridges notice.

use async_trait::async_trait;
use sqlx::postgres::PgRow;
use sqlx::{PgConnection, Row as _};

use super::PostgresEngine;
use super::rows::stored;
use super::rows::{api, apis, event_type, id, incident_key, number, numbers, optional_time, rows, service_key};
use crate::queue::external::{CLOCK_TOLERANCE, SentryNotes};
use crate::queue::store::{
    Committed, Dependencies, EditorStore, EventToEdit, IncidentQueueKey, KEEP_DISCARDED_ATTEMPTS, Known, Plan, Store,
};
use crate::queue::{EventId, HeldId, QueueError, RejectedId, State};

const EDITING: &str =
    "SELECT events.id, state, events.service_key, events.incident_key, api, event_type, events.sentry_at, attempts,
        last_attempt_at, finished_at, resolved_at,
        EXISTS (
            SELECT 1 FROM events AS later WHERE later.state = 'waiting' AND later.event_type = 'trigger'
            AND later.incident_key = events.incident_key AND later.service_key = events.service_key
            AND later.id > events.id
        ) AS trigger_waits,
        incidents.event_id AS opener, incidents.changed_at AS opened_at, incidents.apis AS open_apis
    FROM events LEFT JOIN incidents ON incidents.incident_key = events.incident_key
        AND incidents.service_key = events.service_key AND is_open
    WHERE events.id = ANY($1::bigint[])";

/// Locks the rows, because two people may retry the same webhook at the same moment.
const REJECTED: &str = "SELECT id FROM rejected WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE";

/// Locks the rows, because several bridges may get the same new secret at the same moment.
const HELD: &str = "SELECT id FROM held WHERE id = ANY($1::bigint[]) ORDER BY id FOR UPDATE";

const REQUEUED: &str = "UPDATE events SET state = 'waiting', blamed_ms = 0, next_attempt_at = NULL, finished_at = NULL,
        reason = NULL, revived_at = revived.at
    FROM unnest($1::bigint[], $2::bigint[]) AS revived (id, at) WHERE events.id = revived.id AND state = 'dead'";

/// Notes the alerts of triggers that are about to be deleted, so that catch-up does not find them missing.
const DEALT_WITH: &str = "INSERT INTO sentry_issues (incident_key, fired_at, noted_at)
    SELECT incident_key, MAX(received_at) + $2, MAX(received_at) FROM events
        WHERE id = ANY($1::bigint[]) AND event_type = 'trigger' GROUP BY incident_key ORDER BY incident_key
    ON CONFLICT (incident_key) DO UPDATE SET
        fired_at = GREATEST(sentry_issues.fired_at, excluded.fired_at),
        noted_at = GREATEST(sentry_issues.noted_at, excluded.noted_at)";

const DISCARDED: &str = "WITH with_bodies AS (DELETE FROM bodies WHERE id = ANY($1::bigint[])),
    with_proofs AS (DELETE FROM proofs WHERE event_id = ANY($1::bigint[]))
    DELETE FROM events WHERE id = ANY($1::bigint[])";

const DISCARDED_ATTEMPTS: &str = "INSERT INTO discarded (service_key, last_attempt_at, attempts)
    SELECT * FROM unnest($1::text[], $2::bigint[], $3::bigint[])";

const OLD_ATTEMPTS: &str =
    "DELETE FROM discarded WHERE last_attempt_at < (SELECT MAX(last_attempt_at) FROM discarded) - $1";

/// Loads the rows of `dependencies` that people are about to change. Their incidents are already locked.
pub(super) async fn load_edited(
    connection: &mut PgConnection,
    dependencies: &Dependencies,
    known: &mut Known,
) -> sqlx::Result<()> {
    if !dependencies.to_edit.is_empty() {
        for row in rows(sqlx::query(EDITING).bind(numbers(&dependencies.to_edit)), connection).await? {
            if let Some(event) = event_to_edit(&row)? {
                known.to_edit.insert(id(&row)?, event);
            }
        }
    }
    if !dependencies.rejected.is_empty() {
        let ids: Vec<_> = dependencies.rejected.iter().map(|id| id.get()).collect();
        for row in rows(sqlx::query(REJECTED).bind(ids), connection).await? {
            known.rejected.insert(RejectedId::new(row.try_get("id")?));
        }
    }
    if !dependencies.held.is_empty() {
        let ids: Vec<_> = dependencies.held.iter().map(|id| id.get()).collect();
        for row in rows(sqlx::query(HELD).bind(ids), connection).await? {
            known.held.insert(HeldId::new(row.try_get("id")?));
        }
    }
    Ok(())
}

/// Parses an event. Columns that cannot be read do not prevent it from being changed.
fn event_to_edit(row: &PgRow) -> sqlx::Result<Option<EventToEdit>> {
    let Some(state) = State::parse(row.try_get("state")?) else { return Ok(None) };
    let queue =
        || Some(IncidentQueueKey { incident_key: incident_key(row).ok()?, service_key: service_key(row).ok()? });
    let opener = row.try_get::<Option<i64>, _>("opener")?.map(EventId::new);
    Ok(Some(EventToEdit {
        state,
        queue: queue(),
        api: api(row)?,
        event_type: event_type(row).ok(),
        sentry_at: optional_time(row, "sentry_at")?,
        attempts: number(row, "attempts")?,
        last_attempt_at: optional_time(row, "last_attempt_at")?,
        finished_at: optional_time(row, "finished_at")?,
        resolved_at: optional_time(row, "resolved_at")?,
        trigger_waits: row.try_get("trigger_waits")?,
        opened: optional_time(row, "opened_at")?.map(|at| (opener, at)),
        open_apis: apis(row, "open_apis")?,
    }))
}

/// Writes the changes that people make.
pub(super) async fn write_edited(connection: &mut PgConnection, plan: &Plan<'_>) -> sqlx::Result<()> {
    if !plan.requeued.is_empty() {
        let (ids, times): (Vec<_>, Vec<_>) =
            plan.requeued.iter().map(|(id, at)| (id.get(), at.timestamp_millis())).unzip();
        sqlx::query(REQUEUED).bind(ids).bind(times).execute(&mut *connection).await?;
    }
    if !plan.discarded.is_empty() {
        let dealt_with =
            sqlx::query(DEALT_WITH).bind(numbers(&plan.discarded)).bind(CLOCK_TOLERANCE.num_milliseconds());
        dealt_with.execute(&mut *connection).await?;
        sqlx::query(DISCARDED).bind(numbers(&plan.discarded)).execute(&mut *connection).await?;
    }
    if !plan.discarded_attempts.is_empty() {
        let attempts = || plan.discarded_attempts.iter();
        sqlx::query(DISCARDED_ATTEMPTS)
            .bind(attempts().map(|(service_key, ..)| service_key.expose()).collect::<Vec<_>>())
            .bind(attempts().map(|(_, last_at, _)| last_at.timestamp_millis()).collect::<Vec<_>>())
            .bind(attempts().map(|(.., number)| i64::from(*number)).collect::<Vec<_>>())
            .execute(&mut *connection)
            .await?;
        let old = sqlx::query(OLD_ATTEMPTS).bind(KEEP_DISCARDED_ATTEMPTS.num_milliseconds());
        old.execute(&mut *connection).await?;
    }
    if !plan.forget_rejected.is_empty() {
        let ids: Vec<_> = plan.forget_rejected.iter().map(|id| id.get()).collect();
        sqlx::query("DELETE FROM rejected WHERE id = ANY($1::bigint[])").bind(ids).execute(&mut *connection).await?;
    }
    if !plan.forget_held.is_empty() {
        let ids: Vec<_> = plan.forget_held.iter().map(|id| id.get()).collect();
        sqlx::query("DELETE FROM held WHERE id = ANY($1::bigint[])").bind(ids).execute(&mut *connection).await?;
    }
    for (id, reason) in &plan.reasons {
        let query = sqlx::query("UPDATE rejected SET reason = $1 WHERE id = $2").bind(stored(reason)).bind(id.get());
        query.execute(&mut *connection).await?;
    }
    Ok(())
}

#[async_trait]
impl EditorStore for PostgresEngine {
    async fn load(&mut self, dependencies: &Dependencies) -> Result<Known, QueueError> {
        Store::load(self, dependencies).await
    }

    async fn apply(&mut self, plan: &Plan<'_>) -> Result<Committed, QueueError> {
        Store::apply(self, plan).await
    }

    async fn write_sentry_notes(&mut self, notes: &SentryNotes) -> Result<(), QueueError> {
        Store::write_sentry_notes(self, notes).await
    }

    async fn close(self: Box<Self>) -> Result<(), QueueError> {
        Store::close(*self).await
    }
}
