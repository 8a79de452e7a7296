//! How the sandbox can be told to misbehave.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::web::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::answers::{Answer, Answers};
use crate::millis;
use crate::options::{RetryAfter, ThrottleStatus};
use crate::state::EventType;

/// The largest body a fault may send, in bytes.
const MAX_FILLER: usize = 64 << 20;

/// A fault, the requests it happens to and how often.
///
/// Several rules may stand at once: each counts the requests in its scope, and the first that is due acts. Rules that
/// name a key or an event type never act on a body that is no JSON object.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct FaultRule {
    /// Only events of this integration key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_key: Option<String>,
    /// Only events of this incident key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident_key: Option<String>,
    /// Only events of this type.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_type: Option<EventType>,
    /// Only requests on a connection that has carried one before. With [`Fault::Close`] this is what a client sees
    /// that writes to a kept-alive connection in the moment when it is closed.
    #[serde(default)]
    pub reused_connection: bool,
    /// The first request in scope that it happens to, counted from 1.
    #[serde(default = "first")]
    pub from: u64,
    /// How many requests it happens to; `None`: all, until it is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// How long it lasts after it was added; `None`: until it is cleared.
    #[serde(default, rename = "for_ms", with = "millis::option", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Duration>,
    /// What happens.
    pub fault: Fault,
}

impl FaultRule {
    /// `fault`, for every request until it is cleared.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self {
            service_key: None,
            incident_key: None,
            event_type: None,
            reused_connection: false,
            from: first(),
            times: None,
            lasts: None,
            fault,
        }
    }

    /// The same, for so many requests.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }
}

impl From<Fault> for FaultRule {
    fn from(fault: Fault) -> Self {
        Self::new(fault)
    }
}

fn first() -> u64 {
    1
}

/// What goes wrong.
///
/// "Applied" means: the event went through the whole pipeline and changed its incident. An event that the pipeline
/// refuses is answered so whatever the fault, unless the fault comes before the pipeline.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Another answer: an error, a redirect, or a success that does not read like one.
    Answer {
        /// Its status, 200 to 599.
        status: u16,
        /// Its body.
        #[serde(default)]
        body: Body,
        /// Further headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Whether the event is applied first; otherwise nobody even looks at it.
        #[serde(default)]
        apply: bool,
    },
    /// The answer of the rate limit, whatever the rate; the event is not looked at.
    Throttled {
        /// 403 or 429.
        status: ThrottleStatus,
        /// When to come back.
        #[serde(default)]
        retry_after: Option<RetryAfter>,
    },
    /// Events that PagerDuty would refuse with 400 are answered 500, as on 2021-04-23; valid ones pass.
    #[serde(rename = "invalid_as_500")]
    InvalidAs500,
    /// Success is answered and nothing happens.
    SilentDrop,
    /// The connection ends instead of an answer, or within it.
    Close {
        /// Whether the event is applied first.
        #[serde(default)]
        apply: bool,
        /// How the connection ends.
        #[serde(default)]
        cut: Cut,
    },
    /// The event is applied at once and answered late.
    Delay {
        /// How late; at most ten minutes.
        #[serde(rename = "ms", with = "millis")]
        by: Duration,
    },
    /// The event is not looked at and never answered; the connection ends after this time, at most ten minutes.
    Hang {
        /// How long.
        #[serde(rename = "ms", with = "millis")]
        lasts: Duration,
    },
    /// The event is applied at once, and the body of its answer comes byte by byte.
    Drip {
        /// The pause before each byte.
        #[serde(rename = "ms", with = "millis")]
        pause: Duration,
    },
    /// The connection ends without an answer, and the event is applied later: the copy that was lost in the net and
    /// still arrives.
    Late {
        /// When it is applied.
        until: Until,
        /// How long the connection hangs before it ends; at most ten minutes.
        #[serde(default, rename = "hang_ms", with = "millis")]
        hang: Duration,
    },
    /// All goes well, and then the connection ends unannounced when it has been idle for so long.
    CloseIdle {
        /// How long.
        #[serde(rename = "ms", with = "millis")]
        after: Duration,
    },
}

