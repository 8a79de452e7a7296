//! What the documents say of the tests is true.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::fs;
use std::path::Path;

/// All Rust sources below a folder, as one text.
fn sources(folder: &Path) -> String {
    let mut text = String::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            text += &sources(&path);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            text += &fs::read_to_string(path).unwrap();
        }
    }
    text
}

#[test]
fn every_test_that_proves_a_promise_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let sources = sources(&root.join("tests")) + &sources(&root.join("src"));
    let page = include_str!("../docs/promises.md");
    let names: Vec<&str> = page
        .split('`')
        .skip(1)
        .step_by(2)
        .filter(|code| code.matches('_').count() >= 3 && code.chars().all(|character| !character.is_ascii_uppercase()))
        .collect();
    assert!(names.len() > 40, "the page names its tests: {names:?}");
    for name in names {
        assert!(
            sources.contains(&format!("fn {name}(")),
            "docs/promises.md names the test {name}, which does not exist"
        );
    }
}
