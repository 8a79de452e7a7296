//! PagerDuty's Events API v1.
//!
//! Source: PagerDuty's pages "Events API v1: Overview" and "Trigger, acknowledge and resolve events".

use super::description::Description;
use super::event::{Event, EventAction, Trigger};
use super::events_api::{Cut, EventWriter, EventsApi, Rendered};
use super::fit::{FieldNames, fit};

/// The Events API v1.
#[derive(Clone, Copy, Debug)]
pub struct V1;

const NAMES: FieldNames = FieldNames { description: "description", details: "details", links: "contexts" };

impl EventsApi for V1 {
    /// `2010-04-15` is the name of the version and never changes.
    fn path(&self) -> &'static str {
        "/generic/2010-04-15/create_event.json"
    }

    fn key_member(&self) -> &'static str {
        "service_key"
    }

    fn render(&self, event: &Event) -> Rendered {
        match &event.action {
            EventAction::Trigger(trigger) => fit(NAMES, trigger, |trigger| render_trigger(event, trigger)),
            EventAction::Acknowledge(line) | EventAction::Resolve(line) => render_note(event, line.as_ref()),
        }
    }
}

/// Begins the JSON with the fields that every event has.
fn begin(event: &Event) -> EventWriter {
    let mut json = EventWriter::new();
    json.member(V1.key_member(), &event.destination.service_key);
    json.member("incident_key", &event.incident_key);
    json.member("event_type", event.event_type().as_str());
    json
}

/// `trigger` is the event's trigger, or a shortened copy of it.
fn render_trigger(event: &Event, trigger: &Trigger) -> Rendered {
    let mut json = begin(event);
    json.member("description", &trigger.description);
    json.member("client", trigger.client);
    if let Some(address) = &trigger.client_url {
        json.member("client_url", address);
    }
    json.details("details", &trigger.details);
    if !trigger.links.is_empty() {
        json.list("contexts", &trigger.links, |context, link| {
            context.member("type", "link");
            context.member("href", &link.href);
            context.member("text", link.text);
        });
    }
    json.finish()
}

/// An acknowledge or a resolve, with the line that says what happened.
fn render_note(event: &Event, line: Option<&Description>) -> Rendered {
    let mut json = begin(event);
    let Some(description) = line else { return json.finish() };
    json.member("description", description);
    Rendered { cuts: Vec::from_iter(Cut::line(NAMES.description, description)), ..json.finish() }
}

#[cfg(test)]
mod tests {
    use chrono::{DateTime, Utc};
    use proptest::prelude::*;
    use serde_json::{Map, Value};

    use super::super::ApiVersion;
    use super::super::event::{Detail, Details, HAPPENED_AT, samples};
    use super::super::events_api::{MAX_BYTES, with_counts};
    use super::*;

    fn event(action: EventAction) -> Event {
        samples::event(ApiVersion::V1, action)
    }

    fn trigger(details: Details) -> Event {
        event(EventAction::Trigger(samples::trigger(details)))
    }

