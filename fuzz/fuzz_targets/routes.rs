//! Routes, severity rules, names of keys and templates are parsed without a panic. The first route that matches is taken, and
//! no error repeats a key. The input is the value of such a setting.

#![no_main]

use std::collections::BTreeSet;
use std::sync::LazyLock;

use chrono::DateTime;
use libfuzzer_sys::fuzz_target;
use sentry_pagerduty_bridge::alert::{Alert, IncidentAction, SentryId, Subject, TriggerKind};
use sentry_pagerduty_bridge::config::key_names;
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, ServiceKey, Severity, Template};
use sentry_pagerduty_bridge::redaction::Redaction;
use sentry_pagerduty_bridge::routing::{Route, Routes, SeverityRule, severity, severity_rule};

static DEFAULT: LazyLock<ServiceKey> =
    LazyLock::new(|| ServiceKey::parse("00000000000000000000000000000001").unwrap_or_else(|error| panic!("{error}")));

/// The names that stand for a field of an alert as well as for a tag.
const FIELDS: [&str; 4] = ["project", "level", "environment", "rule"];

/// An alert with one tag.
fn tagged(name: &str, value: &str) -> Alert {
    let subject = Subject::Issue(SentryId::new("1").unwrap_or_else(|| panic!("1 is an id")));
    Alert {
        message: Some("message".to_owned()),
        tags: vec![(name.to_owned(), value.to_owned())],
        ..Alert::new(subject, IncidentAction::Trigger(TriggerKind::Alert), DateTime::UNIX_EPOCH)
    }
}

/// Checks that an error repeats no word of `text` that is long enough to be a key.
fn check_error(text: &str, error: &str) {
    for word in text.split(|letter: char| !letter.is_ascii_alphanumeric()) {
        assert!(word.len() < ServiceKey::LENGTH || !error.contains(word), "{error}");
    }
}

fn look_at_routes(text: &str) {
    let routes = match Route::parse_lines(text) {
        Ok(routes) => routes,
        Err(errors) => {
            assert!(!errors.is_empty());
            for error in &errors {
                check_error(text, &error.to_string());
            }
            return;
        }
    };
    let numbers: BTreeSet<_> = routes.iter().map(|route| route.condition().number()).collect();
    assert_eq!(numbers.len(), routes.len(), "each has a number of its own");
    let all = Routes::from_lines(DEFAULT.clone(), routes.clone(), ApiVersion::V1);
    for route in routes.iter().take(20) {
        let condition = route.condition();
        let alert = tagged(condition.name(), condition.value());
        let is_first = |other: &&Route| {
            (other.condition().name(), other.condition().value()) == (condition.name(), condition.value())
        };
        let first = routes.iter().find(is_first).unwrap_or(route);
        let found = all.key_for(&alert);
        assert!(FIELDS.contains(&condition.name()) || found == first.key(), "{condition:?} is passed over");
        assert_eq!(all.destination(found).service_key, *found);
        assert!(!all.explain(&alert).is_empty());
    }
}

fn look_at_the_rest(text: &str) {
    match SeverityRule::parse_lines(text) {
        Ok(rules) => {
            let alerts: Vec<_> =
                rules.iter().take(20).map(|rule| tagged(rule.condition().name(), rule.condition().value())).collect();
            for alert in alerts {
                let severity = severity(&rules, &alert);
                assert_eq!(Severity::parse(severity.name()), Some(severity));
                assert!(severity_rule(&rules, &alert).is_some());
            }
        }
        Err(errors) => errors.iter().for_each(|error| check_error(text, &error.to_string())),
    }
    match key_names(text) {
        Ok(names) => assert!(names.iter().all(|(_, name)| !name.is_empty())),
        Err(error) => check_error(text, &error.to_string()),
    }
    if let Err(error) = Template::parse(text) {
        assert!(!error.to_string().is_empty());
    }
    let redaction = Redaction::parse(text);
    let mut alert = tagged("browser", "Chrome 1");
    redaction.apply(&mut alert);
    assert_eq!(alert.tags.is_empty(), redaction.names().any(|name| name == "browser" || name == "tags"));
}

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    look_at_routes(&text);
    look_at_the_rest(&text);
});
