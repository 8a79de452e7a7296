//! Faults, the rules that say which requests they happen to, and which of the rules is due.

use std::collections::BTreeMap;
use std::time::Duration;

use actix_web::http::StatusCode;
use actix_web::http::header::{HeaderName, HeaderValue};
use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::api::EventsApiVersion;
use crate::incidents::EventType;
use crate::options::{RetryAfter, ThrottleStatus, millis};

/// The largest [`FaultBody::Filler`], in bytes.
const MAX_FILLER: usize = 64 << 20;

/// A fault, the requests that it happens to, and how often.
///
/// Several rules can be active. Each counts the requests in its scope; of those that are due, the one added first acts.
/// A rule for a key or an event type never acts on a body that is not a JSON object.
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
    /// Only requests that are not the first on their connection. With [`Fault::Close`], the client sees the same as when a
    /// server closes a kept-alive connection just as the client reuses it.
    #[serde(default)]
    pub reused_connection: bool,
    /// The first request in its scope that it acts on, counted from 1.
    #[serde(default = "first")]
    pub from: u64,
    /// How many requests it acts on; `None`: all until it is cleared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub times: Option<u64>,
    /// How long it is active after it was added; `None`: until it is cleared.
    #[serde(default, rename = "for_ms", with = "millis::option", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<Duration>,
    /// What happens.
    pub fault: Fault,
}

impl FaultRule {
    /// `fault` for every request, until the rule is cleared.
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

    /// The same rule for this many requests.
    #[must_use]
    pub fn times(self, times: u64) -> Self {
        Self { times: Some(times), ..self }
    }

    /// Whether a request is in scope. `members` are the fields of its body, if that is a JSON object.
    fn applies_to(&self, api: EventsApiVersion, members: Option<&Map<String, Value>>, reused_connection: bool) -> bool {
        let service_key = || members.and_then(|members| api.service_key(members));
        let incident_key = || members.and_then(|members| api.incident_key(members));
        let event_type = || members.and_then(|members| api.event_type(members)).and_then(EventType::parse);
        self.service_key.as_deref().is_none_or(|key| service_key() == Some(key))
            && self.incident_key.as_deref().is_none_or(|key| incident_key() == Some(key))
            && self.event_type.is_none_or(|wanted| event_type() == Some(wanted))
            && (reused_connection || !self.reused_connection)
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
/// An event is *applied* when it has passed all checks and its incident is changed. A fault that does not look at the
/// event happens before the checks. With any other fault, an event that fails the checks gets PagerDuty's usual error.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Fault {
    /// Another response: an error, a redirect, or a success with an unusual body.
    Answer {
        /// Its status, 200 to 599.
        status: u16,
        /// Its body.
        #[serde(default)]
        body: FaultBody,
        /// Additional headers.
        #[serde(default)]
        headers: BTreeMap<String, String>,
        /// Whether the event is applied first; otherwise it is not looked at.
        #[serde(default)]
        apply: bool,
    },
    /// The response of the rate limit, whatever the rate. The event is not looked at.
    Throttled {
        /// 403 or 429.
        status: ThrottleStatus,
        /// The `Retry-After` header.
        #[serde(default)]
        retry_after: Option<RetryAfter>,
    },
    /// Invalid events are answered with 500 instead of 400, as by PagerDuty on 2021-04-23. Valid ones are not affected.
    #[serde(rename = "invalid_as_500")]
    InvalidAs500,
    /// The event is answered with success and not applied.
    SilentDrop,
    /// The connection is closed before or within the response.
    Close {
        /// Whether the event is applied first; otherwise it is not looked at.
        #[serde(default)]
        apply: bool,
        /// How the connection is closed.
        #[serde(default)]
        cut: CloseMode,
    },
    /// The event is applied at once, and the response comes late.
    Delay {
        /// How late; at most ten minutes.
        #[serde(rename = "ms", with = "millis")]
        by: Duration,
    },
    /// The event is not looked at, there is no response, and after a time the connection is closed.
    Hang {
        /// After how long; at most ten minutes.
        #[serde(rename = "ms", with = "millis")]
        lasts: Duration,
    },
    /// The event is applied at once, and the body of the response comes byte by byte.
    Drip {
        /// The pause before each byte; at most ten minutes.
        #[serde(rename = "ms", with = "millis")]
        pause: Duration,
    },
    /// There is no response, and the event is applied later, like a copy of an event that the network delays until the
    /// client has timed out and sent it again.
    Late {
        /// When it is applied.
        until: Until,
        /// After how long the connection is closed; at most ten minutes.
        #[serde(default, rename = "hang_ms", with = "millis")]
        hang: Duration,
    },
    /// The response is the usual one, and the connection is closed without notice when it has been idle for a time.
    CloseIdle {
        /// For how long; at most ten minutes.
        #[serde(rename = "ms", with = "millis")]
        after: Duration,
    },
}

impl Fault {
    /// An error with PagerDuty's JSON body. The event is not looked at.
    #[must_use]
    pub fn status(status: u16) -> Self {
        Self::Answer { status, body: FaultBody::Json, headers: BTreeMap::new(), apply: false }
    }

