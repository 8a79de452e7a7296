//! `deploy/kubernetes.yaml`, and what `deploy/kubernetes-ha/kubernetes.yaml` shares with it.

use serde_json::{Value, json};

use super::{VERSION, instruction, setting, stop_time, yaml};

/// A manifest of a bridge, and the kind of the resource that creates its pods.
pub(super) type Manifest = (&'static str, &'static str);

pub(super) const ONE: Manifest = ("deploy/kubernetes.yaml", "StatefulSet");
pub(super) const SEVERAL: Manifest = ("deploy/kubernetes-ha/kubernetes.yaml", "Deployment");

/// The only document of a kind.
pub(super) fn document((file, _): Manifest, kind: &str) -> Value {
    let found: Vec<_> = yaml(file).into_iter().filter(|one| one["kind"] == kind).collect();
    let [document] = &found[..] else { panic!("{file}: {} documents are a {kind}", found.len()) };
    document.clone()
}

/// The resource that creates the pods.
pub(super) fn maker(manifest: Manifest) -> Value {
    document(manifest, manifest.1)
}

pub(super) fn pod(manifest: Manifest) -> Value {
    maker(manifest)["spec"]["template"]["spec"].clone()
}

/// The environment variables of the container.
pub(super) fn environment(pod: &Value) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let variables = pod["containers"][0]["env"].as_array().unwrap().iter();
    variables.map(|variable| (text(&variable["name"]), text(&variable["value"]))).collect()
}

#[test]
fn one_pod_at_a_time_has_the_queue() {
    let set = maker(ONE);
    assert_eq!((&set["spec"]["replicas"], &set["spec"]["podManagementPolicy"]), (&json!(1), &json!("OrderedReady")));
    let claim = &set["spec"]["volumeClaimTemplates"][0];
    let mounts = set["spec"]["template"]["spec"]["containers"][0]["volumeMounts"].as_array().unwrap();
    let mount = mounts.iter().find(|mount| mount["name"] == claim["metadata"]["name"]).unwrap();
    assert_eq!(instruction("VOLUME"), format!("[{}]", mount["mountPath"]));
    assert!(mount["readOnly"].is_null());
}

#[test]
fn the_pod_has_no_privileges() {
    for manifest in [ONE, SEVERAL] {
        let pod = pod(manifest);
        let (user, group) = (&pod["securityContext"]["runAsUser"], &pod["securityContext"]["runAsGroup"]);
        assert_eq!(instruction("USER"), format!("{user}:{group}"), "{manifest:?}");
        assert_eq!(&pod["securityContext"]["fsGroup"], group);
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true);
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault");
        assert_eq!((&pod["automountServiceAccountToken"], &pod["enableServiceLinks"]), (&json!(false), &json!(false)));
        let context = &pod["containers"][0]["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true);
        assert_eq!(context["allowPrivilegeEscalation"], false);
        assert_eq!(context["capabilities"], json!({"drop": ["ALL"]}));
        assert!(pod["containers"][0]["resources"]["limits"]["memory"].is_string());
    }
}

