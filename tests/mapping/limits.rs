//! PagerDuty accepts the event of every alert, however large the alert is.

use chrono::{DateTime, Utc};
use proptest::prelude::*;
use sentry_pagerduty_bridge::alert::{
    Alert, Exception, IncidentAction, IssueLink, Project, SentryId, StackFrame, Subject, TriggerKind, User,
};
use sentry_pagerduty_bridge::pagerduty::map::action_of;
use sentry_pagerduty_bridge::pagerduty::{
    ApiVersion, Cut, Destination, Event, IncidentKey, Rendered, ServiceKey, Severity, render,
};
use serde_json::Value;

use crate::{DEFAULT_KEY, received_at};

fn small(issue: &str) -> Alert {
    let subject = Subject::Issue(SentryId::new(issue).unwrap());
    let alert = Alert::new(subject, IncidentAction::Trigger(TriggerKind::Alert), received_at());
    Alert { message: Some("message".to_owned()), ..alert }
}

#[track_caller]
fn fit(alert: &Alert) -> (Event, Vec<Cut>, Value) {
    fit_for(alert, ApiVersion::V1)
}

#[track_caller]
fn fit_for(alert: &Alert, api: ApiVersion) -> (Event, Vec<Cut>, Value) {
    let event = Event {
        destination: Destination { api, service_key: ServiceKey::parse(DEFAULT_KEY).unwrap() },
        incident_key: IncidentKey::of("", &alert.subject),
        action: action_of(alert.clone(), Severity::of(alert), None),
    };
    let Rendered { bytes, cuts, .. } = render(&event);
    assert!(bytes.len() <= 512_000, "{} bytes", bytes.len());
    let json = serde_json::from_slice(&bytes).unwrap();
    (event, cuts, json)
}

fn description(event: &Event) -> &str {
    event.description().unwrap().as_str()
}

fn cut_texts(cuts: &[Cut]) -> Vec<String> {
    cuts.iter().map(ToString::to_string).collect()
}

fn frame(function: String) -> StackFrame {
    StackFrame { function: Some(function), in_app: true, ..StackFrame::default() }
}

#[test]
fn an_event_that_fits_loses_nothing() {
    let alert = Alert { rules: vec!["r".repeat(500_000)], ..small("1") };
    let (event, cuts, json) = fit(&alert);
    assert!(render(&event).bytes.len() > 500_000);
    assert_eq!(cuts, []);
    assert_eq!(json["details"]["rules"][0].as_str().map(str::len), Some(500_000));
}

#[test]
fn the_outermost_frames_go_first() {
    let frames = (0..10).map(|n| frame(n.to_string().repeat(100_000))).collect();
    let (event, cuts, json) = fit(&Alert { frames, ..small("1") });
    assert!(render(&event).bytes.len() > 500_000, "no more than needed");
    let frames = json["details"]["frames"].as_array().unwrap();
    assert_eq!(frames.iter().map(|frame| &frame.as_str().unwrap()[..1]).collect::<String>(), "01234");
    let why = "details.frames: only the innermost 5 of 10 kept, for a body of at most 512000 bytes";
    assert_eq!(cut_texts(&cuts), [why]);
}

#[test]
fn then_the_longest_texts_are_cut() {
    let tags = vec![("long".to_owned(), "é".repeat(400_000)), ("short".to_owned(), "kept".to_owned())];
    let alert = Alert { tags, release: Some("kept".to_owned()), frames: vec![frame("f".to_owned())], ..small("1") };
    let (_, cuts, json) = fit(&alert);
    let long = json["details"]["tags"]["long"].as_str().unwrap();
    assert_eq!(long.chars().count(), 32_768);
    assert!(long.ends_with("é…"));
    assert_eq!(json["details"]["tags"]["short"], "kept");
    assert_eq!(json["details"]["release"], "kept");
    assert_eq!(
        cut_texts(&cuts),
        [
            "details.frames: all 1 left out, for a body of at most 512000 bytes",
            "details.tags: 1 text cut to 32768 characters, for a body of at most 512000 bytes",
        ]
    );
}

#[test]
fn then_the_last_tags_and_rules_go() {
    let tags = (0..200_000).map(|n| (format!("tag{n}"), "v".to_owned())).collect();
    let (_, cuts, json) = fit(&Alert { tags, ..small("1") });
    assert_eq!(json["details"]["tags"].as_object().unwrap().len(), 4_096);
    assert_eq!(json["details"]["tags"]["tag0"], "v");
    let why = "details.tags: only the first 4096 of 200000 kept, for a body of at most 512000 bytes";
    assert_eq!(cut_texts(&cuts), [why]);
}

