//! Values as PostgreSQL stores them, and the rows of the statements that load what a batch depends on.
//!
//! PostgreSQL stores every character except NUL; Sentry may well send one. A NUL becomes SUBSTITUTE (U+001A) and `0`, a
//! SUBSTITUTE itself becomes two of them. So every text is read as it was written, and nearly every text is stored
//! unchanged.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use sqlx::postgres::PgRow;
use sqlx::{Decode, PgConnection, Postgres, Row as _, Type};

use crate::pagerduty::{ApiSet, ApiVersion, EventType, IncidentKey, ServiceKey};
use crate::queue::{EventId, State};

const SUBSTITUTE: char = '\u{1a}';

pub(super) type PgQuery<'q> = sqlx::query::Query<'q, Postgres, sqlx::postgres::PgArguments>;

pub(super) async fn rows(query: PgQuery<'_>, connection: &mut PgConnection) -> sqlx::Result<Vec<PgRow>> {
    query.fetch_all(connection).await
}

/// Returns the rows whose event is still waiting.
pub(super) async fn waiting(query: PgQuery<'_>, connection: &mut PgConnection) -> sqlx::Result<Vec<PgRow>> {
    let mut found = rows(query, connection).await?;
    found.retain(|row| row.try_get::<&str, _>("state").is_ok_and(|state| state == State::Waiting.as_str()));
    Ok(found)
}

pub(super) fn numbers(ids: &[EventId]) -> Vec<i64> {
    ids.iter().map(|id| id.get()).collect()
}

pub(super) fn id(row: &PgRow) -> sqlx::Result<EventId> {
    row.try_get("id").map(EventId::new)
}

pub(super) fn time(row: &PgRow, column: &str) -> sqlx::Result<DateTime<Utc>> {
    parsed(row, column, DateTime::from_timestamp_millis)
}

pub(super) fn optional_time(row: &PgRow, column: &str) -> sqlx::Result<Option<DateTime<Utc>>> {
    let milliseconds: Option<i64> = row.try_get(column)?;
    Ok(milliseconds.and_then(DateTime::from_timestamp_millis))
}

pub(super) fn number(row: &PgRow, column: &str) -> sqlx::Result<u32> {
    parsed(row, column, |number: i64| u32::try_from(number).ok())
}

pub(super) fn incident_key(row: &PgRow) -> sqlx::Result<IncidentKey> {
    parsed(row, "incident_key", |text: &str| IncidentKey::parse(&restored(text)))
}

pub(super) fn issue_key(row: &PgRow) -> sqlx::Result<IncidentKey> {
    parsed(row, "issue_key", |text: &str| IncidentKey::parse(&restored(text)))
}

pub(super) fn service_key(row: &PgRow) -> sqlx::Result<ServiceKey> {
    parsed(row, "service_key", |text: &str| ServiceKey::parse(text).ok())
}

pub(super) fn event_type(row: &PgRow) -> sqlx::Result<EventType> {
    parsed(row, "event_type", |text: &str| EventType::parse(text))
}

/// The API of an event.
pub(super) fn api(row: &PgRow) -> sqlx::Result<ApiVersion> {
    row.try_get("api").map(ApiVersion::of_number)
}

/// The APIs of an incident; none where it is not open.
pub(super) fn apis(row: &PgRow, column: &str) -> sqlx::Result<ApiSet> {
    let number: Option<i64> = row.try_get(column)?;
    Ok(number.map_or_else(ApiSet::default, ApiSet::of_number))
}

/// Parses a column. Returns an error if the value cannot be parsed, which means that the bridge did not write it.
fn parsed<'r, S, T>(row: &'r PgRow, column: &str, parse: impl Fn(S) -> Option<T>) -> sqlx::Result<T>
where
    S: Decode<'r, Postgres> + Type<Postgres>,
{
    parse(row.try_get(column)?)
        .ok_or_else(|| sqlx::Error::ColumnDecode { index: column.to_owned(), source: "its value is invalid".into() })
}

/// Encodes a text as it is stored.
pub(super) fn stored(text: &str) -> Cow<'_, str> {
    if !text.contains(['\0', SUBSTITUTE]) {
        return Cow::Borrowed(text);
    }
    let mut stored = String::with_capacity(text.len() + 8);
    for character in text.chars() {
        match character {
            '\0' => stored.extend([SUBSTITUTE, '0']),
            SUBSTITUTE => stored.extend([SUBSTITUTE, SUBSTITUTE]),
            other => stored.push(other),
        }
    }
    Cow::Owned(stored)
}

/// Decodes a stored text.
pub(super) fn restored(stored: &str) -> Cow<'_, str> {
    if !stored.contains(SUBSTITUTE) {
        return Cow::Borrowed(stored);
    }
    let mut text = String::with_capacity(stored.len());
    let mut characters = stored.chars();
    while let Some(character) = characters.next() {
        match (character, character == SUBSTITUTE) {
            (other, false) => text.push(other),
            // Any other sequence was not written by the bridge.
            (_, true) => match characters.next() {
                Some('0') => text.push('\0'),
                other => text.push(other.unwrap_or(SUBSTITUTE)),
            },
        }
    }
    Cow::Owned(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_read_as_it_was_written_and_never_stored_with_a_nul() {
        for text in ["", "42", "a\0b", "\0", "\u{1a}", "\u{1a}0", "\0\u{1a}0\0", "ä\u{1a}\u{1a}0"] {
            let stored = stored(text).into_owned();
            assert!(!stored.contains('\0'), "{stored:?}");
            assert_eq!(restored(&stored), text);
        }
        assert_eq!(stored("a\0b"), "a\u{1a}0b");
        assert!(matches!(stored("as it is"), Cow::Borrowed(_)));
    }
}
