//! Bodies with missing members or values of the wrong type still page.

use proptest::prelude::*;
use serde_json::{Value, json};

use crate::{decide, event, fixtures, ingest};

/// A body with every member that the bridge reads, each with `value`, except for those that identify it as a webhook.
fn body_full_of(value: &Value) -> Value {
    let event: serde_json::Map<_, _> = [
        "event_id",
        "title",
        "metadata",
        "culprit",
        "level",
        "logger",
        "platform",
        "release",
        "environment",
        "server_name",
        "transaction",
        "timestamp",
        "received",
        "tags",
        "user",
        "logentry",
        "exception",
        "stacktrace",
        "contexts",
        "csp",
        "entries",
        "occurrence",
        "sentry.interfaces.User",
        "sentry.interfaces.Message",
        "sentry.interfaces.Exception",
        "sentry.interfaces.Stacktrace",
    ]
    .into_iter()
    .map(|name| (name.to_owned(), value.clone()))
    .collect();
    let mut body = json!({ "id": "42", "project": "a", "event": event });
    for name in ["project_name", "project_slug", "culprit", "level", "logger", "message", "url", "triggering_rules"] {
        body[name] = value.clone();
    }
    body
}

/// The same for a service hook.
fn hook_full_of(value: &Value) -> Value {
    let mut event = body_full_of(value)["event"].take();
    for name in ["eventID", "dateCreated", "dateReceived", "message", "url", "groupID"] {
        event[name] = value.clone();
    }
    let mut group = json!({ "id": "42" });
    for name in ["url", "permalink", "title", "culprit", "level", "logger"] {
        group[name] = value.clone();
    }
    json!({ "project": { "slug": value, "name": value }, "group": group, "event": event })
}

#[test]
fn a_value_of_the_wrong_shape_costs_no_page_wherever_it_stands() {
    for value in [
        json!(null),
        json!([]),
        json!({}),
        json!(""),
        json!("text"),
        json!(true),
        json!(-1),
        json!(1e308),
        json!([[]]),
        json!([null]),
        json!([{}]),
        json!({ "values": null }),
        json!({ "values": { "values": [] } }),
        json!([[null, null]]),
        json!({ "frames": [null, 3, {}] }),
        json!([{ "stacktrace": [], "type": {}, "value": [] }]),
        json!({ "monitor": { "name": [], "slug": {}, "status": [null] } }),
        json!({ "effective_directive": [], "violated_directive": " ", "blocked_uri": {} }),
        json!([{ "type": "exception", "data": [] }, { "type": "message", "data": { "formatted": {} } }, { "type": [] }]),
    ] {
        for body in [body_full_of(&value), hook_full_of(&value)] {
            let event = event(body.to_string().as_bytes());
            assert_eq!(event["incident_key"], "42", "{body}");
            assert!(!event["description"].as_str().unwrap().trim().is_empty(), "{body}");
        }
    }
}

#[test]
fn where_nothing_can_be_read_the_description_names_the_issue() {
    for blank in [json!(null), json!(" \n"), json!("\u{200b}"), json!("\u{0}")] {
        assert_eq!(event(body_full_of(&blank).to_string().as_bytes())["description"], "Sentry issue 42");
    }
}

#[test]
fn the_description_is_the_first_that_says_anything() {
    let description = |message: &str, title: &str, kind: &str, culprit: &str| {
        let exception = json!({ "values": [{ "type": "Cause", "value": "c" }, { "type": kind, "value": "v" }] });
        let event_member = json!({ "title": title, "exception": exception });
        event(
            json!({ "id": "42", "project": "a", "message": message, "culprit": culprit, "event": event_member })
                .to_string()
                .as_bytes(),
        )["description"]
            .as_str()
            .unwrap()
            .to_owned()
    };
    assert_eq!(description("message", "title", "Kind", "culprit"), "message");
    assert_eq!(description("\u{200b}", "title", "Kind", "culprit"), "title");
    assert_eq!(description("", "", "Kind", "culprit"), "Kind: v");
    let culprit_only =
        json!({ "id": "42", "project": "a", "message": "", "culprit": "culprit", "event": { "title": " " } });
    assert_eq!(event(culprit_only.to_string().as_bytes())["description"], "culprit");
}

#[test]
fn what_the_body_leaves_out_is_looked_for_in_its_event() {
    let event = |members: Value| event(json!({ "id": "42", "project": "a", "event": members }).to_string().as_bytes());
    for (members, description) in [
        (json!({ "logentry": { "formatted": "whole", "message": "w%s" } }), "whole"),
        (json!({ "logentry": { "formatted": "", "message": "whole" } }), "whole"),
        (json!({ "sentry.interfaces.Message": { "message": "whole" } }), "whole"),
        (json!({ "metadata": { "title": "title" } }), "title"),
        (json!({ "metadata": { "type": "Kind", "value": "value" } }), "Kind: value"),
        (json!({ "metadata": { "value": "value" } }), "value"),
    ] {
        assert_eq!(event(members.clone())["description"], description, "{members}");
    }
    let event = event(json!({ "culprit": "c", "level": "fatal", "logger": "l" }));
    assert_eq!(event["details"]["culprit"], "c");
    assert_eq!(event["details"]["level"], "fatal");
    assert_eq!(event["details"]["logger"], "l");
}