#[test]
fn the_worst_of_alerts_fits_and_keeps_its_link() {
    // NUL takes six bytes in JSON, more than any other character.
    let worst = |n: usize| format!("{n}{}", "\0".repeat(600));
    let href = format!("https://a.test/{}", "b".repeat(1_900));
    let many = || (0..200).map(worst);
    let some = || Some(worst(0));
    let alert = Alert {
        message: some(),
        culprit: some(),
        level: some(),
        event_id: some(),
        project: Project { name: some(), slug: some(), ..Project::default() },
        link: Some(IssueLink { href: href.clone(), root: href.clone() }),
        tags: many().map(|text| (text.clone(), text)).collect(),
        rules: many().collect(),
        release: some(),
        platform: some(),
        environment: some(),
        logger: some(),
        server_name: some(),
        transaction: some(),
        user: Some(User { id: some(), username: some(), email: some(), ip_address: some() }),
        exceptions: many().map(|text| Exception { kind: None, value: Some(text) }).collect(),
        frames: many().map(frame).collect(),
        ..small(&worst(0))
    };
    let (_, cuts, json) = fit(&alert);
    assert_eq!(json["details"]["tags"].as_object().unwrap().len(), 64);
    assert_eq!(json["details"]["rules"].as_array().unwrap().len(), 64);
    assert_eq!(json["details"]["url"], href);
    assert_eq!(json["contexts"][0]["href"], href);
    assert_eq!(json["client_url"], href);
    assert!(json["incident_key"].as_str().unwrap().len() <= 255);
    let cuts = cut_texts(&cuts);
    assert!(
        cuts.contains(&"details.tags: only the first 64 of 200 kept, for a body of at most 512000 bytes".to_owned())
    );
    assert!(
        cuts.contains(&"details.tags: 128 texts cut to 256 characters, for a body of at most 512000 bytes".to_owned())
    );
}

#[test]
fn long_names_of_tags_are_cut_like_their_values() {
    let tags = vec![("n".repeat(600_000), "v".to_owned())];
    let (_, cuts, json) = fit(&Alert { tags, ..small("1") });
    let (name, value) = json["details"]["tags"].as_object().unwrap().iter().next().unwrap();
    assert_eq!((name.chars().count(), value), (32_768, &Value::from("v")));
    assert_eq!(cut_texts(&cuts), ["details.tags: 1 text cut to 32768 characters, for a body of at most 512000 bytes"]);
}

#[test]
fn details_that_say_nothing_are_left_out() {
    let blank = || Some(" ".to_owned());
    let alert = Alert {
        level: blank(),
        environment: blank(),
        user: Some(User { id: blank(), ..User::default() }),
        exceptions: vec![Exception::default()],
        frames: vec![StackFrame::default()],
        ..small("1")
    };
    let (_, _, json) = fit(&alert);
    assert_eq!(json["details"].as_object().unwrap().len(), 8);
}

#[test]
fn an_alert_that_is_long_everywhere_fits_all_the_same() {
    const FACTS: [&str; 10] = ["a", "b", "c", "d", "e", "f", "g", "h", "i", "j"];
    // Each of these characters takes six bytes in JSON.
    let long = || Some("\u{1}".repeat(300));
    let pairs = |of: usize| (0..of).map(|n| (format!("{n}{}", "\u{1}".repeat(300)), "\u{1}".repeat(300)));
    let (_, cuts, json) = fit(&Alert {
        tags: pairs(200).collect(),
        evidence: pairs(200).collect(),
        rules: pairs(200).map(|(name, _)| name).collect(),
        facts: FACTS.iter().map(|name| (*name, "\u{1}".repeat(300))).collect(),
        culprit: long(),
        level: long(),
        event_id: long(),
        project: Project { name: long(), ..Project::default() },
        release: long(),
        platform: long(),
        environment: long(),
        logger: long(),
        server_name: long(),
        transaction: long(),
        user: Some(User { id: long(), username: long(), email: long(), ip_address: long() }),
        exceptions: vec![Exception { kind: long(), value: long() }],
        ..small("1")
    });
    for detail in ["tags", "evidence"] {
        assert_eq!(json["details"][detail].as_object().unwrap().len(), 32);
    }
    assert!(cut_texts(&cuts).iter().any(|cut| cut.starts_with("details.evidence: only the first 32 of 200 kept")));
}