#[test]
fn the_pod_is_probed_and_reached_at_the_port_of_the_image() {
    for manifest in [ONE, SEVERAL] {
        let maker = maker(manifest);
        let container = &pod(manifest)["containers"][0];
        assert_eq!(container["image"], format!("sentry-pagerduty-bridge:{VERSION}"));
        let port = &container["ports"][0];
        assert_eq!(port["containerPort"].to_string(), instruction("EXPOSE"));
        let probes = [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")];
        for (probe, path) in probes {
            assert_eq!(
                container[probe]["httpGet"],
                json!({"path": path, "port": port["name"]}),
                "{manifest:?}: {probe}"
            );
        }
        let service = document(manifest, "Service");
        assert_eq!(service["spec"]["ports"][0]["targetPort"], port["name"]);
        let labels = &maker["spec"]["template"]["metadata"]["labels"];
        assert_eq!((&service["spec"]["selector"], &maker["spec"]["selector"]["matchLabels"]), (labels, labels));
        let annotations = &maker["spec"]["template"]["metadata"]["annotations"];
        let admin = &container["ports"][1];
        assert_eq!(annotations["prometheus.io/port"], admin["containerPort"].to_string());
        assert_eq!(service["spec"]["ports"][1]["targetPort"], admin["name"]);
        let variables = environment(&pod(manifest));
        let (_, listen) = variables.iter().find(|(name, _)| name == "BRIDGE_ADMIN_LISTEN").unwrap();
        assert!(listen.ends_with(&format!(":{}", admin["containerPort"])), "{listen}");
    }
    assert_eq!(document(ONE, "Service")["metadata"]["name"], maker(ONE)["spec"]["serviceName"]);
}

/// The resource of a component.
fn component(name: &str) -> Value {
    let folder = format!("deploy/components/{name}");
    let component = yaml(&format!("{folder}/kustomization.yaml")).remove(0);
    assert_eq!(component["kind"], "Component");
    yaml(&format!("{folder}/{}", component["resources"][0].as_str().unwrap())).remove(0)
}

#[test]
fn the_components_speak_of_the_pod_its_service_and_their_ports() {
    for base in ["deploy", "deploy/kubernetes-ha"] {
        let base = yaml(&format!("{base}/kustomization.yaml")).remove(0);
        assert_eq!((&base["kind"], &base["resources"]), (&json!("Kustomization"), &json!(["kubernetes.yaml"])));
    }
    let labels = &maker(ONE)["spec"]["template"]["metadata"]["labels"];
    let service = document(ONE, "Service");
    // The manifests of several bridges have the same labels and the same Service, so the components work with both.
    assert_eq!(
        (labels, &service),
        (&maker(SEVERAL)["spec"]["template"]["metadata"]["labels"], &document(SEVERAL, "Service"))
    );
    let names: Vec<_> = service["spec"]["ports"].as_array().unwrap().iter().map(|port| &port["name"]).collect();

    let path = component("ingress")["spec"]["rules"][0]["http"]["paths"][0].clone();
    assert_eq!((&path["path"], &path["pathType"]), (&json!("/sentry"), &json!("Prefix")));
    assert_eq!(path["backend"]["service"], json!({"name": service["metadata"]["name"], "port": {"name": names[0]}}));

    let policy = component("network-policy");
    assert_eq!(&policy["spec"]["podSelector"]["matchLabels"], labels);
    let opened: Vec<_> =
        policy["spec"]["ingress"].as_array().unwrap().iter().map(|rule| &rule["ports"][0]["port"]).collect();
    assert_eq!(opened, names);

    let monitor = component("service-monitor");
    assert_eq!(monitor["spec"]["selector"]["matchLabels"], service["metadata"]["labels"]);
    assert_eq!(&monitor["spec"]["endpoints"][0]["port"], names[1]);
}

#[test]
fn secrets_come_from_the_secret_as_files_and_never_stand_here() {
    for (manifest, secrets) in [(ONE, 4), (SEVERAL, 5)] {
        let pod = pod(manifest);
        let mounts = pod["containers"][0]["volumeMounts"].as_array().unwrap();
        let mount = mounts.iter().find(|mount| mount["name"] == "secrets").unwrap();
        assert_eq!(mount["readOnly"], true);
        let folder = mount["mountPath"].as_str().unwrap();
        let told = super::read(manifest.0);
        let mut files = 0;
        for (name, value) in environment(&pod) {
            let known = setting(&name).unwrap_or_else(|| panic!("{name} is no setting"));
            if name == known {
                continue;
            }
            let file =
                value.strip_prefix(folder).and_then(|rest| rest.strip_prefix('/')).unwrap_or_else(|| panic!("{value}"));
            assert!(told.contains(&format!("--from-literal={file}=")), "nobody is told to make {file}");
            files += 1;
        }
        assert_eq!(files, secrets, "{manifest:?}");
        assert_eq!(pod["volumes"][0]["secret"]["secretName"], "sentry-pagerduty-bridge");
        // Readable by its owner and by the group of the volume.
        assert_eq!(pod["volumes"][0]["secret"]["defaultMode"], 0o440);
    }
}

#[test]
fn kubernetes_gives_the_program_time_to_stop() {
    for manifest in [ONE, SEVERAL] {
        let pod = pod(manifest);
        let environment = environment(&pod);
        let given = |name: &str| environment.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
        assert!(grace > stop_time(given).as_secs(), "{manifest:?}: {grace} s are not enough");
    }
}
