//! Compares the bridge's events with those of Sentry's own plugin, for every fixture.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use crate::fixtures::{self, Fixture};
use crate::{DEFAULT_KEY, decide, ingest, opened};

/// The fixtures for which the bridge deliberately differs from the plugin, and how. All other events have to be equal.
const WANTED_DIFFERENCES: &[(&str, Difference)] = &[
    ("legacy-9.1/browser-error", Difference::TitleForSearchText),
    ("legacy-9.1/node-exception", Difference::TitleForSearchText),
    ("legacy-9.1/node-exception-half-emoji", Difference::TitleForSearchText),
    ("legacy-9.1/message-of-many-lines", Difference::OneLine),
    ("legacy-9.1/message-with-control-characters", Difference::OneLine),
    ("legacy-9.1/message-of-8192-characters", Difference::Ellipsis),
    ("legacy-9.1/message-with-lone-surrogates", Difference::NoHalfCharacters),
];

/// All differences are about the description.
#[derive(Clone, Copy, Debug)]
enum Difference {
    /// The message is `""`: the plugin sent Sentry's search text (function, type, value, culprit), the bridge sends the
    /// title.
    TitleForSearchText,
    /// The plugin sent line ends and control characters; the bridge replaces them by spaces.
    OneLine,
    /// The plugin cut after 1024 characters without a mark; the bridge ends the text with an ellipsis.
    Ellipsis,
    /// The plugin sent unpaired UTF-16 surrogates; the bridge replaces them by U+FFFD.
    NoHalfCharacters,
}

impl Difference {
    /// The expected description, derived from the plugin's description or from the webhook by rules that this test
    /// implements itself.
    fn wanted(self, plugins: &str, webhook: &Value) -> String {
        match self {
            Self::TitleForSearchText => {
                assert_eq!(webhook["message"], "");
                webhook["event"]["title"].as_str().unwrap().to_owned()
            }
            Self::OneLine => {
                let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
                words(&plugins.replace(|character: char| character.is_control(), " "))
            }
            Self::Ellipsis => {
                assert_eq!(plugins.chars().count(), 1024);
                plugins.chars().take(1023).chain(['…']).collect()
            }
            Self::NoHalfCharacters => plugins.to_owned(),
        }
    }
}

/// Parses JSON in which unpaired UTF-16 surrogates are replaced by U+FFFD; the fixtures have no other surrogate escapes.
fn read(json: &[u8]) -> Value {
    let halves =
        [("\\ud83d s", "\\ufffd s"), ("\\udc00 f", "\\ufffd f"), ("\\ud83d...", "\\ufffd..."), ("\\ud800", "\\ufffd")];
    let text = String::from_utf8(json.to_vec()).unwrap();
    let mended = halves.iter().fold(text, |text, (half, mended)| text.replace(half, mended));
    serde_json::from_str(&mended).unwrap()
}

fn events(fixture: &Fixture) -> (Value, Value) {
    let routes = if fixture.is_routed { fixtures::routes() } else { String::new() };
    let Ok(envelope) = opened(decide(&ingest(&routes, "", None), &fixture.webhook)) else {
        panic!("{} does not page", fixture.name)
    };
    (serde_json::from_slice(&envelope.body).unwrap(), read(fixture.plugin.as_ref().unwrap()))
}

#[test]
fn the_bridge_agrees_with_sentrys_own_plugin_but_for_the_differences_wanted() {
    let wanted: BTreeMap<_, _> = WANTED_DIFFERENCES.iter().copied().collect();
    let mut compared = 0;
    for fixture in fixtures::all().iter().filter(|fixture| fixture.plugin.is_some()) {
        let name = fixture.name.as_str();
        let (ours, plugins) = events(fixture);
        for field in ["service_key", "event_type", "incident_key", "client", "client_url", "contexts"] {
            assert_eq!(ours[field], plugins[field], "{field} of {name}");
        }
        assert_eq!(ours["service_key"].as_str().unwrap().chars().last(), fixture.key_end, "{name}");
        for (detail, value) in plugins["details"].as_object().unwrap() {
            assert_eq!(&ours["details"][detail], value, "details.{detail} of {name}");
        }

        let plugins_description = plugins["description"].as_str().unwrap();
        match wanted.get(name) {
            None => assert_eq!(ours["description"], plugins_description, "{name}"),
            Some(difference) => {
                let expected = difference.wanted(plugins_description, &read(&fixture.webhook));
                assert_eq!(ours["description"], json!(expected), "{name}");
                let raw = String::from_utf8(fixture.plugin.clone().unwrap()).unwrap();
                let is_mended = serde_json::from_str::<Value>(&raw).is_err();
                assert!(plugins_description != expected || is_mended, "{name} is no different: {difference:?}");
            }
        }
        compared += 1;
    }
    assert_eq!(compared, 28, "every event of the plugin is compared");
}

#[test]
fn the_plugin_sent_eight_details_and_all_of_them_are_always_there() {
    for fixture in fixtures::all() {
        let event = crate::event(&fixture.webhook);
        let details: Vec<_> = event["details"].as_object().unwrap().keys().take(8).cloned().collect();
        let eight = ["event_id", "project", "release", "platform", "culprit", "datetime", "url", "tags"];
        assert_eq!(details, eight, "{}", fixture.name);
        assert_eq!(event["service_key"], DEFAULT_KEY);
    }
}
