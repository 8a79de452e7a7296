//! PagerDuty's answers, byte for byte where they were captured.

use actix_web::web::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use serde_json::{Map, Value, json};

use crate::options::{RetryAfter, ThrottleStatus};

const JSON: &str = "application/json; charset=utf-8";

/// Two blanks, as captured.
const SLOWER: &str = "Requests for this service are arriving too quickly.  Please retry later.";

/// A whole answer, before anybody decides how it travels.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Bytes,
    /// Whether it says `Connection: close`, and means it.
    pub(crate) close: bool,
}

impl Answer {
    pub(crate) fn new(status: u16, content_type: &str, body: impl Into<Bytes>) -> Self {
        let headers = vec![("content-type".to_owned(), content_type.to_owned())];
        Self { status, headers, body: body.into(), close: false }
    }

    pub(crate) fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Bytes::new(), close: false }
    }

    fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.to_owned(), value.into()));
        self
    }
}

/// Writes answers with their members in one order or the other.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Answers {
    pub(crate) reversed: bool,
}

impl Answers {
    fn write(self, members: Value) -> String {
        match members {
            Value::Object(members) if self.reversed => {
                Value::Object(members.into_iter().rev().collect::<Map<_, _>>()).to_string()
            }
            members => members.to_string(),
        }
    }

    fn json(self, status: u16, members: Value) -> Answer {
        Answer::new(status, JSON, self.write(members))
    }

    pub(crate) fn success(self, incident_key: &str) -> Answer {
        self.json(200, json!({"status": "success", "message": "Event processed", "incident_key": incident_key}))
    }

    pub(crate) fn invalid(self, errors: &[String]) -> Answer {
        self.json(400, json!({"status": "invalid event", "message": "Event object is invalid", "errors": errors}))
    }

    /// Captured on the v1 address in June 2023: 110 bytes.
    pub(crate) fn unreadable(self) -> Answer {
        let members = json!({
            "errors": ["JSON parse error"],
            "message": "Event object format is unrecognized",
            "status": "Unrecognized object",
        });
        self.json(400, members)
    }

    /// With 403 as captured in 2014: 115 bytes of JSON that call themselves text, and the connection ends.
    pub(crate) fn throttled(
        self,
        status: ThrottleStatus,
        retry_after: Option<RetryAfter>,
        now: DateTime<Utc>,
    ) -> Answer {
        let mut members = json!({"status": "throttle exceeded", "message": SLOWER});
        if status == ThrottleStatus::TooManyRequests {
            members["errors"] = json!(["Enhance Your Calm."]);
        }
        let mut answer = Answer::new(status.into(), "text/plain", self.write(members));
        answer.close = true;
        match retry_after {
            None => answer,
            Some(RetryAfter::Seconds(seconds)) => answer.with("retry-after", seconds.to_string()),
            Some(RetryAfter::HttpDate(seconds)) => {
                let date = now + TimeDelta::seconds(seconds.into());
                answer.with("retry-after", date.format("%a, %d %b %Y %H:%M:%S GMT").to_string())
            }
        }
    }

    pub(crate) fn not_found(self) -> Answer {
        self.json(404, json!({"status": "not found"}))
    }

    pub(crate) fn invalid_method(self) -> Answer {
        let message = "You must use HTTP POST to submit your event";
        self.json(405, json!({"status": "invalid method", "message": message})).with("allow", "POST")
    }

    pub(crate) fn unknown_key() -> Answer {
        Answer::new(400, "text/plain", "Invalid routing key")
    }

    /// The shape PagerDuty's schema gives an answer that is nobody's fault but its own.
    pub(crate) fn trouble(self, status: u16) -> Answer {
        let members = json!({"status": "error", "message": format!("The sandbox was told to answer {status}")});
        self.json(status, members)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Answers = Answers { reversed: false };

    #[test]
    fn captured_answers_are_as_long_as_they_were() {
        assert_eq!(PLAIN.unreadable().body.len(), 110);
        let throttled = PLAIN.throttled(ThrottleStatus::Forbidden, None, DateTime::UNIX_EPOCH);
        assert_eq!((throttled.body.len(), throttled.close), (115, true));
    }

    #[test]
    fn reversing_an_answer_changes_its_text_and_not_its_meaning() {
        let (one, other) = (PLAIN.success("42"), Answers { reversed: true }.success("42"));
        assert_ne!(one.body, other.body);
        let read = |answer: &Answer| serde_json::from_slice::<Value>(&answer.body).unwrap();
        assert_eq!(read(&one), read(&other));
    }

    #[test]
    fn a_date_to_come_back_at_is_written_as_http_wants_it() {
        let retry_after = Some(RetryAfter::HttpDate(90));
        let answer = PLAIN.throttled(ThrottleStatus::TooManyRequests, retry_after, DateTime::UNIX_EPOCH);
        let written = ("retry-after".to_owned(), "Thu, 01 Jan 1970 00:01:30 GMT".to_owned());
        assert!(answer.headers.contains(&written), "{answer:?}");
    }
}
