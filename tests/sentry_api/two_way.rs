//! Two-way resolve: what people do to incidents in the sandbox is sent by its webhooks, and done to the issues in the twin
//! of Sentry.

use std::fmt::Write as _;
use std::time::{Duration, Instant};

use chrono::Utc;
use hmac::{Hmac, KeyInit, Mac};
use pagerduty_sandbox::{ActionKind, Agent, IncidentState, ManualAction, Options, Subscription};
use sentry_twin::{ORGANIZATION, SentryGeneration, TOKEN as API_TOKEN, Twin, TwinFaultKind};
use serde_json::{Value, json};
use sha2::Sha256;

use crate::in_process::eventually;
use crate::support::{Answer, Bridge, KEY, PATIENCE, PagerDuty, TOKEN, alert, post};
use crate::twin::twin;

const SECRET: &str = "the-secret-of-the-webhook-subscription";

struct Setup {
    twin: Twin,
    pagerduty: PagerDuty,
    bridge: Bridge,
    issue: u64,
}

impl Setup {
    /// A bridge with an open incident that receives PagerDuty's webhooks.
    fn new(generation: SentryGeneration, settings: &[(&str, &str)]) -> Self {
        let twin = twin(generation, |world| {
            world.add_project("shop");
        });
        let (pagerduty, url) = (PagerDuty::start(), twin.url());
        let usual = [
            ("BRIDGE_SENTRY_URL", url.as_str()),
            ("BRIDGE_SENTRY_ORG", ORGANIZATION),
            ("BRIDGE_SENTRY_API_TOKEN", API_TOKEN),
            ("BRIDGE_CATCH_UP", "off"),
            ("BRIDGE_PAGERDUTY_WEBHOOK_SECRET", SECRET),
        ];
        let settings: Vec<_> = usual.into_iter().chain(settings.iter().copied()).collect();
        let bridge = Bridge::start_with(&pagerduty.url(), &settings);
        let issue = twin.world(|world| world.add_issue("shop", "Payment failed", Utc::now().timestamp() - 60));
        let setup = Self { twin, pagerduty, bridge, issue };
        setup.subscribe();
        setup.bridge.queue(&alert(issue, "Payment failed"));
        setup.pagerduty.wait_for_accepted(1);
        setup
    }

    /// Sends PagerDuty's and Sentry's webhooks to the current address of the bridge.
    fn subscribe(&self) {
        let url = format!("http://{}/pagerduty", self.bridge.address);
        // There are two secrets, as during a rotation.
        let secrets = vec!["another-secret-altogether".to_owned(), SECRET.to_owned()];
        let webhooks = vec![Subscription { url, secrets }];
        self.pagerduty.set_options(Options { webhooks, ..self.pagerduty.options() });
        let hook = format!("http://{}/sentry/{TOKEN}", self.bridge.address);
        self.twin.world(|world| {
            world.apps = vec![
                json!({"uuid": "1", "slug": "bridge-1", "webhookUrl": hook, "events": ["issue"], "webhookEvents": []}),
            ];
        });
    }

    fn act(&self, kind: ActionKind, agent: Agent) {
        let action = ManualAction { service_key: KEY.to_owned(), incident_key: self.issue.to_string(), kind, agent };
        assert!(self.pagerduty.act(&action), "{action:?}");
    }

