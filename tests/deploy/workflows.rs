//! `.github/workflows/`: the actions are pinned, and the scripts and targets that they call exist.

use std::collections::BTreeSet;
use std::path::Path;

use super::{ROOT, files, read, yaml};

/// The paths of the workflows.
fn workflows() -> Vec<String> {
    let paths = files(&Path::new(ROOT).join(".github/workflows"));
    paths.iter().map(|path| path.strip_prefix(ROOT).unwrap().to_str().unwrap().to_owned()).collect()
}

#[test]
fn every_action_is_pinned_by_the_digest_of_its_commit() {
    let mut actions = 0;
    for workflow in workflows() {
        for line in read(&workflow).lines().filter(|line| line.contains("uses: ")) {
            let (action, version) = line.split_once(" # v").unwrap_or_else(|| panic!("{workflow}: no version: {line}"));
            let digest = action.split_once('@').map(|(_, digest)| digest).unwrap();
            assert!(digest.len() == 40 && digest.bytes().all(|byte| byte.is_ascii_hexdigit()), "{workflow}: {line}");
            assert!(version.split('.').all(|part| part.parse::<u32>().is_ok()), "{workflow}: {line}");
            actions += 1;
        }
    }
    assert!(actions >= 10, "{actions} actions were found");
}

#[test]
fn every_script_and_target_of_make_that_a_workflow_calls_exists() {
    let makefile = read("Makefile");
    let mut calls = 0;
    for workflow in workflows() {
        let text = read(&workflow);
        for (_, rest) in text.match_indices("scripts/").map(|(start, _)| text.split_at(start)) {
            let script = rest.split(|letter: char| letter.is_whitespace() || letter == ')').next().unwrap();
            if !script.contains('*') {
                assert!(Path::new(ROOT).join(script).is_file(), "{workflow} calls {script}");
                calls += 1;
            }
        }
        for target in text.lines().filter_map(|line| line.split_once("run: make ")).map(|(_, target)| target.trim()) {
            assert!(makefile.contains(&format!("\n{target}:")), "{workflow} makes {target}");
            calls += 1;
        }
    }
    assert!(calls >= 6, "{calls} calls were found");
}

#[test]
fn every_fuzz_target_is_run_every_night() {
    let nightly = yaml(".github/workflows/nightly.yml").remove(0);
    let matrix = nightly["jobs"]["fuzz"]["strategy"]["matrix"]["target"].as_array().unwrap();
    let run: BTreeSet<_> = matrix.iter().map(|target| target.as_str().unwrap()).collect();
    let targets = files(&Path::new(ROOT).join("fuzz/fuzz_targets"));
    let targets: BTreeSet<_> = targets.iter().map(|path| path.file_stem().unwrap().to_str().unwrap()).collect();
    assert_eq!(run, targets);
}
