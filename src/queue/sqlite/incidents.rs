//! Where incidents are open: what PagerDuty has taken, and what waits to be sent on top of it.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sqlx::{Row as _, SqliteConnection};

use super::place::is_damaged;
use super::statements::Statements;
use crate::ingest::FollowUp;
use crate::pagerduty::{EventType, IncidentKey, ServiceKey};
use crate::queue::EventId;
use crate::queue::decide::{self, Window};

/// How many open incidents are remembered at most; about 30 MB.
const MOST_OPEN: u32 = 200_000;

/// What a follow-up finds.
#[derive(Debug, Default)]
pub(super) struct Recipients {
    /// The integrations that it goes to.
    pub(super) keys: Vec<ServiceKey>,
    /// Whether it is a resolve that is older than what is open somewhere.
    pub(super) is_outdated: bool,
}

/// An incident at one integration.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct Incident {
    /// Whether it is open once what waits is delivered.
    pub(super) is_open: bool,
    /// When Sentry received the latest of its triggers, if that is known.
    triggered_at: Option<DateTime<Utc>>,
}

/// The integrations that a follow-up which comes `now` goes to: those where its incident is open, or, for a trigger,
/// ever was.
pub(super) async fn recipients(
    connection: &mut SqliteConnection,
    follow_up: &FollowUp,
    now: DateTime<Utc>,
) -> sqlx::Result<Recipients> {
    let mut recipients = Recipients::default();
    for (key, incident) in known(connection, &follow_up.incident_key).await? {
        let goes_there = match follow_up.event_type() {
            EventType::Trigger => true,
            EventType::Acknowledge => incident.is_open,
            EventType::Resolve => {
                let is_outdated =
                    incident.is_open && decide::is_outdated(follow_up.happened_at, incident.triggered_at, now);
                recipients.is_outdated |= is_outdated;
                incident.is_open && !is_outdated
            }
        };
        if goes_there {
            recipients.keys.push(key);
        }
    }
    Ok(recipients)
}

