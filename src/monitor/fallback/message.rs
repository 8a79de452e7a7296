//! The messages to the fallback webhook: JSON with a `text` for people, as Slack, Mattermost, Rocket.Chat and others
//! accept it, and fields for programs.

use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};
use humantime::format_duration;
use serde::Serialize;
use serde_json::json;

use super::outage::Outage;
use crate::monitor::snapshot::Snapshot;

/// The maximum length of a text, in characters.
const MAX_TEXT: usize = 2_000;

/// A message.
#[derive(Clone, Debug, Serialize)]
pub struct Message {
    text: String,
    /// `outage`, `over` or `test`.
    status: &'static str,
    /// The name of the machine.
    host: String,
    version: &'static str,
    at: String,
    /// `untrusted`, `unreachable` or `waiting`.
    #[serde(skip_serializing_if = "Option::is_none")]
    cause: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sentence: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// How many events wait; left out where it is not known.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    last_delivered_at: Option<String>,
}

impl Message {
    /// The message that PagerDuty takes no events.
    pub(super) fn outage(outage: &Outage, snapshot: &Snapshot) -> Self {
        let waiting = waiting(snapshot);
        let told = format!(
            "alerts do not reach PagerDuty: {}. {}Look in Sentry for new alerts until this is over.",
            outage.sentence.trim_end_matches('.'),
            waiting.filter(|waiting| *waiting > 0).map_or(String::new(), |waiting| {
                format!("{}, and will be delivered once PagerDuty takes them. ", events(waiting))
            }),
        );
        Self {
            cause: Some(outage.cause.into()),
            sentence: Some(outage.sentence.clone()),
            since: Some(time(outage.since)),
            ..Self::new("outage", &told, snapshot.at).with_counts(snapshot)
        }
    }

    /// The message that an outage is over. `since`: when it began, if that is known.
    pub(super) fn over(since: Option<DateTime<Utc>>, snapshot: &Snapshot) -> Self {
        let lasted = since.and_then(|since| (snapshot.at - since).to_std().ok());
        let lasted = lasted.map_or(String::new(), |lasted| {
            format!(" after {}", format_duration(Duration::from_secs(lasted.as_secs())))
        });
        let has_delivered = since.is_none_or(|since| snapshot.metrics.last_delivered_at > Some(since));
        let what = match waiting(snapshot) {
            _ if !has_delivered => "no event waits for PagerDuty any longer".to_owned(),
            Some(0) | None => "PagerDuty takes events again".to_owned(),
            Some(waiting) => format!("PagerDuty takes events again; {}", events(waiting)),
        };
        let told = format!("over{lasted}: {what}.");
        Self { since: since.map(time), ..Self::new("over", &told, snapshot.at).with_counts(snapshot) }
    }

    /// A test message, which says that nothing is wrong.
    #[must_use]
    pub fn test(at: DateTime<Utc>) -> Self {
        Self::new("test", "this is a test of BRIDGE_FALLBACK_URL by `check --page`; nothing is wrong.", at)
    }

    fn new(status: &'static str, told: &str, at: DateTime<Utc>) -> Self {
        let host = host();
        Self {
            text: for_chat(&format!("sentry-pagerduty-bridge on {host}: {told}")),
            status,
            host,
            version: env!("CARGO_PKG_VERSION"),
            at: time(at),
            cause: None,
            sentence: None,
            since: None,
            waiting: None,
            last_delivered_at: None,
        }
    }

    fn with_counts(self, snapshot: &Snapshot) -> Self {
        Self { waiting: waiting(snapshot), last_delivered_at: snapshot.metrics.last_delivered_at.map(time), ..self }
    }

    /// Serializes the whole message.
    pub(super) fn json(&self) -> Vec<u8> {
        // Writing texts and numbers into memory cannot fail.
        serde_json::to_vec(self).unwrap_or_default()
    }

    /// Serializes the text alone, for tools that reject unknown fields, such as Google Chat.
    pub(super) fn text_json(&self) -> Vec<u8> {
        json!({ "text": self.text }).to_string().into_bytes()
    }
}

fn waiting(snapshot: &Snapshot) -> Option<u64> {
    snapshot.queue.as_ref().ok().map(|queue| queue.waiting)
}

fn events(waiting: u64) -> String {
    match waiting {
        1 => "1 event is waiting".to_owned(),
        waiting => format!("{waiting} events are waiting"),
    }
}

fn time(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn host() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}

/// Makes a text safe for chat tools: it may contain part of a server's response, which must neither mention anybody nor
/// become a link or markup.
fn for_chat(text: &str) -> String {
    let mut safe = String::new();
    for character in text.chars().take(MAX_TEXT) {
        match character {
            '<' => safe.push('('),
            '>' => safe.push(')'),
            '@' => safe.push_str("(at)"),
            control if control.is_control() => safe.push(' '),
            other => safe.push(other),
        }
    }
    safe
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_server_answered_mentions_nobody_in_a_chat() {
        let text = for_chat("answered 503: <!channel> @all\u{7}\n<https://example.com|look>");
        assert_eq!(text, "answered 503: (!channel) (at)all  (https://example.com|look)");
        assert_eq!(for_chat(&"x".repeat(3_000)).len(), MAX_TEXT);
    }

    #[test]
    fn a_test_has_a_text_and_members_and_the_text_alone_where_that_is_all_that_is_taken() {
        let message = Message::test(DateTime::UNIX_EPOCH);
        let json: serde_json::Value = serde_json::from_slice(&message.json()).unwrap();
        assert_eq!((&json["status"], &json["at"]), (&json!("test"), &json!("1970-01-01T00:00:00Z")));
        assert!(json["text"].as_str().unwrap().ends_with("nothing is wrong."), "{json}");
        assert!(json.get("cause").is_none() && json.get("waiting").is_none(), "{json}");
        let alone: serde_json::Value = serde_json::from_slice(&message.text_json()).unwrap();
        assert_eq!(alone, json!({ "text": json["text"] }));
    }
}
