//! The rows that readers get from a database, as the types of the queue: the same for both engines, whose statements name
//! their columns alike.

use std::borrow::Cow;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::event::with_counts_of;
use super::external::{CatchUpRun, IssueNote};
use super::{
    CanaryRecord, DeadLetters, EventId, EventRecord, EventSummary, FirstWaiting, HeldId, HeldSender, HeldSummary,
    HeldWebhook, IssueUpdate, OutageNotice, Overview, Proof, RejectedId, RejectedSummary, RejectedWebhook,
    ServiceKeyCounts, State, WaitingEvent,
};
use crate::ingest::CanaryId;
use crate::metrics::{Bucket, Failing, PersistedMetrics, Senders, SignatureRow};
use crate::pagerduty::{ApiVersion, EventType, IncidentKey, OutcomeKind, ServiceKey};

/// Why a row could not be read.
#[derive(Debug)]
pub(super) enum ColumnError {
    /// The database did not return the value.
    Sqlx(sqlx::Error),
    /// The value of the named column is not one that the bridge writes.
    Invalid(&'static str),
}

impl From<sqlx::Error> for ColumnError {
    fn from(error: sqlx::Error) -> Self {
        Self::Sqlx(error)
    }
}

/// A row of either engine. An engine decodes four types of values, of which all others are made.
///
/// A value of another type than that of its column, which a damaged page may have, counts as one that the bridge does not
/// write.
pub(super) trait TypedRow {
    fn decode_integer(&self, column: &'static str) -> sqlx::Result<Option<i64>>;

    fn decode_flag(&self, column: &'static str) -> sqlx::Result<Option<bool>>;

    fn decode_text(&self, column: &'static str) -> sqlx::Result<Option<Cow<'_, str>>>;

    fn decode_bytes(&self, column: &'static str) -> sqlx::Result<Option<Vec<u8>>>;

    /// The number of the event.
    fn id(&self) -> Result<EventId, ColumnError> {
        // One that cannot be decoded comes from a damaged index. No event can be named then, so the error is the database's.
        self.decode_integer("id")?.map(EventId::new).ok_or(ColumnError::Invalid("id"))
    }

    fn optional_number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<Option<T>, ColumnError> {
        let number = known(column, self.decode_integer(column))?;
        number.map(|number| T::try_from(number).map_err(|_| ColumnError::Invalid(column))).transpose()
    }

    fn number<T: TryFrom<i64>>(&self, column: &'static str) -> Result<T, ColumnError> {
        self.optional_number(column)?.ok_or(ColumnError::Invalid(column))
    }

    fn milliseconds(&self, column: &'static str) -> Result<Duration, ColumnError> {
        self.number(column).map(Duration::from_millis)
    }

    fn optional_time(&self, column: &'static str) -> Result<Option<DateTime<Utc>>, ColumnError> {
        let milliseconds = known(column, self.decode_integer(column))?;
        milliseconds.map(|at| DateTime::from_timestamp_millis(at).ok_or(ColumnError::Invalid(column))).transpose()
    }

    fn time(&self, column: &'static str) -> Result<DateTime<Utc>, ColumnError> {
        self.optional_time(column)?.ok_or(ColumnError::Invalid(column))
    }

    fn optional_flag(&self, column: &'static str) -> Result<Option<bool>, ColumnError> {
        known(column, self.decode_flag(column))
    }

    fn flag(&self, column: &'static str) -> Result<bool, ColumnError> {
        self.optional_flag(column)?.ok_or(ColumnError::Invalid(column))
    }

    fn optional_text(&self, column: &'static str) -> Result<Option<String>, ColumnError> {
        Ok(known(column, self.decode_text(column))?.map(Cow::into_owned))
    }

    fn text(&self, column: &'static str) -> Result<String, ColumnError> {
        self.optional_text(column)?.ok_or(ColumnError::Invalid(column))
    }

    fn bytes(&self, column: &'static str) -> Result<Vec<u8>, ColumnError> {
        known(column, self.decode_bytes(column))?.ok_or(ColumnError::Invalid(column))
    }

    /// Parses a text.
    fn parsed<T>(&self, column: &'static str, parse: impl Fn(&str) -> Option<T>) -> Result<T, ColumnError> {
        known(column, self.decode_text(column))?.and_then(|text| parse(&text)).ok_or(ColumnError::Invalid(column))
    }

    fn service_key(&self) -> Result<ServiceKey, ColumnError> {
        self.parsed("service_key", |text| ServiceKey::parse(text).ok())
    }

    fn incident_key(&self) -> Result<IncidentKey, ColumnError> {
        self.parsed("incident_key", IncidentKey::parse)
    }

    fn event_type(&self) -> Result<EventType, ColumnError> {
        self.parsed("event_type", EventType::parse)
    }

    fn state(&self) -> Result<State, ColumnError> {
        self.parsed("state", State::parse)
    }
}

fn known<T>(column: &'static str, decoded: sqlx::Result<T>) -> Result<T, ColumnError> {
    decoded.map_err(|error| match error {
        sqlx::Error::ColumnDecode { .. } => ColumnError::Invalid(column),
        error => ColumnError::Sqlx(error),
    })
}

/// Selects the columns of a [`EventSummary`] from `events`; `$events` is all that follows `FROM`.
macro_rules! summaries_from {
    ($events:literal) => {
        concat!(
            "SELECT events.id, state, service_key, incident_key, event_type, description, count, attempts, \
             received_at, first_seen, next_attempt_at, finished_at, reason FROM ",
            $events
        )
    };
}
pub(super) use summaries_from;

pub(super) fn summary(row: &impl TypedRow) -> Result<EventSummary, ColumnError> {
    Ok(EventSummary {
        id: row.id()?,
        state: row.state()?,
        service_key: row.service_key()?,
        incident_key: row.incident_key()?,
        event_type: row.event_type()?,
        description: row.text("description")?,
        count: row.number("count")?,
        attempts: row.number("attempts")?,
        received_at: row.time("received_at")?,
        first_seen: row.time("first_seen")?,
        next_attempt_at: row.optional_time("next_attempt_at")?,
        finished_at: row.optional_time("finished_at")?,
        reason: row.optional_text("reason")?,
    })
}

/// Reads a record with the body as it is sent: until the first attempt the counts are stored beside the body.
pub(super) fn record(row: &impl TypedRow) -> Result<EventRecord, ColumnError> {
    let (summary, last_attempt_at) = (summary(row)?, row.optional_time("last_attempt_at")?);
    let (body, counts_at) = (row.bytes("body")?, row.optional_number("counts_at")?);
    let is_final = last_attempt_at.is_some();
    let body = if is_final { body } else { with_counts_of(body, counts_at, summary.count, summary.first_seen) };
    Ok(EventRecord {
        summary,
        api: ApiVersion::of_number(row.number("api")?),
        body,
        last_attempt_at,
        blamed: row.milliseconds("blamed_ms")?,
        resolved_at: row.optional_time("resolved_at")?,
    })
}

pub(super) fn waiting_event(row: &impl TypedRow, service_key: &ServiceKey) -> Result<WaitingEvent, ColumnError> {
    Ok(WaitingEvent {
        id: row.id()?,
        service_key: service_key.clone(),
        incident_key: row.incident_key()?,
        event_type: row.event_type()?,
        received_at: row.time("received_at")?,
        attempts: row.number("attempts")?,
        last_attempt_at: row.optional_time("last_attempt_at")?,
        blamed: row.milliseconds("blamed_ms")?,
    })
}

/// The last attempt of an event, by a clock that was `ahead` milliseconds ahead, and how many attempts there were.
pub(super) fn attempt(row: &impl TypedRow, ahead: i64) -> Result<(ServiceKey, DateTime<Utc>, u32), ColumnError> {
    let at = row.number::<i64>("last_attempt_at")?.saturating_sub(ahead);
    let at = DateTime::from_timestamp_millis(at).ok_or(ColumnError::Invalid("last_attempt_at"))?;
    Ok((row.service_key()?, at, row.number("attempts")?))
}

pub(super) fn rejected_summary(row: &impl TypedRow) -> Result<RejectedSummary, ColumnError> {
    Ok(RejectedSummary {
        id: RejectedId::new(row.id()?.get()),
        received_at: row.time("received_at")?,
        reason: row.text("reason")?,
        size: row.number("size")?,
    })
}

pub(super) fn rejected(row: &impl TypedRow) -> Result<RejectedWebhook, ColumnError> {
    Ok(RejectedWebhook {
        received_at: row.time("received_at")?,
        resource: row.optional_text("resource")?,
        idempotency_key: row.optional_text("idempotency_key")?,
        sent_at: row.optional_time("sent_at")?,
        has_app_signature: row.flag("from_sentrys_pages")?,
        is_signature_verified: row.flag("is_signed")?,
        reason: row.text("reason")?,
        body: row.bytes("body")?,
    })
}

pub(super) fn held_summary(row: &impl TypedRow) -> Result<HeldSummary, ColumnError> {
    Ok(HeldSummary {
        id: HeldId::new(row.id()?.get()),
        received_at: row.time("received_at")?,
        sender: sender(row)?,
        size: row.number("size")?,
    })
}

pub(super) fn held(row: &impl TypedRow) -> Result<HeldWebhook, ColumnError> {
    let signature = row.bytes("signature")?.try_into();
    Ok(HeldWebhook {
        received_at: row.time("received_at")?,
        sender: sender(row)?,
        signature: signature.map_err(|_| ColumnError::Invalid("signature"))?,
        resource: row.optional_text("resource")?,
        idempotency_key: row.optional_text("idempotency_key")?,
        sent_at: row.optional_time("sent_at")?,
        body: row.bytes("body")?,
    })
}

fn sender(row: &impl TypedRow) -> Result<HeldSender, ColumnError> {
    let Some(network) = row.optional_text("network")? else { return Ok(HeldSender::Token) };
    network.parse().map(HeldSender::Network).map_err(|_| ColumnError::Invalid("network"))
}

/// One row of the overview: the numbers of webhooks, which are the same in every row, and the events of one service key in
/// one state, if there are any. If the stored value is not a service key, its events are counted all the same.
pub(super) fn overview(row: &impl TypedRow) -> Result<Overview, ColumnError> {
    let mut overview = Overview {
        rejected: row.number("rejected")?,
        held: row.number("held")?,
        held_with_token_since: row.optional_time("held_with_token_since")?,
        ..Overview::default()
    };
    if let Some(events) = row.optional_number("events")? {
        let state = row.state()?;
        let of = |counted| if state == counted { events } else { 0 };
        (overview.waiting, overview.dead, overview.delivered) =
            (of(State::Waiting), of(State::Dead), of(State::Delivered));
        overview.oldest_waiting = row.optional_time("oldest_waiting")?;
        overview.service_keys.extend(row.service_key().ok().map(|service_key| ServiceKeyCounts {
            service_key,
            waiting: overview.waiting,
            dead: overview.dead,
            delivered: overview.delivered,
            oldest_waiting: overview.oldest_waiting,
        }));
    }
    Ok(overview)
}

pub(super) fn first_waiting(row: &impl TypedRow) -> Result<FirstWaiting, ColumnError> {
    let (first_seen, revived_at) = (row.time("first_seen")?, row.optional_time("revived_at")?);
    Ok(FirstWaiting {
        id: row.id()?,
        service_key: row.service_key()?,
        since: revived_at.unwrap_or(first_seen),
        is_requeued: revived_at.is_some(),
        reason: row.optional_text("reason")?,
    })
}

pub(super) fn dead_letters(row: &impl TypedRow) -> Result<DeadLetters, ColumnError> {
    Ok(DeadLetters {
        service_key: row.service_key()?,
        number: row.number("number")?,
        newest: row.id()?,
        died_at: row.time("finished_at")?,
        reason: row.optional_text("reason")?,
    })
}

/// The part of the persisted metrics that is one row.
pub(super) fn last_times(row: &impl TypedRow) -> Result<PersistedMetrics, ColumnError> {
    Ok(PersistedMetrics {
        last_webhook_at: row.optional_time("last_webhook_at")?,
        last_delivered_at: row.optional_time("last_delivered_at")?,
        untrusted: row.optional_text("untrusted")?,
        ..PersistedMetrics::default()
    })
}

pub(super) fn signatures(row: &impl TypedRow) -> Result<SignatureRow, ColumnError> {
    Ok(SignatureRow {
        ended_at: None,
        number: row.number("number")?,
        first_at: row.optional_time("first_at")?,
        lasted: row.milliseconds("lasted_ms")?,
        senders: Senders::of_addresses(&row.text("senders")?, row.flag("more")?),
    })
}

pub(super) fn failing(row: &impl TypedRow) -> Result<(ServiceKey, Option<Failing>), ColumnError> {
    let kind = row.parsed("kind", OutcomeKind::parse)?;
    Ok((row.service_key()?, Some(Failing { kind, since: row.time("since")? })))
}

pub(super) fn bucket(row: &impl TypedRow) -> Result<Bucket, ColumnError> {
    Ok(Bucket {
        from: row.time("began_at")?,
        received: row.number("received")?,
        delivered: row.number("delivered")?,
        throttled: row.number("throttled")?,
        failed: row.number("failed")?,
    })
}

pub(super) fn outage_notice(row: &impl TypedRow) -> Result<OutageNotice, ColumnError> {
    Ok(OutageNotice { told_at: row.time("told_at")?, outage_since: row.optional_time("outage_since")? })
}

pub(super) fn canary(row: &impl TypedRow) -> Result<CanaryRecord, ColumnError> {
    let id = row.parsed("event_id", CanaryId::parse)?;
    let taken = match row.optional_flag("taken")? {
        None => None,
        Some(false) => Some(Err(row.optional_text("failure")?.unwrap_or_default())),
        Some(true) => Some(Ok(())),
    };
    Ok(CanaryRecord { id, sent_at: row.time("sent_at")?, taken, returned_at: row.optional_time("returned_at")? })
}

pub(super) fn proof(row: &impl TypedRow) -> Result<Proof, ColumnError> {
    Ok(Proof {
        event: row.id()?,
        service_key: row.service_key()?,
        state: row.parsed("state", |text| text.parse().ok())?,
        delivered_at: row.time("delivered_at")?,
        judged_at: row.time("judged_at")?,
        incident_number: row.optional_number("incident_number")?,
        incident_url: row.optional_text("incident_url")?,
        reason: row.optional_text("reason")?,
    })
}

pub(super) fn issue_note(row: &impl TypedRow) -> Result<IssueNote, ColumnError> {
    Ok(IssueNote {
        incident_key: row.incident_key()?,
        fired_at: row.optional_time("fired_at")?,
        seen_at: row.optional_time("seen_at")?,
    })
}

pub(super) fn catch_up_run(row: &impl TypedRow) -> Result<CatchUpRun, ColumnError> {
    Ok(CatchUpRun {
        until: row.time("until")?,
        ran_at: row.time("ran_at")?,
        found: row.number("found")?,
        enqueued: row.number("enqueued")?,
        reported: row.number("reported")?,
        summarized: row.number("summarized")?,
    })
}

pub(super) fn issue_update(row: &impl TypedRow) -> Result<IssueUpdate, ColumnError> {
    Ok(IssueUpdate {
        webhook_id: row.text("webhook_id")?,
        incident_key: row.incident_key()?,
        change: row.parsed("change", |text| text.parse().ok())?,
        happened_at: row.time("happened_at")?,
        received_at: row.time("received_at")?,
        attempts: row.number("attempts")?,
        next_attempt_at: row.time("next_attempt_at")?,
    })
}