/// The integrations where an incident was opened, and how it stands there.
pub(super) async fn known(
    connection: &mut SqliteConnection,
    incident_key: &IncidentKey,
) -> sqlx::Result<BTreeMap<ServiceKey, Incident>> {
    let mut incidents: BTreeMap<ServiceKey, Incident> = BTreeMap::new();
    let taken = sqlx::query("SELECT service_key, is_open, sentry_at FROM incidents WHERE incident_key = ?")
        .bind(incident_key.as_str())
        .fetch_all(&mut *connection)
        .await?;
    for row in taken {
        let key: String = row.try_get("service_key")?;
        let incident = Incident { is_open: row.try_get("is_open")?, triggered_at: sentry_at(&row)? };
        incidents.extend(ServiceKey::parse(&key).ok().map(|key| (key, incident)));
    }
    let waiting = sqlx::query(
        "SELECT service_key, event_type, sentry_at FROM events WHERE state = 'waiting' AND incident_key = ? ORDER BY id",
    )
    .bind(incident_key.as_str())
    .fetch_all(&mut *connection)
    .await;
    let waiting = match waiting {
        // What waits there and cannot be read is most likely what opens it.
        Err(error) if is_damaged(&error) => {
            sqlx::query(
                "SELECT service_key, 'trigger' AS event_type, NULL AS sentry_at FROM events INDEXED BY events_line \
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
            Some(EventType::Trigger) => {
                let incident = incidents.entry(key).or_default();
                incident.is_open = true;
                incident.triggered_at = incident.triggered_at.max(sentry_at(&row)?);
            }
            // A resolve of an incident that the bridge does not know makes none known.
            Some(EventType::Resolve) => drop(incidents.get_mut(&key).map(|incident| incident.is_open = false)),
            Some(EventType::Acknowledge) | None => {}
        }
    }
    Ok(incidents)
}

fn sentry_at(row: &sqlx::sqlite::SqliteRow) -> sqlx::Result<Option<DateTime<Utc>>> {
    let milliseconds: Option<i64> = row.try_get("sentry_at")?;
    Ok(milliseconds.and_then(DateTime::from_timestamp_millis))
}

/// Notes that PagerDuty has taken an event, which opens its incident or closes one that was opened before.
pub(super) async fn taken(connection: &mut SqliteConnection, id: EventId, at: DateTime<Utc>) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO incidents (incident_key, service_key, is_open, changed_at, event_id, sentry_at) \
         SELECT incident_key, service_key, event_type = 'trigger', ?, id, IIF(event_type = 'trigger', sentry_at, NULL) \
         FROM events \
         WHERE id = ? AND (event_type = 'trigger' OR event_type = 'resolve' AND EXISTS ( \
             SELECT 1 FROM incidents AS known \
             WHERE known.incident_key = events.incident_key AND known.service_key = events.service_key)) \
         ON CONFLICT DO UPDATE SET is_open = excluded.is_open, changed_at = excluded.changed_at, \
         event_id = excluded.event_id, \
         sentry_at = MAX(COALESCE(sentry_at, excluded.sentry_at), COALESCE(excluded.sentry_at, sentry_at))",
    )
    .bind(at.timestamp_millis())
    .bind(id.get())
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes that a trigger which is about to become a dead letter may have been taken: an attempt before the last one ended
/// without an answer that settled it. Its resolve is then sent all the same; where nothing is open, PagerDuty drops it.
pub(super) async fn perhaps_taken(
    connection: &mut SqliteConnection,
    id: EventId,
    at: DateTime<Utc>,
) -> sqlx::Result<()> {
    // The reason of the last retry stands there until the event is settled.
    sqlx::query(
        "INSERT INTO incidents (incident_key, service_key, is_open, changed_at, event_id, sentry_at) \
         SELECT incident_key, service_key, 1, ?, id, sentry_at FROM events \
         WHERE id = ? AND state = 'waiting' AND event_type = 'trigger' AND reason IS NOT NULL \
         ON CONFLICT DO UPDATE SET is_open = 1, changed_at = excluded.changed_at, event_id = excluded.event_id, \
         sentry_at = MAX(COALESCE(sentry_at, excluded.sentry_at), COALESCE(excluded.sentry_at, sentry_at))",
    )
    .bind(at.timestamp_millis())
    .bind(id.get())
    .execute(connection)
    .await?;
    Ok(())
}

/// Notes the same of waiting triggers with these numbers, which are about to be deleted: one that was attempted may have
/// been taken.
pub(super) async fn perhaps_taken_of(connection: &mut SqliteConnection, ids: &str) -> sqlx::Result<()> {
    sqlx::query(
        "INSERT INTO incidents (incident_key, service_key, is_open, changed_at, event_id, sentry_at) \
         SELECT incident_key, service_key, 1, MAX(last_attempt_at), MAX(id), MAX(sentry_at) FROM events \
         WHERE state = 'waiting' AND event_type = 'trigger' AND last_attempt_at IS NOT NULL \
         AND id IN (SELECT value FROM json_each(?)) GROUP BY incident_key, service_key \
         ON CONFLICT DO UPDATE SET is_open = 1, changed_at = excluded.changed_at, event_id = excluded.event_id, \
         sentry_at = MAX(COALESCE(sentry_at, excluded.sentry_at), COALESCE(excluded.sentry_at, sentry_at))",
    )
    .bind(ids)
    .execute(connection)
    .await?;
    Ok(())
}

/// Forgets at most `limit` incidents that were closed before `before`, and as many of those that are open where there are
/// too many. Those are not forgotten by age: a clock that is set forward would forget them all.
pub(super) async fn forget(connection: &mut SqliteConnection, before: DateTime<Utc>, limit: u32) -> sqlx::Result<()> {
    sqlx::query(
        "DELETE FROM incidents WHERE (incident_key, service_key) IN \
         (SELECT incident_key, service_key FROM incidents WHERE is_open = 0 AND changed_at < ? \
          ORDER BY changed_at LIMIT ?)",
    )
    .bind(before.timestamp_millis())
    .bind(limit)
    .execute(&mut *connection)
    .await?;
    sqlx::query(
        "DELETE FROM incidents WHERE (incident_key, service_key) IN \
         (SELECT incident_key, service_key FROM incidents WHERE is_open <> 0 \
          ORDER BY changed_at DESC LIMIT ? OFFSET ?)",
    )
    .bind(limit)
    .bind(MOST_OPEN)
    .execute(connection)
    .await?;
    Ok(())
}