    /// Waits until the issue has this status in Sentry.
    #[track_caller]
    fn wait_for_issue(&self, status: &str) {
        let deadline = Instant::now() + PATIENCE;
        while self.twin.world(|world| world.issue(self.issue).unwrap()["status"] != status) {
            assert!(Instant::now() < deadline, "not {status}: {:#?}", self.bridge.process.stderr.all());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until PagerDuty's webhooks of these types, and no others, were answered 202.
    #[track_caller]
    fn wait_for_webhooks(&self, types: &[&str]) {
        self.pagerduty.wait_for(&format!("{types:?}"), |records| {
            let accepted = records.webhook_attempts().iter().filter(|attempt| attempt.status == Some(202));
            accepted.map(|attempt| attempt.event_type.as_str()).eq(types.iter().copied())
        });
    }

    #[track_caller]
    fn wait_for_sample(&self, sample: &str) {
        let has = || String::from_utf8(self.bridge.get("/metrics").body).unwrap().contains(&format!("{sample}\n"));
        eventually(sample, has);
    }

    fn issue_path(&self) -> String {
        if self.twin.world(|world| world.generation == SentryGeneration::Plugin) {
            format!("PUT /api/0/issues/{}/", self.issue)
        } else {
            format!("PUT /api/0/organizations/{ORGANIZATION}/issues/{}/", self.issue)
        }
    }
}

#[test]
fn a_person_who_resolves_an_incident_resolves_its_issue_and_nothing_goes_round() {
    for generation in [SentryGeneration::Plugin, SentryGeneration::Apps, SentryGeneration::Workflows] {
        let setup = Setup::new(generation, &[]);
        setup.act(ActionKind::Resolve, Agent::Person);
        setup.wait_for_issue("resolved");
        setup.wait_for_sample("bridge_issue_updates_total{outcome=\"done\"} 1");
        if generation != SentryGeneration::Plugin {
            // Sentry sends a webhook about the change, and the bridge sends a resolve, which PagerDuty ignores.
            setup.pagerduty.wait_for("the echo", |records| records.counters().dropped_resolves == 1);
        }
        setup.wait_for_webhooks(&["incident.triggered", "incident.resolved"]);
        assert_eq!(setup.twin.changes(), [setup.issue_path()], "{generation:?}");
        let incident = setup.pagerduty.incidents().remove(0);
        assert_eq!((incident.opened, incident.state), (1, IncidentState::Resolved), "{incident:#?}");

        // A new alert opens a new incident.
        setup.bridge.queue(&alert(setup.issue + 1, "Payment failed"));
        setup.pagerduty.wait_for("a new incident", |records| records.counters().opened == 2);
    }
}

#[test]
fn a_reopened_incident_unresolves_its_issue_where_that_is_wanted_and_nobody_is_paged_for_it() {
    let setup = Setup::new(SentryGeneration::Workflows, &[("BRIDGE_PAGERDUTY_REOPEN", "on")]);
    setup.act(ActionKind::Resolve, Agent::Person);
    setup.wait_for_issue("resolved");
    setup.pagerduty.wait_for("the echo", |records| records.counters().dropped_resolves == 1);
    // The bridge has stored that the incident is closed.
    setup.wait_for_sample("bridge_queue_events{state=\"waiting\"} 0");
    setup.act(ActionKind::Reopen, Agent::Person);
    setup.wait_for_issue("unresolved");
    setup.bridge.wait_for_log("the bridge itself unresolved the issue");
    setup.wait_for_sample("bridge_issue_updates_total{outcome=\"done\"} 2");
    assert_eq!(setup.twin.changes(), [setup.issue_path(), setup.issue_path()]);
    let counters = setup.pagerduty.counters();
    assert_eq!((counters.opened, counters.logged), (1, 0), "{counters:?}");
    // The reopened incident is resolved when Sentry resolves its issue.
    let issue = json!({"id": setup.issue.to_string(), "title": "Payment failed, again"});
    let body = json!({"action": "resolved", "data": {"issue": issue}}).to_string();
    let path = format!("/sentry/{TOKEN}");
    let answer = post(setup.bridge.address, &path, &[("Sentry-Hook-Resource", "issue")], body.as_bytes());
    assert_eq!(answer.status_and_json().1["status"], "queued");
    setup.pagerduty.wait_for("its resolve", |records| records.counters().resolved == 1);

    let setup = Setup::new(SentryGeneration::Workflows, &[]);
    setup.act(ActionKind::Resolve, Agent::Person);
    setup.wait_for_issue("resolved");
    setup.act(ActionKind::Reopen, Agent::Person);
    setup.bridge.wait_for_log("BRIDGE_PAGERDUTY_REOPEN is off");
    assert_eq!(setup.twin.changes(), [setup.issue_path()]);
}

#[test]
fn what_the_bridge_or_an_automation_did_changes_nothing_in_sentry() {
    let setup = Setup::new(SentryGeneration::Workflows, &[]);
    setup.act(ActionKind::Acknowledge, Agent::Person);
    setup.act(ActionKind::Resolve, Agent::Automation);
    setup.wait_for_webhooks(&["incident.triggered", "incident.acknowledged", "incident.resolved"]);

    // Sentry resolves another issue, and the bridge resolves its incident.
    let other = setup.issue + 7;
    setup.bridge.queue(&alert(other, "Payment failed"));
    let issue = json!({"action": "resolved", "data": {"issue": {"id": other.to_string(), "title": "Payment failed"}}});
    let headers = [("Sentry-Hook-Resource", "issue")];
    let path = format!("/sentry/{TOKEN}");
    assert_eq!(post(setup.bridge.address, &path, &headers, issue.to_string().as_bytes()).status, 202);
    setup.pagerduty.wait_for("its webhook", |records| {
        let answers: Vec<_> = records.webhook_attempts().iter().map(|attempt| attempt.answer.as_str()).collect();
        answers.len() == 5 && answers[4].contains("the change was made by `inbound_integration_reference`")
    });
    assert_eq!(setup.twin.changes(), Vec::<String>::new());
    setup.wait_for_sample("bridge_pagerduty_webhooks_total{answer=\"ignored\"} 5");
}

#[test]
fn what_was_answered_is_done_whatever_happens_to_bridge_and_sentry() {
    let mut setup = Setup::new(SentryGeneration::Apps, &[]);
    setup.twin.world(|world| world.inject("/issues/", 2, TwinFaultKind::Status(403)));
    setup.act(ActionKind::Resolve, Agent::Person);
    setup.wait_for_webhooks(&["incident.triggered", "incident.resolved"]);
    setup.bridge.process.kill();
    setup.bridge.restart();
    setup.subscribe();
    setup.wait_for_issue("resolved");
    setup.wait_for_sample("bridge_issue_updates_total{outcome=\"done\"} 1");
    assert_eq!(setup.twin.changes(), [setup.issue_path()]);
}

#[test]
fn a_proxy_that_answers_404_for_all_of_sentry_ends_no_update_but_an_issue_that_is_gone_does() {
    let setup = Setup::new(SentryGeneration::Apps, &[]);
    setup.twin.world(|world| world.inject("/api/0/", 10_000, TwinFaultKind::Status(404)));
    setup.act(ActionKind::Resolve, Agent::Person);
    setup.bridge.wait_for_log("which is retried");
    setup.twin.world(|world| world.faults.clear());
    setup.wait_for_issue("resolved");
    setup.wait_for_sample("bridge_issue_updates_total{outcome=\"done\"} 1");

    for generation in [SentryGeneration::Plugin, SentryGeneration::Workflows] {
        let setup = Setup::new(generation, &[]);
        setup.twin.world(|world| world.delete_issue(setup.issue));
        setup.act(ActionKind::Resolve, Agent::Person);
        setup.wait_for_sample("bridge_issue_updates_total{outcome=\"not_needed\"} 1");
    }
}

#[test]
fn a_resolve_that_waits_for_sentry_is_not_made_any_more_once_its_incident_was_reopened() {
    let setup = Setup::new(SentryGeneration::Apps, &[]);
    setup.twin.world(|world| world.inject("/issues/", 10_000, TwinFaultKind::Status(403)));
    setup.act(ActionKind::Resolve, Agent::Person);
    setup.bridge.wait_for_log("which is retried");
    setup.act(ActionKind::Reopen, Agent::Person);
    setup.bridge.wait_for_log("BRIDGE_PAGERDUTY_REOPEN is off");
    setup.wait_for_sample("bridge_issue_updates_total{outcome=\"superseded\"} 1");
    setup.twin.world(|world| world.faults.clear());
    assert_eq!(setup.twin.changes(), Vec::<String>::new());
    // A later change is made.
    setup.act(ActionKind::Resolve, Agent::Person);
    setup.wait_for_issue("resolved");
    assert_eq!(setup.twin.changes(), [setup.issue_path()]);
}

/// Posts a webhook of PagerDuty, signed with `secret`.
fn webhook(setup: &Setup, secret: &str, id: &str, body: &Value) -> Answer {
    let body = body.to_string();
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap().chain_update(&body).finalize().into_bytes();
    let signature = mac.iter().fold("v1=".to_owned(), |mut text, byte| {
        write!(text, "{byte:02x}").unwrap();
        text
    });
    let headers = [("X-PagerDuty-Signature", signature.as_str()), ("X-Webhook-Id", id)];
    post(setup.bridge.address, "/pagerduty", &headers, body.as_bytes())
}

fn resolved(incident_key: &str) -> Value {
    let agent = json!({"id": "PPERSON", "type": "user_reference", "summary": "Kim"});
    let data = json!({"id": "Q1", "type": "incident", "incident_key": incident_key});
    let event = json!({
        "id": "01EVENT", "event_type": "incident.resolved", "resource_type": "incident", "occurred_at": Utc::now(), "agent": agent,
        "client": null, "data": data,
    });
    json!({"event": event})
}

#[test]
fn a_webhook_is_taken_by_its_signature_and_once_and_never_refused_for_what_it_says() {
    let setup = Setup::new(SentryGeneration::Apps, &[]);
    let key = setup.issue.to_string();
    let wrong = webhook(&setup, "the-secret-of-a-stranger", "01A", &resolved(&key));
    assert_eq!(wrong.status, 401);
    assert!(
        wrong.status_and_json().1["reason"].as_str().unwrap().contains("BRIDGE_PAGERDUTY_WEBHOOK_SECRET"),
        "{wrong:?}"
    );
    assert_eq!(post(setup.bridge.address, "/pagerduty", &[], resolved(&key).to_string().as_bytes()).status, 401);
    assert_eq!(setup.bridge.get("/pagerduty").status, 405);

    for (id, body, reason) in [
        ("01B", resolved("99999"), "has opened no incident 99999"),
        ("01C", resolved("sentry-pagerduty-bridge/silence"), "does not belong to an issue"),
        ("01D", json!({"event": 7}), "the documented format"),
        ("01E", json!({"event": {"id": "1", "event_type": "pagey.ping", "data": {"message": "Hello"}}}), "is a ping"),
    ] {
        let (status, said) = webhook(&setup, SECRET, id, &body).status_and_json();
        assert_eq!((status, &said["status"]), (202, &json!("ignored")), "{said}");
        assert!(said["reason"].as_str().unwrap().contains(reason), "{said}");
    }
    let (status, said) = webhook(&setup, SECRET, "01F", &resolved(&key)).status_and_json();
    assert_eq!((status, said), (202, json!({"status": "queued", "incident_key": key, "issue": "resolve"})));
    setup.wait_for_issue("resolved");
    // A person unresolves it in Sentry, and PagerDuty sends its webhook again.
    setup.wait_for_sample("bridge_issue_updates_total{outcome=\"done\"} 1");
    setup.twin.world(|world| world.calls.clear());
    let (status, said) = webhook(&setup, SECRET, "01F", &resolved(&key)).status_and_json();
    assert_eq!((status, &said["status"]), (202, &json!("ignored")), "{said}");
    assert!(said["reason"].as_str().unwrap().contains("duplicate"), "{said}");
    // A webhook that asks for the state that the issue already has changes nothing.
    assert_eq!(webhook(&setup, SECRET, "01G", &resolved(&key)).status_and_json().1["status"], "queued");
    setup.wait_for_sample("bridge_issue_updates_total{outcome=\"not_needed\"} 1");
    assert_eq!(setup.twin.changes(), Vec::<String>::new());
}

#[test]
fn without_a_secret_there_is_no_such_address() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    assert_eq!(post(bridge.address, "/pagerduty", &[("X-PagerDuty-Signature", "v1=00")], b"{}").status, 404);
    assert_eq!(bridge.get("/pagerduty").status, 404);
}
