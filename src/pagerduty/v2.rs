//! PagerDuty's Events API v2.
//!
//! Source: PagerDuty's pages "Events API v2: Overview" and "Send an alert event", and its OpenAPI description.

use super::event::{Event, EventAction, Trigger};
use super::events_api::{Cut, EventWriter, EventsApi, Rendered};
use super::fit::{FieldNames, fit};

/// The Events API v2.
#[derive(Clone, Copy, Debug)]
pub struct V2;

const NAMES: FieldNames = FieldNames { description: "summary", details: "custom_details", links: "links" };

/// The format of times, as in PagerDuty's samples.
const TIMESTAMP: &str = "%Y-%m-%dT%H:%M:%S%.3f+0000";

impl EventsApi for V2 {
    fn path(&self) -> &'static str {
        "/v2/enqueue"
    }

    fn key_member(&self) -> &'static str {
        "routing_key"
    }

    /// An acknowledge or resolve carries only the key: this API has no field for a message.
    fn render(&self, event: &Event) -> Rendered {
        match &event.action {
            EventAction::Trigger(trigger) => {
                let mut rendered = fit(NAMES, trigger, |trigger| render_trigger(event, trigger));
                let lines = trigger.v2_fields.lines();
                rendered.cuts.extend(lines.filter_map(|(member, line)| Cut::line(member, line)));
                rendered
            }
            EventAction::Acknowledge(_) | EventAction::Resolve(_) => begin(event).finish(),
        }
    }
}

/// Begins the JSON with the fields that every event has.
fn begin(event: &Event) -> EventWriter {
    let mut json = EventWriter::new();
    json.member(V2.key_member(), &event.destination.service_key);
    json.member("event_action", event.event_type().as_str());
    json.member("dedup_key", &event.incident_key);
    json
}

/// `trigger` is the event's trigger, or a shortened copy of it.
fn render_trigger(event: &Event, trigger: &Trigger) -> Rendered {
    let mut json = begin(event);
    json.object("payload", |payload| {
        payload.member("summary", &trigger.description);
        payload.member("severity", &trigger.severity);
        if let Some(at) = trigger.v2_fields.occurred_at {
            payload.member("timestamp", &at.format(TIMESTAMP).to_string());
        }
        for (name, line) in trigger.v2_fields.lines() {
            payload.member(name, line);
        }
        payload.details("custom_details", &trigger.details);
    });
    if !trigger.links.is_empty() {
        json.member("links", &trigger.links);
    }
    json.member("client", trigger.client);
    if let Some(address) = &trigger.client_url {
        json.member("client_url", address);
    }
    json.finish()
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};

    use super::super::event::{Detail, Details, HAPPENED_AT, V2Fields, samples};
    use super::super::events_api::{MAX_BYTES, with_counts};
    use super::super::{ApiVersion, Description, Severity};
    use super::*;

    fn event(action: EventAction) -> Event {
        samples::event(ApiVersion::V2, action)
    }

    fn trigger(details: Details) -> Event {
        event(EventAction::Trigger(Trigger {
            severity: Severity::Critical,
            v2_fields: Box::new(V2Fields {
                component: Description::new("shop"),
                class: Description::new("IOError"),
                occurred_at: DateTime::from_timestamp(1_800_000_000, 123_456_000),
                ..V2Fields::of_source(Description::new("jobs.report").unwrap())
            }),
            ..samples::trigger(details)
        }))
    }

    #[test]
    fn a_trigger_is_written_with_its_members_in_this_order() {
        let time = DateTime::from_timestamp(1_800_000_000, 123_000_000).unwrap();
        let details = Details::from_iter([(HAPPENED_AT, Detail::Time(time)), ("waiting", Detail::Number(7))]);
        let rendered = V2.render(&trigger(details));
        let json = concat!(
            r#"{"routing_key":"0123456789abcdef0123456789abWXYZ","event_action":"trigger","dedup_key":"42","#,
            r#""payload":{"summary":"Disk \"full\"","severity":"critical","timestamp":"2027-01-15T08:00:00.123+0000","#,
            r#""source":"jobs.report","component":"shop","class":"IOError","#,
            r#""custom_details":{"datetime":"2027-01-15T08:00:00.123000Z","waiting":7}},"#,
            r#""links":[{"href":"https://sentry.test/42","text":"Issue Details"}],"#,
            r#""client":"sentry","client_url":"https://sentry.test"}"#
        );
        assert_eq!(String::from_utf8(rendered.bytes.clone()).unwrap(), json);
        let bytes = with_counts(rendered.bytes, rendered.counts_at.unwrap(), 2, time);
        let expected = json.replace(
            r#"123000Z","waiting""#,
            r#"123000Z","occurrences":2,"first_seen":"2027-01-15T08:00:00.123000Z","waiting""#,
        );
        assert_eq!(String::from_utf8(bytes).unwrap(), expected);
    }

    #[test]
    fn an_event_that_is_no_trigger_is_its_key_alone() {
        let key = r#""dedup_key":"42"}"#;
        let header = r#"{"routing_key":"0123456789abcdef0123456789abWXYZ","event_action":"#;
        let rendered = V2.render(&event(EventAction::Acknowledge(None)));
        assert_eq!(String::from_utf8(rendered.bytes).unwrap(), format!(r#"{header}"acknowledge",{key}"#));
        let rendered = V2.render(&event(EventAction::Resolve(Description::new("over"))));
        assert_eq!(String::from_utf8(rendered.bytes).unwrap(), format!(r#"{header}"resolve",{key}"#));
        assert_eq!(rendered.counts_at, None);
    }

    #[test]
    fn a_trigger_of_any_length_around_the_limit_has_room_for_its_counts() {
        for length in (MAX_BYTES - 700..MAX_BYTES - 300).step_by(7) {
            let details = Details::from_iter([("rules", Detail::List(vec!["r".repeat(length)]))]);
            let rendered = V2.render(&trigger(details));
            let bytes = with_counts(rendered.bytes, rendered.counts_at.unwrap(), u32::MAX, DateTime::<Utc>::MAX_UTC);
            assert!(bytes.len() <= MAX_BYTES, "{} bytes", bytes.len());
        }
    }

    #[test]
    fn what_was_cut_is_named_as_the_api_names_it() {
        let long = Description::new(&"s".repeat(2_000)).unwrap();
        let mut event = trigger(Details::from_iter([("rules", Detail::List(vec!["r".repeat(MAX_BYTES)]))]));
        if let EventAction::Trigger(trigger) = &mut event.action {
            trigger.links[0].href = format!("https://sentry.test/{}", "x".repeat(3_000));
            trigger.v2_fields.source = long;
        }
        let cuts: Vec<_> = V2.render(&event).cuts.iter().map(ToString::to_string).collect();
        let members: Vec<_> = cuts.iter().filter_map(|cut| Some(cut.split_once(": ")?.0)).collect();
        assert_eq!(members, ["links", "custom_details.rules", "source"]);
    }
}
