//! The bodies in `fixtures/`, as `fixtures/INDEX.md` lists them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// A body of the legacy plugin.
pub(crate) struct Fixture {
    /// Folder and name, such as `legacy-9.1/nulls`.
    pub(crate) name: String,
    pub(crate) webhook: Vec<u8>,
    /// The event that Sentry's own plugin sent for it.
    pub(crate) plugin: Option<Vec<u8>>,
    /// Whether the plugin had the routes of the index.
    pub(crate) is_routed: bool,
    /// The last character of the service key that the plugin chose.
    pub(crate) key_end: Option<char>,
}

/// The folder of the recorded bodies, and the folder of the plugin's events for them.
const RECORDED: &str = "legacy-9.1";
const PLUGIN: &str = "plugin-9.1";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn index() -> String {
    fs::read_to_string(folder().join("INDEX.md")).unwrap()
}

/// A body of the integration platform.
pub(crate) struct PlatformFixture {
    /// Folder and name.
    pub(crate) name: String,
    /// The header `Sentry-Hook-Resource`.
    pub(crate) resource: String,
    pub(crate) webhook: Vec<u8>,
}

/// The rows of the index, each with the name of its folder and its cells.
fn rows(index: &str) -> Vec<(&str, Vec<&str>)> {
    let mut directory = "";
    let mut rows = Vec::new();
    for line in index.lines() {
        if let Some(heading) = line.strip_prefix("## `") {
            directory = heading.split('`').next().unwrap();
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if cells.len() >= 4 && cells[1] != "name" && !cells[1].starts_with('-') {
            rows.push((directory, cells));
        }
    }
    rows
}

/// Every fixture of the integration platform that the index lists, in its order.
pub(crate) fn platform() -> Vec<PlatformFixture> {
    let index = index();
    let of_platform = rows(&index).into_iter().filter(|(directory, _)| *directory == "platform");
    of_platform
        .map(|(directory, cells)| {
            let name = format!("{directory}/{}", cells[1]);
            let webhook = fs::read(folder().join(format!("{name}.json"))).unwrap();
            PlatformFixture { name, resource: cells[2].to_owned(), webhook }
        })
        .collect()
}

/// The folders whose rows name the resource and the expected event, each with the folder of the plugin's events for them,
/// if there is one.
const RECORDINGS: [(&str, Option<&str>); 3] =
    [("recorded-23.7", Some("plugin-23.7")), ("recorded-9.1-platform", None), ("composed-2026", None)];

/// A webhook of a later Sentry.
pub(crate) struct Recording {
    /// Folder and name.
    pub(crate) name: String,
    /// The header `Sentry-Hook-Resource`, which the legacy plugin does not send.
    pub(crate) resource: Option<String>,
    pub(crate) webhook: Vec<u8>,
    /// The event that Sentry's own plugin sent for it.
    pub(crate) plugin: Option<Vec<u8>>,
    /// The expected decision: `trigger 259`, `resolve 262`, `acknowledge 239` or `ignored`.
    pub(crate) answer: String,
}

/// Every recording that the index lists, in its order.
pub(crate) fn recordings() -> Vec<Recording> {
    let index = index();
    let mut recordings = Vec::new();
    for (directory, cells) in rows(&index) {
        let Some((_, plugins)) = RECORDINGS.iter().find(|(name, _)| *name == directory) else { continue };
        let name = format!("{directory}/{}", cells[1]);
        let plugin =
            plugins.and_then(|plugins| fs::read(folder().join(plugins).join(format!("{}.json", cells[1]))).ok());
        recordings.push(Recording {
            webhook: fs::read(folder().join(format!("{name}.json"))).unwrap(),
            name,
            resource: (cells[2] != "legacy").then(|| cells[2].to_owned()),
            plugin,
            answer: cells[4].to_owned(),
        });
    }
    recordings
}

/// The recording of this folder and name.
pub(crate) fn recording(name: &str) -> Recording {
    recordings().into_iter().find(|recording| recording.name == name).unwrap_or_else(|| panic!("{name} is gone"))
}

/// Every fixture of the legacy plugin that the index lists, in its order.
pub(crate) fn all() -> Vec<Fixture> {
    let index = index();
    let mut fixtures = Vec::new();
    for (directory, cells) in rows(&index).into_iter().filter(|(directory, _)| directory.starts_with("legacy-")) {
        let name = format!("{directory}/{}", cells[1]);
        let recorded = directory == RECORDED;
        let webhook = fs::read(folder().join(format!("{name}.json"))).unwrap();
        let plugin = fs::read(folder().join(PLUGIN).join(format!("{}.json", cells[1]))).ok().filter(|_| recorded);
        assert_eq!(plugin.is_some(), recorded && cells[3] == "yes", "{name}");
        let key = cells.get(4).copied().unwrap_or_default();
        fixtures.push(Fixture {
            name,
            webhook,
            plugin,
            is_routed: key.contains("routed"),
            key_end: key.chars().next(),
        });
    }
    fixtures
}

/// The routes of the index.
pub(crate) fn routes() -> String {
    index().split("```").nth(1).unwrap().trim().to_owned()
}

#[test]
fn the_index_lists_every_body() {
    let of_platform = platform().into_iter().map(|fixture| fixture.name);
    let recorded = recordings().into_iter().map(|recording| recording.name);
    let listed: BTreeSet<_> =
        all().into_iter().map(|fixture| fixture.name).chain(of_platform).chain(recorded).collect();
    let mut present = BTreeSet::new();
    for directory in ["legacy-9.1", "legacy-other", "platform"].into_iter().chain(RECORDINGS.map(|(name, _)| name)) {
        for entry in fs::read_dir(folder().join(directory)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let name = file.strip_suffix(".json").unwrap();
            present.insert(format!("{directory}/{name}"));
        }
    }
    assert_eq!(listed, present);
}
