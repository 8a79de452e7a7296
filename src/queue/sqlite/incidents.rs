//! Where incidents are open: what PagerDuty has taken, and what waits to be sent on top of it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{Row as _, SqliteConnection};

use super::place::is_damaged;
use super::statements::Statements;
use crate::intake::FollowUp;
use crate::pagerduty::{EventType, IncidentKey, ServiceKey};
use crate::queue::EventId;

/// The integrations that a follow-up goes to: those where its incident is open, or, for a trigger, ever was.
pub(super) async fn keys_for(connection: &mut SqliteConnection, follow_up: &FollowUp) -> sqlx::Result<Vec<ServiceKey>> {
    let known = known(connection, &follow_up.incident_key).await?;
    let any = follow_up.event_type() == EventType::Trigger;
    Ok(known.into_iter().filter(|(_, is_open)| any || *is_open).map(|(key, _)| key).collect())
}

/// The integrations where an incident was opened, and whether it is open there once what waits is delivered.
pub(super) async fn known(
    connection: &mut SqliteConnection,
    incident_key: &IncidentKey,
) -> sqlx::Result<BTreeMap<ServiceKey, bool>> {
    let mut open: BTreeMap<ServiceKey, bool> = BTreeMap::new();
    let taken = sqlx::query("SELECT service_key, is_open FROM incidents WHERE incident_key = ?")
        .bind(incident_key.as_str())
        .fetch_all(&mut *connection)
        .await?;
    for row in taken {
        let (key, is_open): (String, bool) = (row.try_get("service_key")?, row.try_get("is_open")?);
        open.extend(ServiceKey::parse(&key).ok().map(|key| (key, is_open)));
    }
    let waiting = sqlx::query(
        "SELECT service_key, event_type FROM events WHERE state = 'waiting' AND incident_key = ? ORDER BY id",
    )
    .bind(incident_key.as_str())
    .fetch_all(&mut *connection)
    .await;
    let waiting = match waiting {
        // What waits there and cannot be read is most likely what opens it.
        Err(error) if is_damaged(&error) => {
            sqlx::query(
                "SELECT service_key, 'trigger' AS event_type FROM events INDEXED BY events_line \
                 WHERE state = 'waiting' AND incident_key = ?",
            )
            .bind(incident_key.as_str())
            .fetch_all(connection)
            .await?
        }
        waiting => waiting?,
    };
    for row in waiting {
        let key: String = row.try_get("service_key")?;
        let Ok(key) = ServiceKey::parse(&key) else { continue };
        match EventType::parse(row.try_get("event_type")?) {
            Some(EventType::Trigger) => drop(open.insert(key, true)),
            // A resolve of an incident that the bridge does not know makes none known.
            Some(EventType::Resolve) => drop(open.get_mut(&key).map(|is_open| *is_open = false)),
            Some(EventType::Acknowledge) | None => {}
        }
    }
    Ok(open)
}

/// Notes that PagerDuty has taken an event, which opens its incident or closes one that was opened before.
pub(super) async fn taken(connection: &mut SqliteConnection, id: EventId, at: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO incidents (incident_key, service_key, is_open, changed_at, event_id) \
         SELECT incident_key, service_key, event_type = 'trigger', ?, id FROM events \
         WHERE id = ? AND (event_type = 'trigger' OR event_type = 'resolve' AND EXISTS ( \
             SELECT 1 FROM incidents AS known \
             WHERE known.incident_key = events.incident_key AND known.service_key = events.service_key)) \
         ON CONFLICT DO UPDATE SET is_open = excluded.is_open, changed_at = excluded.changed_at, \
         event_id = excluded.event_id",
    )
    .bind(at.timestamp_millis())
    .bind(id.get())
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets incidents that nobody has touched since `before`, at most `limit` of them.
pub(super) async fn forget(connection: &mut SqliteConnection, before: DateTime<Utc>, limit: u32) -> sqlx::Result<()> {
    sqlx::query(
        "DELETE FROM incidents WHERE (incident_key, service_key) IN \
         (SELECT incident_key, service_key FROM incidents WHERE changed_at < ? ORDER BY changed_at LIMIT ?)",
    )
    .bind(before.timestamp_millis())
    .bind(limit)
    .execute(connection)
    .await?;
    Ok(())
}

/// Remembers a resolve for the triggers that it overtook. One that comes late, such as a webhook that was rejected and
/// is read again, takes nothing from what is remembered.
pub(super) fn remember_resolve(statements: &mut Statements<'_>, follow_up: &FollowUp, received_at: DateTime<Utc>) {
    statements
        .add(
            "INSERT INTO resolves (incident_key, happened_at, received_at) VALUES (?, ?, ?) \
             ON CONFLICT DO UPDATE SET happened_at = MAX(happened_at, excluded.happened_at), \
             received_at = MAX(received_at, excluded.received_at)",
        )
        .bind(follow_up.incident_key.as_str())
        .bind(follow_up.happened_at.timestamp_millis())
        .bind(received_at.timestamp_millis());
}

/// Forgets the resolve of an incident that is open again.
pub(super) fn forget_resolve(statements: &mut Statements<'_>, incident_key: &IncidentKey) {
    statements.add("DELETE FROM resolves WHERE incident_key = ?").bind(incident_key.as_str());
}

/// Forgets the resolve of an incident that was opened again at `opened_at`, unless it was resolved later.
pub(super) fn reopen(statements: &mut Statements<'_>, incident_key: &IncidentKey, opened_at: DateTime<Utc>) {
    statements
        .add("DELETE FROM resolves WHERE incident_key = ? AND happened_at <= ?")
        .bind(incident_key.as_str())
        .bind(opened_at.timestamp_millis());
}

/// Forgets the resolves that came before `before`.
pub(super) fn forget_resolves(statements: &mut Statements<'_>, before: DateTime<Utc>) {
    statements.add("DELETE FROM resolves WHERE received_at < ?").bind(before.timestamp_millis());
}