#[test]
fn an_address_too_long_to_lead_anywhere_is_left_out() {
    let root = format!("https://{}.example.test", "a".repeat(1_000));
    let link = |length: usize| IssueLink {
        href: format!("{root}/{}", "b".repeat(length - root.len() - 1)),
        root: root.clone(),
    };
    let (_, cuts, json) = fit(&Alert { link: Some(link(2_000)), ..small("1") });
    assert_eq!(cuts, []);
    assert_eq!(json["contexts"][0]["href"].as_str().map(str::len), Some(2_000));

    let (_, cuts, json) = fit(&Alert { link: Some(link(2_001)), ..small("1") });
    assert_eq!(json["client_url"], root, "the root is short enough");
    assert_eq!(json.get("contexts"), None);
    assert_eq!(json["details"]["url"], Value::Null);
    assert_eq!(
        cut_texts(&cuts),
        [
            "contexts: left out, because it has 2001 bytes and an address may have 2000",
            "details.url: left out, because it has 2001 bytes and an address may have 2000",
        ]
    );
}

#[test]
fn a_description_that_was_cut_is_told_as_well() {
    let (_, cuts, _) = fit(&Alert { message: Some("x".repeat(8_192)), ..small("1") });
    assert_eq!(cut_texts(&cuts), ["description: cut from 8192 to 1024 characters, which is all PagerDuty takes"]);
}

#[test]
fn a_cut_tells_the_characters_that_are_left_and_which_way_of_counting_them_bound() {
    // 1024 code points, but 1226 UTF-16 code units.
    let message = format!("{}{}", "🚨".repeat(202), "x".repeat(822));
    assert_eq!((message.chars().count(), message.encode_utf16().count()), (1024, 1226));
    let (event, cuts, _) = fit(&Alert { message: Some(message), ..small("1") });
    assert_eq!((description(&event).chars().count(), description(&event).encode_utf16().count()), (822, 1024));
    let why = "description: cut from 1024 to 822 characters, which are 1024 in UTF-16: PagerDuty takes 1024 and does not \
               say how it counts them";
    assert_eq!(cut_texts(&cuts), [why]);

    // Texts that are within the limit by both ways of counting are not cut.
    for whole in ["🚨".repeat(512), "é".repeat(1024), format!("{}{}", "x".repeat(620), "🚨".repeat(202))] {
        let (event, cuts, _) = fit(&Alert { message: Some(whole.clone()), ..small("1") });
        assert_eq!((description(&event), cuts.as_slice()), (whole.as_str(), [].as_slice()));
    }
}

#[test]
fn the_line_of_a_resolve_is_cut_once_and_tells_how_long_it_was() {
    let alert = Alert { action: IncidentAction::Resolve, message: Some("x".repeat(8_192)), ..small("1") };
    let (event, cuts, _) = fit(&alert);
    assert_eq!(description(&event), format!("Resolved in Sentry: {}…", "x".repeat(1003)));
    assert_eq!(cut_texts(&cuts), ["description: cut from 8212 to 1024 characters, which is all PagerDuty takes"]);
}

/// Texts from empty to longer than an event may be, of characters that take more bytes in JSON.
fn text() -> impl Strategy<Value = String> {
    let size = prop_oneof![4 => Just(1_usize), 1 => 0_usize..3_000, 1 => 1_usize..40_000];
    ("[\\x00a\"\\\\\u{7f}é\u{200b}\n 🔥]{1,6}", size).prop_map(|(text, times)| text.repeat(times))
}

fn maybe() -> impl Strategy<Value = Option<String>> {
    prop::option::of(text())
}

