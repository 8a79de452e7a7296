//! Incidents whose resolve webhook never came are resolved by querying Sentry, with a real bridge between the twin of
//! Sentry and the sandbox.

use std::time::{Duration, Instant};

use chrono::Utc;
use sentry_twin::{ORGANIZATION, SentryGeneration, TOKEN, Twin, TwinFaultKind};
use serde_json::json;

use crate::support::{Bridge, PATIENCE, PagerDuty, alert};
use crate::twin::twin;

fn shop(generation: SentryGeneration) -> Twin {
    twin(generation, |world| {
        world.add_project("shop");
    })
}

fn bridge(twin: &Twin, pagerduty: &PagerDuty, settings: &[(&str, &str)]) -> Bridge {
    let url = twin.url();
    let api = [
        ("BRIDGE_SENTRY_URL", url.as_str()),
        ("BRIDGE_SENTRY_ORG", ORGANIZATION),
        ("BRIDGE_SENTRY_API_TOKEN", TOKEN),
        ("BRIDGE_CATCH_UP", "off"),
    ];
    let settings: Vec<_> = api.into_iter().chain(settings.iter().copied()).collect();
    Bridge::start_with(&pagerduty.url(), &settings)
}

/// A bridge that has opened the incident of an issue of `shop`; returns both.
fn opened(twin: &Twin, pagerduty: &PagerDuty, settings: &[(&str, &str)]) -> (Bridge, u64) {
    let bridge = bridge(twin, pagerduty, settings);
    let issue = twin.world(|world| world.add_issue("shop", "Payment failed", now() - 60));
    bridge.queue(&alert(issue, "Payment failed"));
    pagerduty.wait_for_accepted(1);
    (bridge, issue)
}

fn now() -> i64 {
    Utc::now().timestamp()
}

/// Calls `meanwhile` while the bridge is stopped. The restarted bridge queries Sentry about open incidents at once.
#[track_caller]
fn restart_after(bridge: &mut Bridge, meanwhile: impl FnOnce()) {
    assert!(bridge.terminate("TERM").success());
    meanwhile();
    bridge.restart();
}

