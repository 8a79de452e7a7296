//! Where incidents are open: what PagerDuty has taken, and what waits to be sent on top of it.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, Utc};
use sqlx::{Row as _, SqliteConnection};

use crate::intake::FollowUp;
use crate::pagerduty::{EventType, IncidentKey, ServiceKey};
use crate::queue::EventId;

/// The integrations that a follow-up goes to: those where its incident is open, or, for a trigger, ever was.
pub(super) async fn keys_for(connection: &mut SqliteConnection, follow_up: &FollowUp) -> sqlx::Result<Vec<ServiceKey>> {
    let mut open: BTreeMap<ServiceKey, bool> = BTreeMap::new();
    let taken = sqlx::query("SELECT service_key, is_open FROM incidents WHERE incident_key = ?")
        .bind(follow_up.incident_key.as_str())
        .fetch_all(&mut *connection)
        .await?;
    for row in taken {
        let key: String = row.try_get("service_key")?;
        open.extend(ServiceKey::parse(&key).ok().map(|key| (key, row.get("is_open"))));
    }
    let waiting = sqlx::query(
        "SELECT service_key, event_type FROM events WHERE state = 'waiting' AND incident_key = ? ORDER BY id",
    )
    .bind(follow_up.incident_key.as_str())
    .fetch_all(connection)
    .await?;
    for row in waiting {
        let key: String = row.try_get("service_key")?;
        let Ok(key) = ServiceKey::parse(&key) else { continue };
        match EventType::parse(row.try_get("event_type")?) {
            Some(EventType::Trigger) => drop(open.insert(key, true)),
            Some(EventType::Resolve) => drop(open.insert(key, false)),
            Some(EventType::Acknowledge) | None => {}
        }
    }
    let any = follow_up.event_type() == EventType::Trigger;
    Ok(open.into_iter().filter(|(_, is_open)| any || *is_open).map(|(key, _)| key).collect())
}

/// Notes that PagerDuty has taken an event, which opens or closes its incident.
pub(super) async fn taken(connection: &mut SqliteConnection, id: EventId, at: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO incidents (incident_key, service_key, is_open, changed_at) \
         SELECT incident_key, service_key, event_type = 'trigger', ? FROM events \
         WHERE id = ? AND event_type IN ('trigger', 'resolve') \
         ON CONFLICT DO UPDATE SET is_open = excluded.is_open, changed_at = excluded.changed_at",
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

/// The resolves that came since `since`, and when each was done in Sentry. Older ones are forgotten.
pub(super) async fn resolves_since(
    connection: &mut SqliteConnection,
    since: DateTime<Utc>,
) -> sqlx::Result<HashMap<IncidentKey, DateTime<Utc>>> {
    let rows =
        sqlx::query("SELECT incident_key, happened_at, received_at FROM resolves").fetch_all(&mut *connection).await?;
    let mut recent = HashMap::new();
    let mut is_any_old = false;
    for row in rows {
        if row.try_get::<i64, _>("received_at")? < since.timestamp_millis() {
            is_any_old = true;
        } else if let Some(key) = IncidentKey::parse(row.try_get("incident_key")?)
            && let Some(happened_at) = DateTime::from_timestamp_millis(row.try_get("happened_at")?)
        {
            recent.insert(key, happened_at);
        }
    }
    if is_any_old {
        sqlx::query("DELETE FROM resolves WHERE received_at < ?")
            .bind(since.timestamp_millis())
            .execute(connection)
            .await?;
    }
    Ok(recent)
}

/// Remembers a resolve for the triggers that it overtook.
pub(super) async fn remember_resolve(
    connection: &mut SqliteConnection,
    follow_up: &FollowUp,
    received_at: DateTime<Utc>,
) -> sqlx::Result<()> {
    sqlx::query("INSERT OR REPLACE INTO resolves (incident_key, happened_at, received_at) VALUES (?, ?, ?)")
        .bind(follow_up.incident_key.as_str())
        .bind(follow_up.happened_at.timestamp_millis())
        .bind(received_at.timestamp_millis())
        .execute(connection)
        .await?;
    Ok(())
}
