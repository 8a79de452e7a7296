//! Reads one incident, as the writer knows it.

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Row as _, SqliteConnection};

use crate::pagerduty::{ApiSet, ApiVersion, EventType, IncidentKey, ServiceKey};
use crate::queue::sqlite::database::is_damaged;
use crate::queue::sqlite::load::{ACCEPTED, WAITING, WAITING_UNREAD};
use crate::queue::store::{Incident, KnownIncident, WaitingRow};

/// Reads at which integrations the incident is open and its waiting events, but not which of those can be folded into.
/// Rows without a valid service key are left out, because their events are not delivered.
pub(super) async fn incident(
    connection: &mut SqliteConnection,
    incident_key: &IncidentKey,
) -> sqlx::Result<KnownIncident> {
    let mut known = KnownIncident::default();
    for row in sqlx::query(ACCEPTED).bind(incident_key.as_str()).fetch_all(&mut *connection).await? {
        let Ok(service_key) = ServiceKey::parse(row.try_get("service_key")?) else { continue };
        let apis = row.try_get("apis").map_or_else(|_| ApiSet::only(ApiVersion::default()), ApiSet::of_number);
        let (is_open, triggered_at) = (row.try_get("is_open")?, sentry_at(&row)?);
        known.accepted.push((service_key, Incident { is_open, apis, triggered_at }));
    }
    let waiting = sqlx::query(WAITING).bind(incident_key.as_str()).fetch_all(&mut *connection).await;
    let waiting = match waiting {
        Err(error) if is_damaged(&error) => {
            sqlx::query(WAITING_UNREAD).bind(incident_key.as_str()).fetch_all(connection).await?
        }
        waiting => waiting?,
    };
    for row in &waiting {
        known.waiting.extend(waiting_row(row)?);
    }
    Ok(known)
}

fn waiting_row(row: &SqliteRow) -> sqlx::Result<Option<WaitingRow>> {
    let service_key = ServiceKey::parse(row.try_get("service_key")?);
    let (Ok(service_key), Some(event_type)) = (service_key, EventType::parse(row.try_get("event_type")?)) else {
        return Ok(None);
    };
    let api = row.try_get("api").map_or_else(|_| ApiVersion::default(), ApiVersion::of_number);
    Ok(Some(WaitingRow { service_key, api, event_type, sentry_at: sentry_at(row)?, tail: None }))
}

fn sentry_at(row: &SqliteRow) -> sqlx::Result<Option<DateTime<Utc>>> {
    let milliseconds: Option<i64> = row.try_get("sentry_at")?;
    Ok(milliseconds.and_then(DateTime::from_timestamp_millis))
}
