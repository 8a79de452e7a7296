//! The deployments of several bridges: `deploy/kubernetes-ha/kubernetes.yaml`, `deploy/compose-ha.yaml` and its load
//! balancer.

use serde_json::{Value, json};

use super::compose::seconds;
use super::kubernetes::{SEVERAL, document, environment, maker, pod};
use super::{VERSION, instruction, read, setting, stop_time, yaml};

/// Asserts that the URL of the database is read from a file, and that the one that the image sets is unset.
fn uses_the_database_of_a_file(variable: impl Fn(&str) -> Option<String>) {
    assert!(read("Dockerfile").contains("ENV BRIDGE_DATABASE_URL=sqlite:"), "there is nothing to unset");
    assert_eq!(variable("BRIDGE_DATABASE_URL").as_deref(), Some(""));
    assert!(variable("BRIDGE_DATABASE_URL_FILE").unwrap().ends_with("/database_url"));
}

#[test]
fn kubernetes_keeps_as_many_bridges_ready_as_there_were() {
    let deployment = maker(SEVERAL);
    let replicas = deployment["spec"]["replicas"].as_u64().unwrap();
    assert!(replicas >= 2);
    let update = &deployment["spec"]["strategy"];
    assert_eq!(update, &json!({"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1, "maxUnavailable": 0}}));
    let labels = &deployment["spec"]["template"]["metadata"]["labels"];
    let budget = document(SEVERAL, "PodDisruptionBudget");
    assert_eq!(&budget["spec"]["selector"]["matchLabels"], labels);
    let evicted = budget["spec"]["maxUnavailable"].as_u64().unwrap();
    assert!(0 < evicted && evicted < replicas, "a node can be drained, and a bridge is left");
    let pod = pod(SEVERAL);
    let apart = &pod["affinity"]["podAntiAffinity"]["preferredDuringSchedulingIgnoredDuringExecution"];
    for (place, topology) in ["kubernetes.io/hostname", "topology.kubernetes.io/zone"].iter().enumerate() {
        let term = &apart[place]["podAffinityTerm"];
        assert_eq!((&term["topologyKey"], &term["labelSelector"]["matchLabels"]), (&json!(topology), labels));
    }
    // The queue is in PostgreSQL: two pods with one volume could not run on two nodes.
    assert!(deployment["spec"]["volumeClaimTemplates"].is_null());
    assert_eq!(pod["volumes"].as_array().unwrap().len(), 1);
    let variables = environment(&pod);
    uses_the_database_of_a_file(|name| Some(variables.iter().find(|(given, _)| given == name)?.1.clone()));
}

#[test]
fn kubernetes_sends_nothing_more_before_a_bridge_stops_to_serve() {
    let pod = pod(SEVERAL);
    let container = &pod["containers"][0];
    let probe = &container["readinessProbe"];
    let of_probe = |name: &str| probe[name].as_u64().unwrap();
    let noticed = (of_probe("periodSeconds") + of_probe("timeoutSeconds")) * of_probe("failureThreshold");
    let variables = environment(&pod);
    let (_, drain) = variables.iter().find(|(name, _)| name == "BRIDGE_SHUTDOWN_DRAIN").unwrap();
    let drain = humantime::parse_duration(drain).unwrap().as_secs();
    // Ten seconds for every node and the Ingress to learn of it.
    assert!(drain >= noticed + 10, "{drain} s of drain, {noticed} s until the probe has failed");
    // The image has no shell that a hook could run, and a hook would delay the signal.
    assert!(container["lifecycle"].is_null());
}

fn compose() -> Value {
    yaml("deploy/compose-ha.yaml").remove(0)
}

#[test]
fn compose_runs_two_bridges_alike_on_one_database() {
    let compose = compose();
    let services = &compose["services"];
    let (mut one, mut other) = (services["bridge-1"].clone(), services["bridge-2"].clone());
    for own in ["hostname", "ports"] {
        let (own_one, own_other) =
            (one.as_object_mut().unwrap().remove(own).unwrap(), other.as_object_mut().unwrap().remove(own).unwrap());
        assert_ne!(own_one, own_other, "{own}");
    }
    assert_eq!(one, other);
    assert_eq!(one["image"], format!("sentry-pagerduty-bridge:{VERSION}"));
    assert_eq!((&one["read_only"], &one["cap_drop"]), (&json!(true), &json!(["ALL"])));
    assert!(one["volumes"].is_null());
    assert_eq!(one["depends_on"], json!({"postgres": {"condition": "service_healthy"}}));
    let environment = one["environment"].as_object().unwrap();
    let given = |name: &str| environment.get(name).map(|value| value.as_str().unwrap().to_owned());
    uses_the_database_of_a_file(given);
    let mut files = 0;
    for (name, value) in environment {
        let known = setting(name).unwrap_or_else(|| panic!("{name} is no setting"));
        if name == known {
            continue;
        }
        let secret = value.as_str().unwrap().strip_prefix("/run/secrets/").unwrap();
        assert!(one["secrets"].as_array().unwrap().iter().any(|given| given == secret), "{secret} is not given");
        assert_eq!(compose["secrets"][secret]["file"], format!("./secrets/{secret}"));
        assert!(
            read("deploy/compose-ha.yaml").contains(&format!(">secrets/{secret}")),
            "nobody is told to make {secret}"
        );
        files += 1;
    }
    assert_eq!(files, 5);
    for (name, service) in services.as_object().unwrap() {
        assert!(service["mem_limit"].is_string(), "{name} may take all of the memory");
    }
    assert!(seconds(&one["stop_grace_period"]) > stop_time(given).as_secs());
}

#[test]
fn the_database_of_compose_is_the_one_that_the_bridges_are_told() {
    let compose = compose();
    let postgres = &compose["services"]["postgres"];
    let (user, database) = (&postgres["environment"]["POSTGRES_USER"], &postgres["environment"]["POSTGRES_DB"]);
    let (user, database) = (user.as_str().unwrap(), database.as_str().unwrap());
    let told = format!("postgres://{user}:$(cat secrets/database_password)@postgres/{database}");
    assert!(read("deploy/compose-ha.yaml").contains(&told), "{told}");
    assert_eq!(postgres["environment"]["POSTGRES_PASSWORD_FILE"], "/run/secrets/database_password");
    assert_eq!(postgres["secrets"], json!(["database_password"]));
    assert_eq!(postgres["volumes"], json!(["postgres:/var/lib/postgresql/data"]));
    assert!(compose["volumes"].as_object().unwrap().contains_key("postgres"));
}

/// The words of each line of a section of the load balancer's configuration.
fn section(name: &str) -> Vec<Vec<String>> {
    let text = read("deploy/haproxy.cfg");
    let mut lines = text.lines().skip_while(|line| *line != name).skip(1).peekable();
    assert!(lines.peek().is_some(), "there is no section {name}");
    let lines = lines.take_while(|line| line.is_empty() || line.starts_with(' '));
    lines.map(|line| line.split_whitespace().map(str::to_owned).collect()).collect()
}

/// The word after `name` in a line.
fn after<'a>(words: &'a [String], name: &str) -> &'a str {
    let place = words.iter().position(|word| word == name).unwrap_or_else(|| panic!("no {name} in {words:?}"));
    &words[place + 1]
}

#[test]
fn the_load_balancer_asks_each_bridge_whether_it_is_ready_and_repeats_no_webhook() {
    let compose = compose();
    let balancer = &compose["services"]["load-balancer"];
    assert_eq!(balancer["volumes"][0], "./haproxy.cfg:/usr/local/etc/haproxy/haproxy.cfg:ro");
    let port = instruction("EXPOSE");
    assert_eq!(balancer["ports"][0], format!("127.0.0.1:{port}:{port}"));
    assert!(section("frontend webhooks").contains(&vec!["bind".to_owned(), format!(":{port}")]));

    let backend = section("backend bridges");
    let line = |first: &str| backend.iter().find(|words| words.first().is_some_and(|word| word == first)).unwrap();
    assert!(backend.iter().any(|words| words.join(" ") == "http-check send meth GET uri /readyz"));
    assert!(backend.iter().any(|words| words.join(" ") == "http-check expect status 200"));
    let servers: Vec<_> = backend.iter().filter(|words| words.first().is_some_and(|word| word == "server")).collect();
    let addresses: Vec<_> = servers.iter().map(|words| words[2].clone()).collect();
    assert_eq!(addresses, [format!("bridge-1:{port}"), format!("bridge-2:{port}")]);

    let defaults = section("defaults");
    assert!(
        defaults.iter().any(|words| words.join(" ") == "retry-on conn-failure"),
        "a webhook that was sent is repeated"
    );
    let timeout = defaults.iter().find(|words| words.starts_with(&["timeout".to_owned(), "check".to_owned()])).unwrap();
    let time = |text: &str| humantime::parse_duration(text).unwrap();
    let checks = line("default-server");
    let failures: u32 = after(checks, "fall").parse().unwrap();
    let noticed = (time(after(checks, "inter")) + time(&timeout[2])) * failures;
    let drain = time(compose["services"]["bridge-1"]["environment"]["BRIDGE_SHUTDOWN_DRAIN"].as_str().unwrap());
    assert!(drain > noticed, "it serves for {drain:?}, and that it stops is noticed after {noticed:?}");
}