impl Fault {
    /// An error of PagerDuty's own with a JSON body.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer { status, body: Body::Json, headers: BTreeMap::new(), apply: false }
    }

    /// A redirect to `location`.
    #[must_use]
    pub fn redirect(status: u16, location: &str) -> Self {
        let headers = BTreeMap::from([("location".to_owned(), location.to_owned())]);
        Self::Answer { status, body: Body::Empty, headers, apply: false }
    }

    /// A success whose body is `body`.
    #[must_use]
    pub fn success(status: u16, body: Body) -> Self {
        Self::Answer { status, body, headers: BTreeMap::new(), apply: true }
    }

    /// Says what in it HTTP cannot carry.
    pub(crate) fn check(&self) -> Result<(), FaultError> {
        let Self::Answer { status, body, headers, .. } = self else { return Ok(()) };
        if !(200..600).contains(status) || StatusCode::from_u16(*status).is_err() {
            return Err(FaultError::Status(*status));
        }
        if matches!(body, Body::Filler(length) if *length > MAX_FILLER) {
            return Err(FaultError::Filler);
        }
        for (name, value) in headers {
            if HeaderName::from_bytes(name.as_bytes()).is_err() || HeaderValue::from_str(value).is_err() {
                return Err(FaultError::Header(name.clone()));
            }
        }
        Ok(())
    }
}

/// Why a fault cannot be.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// Not a status of an answer.
    #[error("{0} is not the status of an answer; give one from 200 to 599")]
    Status(u16),
    /// Not a header.
    #[error("the header {0:?} has a name or a value that HTTP does not allow")]
    Header(String),
    /// Too much.
    #[error("a filler may have {MAX_FILLER} bytes at most")]
    Filler,
}

/// The body of an [`Answer`](Fault::Answer).
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Body {
    /// What PagerDuty's JSON would look like.
    #[default]
    Json,
    /// A proxy's page.
    Html,
    /// Nothing.
    Empty,
    /// Bytes that are no text.
    Garbage,
    /// Success, cut off in the middle; the length is told rightly.
    Truncated,
    /// JSON of the right shape whose `status` is not `success`.
    NotSuccess,
    /// This text.
    Text(String),
    /// So many bytes of nothing in particular, at most 64 MiB.
    Filler(usize),
}

impl Body {
    pub(crate) fn answer(&self, status: u16, answers: Answers) -> Answer {
        let text = |content_type: &str, body: Vec<u8>| Answer::new(status, content_type, body);
        match self {
            Self::Json if status == 400 => answers.invalid(&["The sandbox was told to refuse this event".to_owned()]),
            Self::Json => answers.trouble(status),
            Self::Html => {
                let page = format!("<html><head><title>{status}</title></head><body><h1>{status}</h1></body></html>\n");
                text("text/html", page.into_bytes())
            }
            Self::Empty => Answer::empty(status),
            Self::Garbage => text("application/json", vec![0xff, 0x00, 0xfe, b'{', b'<']),
            Self::Truncated => text("application/json", br#"{"status":"success","message":"Event pro"#.to_vec()),
            Self::NotSuccess => {
                let members = json!({"status": "warning", "message": "Event processed, more or less"});
                text("application/json", members.to_string().into_bytes())
            }
            Self::Text(body) => text("text/plain", body.clone().into_bytes()),
            Self::Filler(length) => Answer { body: Bytes::from(vec![b'.'; *length]), ..text("text/plain", Vec::new()) },
        }
    }
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// In order, before the first byte of an answer.
    #[default]
    Silent,
    /// By a TCP reset, before the first byte of an answer.
    Reset,
    /// In the middle of the answer's body.
    Midway,
}

/// When a [`Late`](Fault::Late) event is applied. Each can be hurried along by
/// [`Sandbox::release_held`](crate::Sandbox::release_held).
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Right after the next event that resolves its incident.
    Resolved,
    /// After so many milliseconds.
    Ms(u64),
    /// When [`Sandbox::release_held`](crate::Sandbox::release_held) or `POST /held/release` says so.
    Released,
}
