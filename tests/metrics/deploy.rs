//! The dashboard, the alert rules and the docs use metrics that exist.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::net::TcpListener;
use std::thread;

use pagerduty_sandbox::Fault;
use sentry_twin::{ORGANIZATION, SentryGeneration, TOKEN, Twin, World};
use serde_json::{Value, json};

use crate::support::{Bridge, PagerDuty, alert};
use crate::{promtool, scrape, wait_for};

/// The names of metrics in any text, without the suffixes of histograms.
fn metrics_named_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '_');
    let names = words.filter(|word| word.starts_with("bridge_"));
    names.map(|name| name.strip_suffix("_bucket").unwrap_or(name).to_owned()).collect()
}

/// All metrics: those of a bridge that has notified its fallback webhook of an outage, has delivered an event, whose canary
/// came back, and that has audited.
fn existing() -> BTreeSet<String> {
    let pagerduty = PagerDuty::with_fault(Fault::status(503));
    let chat = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", chat.local_addr().unwrap());
    thread::spawn(move || {
        let mut told = Vec::new();
        for connection in chat.incoming() {
            let mut connection = connection.unwrap();
            // It may have been given up meanwhile; then another comes.
            let _ = connection.write_all(b"HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n");
            // Closed before everything is read, it would be reset.
            told.push(connection);
        }
    });
    let mut world = World::new(SentryGeneration::Plugin);
    world.add_project("shop");
    world.holds_webhooks = true;
    let calls = "sentry.rules.actions.notify_event.NotifyEventAction";
    world.add_rule("shop", "All", &json!([{ "id": calls }]));
    let project = world.project("shop").unwrap();
    (project.hook_enabled, project.urls) = (true, vec!["http://127.0.0.1:9/sentry".to_owned()]);
    let twin = Twin::start(world).unwrap();
    let settings = [
        ("BRIDGE_FALLBACK_URL", url.as_str()),
        ("BRIDGE_WAITING_ALARM", "1s"),
        ("BRIDGE_CANARY_DSN", &*twin.dsn("shop")),
        ("BRIDGE_SENTRY_URL", &twin.url()),
        ("BRIDGE_SENTRY_ORG", ORGANIZATION),
        ("BRIDGE_SENTRY_API_TOKEN", TOKEN),
    ];
    let bridge = Bridge::start_with(&pagerduty.url(), &settings);
    bridge.queue(&alert(1, "Disk full"));
    wait_for(&bridge, "a canary", |samples| samples.is("bridge_canaries_sent_total{taken=\"yes\"}", 1.0));
    let canary = twin.world(|world| world.held[0].body.clone());
    assert_eq!(bridge.post(canary.as_bytes()).status, 202);
    wait_for(&bridge, "that the webhook was told", |samples| samples.is("bridge_fallback_outage", 1.0));
    pagerduty.clear_faults();
    wait_for(&bridge, "a delivery, the view of its key and an audit", |samples| {
        samples.get("bridge_events_delivered_total") == 1.0
            && !samples.of("bridge_pace_allowed_events").is_empty()
            && samples.0.contains_key("bridge_audit_last_run_timestamp_seconds")
    });
    let text = scrape(&bridge);
    text.lines().filter_map(|line| Some(line.strip_prefix("# TYPE ")?.split(' ').next()?.to_owned())).collect()
}

fn file(name: &str) -> String {
    std::fs::read_to_string(format!("{}/{name}", env!("CARGO_MANIFEST_DIR"))).unwrap()
}

/// The panels of the dashboard.
fn panels(dashboard: &Value) -> Vec<&Value> {
    dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row").collect()
}

#[test]
fn the_dashboard_the_alert_rules_and_the_docs_speak_of_metrics_that_exist_and_leave_out_none() {
    let existing = existing();
    let dashboard: Value = serde_json::from_str(&file("deploy/grafana-dashboard.json")).unwrap();
    let mut shown = BTreeSet::new();
    for panel in panels(&dashboard) {
        for target in panel["targets"].as_array().unwrap() {
            shown.append(&mut metrics_named_in(target["expr"].as_str().unwrap()));
        }
    }
    assert_eq!(shown, existing, "the dashboard shows what there is, and nothing else");
    let in_rules = metrics_named_in(&file("deploy/prometheus-alerts.yaml"));
    assert!(in_rules.len() > 8 && in_rules.is_subset(&existing), "{in_rules:#?}");
    let in_table: BTreeSet<_> = file("docs/metrics.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `bridge_"))
        .flat_map(|rest| metrics_named_in(&format!("bridge_{}", rest.split('|').next().unwrap())))
        // These exist only if several bridges share a queue; tests/cluster checks them.
        .filter(|metric| !metric.starts_with("bridge_cluster_"))
        .collect();
    assert_eq!(in_table, existing, "the table of docs/metrics.md says what there is, and nothing else");
}

#[test]
fn every_panel_of_the_dashboard_has_a_unit_a_description_and_queries_that_promtool_understands() {
    let dashboard: Value = serde_json::from_str(&file("deploy/grafana-dashboard.json")).unwrap();
    let source = json!({"type": "prometheus", "uid": "${datasource}"});
    let variables = dashboard["templating"]["list"].as_array().unwrap();
    assert!(variables.iter().any(|variable| variable["name"] == "datasource" && variable["type"] == "datasource"));
    let mut ids = BTreeSet::new();
    let mut rules = Vec::new();
    for panel in panels(&dashboard) {
        let title = panel["title"].as_str().unwrap();
        assert!(ids.insert(panel["id"].as_u64().unwrap()), "{title}");
        assert!(panel["description"].as_str().is_some_and(|text| text.ends_with('.')), "{title}");
        assert!(panel["fieldConfig"]["defaults"]["unit"].is_string(), "{title}");
        assert_eq!(panel["datasource"], source, "{title}");
        for target in panel["targets"].as_array().unwrap() {
            assert_eq!(target["datasource"], source, "{title}");
            let query = target["expr"].as_str().unwrap().replace("$__rate_interval", "5m");
            rules.push(json!({"record": format!("panel:query_{}", rules.len()), "expr": query}));
        }
    }
    assert!(rules.len() > 20);
    // JSON is valid YAML.
    let rules = BTreeMap::from([("groups", json!([{"name": "dashboard", "rules": rules}]))]);
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(serde_json::to_string(&rules).unwrap().as_bytes()).unwrap();
    promtool(&["check", "rules", file.path().to_str().unwrap()], "");
}

#[test]
fn the_alert_rules_fire_when_they_have_to_and_only_then() {
    promtool(&["check", "rules", "deploy/prometheus-alerts.yaml"], "");
    let said = promtool(&["test", "rules", "deploy/prometheus-alerts.test.yaml"], "");
    assert!(said.contains("SUCCESS"), "{said}");
}
