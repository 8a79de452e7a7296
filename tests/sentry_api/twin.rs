//! A twin of Sentry for a test, and the program with settings for it.

use std::path::Path;

use sentry_twin::{ORGANIZATION, SentryGeneration, TOKEN, Twin, World};
use serde_json::{Value, json};

use crate::support::{PATIENCE, Run};

pub(crate) const BRIDGE: &str = "https://bridge.example.com";
pub(crate) const WEBHOOK_TOKEN: &str = "webhook-token-for-tests-alone";

/// The URL of the bridge for legacy webhooks.
pub(crate) fn legacy_url() -> String {
    format!("{BRIDGE}/sentry/{WEBHOOK_TOKEN}")
}

/// The action of a rule that calls legacy webhooks or an integration.
pub(crate) fn service(service: &str) -> Value {
    json!([{"id": "sentry.rules.actions.notify_event_service.NotifyEventServiceAction", "service": service}])
}

/// The action of a workflow that calls an integration.
pub(crate) fn app_action(id: u64) -> Value {
    json!([{
        "id": "77", "type": "sentry_app", "integrationId": null, "data": {}, "status": "active",
        "config": {"targetType": "sentry_app", "targetIdentifier": id.to_string(), "targetDisplay": null},
    }])
}

/// Starts a twin with a world that `make` has changed.
pub(crate) fn twin(generation: SentryGeneration, make: impl FnOnce(&mut World)) -> Twin {
    let mut world = World::new(generation);
    make(&mut world);
    Twin::start(world).unwrap()
}

/// Runs the program against `twin` in an empty directory.
pub(crate) fn run(twin: &Twin, args: &[&str]) -> Run {
    run_with(twin, args, &[])
}

/// Like [`run`], with settings that override the usual ones.
pub(crate) fn run_with(twin: &Twin, args: &[&str], settings: &[(&str, &str)]) -> Run {
    run_in(tempfile::tempdir().unwrap().path(), twin, args, settings)
}

/// Like [`run_with`], in this directory.
pub(crate) fn run_in(home: &Path, twin: &Twin, args: &[&str], settings: &[(&str, &str)]) -> Run {
    let url = twin.url();
    let usual = [
        ("BRIDGE_SENTRY_URL", url.as_str()),
        ("BRIDGE_SENTRY_ORG", ORGANIZATION),
        ("BRIDGE_SENTRY_API_TOKEN", TOKEN),
        ("BRIDGE_WEBHOOK_TOKEN", WEBHOOK_TOKEN),
    ];
    let output = assert_cmd::Command::new(env!("CARGO_BIN_EXE_sentry-pagerduty-bridge"))
        .args(args)
        .env_clear()
        .envs(usual.into_iter().chain(settings.iter().copied()))
        .current_dir(home)
        .timeout(4 * PATIENCE)
        .output()
        .unwrap();
    let run = Run {
        code: output.status.code(),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    for printed in [&run.stdout, &run.stderr] {
        assert!(!printed.contains(TOKEN) && !printed.contains(WEBHOOK_TOKEN), "a secret is printed: {printed}");
    }
    run
}

/// The JSON that `audit --json` prints.
#[track_caller]
pub(crate) fn document(run: &Run) -> Value {
    serde_json::from_str(&run.stdout).unwrap_or_else(|_| panic!("no JSON: {run:?}"))
}

/// Kind, project and alert of every finding.
#[track_caller]
pub(crate) fn findings(run: &Run) -> Vec<String> {
    let text = |value: &Value| value.as_str().unwrap_or("-").to_owned();
    let all = document(run)["findings"].as_array().unwrap().clone();
    all.iter().map(|one| [text(&one["kind"]), text(&one["project"]), text(&one["alert"])].join(" ")).collect()
}