/// Waits until the metrics count `number` issues with this status.
#[track_caller]
fn wait_for_checks(bridge: &Bridge, status: &str, number: u64) {
    let line = format!("bridge_issue_checks_total{{status=\"{status}\"}} {number}\n");
    let deadline = Instant::now() + PATIENCE;
    while !String::from_utf8(bridge.get("/metrics").body).unwrap().contains(&line) {
        assert!(Instant::now() < deadline, "{line} did not come: {:#?}", bridge.process.stderr.all());
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Incident key and description of every applied resolve.
fn resolves(pagerduty: &PagerDuty) -> Vec<(String, String)> {
    let entries = pagerduty.journal().into_iter();
    let resolves = entries.filter(|entry| entry.text("event_type") == Some("resolve"));
    let text = |text: Option<&str>| text.unwrap_or_default().to_owned();
    resolves.map(|entry| (text(entry.text("incident_key")), text(entry.text("description")))).collect()
}

#[test]
fn a_resolve_that_was_lost_in_a_gap_is_found_in_every_generation() {
    for generation in [SentryGeneration::Plugin, SentryGeneration::Apps, SentryGeneration::Workflows] {
        let (twin, pagerduty) = (shop(generation), PagerDuty::start());
        let (mut bridge, issue) = opened(&twin, &pagerduty, &[]);
        restart_after(&mut bridge, || twin.world(|world| world.resolve(issue, now() + 1)));
        pagerduty.wait_for_accepted(2);
        let expected = (issue.to_string(), "Resolved in Sentry: Payment failed".to_owned());
        assert_eq!(resolves(&pagerduty), [expected], "{generation:?}");
        // Closed incidents are not queried again.
        let other = twin.world(|world| world.add_issue("shop", "Another", now() - 60));
        bridge.queue(&alert(other, "Another"));
        pagerduty.wait_for_accepted(3);
        restart_after(&mut bridge, || twin.world(|world| world.calls.clear()));
        wait_for_checks(&bridge, "open", 1);
        assert!(!twin.calls().iter().any(|call| call.path.ends_with(&format!("/issues/{issue}/"))));
        assert_eq!(bridge.end().len(), 3);
    }
}

#[test]
fn an_issue_that_is_open_or_archived_keeps_its_incident() {
    let (twin, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let (mut bridge, issue) = opened(&twin, &pagerduty, &[]);
    restart_after(&mut bridge, || ());
    wait_for_checks(&bridge, "open", 1);
    restart_after(&mut bridge, || twin.world(|world| world.issue(issue).unwrap()["status"] = json!("ignored")));
    wait_for_checks(&bridge, "open", 1);
    assert!(resolves(&pagerduty).is_empty());
}

#[test]
fn an_issue_that_was_deleted_is_resolved_if_this_sentry_ever_had_it() {
    let (twin, pagerduty) = (shop(SentryGeneration::Apps), PagerDuty::start());
    let (mut bridge, issue) = opened(&twin, &pagerduty, &[]);
    // An issue of another Sentry or of another organization.
    bridge.queue(&alert(99_999, "Somebody else's"));
    pagerduty.wait_for_accepted(2);
    restart_after(&mut bridge, || ());
    wait_for_checks(&bridge, "open", 2);
    restart_after(&mut bridge, || twin.world(|world| world.delete_issue(issue)));
    pagerduty.wait_for_accepted(3);
    wait_for_checks(&bridge, "open", 1);
    let expected = (issue.to_string(), "Resolved in Sentry: the issue was deleted".to_owned());
    assert_eq!(resolves(&pagerduty), [expected]);
}

#[test]
fn a_merged_issue_follows_its_parent_and_goes_where_that_has_an_incident() {
    let (twin, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let (mut bridge, child) = opened(&twin, &pagerduty, &[]);
    let parent = twin.world(|world| {
        let parent = world.add_issue("shop", "Payment failed, as ever", now() - 60);
        world.merge(child, parent);
        parent
    });
    restart_after(&mut bridge, || ());
    wait_for_checks(&bridge, "open", 1);
    assert!(resolves(&pagerduty).is_empty(), "nobody else is paged for the parent");

    bridge.queue(&alert(parent, "Payment failed, as ever"));
    pagerduty.wait_for_accepted(2);
    restart_after(&mut bridge, || ());
    pagerduty.wait_for_accepted(3);
    let line = format!("Resolved in Sentry: merged into issue {parent}");
    assert_eq!(resolves(&pagerduty), [(child.to_string(), line)]);
}

#[test]
fn firings_of_metric_alerts_end_in_both_generations() {
    let metric = |identifier: &str| {
        json!({
            "action": "critical", "installation": {"uuid": "1"},
            "data": {
                "metric_alert": {
                    "id": identifier, "identifier": identifier, "organization_id": "1", "status": 20, "title": "CPU",
                    "alert_rule": {"id": "3", "name": "CPU"}, "projects": ["shop"],
                },
                "description_title": "Critical: CPU", "description_text": "99 %",
                "web_url": "https://sentry.example.test/organizations/acme/alerts/1/",
            },
        })
        .to_string()
    };
    for (generation, identifier) in [(SentryGeneration::Apps, "42"), (SentryGeneration::Workflows, "10000000007")] {
        let (twin, pagerduty) = (shop(generation), PagerDuty::start());
        let mut bridge = bridge(&twin, &pagerduty, &[]);
        let set = |is_over: bool| {
            twin.world(|world| {
                world.metric_incidents = vec![(identifier.to_owned(), is_over)];
                world.detectors = vec![json!({"id": "5", "projectId": "1", "type": "metric_issue", "enabled": true})];
                world.open_periods = vec![("5".to_owned(), 7, is_over.then(now)), ("5".to_owned(), 6, Some(now()))];
            });
        };
        set(false);
        bridge.queue(metric(identifier).as_bytes());
        pagerduty.wait_for_accepted(1);
        restart_after(&mut bridge, || ());
        wait_for_checks(&bridge, "open", 1);
        assert!(resolves(&pagerduty).is_empty(), "{generation:?}");
        restart_after(&mut bridge, || set(true));
        pagerduty.wait_for_accepted(2);
        assert_eq!(resolves(&pagerduty)[0].0, format!("incident_1_{identifier}"));
    }
}

#[test]
fn a_sentry_that_throttles_or_fails_is_asked_again_and_nothing_is_resolved_for_it() {
    for fault in [TwinFaultKind::Throttled(1), TwinFaultKind::Status(502), TwinFaultKind::BrownOut] {
        let (twin, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
        let (mut bridge, issue) = opened(&twin, &pagerduty, &[]);
        // An issue that Sentry never showed is not considered deleted, whatever Sentry answers.
        restart_after(&mut bridge, || ());
        wait_for_checks(&bridge, "open", 1);
        restart_after(&mut bridge, || {
            twin.world(|world| {
                world.resolve(issue, now() + 1);
                world.inject(&format!("/issues/{issue}/"), 1, fault.clone());
            });
        });
        pagerduty.wait_for_accepted(2);
        let expected = (issue.to_string(), "Resolved in Sentry: Payment failed".to_owned());
        assert_eq!(resolves(&pagerduty), [expected], "{fault:?}");
    }
}

#[test]
fn an_issue_that_sentry_does_not_show_keeps_no_other_from_being_asked_for() {
    let (twin, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let (mut bridge, first) = opened(&twin, &pagerduty, &[]);
    let mut issues: Vec<u64> = (2..=7)
        .map(|number| {
            let issue = twin.world(|world| world.add_issue("shop", "Payment failed", now() - 60));
            bridge.queue(&alert(issue, "Payment failed"));
            pagerduty.wait_for_accepted(number);
            issue
        })
        .collect();
    issues.push(first);
    // Issues are queried in the order of their keys: the resolved one is the last.
    issues.sort_by_key(u64::to_string);
    let (issue, hidden) = issues.split_last().map(|(last, rest)| (*last, rest.to_vec())).unwrap();
    restart_after(&mut bridge, || {
        twin.world(|world| {
            world.resolve(issue, now() + 1);
            for issue in hidden {
                world.inject(&format!("/issues/{issue}/"), 1000, TwinFaultKind::Html);
            }
        });
    });
    pagerduty.wait_for_accepted(8);
    assert_eq!(resolves(&pagerduty)[0].0, issue.to_string());
}

#[test]
fn an_issue_whose_request_breaks_off_every_time_keeps_no_other_from_being_asked_for() {
    let (twin, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let (mut bridge, one) = opened(&twin, &pagerduty, &[]);
    let other = twin.world(|world| world.add_issue("shop", "Payment failed", now() - 60));
    bridge.queue(&alert(other, "Payment failed"));
    pagerduty.wait_for_accepted(2);
    // Issues are queried in the order of their keys.
    let (first, last) = if one.to_string() < other.to_string() { (one, other) } else { (other, one) };
    restart_after(&mut bridge, || {
        twin.world(|world| {
            world.resolve(last, now() + 1);
            world.inject(&format!("/issues/{first}/"), 1000, TwinFaultKind::HalfPage);
        });
    });
    pagerduty.wait_for_accepted(3);
    assert_eq!(resolves(&pagerduty)[0].0, last.to_string());
}

#[test]
fn with_resolve_off_nobody_is_asked() {
    let (twin, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let (mut bridge, _) = opened(&twin, &pagerduty, &[("BRIDGE_RESOLVE", "off")]);
    restart_after(&mut bridge, || twin.world(|world| world.calls.clear()));
    // The audit queries the projects some seconds after the start, long after issues would have been queried.
    let deadline = Instant::now() + PATIENCE;
    while !twin.calls().iter().any(|call| call.path.ends_with("/projects/")) {
        assert!(Instant::now() < deadline, "the audit did not come: {:#?}", bridge.process.stderr.all());
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(!twin.calls().iter().any(|call| call.path.contains("/issues/")), "{:?}", twin.calls());
}

#[test]
fn a_new_token_of_the_api_is_used_when_its_file_has_it() {
    let (twin, pagerduty) = (shop(SentryGeneration::Workflows), PagerDuty::start());
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), "token-that-sentry-knows-no-more").unwrap();
    let path = file.path().to_str().unwrap().to_owned();
    let settings = [("BRIDGE_SENTRY_API_TOKEN", ""), ("BRIDGE_SENTRY_API_TOKEN_FILE", path.as_str())];
    let (mut bridge, issue) = opened(&twin, &pagerduty, &settings);
    restart_after(&mut bridge, || twin.world(|world| world.resolve(issue, now() + 1)));
    bridge.wait_for_log("whether open incidents are resolved in Sentry is not known");
    assert!(resolves(&pagerduty).is_empty());
    std::fs::write(file.path(), TOKEN).unwrap();
    bridge.wait_for_log("BRIDGE_SENTRY_API_TOKEN changed and is in use from now on");
    pagerduty.wait_for_accepted(2);
    assert_eq!(resolves(&pagerduty)[0].0, issue.to_string());
}
