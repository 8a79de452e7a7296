//! Webhook bodies.

use std::fs;
use std::path::Path;

use serde_json::json;

/// A body in `fixtures/`.
pub(crate) struct Fixture {
    pub(crate) name: String,
    pub(crate) body: Vec<u8>,
}

/// Every webhook in the folder `fixtures/{folder}`, sorted by name.
pub(crate) fn fixtures(folder: &str) -> Vec<Fixture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(folder);
    let mut fixtures: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter_map(|path| {
            let file = path.file_name()?.to_str()?;
            let name = file.strip_suffix(".json").filter(|name| !name.ends_with(".plugin"))?;
            let name = name.strip_suffix(".webhook").unwrap_or(name).to_owned();
            Some(Fixture { name, body: fs::read(&path).unwrap() })
        })
        .collect();
    fixtures.sort_by(|one, other| one.name.cmp(&other.name));
    assert!(!fixtures.is_empty());
    fixtures
}

/// The body that the legacy plugin posts about an issue.
pub(crate) fn alert(issue: u64, message: &str) -> Vec<u8> {
    alert_of_level("error", issue, message)
}

/// Like [`alert`], with a level.
pub(crate) fn alert_of_level(level: &str, issue: u64, message: &str) -> Vec<u8> {
    let body = json!({
        "project": "shop",
        "project_name": "Shop",
        "project_slug": "shop",
        "id": issue.to_string(),
        "level": level,
        "culprit": "checkout",
        "message": message,
        "logger": null,
        "triggering_rules": ["Page somebody"],
        "url": format!("https://sentry.example.test/acme/shop/issues/{issue}/?referrer=webhooks_plugin"),
        "event": {
            "event_id": format!("{issue:032x}"),
            "platform": "python",
            "level": level,
            "title": message,
            "logentry": {"formatted": message},
            "tags": [["level", level]],
            "timestamp": 1_795_353_671.942_576,
        },
    });
    body.to_string().into_bytes()
}