fn any_alert() -> impl Strategy<Value = Alert> {
    let texts = prop::collection::vec(maybe(), 18);
    let tags = (prop::collection::vec((text(), text()), 0..8), prop_oneof![6 => Just(1_usize), 1 => 1_usize..5_000]);
    let rules = (prop::collection::vec(text(), 0..4), prop_oneof![6 => Just(1_usize), 1 => 1_usize..5_000]);
    let frames = prop::collection::vec((maybe(), maybe(), any::<Option<u64>>(), any::<bool>()), 0..15);
    (text(), texts, tags, rules, frames, -8_000_000_000_000_i64..8_000_000_000_000).prop_map(
        |(issue, texts, (tags, copies_of_tags), (rules, copies_of_rules), frames, seconds)| {
            let mut texts = texts.into_iter();
            let mut next = || texts.next().flatten();
            // Only short texts are repeated, to limit the memory of the test.
            let is_short = tags.iter().all(|(name, value)| name.len() + value.len() < 50);
            let numbered = |n: usize| tags.iter().map(move |(name, value)| (format!("{name}{n}"), value.clone()));
            Alert {
                subject: Subject::Issue(SentryId::new(&issue).unwrap_or_else(|| SentryId::new("1").unwrap())),
                message: next(),
                title: next(),
                culprit: next(),
                level: next(),
                event_id: next(),
                occurred_at: DateTime::<Utc>::from_timestamp(seconds, 0).unwrap(),
                received_by_sentry_at: None,
                project: Project { name: next(), slug: next(), others: Vec::new() },
                link: next().map(|rest| IssueLink { href: format!("https://a.test/{rest}"), root: rest }),
                tags: (0..if is_short { copies_of_tags } else { 1 }).flat_map(numbered).collect(),
                rules: rules
                    .iter()
                    .cycle()
                    .take(rules.len() * if rules.iter().all(|rule| rule.len() < 50) { copies_of_rules } else { 1 })
                    .cloned()
                    .collect(),
                release: next(),
                platform: next(),
                environment: next(),
                logger: next(),
                server_name: next(),
                transaction: next(),
                user: Some(User { id: next(), username: next(), email: next(), ip_address: next() }),
                evidence: tags.clone(),
                exceptions: vec![Exception { kind: next(), value: next() }],
                frames: frames
                    .into_iter()
                    .map(|(function, filename, line, in_app)| StackFrame {
                        function,
                        module: None,
                        filename,
                        line,
                        in_app,
                    })
                    .collect(),
                ..small("1")
            }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn every_alert_becomes_an_event_that_pagerduty_takes(alert in any_alert()) {
        let (event, cuts, json) = fit(&alert);
        let line = json["description"].as_str().unwrap();
        prop_assert!((1..=1024).contains(&line.chars().count()));
        prop_assert!((1..=1024).contains(&line.encode_utf16().count()));
        prop_assert!(!line.trim().is_empty());
        prop_assert_eq!(line, description(&event));
        let incident_key = json["incident_key"].as_str().unwrap();
        prop_assert!((1..=255).contains(&incident_key.chars().count()));
        prop_assert_eq!(incident_key, event.incident_key.as_str());
        prop_assert_eq!(&json["event_type"], "trigger");
        prop_assert_eq!(&json["service_key"], DEFAULT_KEY);
        prop_assert!(json["details"].is_object());
        for cut in cut_texts(&cuts) {
            prop_assert!(cut.contains(": "));
        }
    }

    #[test]
    fn every_alert_becomes_an_event_of_the_events_api_v2_too(alert in any_alert()) {
        let (event, cuts, json) = fit_for(&alert, ApiVersion::V2);
        let payload = &json["payload"];
        prop_assert_eq!(payload["summary"].as_str().unwrap(), description(&event));
        for (member, is_needed) in
            [("summary", true), ("source", true), ("component", false), ("group", false), ("class", false)]
        {
            let line = payload.get(member);
            prop_assert!(line.is_some() || !is_needed, "{}", member);
            let line = line.map_or("-", |line| line.as_str().unwrap());
            prop_assert!((1..=1024).contains(&line.encode_utf16().count()), "{}", member);
            prop_assert!(!line.trim().is_empty(), "{}", member);
        }
        prop_assert!(["critical", "error", "warning", "info"].contains(&payload["severity"].as_str().unwrap()));
        if let Some(time) = payload.get("timestamp") {
            prop_assert!(DateTime::parse_from_str(time.as_str().unwrap(), "%Y-%m-%dT%H:%M:%S%.3f%z").is_ok());
        }
        prop_assert!(payload["custom_details"].is_object());
        let dedup_key = json["dedup_key"].as_str().unwrap();
        prop_assert!((1..=255).contains(&dedup_key.chars().count()));
        prop_assert_eq!(dedup_key, event.incident_key.as_str());
        prop_assert_eq!((&json["event_action"], &json["routing_key"]), (&Value::from("trigger"), &Value::from(DEFAULT_KEY)));
        for link in json["links"].as_array().into_iter().flatten() {
            prop_assert!(link["href"].as_str().is_some_and(|href| !href.trim().is_empty()));
        }
        for cut in cut_texts(&cuts) {
            prop_assert!(cut.contains(": "));
        }
    }
}
