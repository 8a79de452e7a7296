//! The bodies in `fixtures/`, as its index lists them.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// One body.
pub(crate) struct Fixture {
    /// Folder and name, such as `legacy-9.1/nulls`.
    pub(crate) name: String,
    pub(crate) webhook: Vec<u8>,
    /// What Sentry's own plugin sent for it.
    pub(crate) plugin: Option<Vec<u8>>,
    /// Whether the plugin had the routes of the index.
    pub(crate) is_routed: bool,
    /// The last character of the key it chose.
    pub(crate) key_end: Option<char>,
}

/// The folder of the recorded bodies, and that of the plugin's events for them.
const RECORDED: &str = "legacy-9.1";
const PLUGIN: &str = "plugin-9.1";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

fn index() -> String {
    fs::read_to_string(folder().join("INDEX.md")).unwrap()
}

/// Every fixture that the index lists, in its order.
pub(crate) fn all() -> Vec<Fixture> {
    let index = index();
    let mut directory = "";
    let mut fixtures = Vec::new();
    for line in index.lines() {
        if let Some(heading) = line.strip_prefix("## `") {
            directory = heading.split('`').next().unwrap();
        }
        let cells: Vec<_> = line.split('|').map(str::trim).collect();
        if cells.len() < 4 || cells[1] == "name" || cells[1].starts_with('-') {
            continue;
        }
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
    let listed: BTreeSet<_> = all().into_iter().map(|fixture| fixture.name).collect();
    let mut present = BTreeSet::new();
    for directory in ["legacy-9.1", "legacy-other"] {
        for entry in fs::read_dir(folder().join(directory)).unwrap() {
            let file = entry.unwrap().file_name().into_string().unwrap();
            let name = file.strip_suffix(".json").unwrap();
            present.insert(format!("{directory}/{name}"));
        }
    }
    assert_eq!(listed, present);
}
