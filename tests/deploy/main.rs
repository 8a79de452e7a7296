//! The files in `deploy/` are consistent with the settings, with the `Dockerfile` and with each other.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]

mod compose;
mod high_availability;
mod kubernetes;
mod release;
mod systemd;
mod workflows;

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use sentry_pagerduty_bridge::config::SETTINGS;
use serde_json::Value;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const VERSION: &str = env!("CARGO_PKG_VERSION");

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(ROOT).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The documents of a YAML file, as JSON.
fn yaml(path: &str) -> Vec<Value> {
    serde_saphyr::from_multiple(&read(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// The argument of an instruction that occurs once in the `Dockerfile`.
fn instruction(name: &str) -> String {
    let dockerfile = read("Dockerfile");
    let found: Vec<_> = dockerfile.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).collect();
    let [only] = found[..] else { panic!("{name} in the Dockerfile: {found:?}") };
    only.to_owned()
}

/// The default of a setting.
fn default(name: &str) -> &'static str {
    SETTINGS.iter().find(|setting| setting.name == name).and_then(|setting| setting.default).unwrap()
}

/// How long the program may take to stop, with these settings and defaults for the others.
fn stop_time(given: impl Fn(&str) -> Option<String>) -> Duration {
    let time =
        |name: &str| humantime::parse_duration(&given(name).unwrap_or_else(|| default(name).to_owned())).unwrap();
    time("BRIDGE_SHUTDOWN_DRAIN") + time("BRIDGE_SHUTDOWN_GRACE")
}

/// The setting of a variable, or of a variable with the suffix `_FILE`.
fn setting(variable: &str) -> Option<&'static str> {
    let names = || SETTINGS.iter().map(|setting| setting.name);
    let by_file = || names().find(|name| variable.strip_suffix("_FILE") == Some(name));
    names().find(|name| *name == variable).or_else(by_file)
}

/// Every file in a folder, recursively.
fn files(folder: &Path) -> Vec<PathBuf> {
    let paths = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    paths.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

#[test]
fn every_name_in_deploy_is_a_setting() {
    let mut names = 0;
    for path in files(&Path::new(ROOT).join("deploy")) {
        let text = fs::read_to_string(&path).unwrap();
        for (start, _) in text.match_indices("BRIDGE_") {
            let is_of_name = |character: char| character.is_ascii_uppercase() || character == '_';
            let name = text[start..].split(|character| !is_of_name(character)).next().unwrap();
            // A variable that Kubernetes would set, named in a comment, and `BRIDGE_*` for all settings.
            if !["BRIDGE_", "BRIDGE_SERVICE_HOST"].contains(&name) {
                assert!(setting(name).is_some(), "{}: {name} is no setting", path.display());
                names += 1;
            }
        }
    }
    assert!(names >= 10, "{names} names were found");
}

#[test]
fn the_image_is_built_from_every_crate_of_the_workspace() {
    let (dockerfile, passed) = (read("Dockerfile"), read(".dockerignore"));
    let mut crates = 0;
    for entry in fs::read_dir(Path::new(ROOT).join("crates")).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let manifest = format!("crates/{name}/Cargo.toml");
        // Cargo reads the manifests of all crates, including those that are only for tests.
        assert!(
            dockerfile.contains(&format!("COPY {manifest} crates/{name}/")),
            "the Dockerfile leaves out {manifest}"
        );
        assert!(passed.lines().any(|line| line == format!("!{manifest}")), ".dockerignore leaves out {manifest}");
        crates += 1;
    }
    assert!(crates >= 3, "{crates} crates were found");
}

#[test]
fn the_image_is_optimised_unless_somebody_asks_otherwise() {
    let dockerfile = read("Dockerfile");
    let profiles: Vec<_> = dockerfile.lines().filter(|line| line.starts_with("ARG PROFILE")).collect();
    assert_eq!(profiles, ["ARG PROFILE=release"]);
    assert!(!read(".github/workflows/release.yml").contains("PROFILE="), "a release is built with the default");
}

#[test]
fn the_image_listens_where_the_settings_say() {
    assert!(default("BRIDGE_LISTEN").ends_with(&format!(":{}", instruction("EXPOSE"))));
}

#[test]
fn all_is_built_with_the_oldest_rust_that_is_promised() {
    let promised = env!("CARGO_PKG_RUST_VERSION");
    let image = read("Dockerfile");
    let image = image.lines().find_map(|line| line.strip_prefix("ARG RUST_VERSION=")).unwrap();
    assert_eq!(image, promised, "the image is built with another one");
    let toolchain = read("rust-toolchain.toml");
    let channel = toolchain.lines().find_map(|line| line.strip_prefix("channel = ")).unwrap().trim_matches('"');
    assert!(
        channel.starts_with(&format!("{promised}.")),
        "rust-toolchain.toml takes {channel}, Cargo.toml promises {promised}"
    );
}
