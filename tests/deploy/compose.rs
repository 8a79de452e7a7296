//! `deploy/compose.yaml` and the configuration of its Prometheus.

use serde_json::Value;

use super::{VERSION, instruction, setting, stop_time, yaml};

fn compose() -> Value {
    yaml("deploy/compose.yaml").remove(0)
}

pub(super) fn seconds(value: &Value) -> u64 {
    humantime::parse_duration(value.as_str().unwrap()).unwrap().as_secs()
}

#[test]
fn compose_runs_the_image_as_it_is_meant_to_run() {
    let compose = compose();
    let bridge = &compose["services"]["bridge"];
    assert_eq!(bridge["image"], format!("sentry-pagerduty-bridge:{VERSION}"));
    assert_eq!(bridge["read_only"], true);
    assert_eq!(bridge["cap_drop"][0], "ALL");
    let port = instruction("EXPOSE");
    assert_eq!(bridge["ports"][0], format!("127.0.0.1:{port}:{port}"));
    assert_eq!(instruction("VOLUME"), r#"["/data"]"#);
    assert_eq!(bridge["volumes"][0], "queue:/data");
    let environment = bridge["environment"].as_object().unwrap();
    for (name, path) in environment {
        assert!(setting(name).is_some(), "{name}");
        let secret = path.as_str().unwrap().strip_prefix("/run/secrets/").unwrap();
        assert!(bridge["secrets"].as_array().unwrap().iter().any(|given| given == secret), "{secret} is not given");
        assert!(compose["secrets"][secret]["file"].is_string(), "{secret} is not known");
    }
    assert_eq!(environment.len(), 4);
    for (name, service) in compose["services"].as_object().unwrap() {
        assert!(service["mem_limit"].is_string(), "{name} may take all of the memory");
    }
    assert!(seconds(&bridge["stop_grace_period"]) > stop_time(|_| None).as_secs());
}

#[test]
fn prometheus_reads_its_files_and_asks_the_bridge() {
    let compose = compose();
    let mounts: Vec<_> = compose["services"]["prometheus"]["volumes"].as_array().unwrap().iter().collect();
    let prometheus = yaml("deploy/prometheus.yml").remove(0);
    assert!(mounts.iter().any(|mount| *mount == "./prometheus.yml:/etc/prometheus/prometheus.yml:ro"));
    let rules = prometheus["rule_files"][0].as_str().unwrap();
    assert!(mounts.iter().any(|mount| **mount == format!("./prometheus-alerts.yaml:{rules}:ro")), "{mounts:?}");
    assert_eq!(prometheus["global"]["scrape_interval"], "15s");
    let target = prometheus["scrape_configs"][0]["static_configs"][0]["targets"][0].as_str().unwrap();
    let (host, port) = target.split_once(':').unwrap();
    assert!(compose["services"][host].is_object(), "{host} is no service");
    assert_eq!(port, instruction("EXPOSE"));
    let told = &prometheus["alerting"]["alertmanagers"][0]["static_configs"][0]["targets"][0];
    assert_eq!(told, "alertmanager:9093");
    let alertmanager = &compose["services"]["alertmanager"];
    assert_eq!(alertmanager["volumes"][0], "./alertmanager.yml:/etc/alertmanager/alertmanager.yml:ro");
    let receivers = yaml("deploy/alertmanager.yml").remove(0);
    let chosen = &receivers["route"]["receiver"];
    assert!(receivers["receivers"].as_array().unwrap().iter().any(|receiver| &receiver["name"] == chosen));
    // The default of `metrics_path` is `/metrics`.
    assert!(prometheus["scrape_configs"][0]["metrics_path"].is_null());
}