    /// A redirect to `location`. The event is not looked at.
    #[must_use]
    pub fn redirect(status: u16, location: &str) -> Self {
        let headers = BTreeMap::from([("location".to_owned(), location.to_owned())]);
        Self::Answer { status, body: FaultBody::Empty, headers, apply: false }
    }

    /// A success with another body. The event is applied.
    #[must_use]
    pub fn success(status: u16, body: FaultBody) -> Self {
        Self::Answer { status, body, headers: BTreeMap::new(), apply: true }
    }

    /// Returns an error if the response that is asked for is not possible.
    pub(crate) fn check(&self) -> Result<(), FaultError> {
        let Self::Answer { status, body, headers, .. } = self else { return Ok(()) };
        if !(200..600).contains(status) || StatusCode::from_u16(*status).is_err() {
            return Err(FaultError::Status(*status));
        }
        if matches!(body, FaultBody::Filler(length) if *length > MAX_FILLER) {
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

/// Why a fault was not added.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// Not the status of a response.
    #[error("{0} is not the status of an answer; give one from 200 to 599")]
    Status(u16),
    /// Not a valid header.
    #[error("the header {0:?} has a name or a value that HTTP does not allow")]
    Header(String),
    /// More than the largest filler.
    #[error("a filler may have at most {MAX_FILLER} bytes")]
    Filler,
}

/// The body of [`Fault::Answer`].
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum FaultBody {
    /// The JSON of PagerDuty's errors.
    #[default]
    Json,
    /// A proxy's error page.
    Html,
    /// Nothing.
    Empty,
    /// Bytes that are not UTF-8, declared as JSON.
    Garbage,
    /// The JSON of a success, cut off in the middle. `Content-Length` fits what is sent.
    Truncated,
    /// JSON like that of a success, but with a `status` that is not `success`.
    NotSuccess,
    /// This text.
    Text(String),
    /// This many bytes of plain text, at most 64 MiB.
    Filler(usize),
}

/// How [`Fault::Close`] closes the connection.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum CloseMode {
    /// Normally, before the first byte of a response.
    #[default]
    Silent,
    /// With a TCP reset, before the first byte of a response.
    Reset,
    /// In the middle of the response's body.
    Midway,
}

/// When an event that [`Fault::Late`] holds is applied. [`Sandbox::release_held`](crate::Sandbox::release_held) applies
/// it earlier.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Until {
    /// Right after the next event that resolves its incident.
    Resolved,
    /// After this many milliseconds.
    Ms(u64),
    /// With [`Sandbox::release_held`](crate::Sandbox::release_held) or `POST /held/release`.
    Released,
}

/// An active rule and its counts.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StandingRule {
    /// Its number, by which it can be cleared.
    pub id: u64,
    /// The rule.
    pub rule: FaultRule,
    /// How many requests were in its scope.
    pub seen: u64,
    /// How many requests it acted on.
    pub acted: u64,
    #[serde(skip)]
    ends: Option<DateTime<Utc>>,
}

/// The active rules, in the order in which they were added.
#[derive(Debug, Default)]
pub(crate) struct FaultRules {
    rules: Vec<StandingRule>,
    added: u64,
}

