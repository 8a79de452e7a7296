//! The columns of a row as typed values.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sqlx::sqlite::SqliteRow;
use sqlx::{Decode, Row, Sqlite, Type};

use crate::pagerduty::{ApiVersion, EventType, IncidentKey, ServiceKey};
use crate::queue::envelope::with_counts_of;
use crate::queue::{EventId, Record, RejectedId, RejectedSummary, State, Summary};

/// Why a column could not be read.
#[derive(Debug)]
pub(super) enum ColumnError {
    /// The database did not return the value.
    Sqlx(sqlx::Error),
    /// The value of the named column is not one that the bridge writes.
    Odd(&'static str),
}

impl From<sqlx::Error> for ColumnError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlx(error)
    }
}

/// A row with an `id` and the other columns that were requested.
pub(super) struct Columns {
    id: EventId,
    row: SqliteRow,
}

impl Columns {
    pub(super) fn of(row: SqliteRow) -> sqlx::Result<Self> {
        Ok(Self { id: EventId::new(row.try_get("id")?), row })
    }

    pub(super) fn id(&self) -> EventId {
        self.id
    }

    pub(super) fn service_key(&self) -> Result<ServiceKey, ColumnError> {
        self.parsed("service_key", |text| ServiceKey::parse(text).ok())
    }

    pub(super) fn incident_key(&self) -> Result<IncidentKey, ColumnError> {
        self.parsed("incident_key", IncidentKey::parse)
    }

    pub(super) fn event_type(&self) -> Result<EventType, ColumnError> {
        self.parsed("event_type", EventType::parse)
    }

    pub(super) fn state(&self) -> Result<State, ColumnError> {
        self.parsed("state", State::parse)
    }

    pub(super) fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, ColumnError> {
        self.optional_number(column)?.ok_or(ColumnError::Odd(column))
    }

    pub(super) fn optional_number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<Option<T>, ColumnError> {
        let number: Option<i64> = self.get(column)?;
        number.map(|number| T::try_from(number).map_err(|_| ColumnError::Odd(column))).transpose()
    }

    pub(super) fn milliseconds(&self, column: &'static str) -> Result<Duration, ColumnError> {
        self.number(column).map(Duration::from_millis)
    }

    pub(super) fn time(&self, column: &'static str) -> Result<DateTime<Utc>, ColumnError> {
        self.optional_time(column)?.ok_or(ColumnError::Odd(column))
    }

    pub(super) fn optional_time(&self, column: &'static str) -> Result<Option<DateTime<Utc>>, ColumnError> {
        let milliseconds: Option<i64> = self.get(column)?;
        milliseconds.map(|at| DateTime::from_timestamp_millis(at).ok_or(ColumnError::Odd(column))).transpose()
    }

    pub(super) fn text(&self, column: &'static str) -> Result<String, ColumnError> {
        self.get(column)
    }

    pub(super) fn optional_text(&self, column: &'static str) -> Result<Option<String>, ColumnError> {
        self.get(column)
    }

    pub(super) fn bytes(&self, column: &'static str) -> Result<Vec<u8>, ColumnError> {
        self.get(column)
    }

    /// The bytes of a text column, which need not be valid UTF-8.
    pub(super) fn raw(&self, column: &'static str) -> Result<Vec<u8>, ColumnError> {
        Ok(self.row.try_get_unchecked(column)?)
    }

    pub(super) fn summary(&self) -> Result<Summary, ColumnError> {
        Ok(Summary {
            id: self.id,
            state: self.state()?,
            service_key: self.service_key()?,
            incident_key: self.incident_key()?,
            event_type: self.event_type()?,
            description: self.text("description")?,
            count: self.number("count")?,
            attempts: self.number("attempts")?,
            received_at: self.time("received_at")?,
            first_seen: self.time("first_seen")?,
            next_attempt_at: self.optional_time("next_attempt_at")?,
            finished_at: self.optional_time("finished_at")?,
            reason: self.optional_text("reason")?,
        })
    }

    pub(super) fn rejected_summary(&self) -> Result<RejectedSummary, ColumnError> {
        Ok(RejectedSummary {
            id: RejectedId::new(self.id.get()),
            received_at: self.time("received_at")?,
            reason: self.text("reason")?,
            size: self.number("size")?,
        })
    }

    /// Reads a record with the body as it is sent: until the first attempt the counts are stored beside the body.
    pub(super) fn record(&self) -> Result<Record, ColumnError> {
        let (summary, last_attempt_at) = (self.summary()?, self.optional_time("last_attempt_at")?);
        let (body, counts_at) = (self.bytes("body")?, self.optional_number("counts_at")?);
        let is_final = last_attempt_at.is_some();
        let body = if is_final { body } else { with_counts_of(body, counts_at, summary.count, summary.first_seen) };
        Ok(Record {
            summary,
            api: ApiVersion::of_number(self.number("api")?),
            body,
            last_attempt_at,
            blamed: self.milliseconds("blamed_ms")?,
            resolved_at: self.optional_time("resolved_at")?,
        })
    }

    fn parsed<T>(&self, column: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, ColumnError> {
        parse(self.get(column)?).ok_or(ColumnError::Odd(column))
    }

    /// A value whose type was changed by a damaged page counts as one that the bridge does not write.
    fn get<'r, T: Decode<'r, Sqlite> + Type<Sqlite>>(&'r self, column: &'static str) -> Result<T, ColumnError> {
        self.row.try_get(column).map_err(|error| match error {
            sqlx::Error::ColumnDecode { .. } => ColumnError::Odd(column),
            error => ColumnError::Sqlx(error),
        })
    }
}