/// Remembers a resolve for the triggers that it overtook, if it is known when Sentry sent it. One that comes late, such as
/// a webhook that was rejected and is read again, takes nothing from what is remembered.
pub(super) fn remember_resolve(statements: &mut Statements<'_>, follow_up: &FollowUp, received_at: DateTime<Utc>) {
    let Some(happened_at) = follow_up.happened_at else { return };
    statements
        .add(
            "INSERT INTO resolves (incident_key, happened_at, received_at) VALUES (?, ?, ?) \
             ON CONFLICT DO UPDATE SET happened_at = MAX(happened_at, excluded.happened_at), \
             received_at = MAX(received_at, excluded.received_at)",
        )
        .bind(follow_up.incident_key.as_str())
        .bind(happened_at.timestamp_millis())
        .bind(received_at.timestamp_millis());
}

/// Marks the triggers of an incident that PagerDuty has not taken and Sentry did not receive after this resolve: once they
/// are dead letters, nobody puts them back in line without knowing. What Sentry received later than `now` is of a clock
/// that was ahead.
pub(super) fn mark_resolved(
    statements: &mut Statements<'_>,
    follow_up: &FollowUp,
    received_at: DateTime<Utc>,
    now: DateTime<Utc>,
) {
    let sent_at = follow_up.happened_at.map(|at| at.timestamp_millis());
    for state in ["waiting", "dead"] {
        statements
            .add(&format!(
                "UPDATE events SET resolved_at = ? WHERE state = '{state}' AND incident_key = ? \
                 AND event_type = 'trigger' AND COALESCE(sentry_at / 1000 <= ? / 1000 OR sentry_at > ?, TRUE)"
            ))
            .bind(received_at.timestamp_millis())
            .bind(follow_up.incident_key.as_str())
            .bind(sent_at)
            .bind(now.timestamp_millis());
    }
}

/// Marks a trigger that was resolved before it came.
pub(super) fn mark_resolved_row(statements: &mut Statements<'_>, id: EventId, at: DateTime<Utc>) {
    statements.add("UPDATE events SET resolved_at = ? WHERE id = ?").bind(at.timestamp_millis()).bind(id.get());
}

/// Forgets the resolve of an incident that is open again.
pub(super) fn forget_resolve(statements: &mut Statements<'_>, incident_key: &IncidentKey) {
    statements.add("DELETE FROM resolves WHERE incident_key = ?").bind(incident_key.as_str());
}

/// Forgets the resolve of an incident that was opened again, unless Sentry sent that before it. What is a dead letter of it
/// may then be put back in line.
pub(super) fn reopen(statements: &mut Statements<'_>, follow_up: &FollowUp) {
    let incident_key = follow_up.incident_key.as_str();
    statements
        .add("DELETE FROM resolves WHERE incident_key = ? AND happened_at <= ?")
        .bind(incident_key)
        .bind(follow_up.happened_at.map_or(i64::MAX, |at| at.timestamp_millis()));
    statements
        .add("UPDATE events SET resolved_at = NULL WHERE state = 'dead' AND incident_key = ? AND resolved_at IS NOT NULL")
        .bind(incident_key);
}

/// Forgets the resolves that overtake nothing any more, those of a time before the clock was set back among them.
pub(super) fn forget_resolves(statements: &mut Statements<'_>, window: Window) {
    statements
        .add("DELETE FROM resolves WHERE received_at NOT BETWEEN ? AND ?")
        .bind(window.since.timestamp_millis())
        .bind(window.until.timestamp_millis());
}