    fn first_seen() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 123_000_000).unwrap()
    }

    /// Parses the JSON and inserts the counts after the time of the alert, or after all details if there is no time.
    fn by_way_of_json(bytes: &[u8], occurrences: u32) -> Vec<u8> {
        let mut event: Map<String, Value> = serde_json::from_slice(bytes).unwrap();
        let details = event["details"].as_object_mut().unwrap();
        let at = details.keys().position(|name| name == "datetime").map_or(details.len(), |position| position + 1);
        details.shift_insert(at, "occurrences".to_owned(), occurrences.into());
        details.shift_insert(at + 1, "first_seen".to_owned(), "2027-01-15T08:00:00.123000Z".into());
        serde_json::to_vec(&event).unwrap()
    }

    #[test]
    fn a_trigger_is_written_with_its_members_in_this_order() {
        let details = Details::from_iter([
            ("release", Detail::Unknown),
            (HAPPENED_AT, Detail::Time(first_seen())),
            ("tags", Detail::Fields([("a".to_owned(), "b".to_owned())].into_iter().collect())),
            ("waiting", Detail::Number(7)),
            ("rules", Detail::List(vec!["c".to_owned()])),
        ]);
        let rendered = V1.render(&trigger(details));
        let json = concat!(
            r#"{"service_key":"0123456789abcdef0123456789abWXYZ","incident_key":"42","event_type":"trigger","#,
            r#""description":"Disk \"full\"","client":"sentry","client_url":"https://sentry.test","#,
            r#""details":{"release":null,"datetime":"2027-01-15T08:00:00.123000Z","tags":{"a":"b"},"waiting":7,"#,
            r#""rules":["c"]},"contexts":[{"type":"link","href":"https://sentry.test/42","text":"Issue Details"}]}"#
        );
        assert_eq!(String::from_utf8(rendered.bytes).unwrap(), json);
        assert_eq!(rendered.counts_at, json.find(r#","tags""#));
    }

    #[test]
    fn an_event_that_is_no_trigger_has_a_description_at_most_and_no_counts() {
        let header = r#"{"service_key":"0123456789abcdef0123456789abWXYZ","incident_key":"42","event_type":"#;
        let rendered = V1.render(&event(EventAction::Acknowledge(None)));
        assert_eq!(String::from_utf8(rendered.bytes).unwrap(), format!(r#"{header}"acknowledge"}}"#));
        let rendered = V1.render(&event(EventAction::Resolve(Description::new("over"))));
        assert_eq!(String::from_utf8(rendered.bytes).unwrap(), format!(r#"{header}"resolve","description":"over"}}"#));
        assert_eq!(rendered.counts_at, None);
    }

    #[test]
    fn a_trigger_of_any_length_around_the_limit_has_room_for_its_counts() {
        for length in (MAX_BYTES - 500..MAX_BYTES - 300).step_by(3) {
            let details = Details::from_iter([("rules", Detail::List(vec!["r".repeat(length)]))]);
            let rendered = V1.render(&trigger(details));
            let first_seen = DateTime::<Utc>::MAX_UTC;
            let bytes = with_counts(rendered.bytes, rendered.counts_at.unwrap(), u32::MAX, first_seen);
            assert!(bytes.len() <= MAX_BYTES, "{} bytes", bytes.len());
        }
    }

    fn detail() -> impl Strategy<Value = Detail> {
        let size = prop_oneof![6 => Just(1_usize), 1 => 0_usize..60_000];
        let text = || ("[\\x00a\"\\\\{},:é🔥]{0,6}", size.clone()).prop_map(|(text, times)| text.repeat(times));
        prop_oneof![
            Just(Detail::Unknown),
            any::<u64>().prop_map(Detail::Number),
            text().prop_map(Detail::Text),
            text().prop_map(Detail::Url),
            prop::collection::vec(text(), 0..4).prop_map(Detail::List),
            prop::collection::vec(text(), 0..4).prop_map(Detail::Frames),
            prop::collection::vec((text(), text()), 0..4)
                .prop_map(|fields| Detail::Fields(fields.into_iter().collect())),
        ]
    }

    proptest! {
        #[test]
        fn counts_are_inserted_where_they_would_be_by_way_of_json_and_within_the_limit(
            details in prop::collection::vec((prop::sample::select(vec!["a", "b", HAPPENED_AT, "z"]), detail()), 0..5),
            occurrences in 2_u32..,
        ) {
            let rendered = V1.render(&trigger(details.into_iter().collect()));
            let expected = by_way_of_json(&rendered.bytes, occurrences);
            let bytes = with_counts(rendered.bytes, rendered.counts_at.unwrap(), occurrences, first_seen());
            prop_assert!(bytes.len() <= MAX_BYTES);
            prop_assert_eq!(bytes, expected);
        }
    }
}
