//! PagerDuty's responses, byte for byte where they were captured.
//!
//! Where a capture or a documented example exists, the function says so; the other texts are modelled on those, so do
//! not test for more than their status.

use std::time::Duration;

use actix_web::web::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use crate::api::EventsApiVersion;
use crate::faults::{CloseMode, FaultBody};
use crate::options::{Options, RetryAfter, ThrottleStatus};

const JSON: &str = "application/json; charset=utf-8";

/// With two spaces, as captured.
const THROTTLED: &str = "Requests for this service are arriving too quickly.  Please retry later.";

/// A response and how it is sent.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlannedResponse {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// Whether it says `Connection: close` and the connection ends after it.
    pub(crate) close: bool,
    pub(crate) delivery: SendMode,
}

/// How a response is sent.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum SendMode {
    /// At once and completely.
    Whole,
    /// Completely, after this time.
    Delayed(Duration),
    /// Completely, with this pause before each byte of its body.
    Dripped(Duration),
    /// Completely; the connection is closed after this time unless another request has arrived on it.
    IdleClose(Duration),
    /// Half of its body, then the connection is closed.
    Truncated,
    /// Not at all; the connection is closed after this time.
    Dropped(Duration),
    /// Not at all; the connection is reset.
    Reset,
}

impl SendMode {
    /// Whether a client sees the status.
    pub(crate) fn shows_status(self) -> bool {
        !matches!(self, Self::Dropped(_) | Self::Reset)
    }
}

impl From<CloseMode> for SendMode {
    fn from(cut: CloseMode) -> Self {
        match cut {
            CloseMode::Silent => Self::Dropped(Duration::ZERO),
            CloseMode::Reset => Self::Reset,
            CloseMode::Midway => Self::Truncated,
        }
    }
}

impl PlannedResponse {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::empty(status).with_header("content-type", content_type) }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), close: false, delivery: SendMode::Whole }
    }

    pub(crate) fn with_header(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }

    pub(crate) fn with_delivery(self, delivery: impl Into<SendMode>) -> Self {
        Self { delivery: delivery.into(), ..self }
    }
}

/// JSON text with its members in the order that the options ask for.
fn text(options: &Options, members: Value) -> String {
    match members {
        Value::Object(members) if options.reversed_keys => {
            Value::Object(members.into_iter().rev().collect::<Map<_, _>>()).to_string()
        }
        members => members.to_string(),
    }
}

fn json(options: &Options, status: u16, members: Value) -> PlannedResponse {
    PlannedResponse::new(status, JSON, text(options, members))
}

pub(crate) fn success(options: &Options, api: EventsApiVersion, incident_key: &str) -> PlannedResponse {
    let mut members = json!({"status": "success", "message": "Event processed"});
    members[api.incident_member()] = incident_key.into();
    json(options, api.success_status(), members)
}

pub(crate) fn invalid(options: &Options, errors: &[String]) -> PlannedResponse {
    let members = json!({"status": "invalid event", "message": "Event object is invalid", "errors": errors});
    json(options, 400, members)
}

/// For a body that is not a JSON object. Captured from v1 in June 2023: 110 bytes.
pub(crate) fn not_json(options: &Options) -> PlannedResponse {
    let members = json!({
        "errors": ["JSON parse error"],
        "message": "Event object format is unrecognized",
        "status": "Unrecognized object",
    });
    json(options, 400, members)
}

/// With 403 as captured in 2014: 115 bytes of JSON declared as plain text, and the connection is closed.
pub(crate) fn throttled(
    options: &Options,
    status: ThrottleStatus,
    retry_after: Option<RetryAfter>,
    now: DateTime<Utc>,
) -> PlannedResponse {
    let mut members = json!({"status": "throttle exceeded", "message": THROTTLED});
    if status == ThrottleStatus::TooManyRequests {
        members["errors"] = json!(["Enhance Your Calm."]);
    }
    let response =
        PlannedResponse { close: true, ..PlannedResponse::new(status.into(), "text/plain", text(options, members)) };
    match retry_after {
        None => response,
        Some(RetryAfter::Seconds(seconds)) => response.with_header("retry-after", seconds.to_string()),
        Some(RetryAfter::HttpDate(seconds)) => {
            let date = now + TimeDelta::seconds(seconds.into());
            response.with_header("retry-after", httpdate::fmt_http_date(date.into()))
        }
    }
}

pub(crate) fn not_found(options: &Options) -> PlannedResponse {
    json(options, 404, json!({"status": "not found"}))
}

pub(crate) fn method_not_allowed(options: &Options) -> PlannedResponse {
    let message = "You must use HTTP POST to submit your event";
    json(options, 405, json!({"status": "invalid method", "message": message})).with_header("allow", "POST")
}

/// Captured from v2.
pub(crate) fn unknown_key() -> PlannedResponse {
    PlannedResponse::new(400, "text/plain", "Invalid routing key")
}

/// An error of PagerDuty itself, in the form that its API schema defines for such errors.
pub(crate) fn error(options: &Options, status: u16) -> PlannedResponse {
    json(options, status, json!({"status": "error", "message": format!("The sandbox was told to answer {status}")}))
}

/// The response of [`Fault::Answer`](crate::Fault::Answer), without the headers that the fault adds.
pub(crate) fn of_fault(options: &Options, status: u16, body: &FaultBody) -> PlannedResponse {
    match body {
        FaultBody::Json if status == 400 => invalid(options, &["The sandbox was told to refuse this event".to_owned()]),
        FaultBody::Json => error(options, status),
        FaultBody::Html => {
            let page = format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n");
            PlannedResponse::new(status, "text/html", page)
        }
        FaultBody::Empty => PlannedResponse::empty(status),
        FaultBody::Garbage => PlannedResponse::new(status, "application/json", &b"\xff\x00\xfe{<"[..]),
        FaultBody::Truncated => {
            PlannedResponse::new(status, "application/json", r#"{"status":"success","message":"Event pro"#)
        }
        FaultBody::NotSuccess => {
            let members = json!({"status": "warning", "message": "Event processed, more or less"});
            PlannedResponse::new(status, "application/json", members.to_string())
        }
        FaultBody::Text(text) => PlannedResponse::new(status, "text/plain", text.clone()),
        FaultBody::Filler(length) => PlannedResponse::new(status, "text/plain", vec![b'.'; *length]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captured_answers_are_as_long_as_they_were() {
        let options = Options::default();
        assert_eq!(not_json(&options).body.len(), 110);
        let throttled = throttled(&options, ThrottleStatus::Forbidden, None, DateTime::UNIX_EPOCH);
        assert_eq!((throttled.body.len(), throttled.close), (115, true));
    }

    #[test]
    fn reversing_an_answer_changes_its_text_and_not_its_meaning() {
        let reversed = Options { reversed_keys: true, ..Options::default() };
        let (one, other) =
            (success(&Options::default(), EventsApiVersion::V1, "42"), success(&reversed, EventsApiVersion::V1, "42"));
        assert_ne!(one.body, other.body);
        let read = |response: &PlannedResponse| serde_json::from_slice::<Value>(&response.body).unwrap();
        assert_eq!(read(&one), read(&other));
    }

    #[test]
    fn a_date_to_come_back_at_is_written_as_http_wants_it() {
        let retry_after = Some(RetryAfter::HttpDate(90));
        let response =
            throttled(&Options::default(), ThrottleStatus::TooManyRequests, retry_after, DateTime::UNIX_EPOCH);
        let written = ("retry-after".to_owned(), "Thu, 01 Jan 1970 00:01:30 GMT".to_owned());
        assert!(response.headers.contains(&written), "{response:?}");
    }
}
