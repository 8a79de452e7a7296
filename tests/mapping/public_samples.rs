//! Published bodies of others. They are not part of this repository; the tests read them from a folder beside it if it
//! exists.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use sentry_pagerduty_bridge::envelope::EnqueueRequest;
use sentry_pagerduty_bridge::ingest::{Decision, Policy, Webhook};
use sentry_pagerduty_bridge::pagerduty::render;
use serde_json::Value;

use crate::{decide, ingest_of, opened, received_at};

/// The expected decision on each body: the event's type and incident key, `ignored`, or `rejected`.
const EXPECTED: &[(&str, &str)] = &[
    ("alerta_test_sentry_0.json", "trigger legacy"),
    ("alerta_test_sentry_1.json", "trigger legacy"),
    ("docs_activity_alert_2026.json", "ignored"),
    ("docs_comment_created.json", "ignored"),
    ("docs_event_alert_triggered_2019.json", "trigger 1117540176"),
    ("docs_installation_created.json", "ignored"),
    ("docs_issue_created_2025.json", "ignored"),
    ("docs_metric_alert_resolved.json", "follow resolve incident_5_1"),
    ("docs_seer_root_cause_started.json", "ignored"),
    ("ipe_mock_comment_updated.json", "ignored"),
    ("ipe_mock_event_alert_triggered__with_alert_rule_action.json", "trigger 123"),
    ("ipe_mock_installation_deleted.json", "ignored"),
    ("ipe_mock_issue_assigned.json", "ignored"),
    ("ipe_mock_metric_alert_critical__with_alert_rule_action.json", "trigger incident_789"),
    ("ipe_mock_metric_alert_warning.json", "trigger incident_789"),
    ("timterry_java_exception_2017.json", "trigger legacy"),
    ("zulip_event_for_message_python.json", "trigger 1635261062"),
    ("zulip_issue_assigned_to_team.json", "ignored"),
    ("zulip_issue_created_for_exception.json", "ignored"),
    ("zulip_issue_ignored.json", "ignored"),
    ("zulip_issue_resolved.json", "follow resolve 1638821441"),
    ("zulip_raven_sdk_python_event.json", "trigger legacy"),
    ("zulip_sample_event_through_plugin.json", "trigger legacy"),
    ("zulip_webhook_event_for_exception_javascript.json", "trigger legacy"),
    ("zulip_webhook_event_for_exception_python.json", "trigger legacy"),
];

/// The same for a file that holds only the `data` of several bodies, by resource and action.
const EXPECTED_OF_DATA: &[(&str, &str)] = &[
    ("comment.created", "ignored"),
    ("error.created", "ignored"),
    ("event_alert.triggered", "trigger 123456"),
    ("metric_alert.critical", "trigger incident_12345_1"),
    ("preprod_artifact.size_analysis_completed", "ignored"),
    ("seer.root_cause_started", "ignored"),
];
const DATA: &str = "sentry_tests_data_payloads_2026.json";

fn decision_text(decision: &Decision) -> String {
    match decision {
        Decision::Enqueue(enqueue) => {
            let follows = if matches!(**enqueue, EnqueueRequest::FollowUp(_)) { "follow " } else { "" };
            format!("{follows}{} {}", enqueue.event_type(), enqueue.incident_key())
        }
        Decision::Ignored(_) => "ignored".to_owned(),
        Decision::Rejected(_) => "rejected".to_owned(),
    }
}

#[test]
fn every_published_body_gets_the_decision_it_should() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/payloads/public");
    let Ok(entries) = fs::read_dir(folder) else { return };
    let ingest = ingest_of("", Policy::default());
    let mut expected: BTreeMap<_, _> = EXPECTED.iter().copied().collect();
    let bodies =
        entries.map(|entry| entry.unwrap().path()).filter(|path| path.extension().is_some_and(|e| e == "json"));
    for path in bodies {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let body = fs::read(&path).unwrap();
        let parsed: Value = serde_json::from_slice(&body).unwrap();
        if name == DATA {
            let hooks: BTreeMap<_, _> = EXPECTED_OF_DATA.iter().copied().collect();
            for (hook, data) in parsed.as_object().unwrap() {
                let (resource, action) = hook.split_once('.').unwrap();
                let body = serde_json::json!({ "action": action, "data": data }).to_string();
                let webhook = Webhook::of_body(body.as_bytes(), received_at());
                let by_header = ingest.decide(&Webhook { resource: Some(resource), ..webhook });
                assert_eq!(decision_text(&by_header), hooks[hook.as_str()], "{hook}");
                assert_eq!(ingest.decide(&webhook), by_header, "{hook} by shape");
            }
            continue;
        }
        let decision = decide(&ingest, &body);
        let legacy = format!("trigger {}", parsed["id"].as_str().unwrap_or_default());
        let expected =
            expected.remove(name.as_str()).unwrap_or_else(|| panic!("nobody said what {name} should become"));
        assert_eq!(decision_text(&decision), expected.replace("trigger legacy", &legacy), "{name}");
        if opened(decision).is_ok() {
            let event = ingest.trigger_of(&Webhook::of_body(&body, received_at())).unwrap();
            assert_eq!(render(&event).cuts, [], "{name}");
        }
    }
    assert_eq!(expected.keys().collect::<Vec<_>>(), Vec::<&&str>::new(), "these are gone");
}
