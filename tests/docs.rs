//! What the documents say of the tests is true, and their links lead somewhere.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
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
    let sources: String = ["tests", "src", "crates"].map(|folder| sources(&root.join(folder))).concat();
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

/// The lines of a document that are no code.
fn prose(document: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    document.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// What a page shows a heading under, as GitHub makes it of the heading's text.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The anchors of all headings but the title.
fn anchors(document: &str) -> BTreeSet<String> {
    prose(document).filter(|line| line.starts_with("##")).map(|line| anchor(line.trim_matches('#').trim())).collect()
}

/// Where its links and pictures lead.
fn links(document: &str) -> BTreeSet<&str> {
    prose(document)
        .flat_map(|line| line.split("](").skip(1))
        .map(|rest| rest.split_once(')').unwrap().0)
        .filter(|link| !link.starts_with("https://"))
        .collect()
}

#[test]
fn every_link_of_the_documents_leads_to_a_file_or_a_heading_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    for name in [
        "README.md",
        "CHANGELOG.md",
        "CONTRIBUTING.md",
        "docs/architecture.md",
        "docs/promises.md",
        "docs/sentry.md",
        "fixtures/INDEX.md",
    ] {
        let path = root.join(name);
        let document = fs::read_to_string(&path).unwrap();
        for link in links(&document) {
            let (file, heading) = link.split_once('#').map_or((link, None), |(file, heading)| (file, Some(heading)));
            let target = if file.is_empty() { path.clone() } else { path.parent().unwrap().join(file) };
            assert!(target.exists(), "{name} leads to {link}, which does not exist");
            if let Some(heading) = heading {
                let there = anchors(&fs::read_to_string(&target).unwrap());
                assert!(there.contains(heading), "{name} leads to {link}, but its headings are {there:?}");
            }
        }
    }
}

#[test]
fn the_readme_begins_with_links_to_all_of_its_headings() {
    let readme = include_str!("../README.md");
    let (head, rest) = readme.split_once("\n## ").unwrap();
    let listed: BTreeSet<_> = links(head).into_iter().filter_map(|link| link.strip_prefix('#')).collect();
    let headings = anchors(&format!("## {rest}"));
    assert!(headings.len() > 20, "{headings:?}");
    let missing: Vec<_> = headings.iter().filter(|heading| !listed.contains(heading.as_str())).collect();
    assert!(missing.is_empty(), "the contents leave out {missing:?}");
}