#[test]
fn an_event_that_tells_no_time_has_the_time_it_came() {
    let datetime = |times: &str| event(format!(r#"{{"id": "1", "project": "a", "event": {{{times}}}}}"#).as_bytes());
    for (times, expected) in [
        ("", "2027-01-15T08:00:00.000000Z"),
        (r#""timestamp": null, "received": null"#, "2027-01-15T08:00:00.000000Z"),
        (r#""timestamp": 1e18, "received": -5"#, "2027-01-15T08:00:00.000000Z"),
        (r#""received": 1473185565"#, "2016-09-06T18:12:45.000000Z"),
        (r#""timestamp": 1795353687.910631, "received": 1"#, "2026-11-22T13:21:27.910631Z"),
        (r#""timestamp": 1103182463.559008"#, "2004-12-16T07:34:23.559008Z"),
        (r#""timestamp": "1473185565.5""#, "2016-09-06T18:12:45.500000Z"),
        (r#""timestamp": "2020-04-28T14:05:04.210463Z""#, "2020-04-28T14:05:04.210463Z"),
        (r#""timestamp": "2020-04-28T16:05:04+02:00""#, "2020-04-28T14:05:04.000000Z"),
        (r#""timestamp": "2020-04-28T14:05:04.5""#, "2020-04-28T14:05:04.500000Z"),
        (r#""timestamp": "yesterday", "received": 0"#, "1970-01-01T00:00:00.000000Z"),
    ] {
        assert_eq!(datetime(times)["details"]["datetime"], expected, "{times}");
    }
}

#[test]
fn of_tags_with_one_name_the_last_is_sent_and_tags_stand_in_for_missing_members() {
    let event = event(
        br#"{"id": "1", "project": "a", "event": {"tags": [["environment", "old"], ["environment", "new"], ["environment", " "],
            ["sentry:release", "r1"], ["level", "fatal"], ["server_name", "s1"], ["transaction", "/t"], ["logger", "l"]]}}"#,
    );
    let details = &event["details"];
    assert_eq!(details["tags"]["environment"], " ");
    assert_eq!(details["environment"], "new");
    assert_eq!(details["release"], "r1");
    assert_eq!(details["level"], "fatal");
    assert_eq!(details["server_name"], "s1");
    assert_eq!(details["transaction"], "/t");
    assert_eq!(details["logger"], "l");
}

#[test]
fn the_applications_own_calls_are_told_innermost_first_and_ten_at_most() {
    let frames = |own: bool| -> Vec<Value> {
        (1..=30)
            .map(|line| json!({ "filename": "a.py", "lineno": line, "function": "f", "in_app": own && line % 2 == 0 }))
            .collect()
    };
    let told = |frames: Vec<Value>| {
        let body = json!({ "id": "1", "project": "a", "event": { "stacktrace": { "frames": frames } } });
        event(body.to_string().as_bytes())["details"]["frames"].clone()
    };
    let expected = |step: usize| -> Vec<String> { (0..10).map(|n| format!("a.py:{} in f", 30 - n * step)).collect() };
    assert_eq!(told(frames(true)), json!(expected(2)));
    assert_eq!(told(frames(false)), json!(expected(1)));
    assert_eq!(
        told(vec![
            json!({ "module": "m" }),
            json!({ "function": "f" }),
            json!({}),
            json!({ "abs_path": "/x", "lineno": 0 })
        ]),
        json!(["/x", "f", "m"])
    );
}

#[test]
fn an_address_that_is_none_becomes_no_link() {
    let event = event(br#"{"id": "1", "project": "a", "url": "javascript:alert(1)"}"#);
    assert_eq!(event["details"]["url"], Value::Null);
    assert_eq!(event.get("contexts"), None);
    assert_eq!(event.get("client_url"), None);
}

/// JSON of any shape that contains the names that the bridge reads.
fn any_json() -> impl Strategy<Value = Value> {
    let names = prop_oneof![
        Just("values".to_owned()),
        Just("frames".to_owned()),
        Just("stacktrace".to_owned()),
        Just("type".to_owned()),
        Just("value".to_owned()),
        Just("key".to_owned()),
        Just("lineno".to_owned()),
        Just("data".to_owned()),
        Just("monitor".to_owned()),
        Just("name".to_owned()),
        "\\PC{0,3}",
    ];
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        any::<String>().prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 32, 6, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((names.clone(), inner), 0..6)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
}

proptest! {
    #[test]
    fn no_shape_of_json_costs_a_page(value in any_json()) {
        for body in [body_full_of(&value), hook_full_of(&value)] {
            let event = event(body.to_string().as_bytes());
            prop_assert_eq!(&event["incident_key"], "42");
        }
    }

    #[test]
    fn no_bytes_make_it_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        let _ = decide(&ingest("", "", None), &body);
    }

    #[test]
    fn no_damage_to_a_real_body_makes_it_panic(at in 0_usize..4_000, byte in any::<u8>(), which in any::<prop::sample::Index>()) {
        let fixtures = fixtures::all();
        let fixture = which.get(&fixtures);
        let mut body = fixture.webhook.clone();
        let at = at % body.len();
        body[at] = byte;
        let _ = decide(&ingest("", "", None), &body);
        let _ = decide(&ingest("", "", None), &body[..at]);
    }
}