impl FaultRules {
    /// Adds a rule and returns its number.
    pub(crate) fn add(&mut self, rule: FaultRule, now: DateTime<Utc>) -> u64 {
        self.added += 1;
        let ends = rule.lasts.and_then(|lasts| now.checked_add_signed(TimeDelta::from_std(lasts).ok()?));
        self.rules.push(StandingRule { id: self.added, rule, seen: 0, acted: 0, ends });
        self.added
    }

    /// Removes one rule, or all.
    pub(crate) fn clear(&mut self, id: Option<u64>) {
        self.rules.retain(|standing| id.is_some_and(|id| standing.id != id));
    }

    pub(crate) fn all(&self) -> &[StandingRule] {
        &self.rules
    }

    /// Counts a request and returns the fault that happens to it. Rules that have ended are removed.
    pub(crate) fn next(
        &mut self,
        api: EventsApiVersion,
        members: Option<&Map<String, Value>>,
        reused_connection: bool,
        now: DateTime<Utc>,
    ) -> Option<Fault> {
        self.rules.retain(|standing| standing.ends.is_none_or(|ends| now < ends));
        let mut due = None;
        for standing in &mut self.rules {
            if !standing.rule.applies_to(api, members, reused_connection) {
                continue;
            }
            standing.seen += 1;
            if due.is_none() && standing.seen >= standing.rule.from {
                standing.acted += 1;
                due = Some(standing.rule.fault.clone());
            }
        }
        self.rules.retain(|standing| standing.rule.times.is_none_or(|times| standing.acted < times));
        due
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn active(rules: impl IntoIterator<Item = FaultRule>) -> FaultRules {
        let mut active = FaultRules::default();
        for rule in rules {
            active.add(rule, DateTime::UNIX_EPOCH);
        }
        active
    }

    /// The fault that happens to a request at `now` to which only rules without a scope apply.
    fn next(rules: &mut FaultRules, now: DateTime<Utc>) -> Option<Fault> {
        rules.next(EventsApiVersion::V1, None, false, now)
    }

    #[test]
    fn a_rule_acts_from_its_first_request_on_and_as_often_as_it_says() {
        let mut rules = active([FaultRule { from: 2, ..FaultRule::new(Fault::SilentDrop).times(2) }]);
        let acted: Vec<_> = (0..5).map(|_| next(&mut rules, DateTime::UNIX_EPOCH).is_some()).collect();
        assert_eq!(acted, [false, true, true, false, false]);
        assert!(rules.all().is_empty());
    }

    #[test]
    fn a_rule_that_has_gone_on_long_enough_ends() {
        let lasts = Some(Duration::from_secs(5));
        let mut rules = active([FaultRule { lasts, ..Fault::SilentDrop.into() }]);
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        assert!(next(&mut rules, at(4)).is_some());
        assert!(next(&mut rules, at(5)).is_none());
    }

    #[test]
    fn the_first_rule_that_is_due_acts_and_the_others_still_count() {
        let mut rules = active([FaultRule::new(Fault::SilentDrop).times(1), Fault::InvalidAs500.into()]);
        assert_eq!(next(&mut rules, DateTime::UNIX_EPOCH), Some(Fault::SilentDrop));
        assert_eq!((rules.all()[0].seen, rules.all()[0].acted), (1, 0));
        assert_eq!(next(&mut rules, DateTime::UNIX_EPOCH), Some(Fault::InvalidAs500));
    }

    #[test]
    fn a_rule_acts_on_nothing_outside_its_scope() {
        let narrow = FaultRule {
            service_key: Some("K".to_owned()),
            incident_key: Some("42".to_owned()),
            event_type: Some(EventType::Resolve),
            reused_connection: true,
            ..Fault::SilentDrop.into()
        };
        let inside = json!({"service_key": "K", "incident_key": "42", "event_type": "resolve"});
        let mut cases = vec![(inside.clone(), true, true), (inside.clone(), false, false), (json!({}), true, false)];
        for member in ["service_key", "incident_key", "event_type"] {
            let mut outside = inside.clone();
            outside[member] = json!("trigger");
            cases.push((outside, true, false));
        }
        for (members, reused_connection, acts) in cases {
            let due = active([narrow.clone()]).next(
                EventsApiVersion::V1,
                members.as_object(),
                reused_connection,
                DateTime::UNIX_EPOCH,
            );
            assert_eq!(due.is_some(), acts, "{members} {reused_connection}");
        }
    }
}
