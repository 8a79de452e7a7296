//! The tests, settings, commands, alarms and link targets that the documents name exist.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use clap::CommandFactory;
use sentry_pagerduty_bridge::cli::Cli;
use sentry_pagerduty_bridge::config::SETTINGS;
use sentry_pagerduty_bridge::monitor::Cause;
use strum::VariantArray;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

fn read(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap()
}

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
    let sources: String = ["tests", "src", "crates"].map(|folder| sources(&root().join(folder))).concat();
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

/// The lines of a document outside of code blocks.
fn prose(document: &str) -> impl Iterator<Item = &str> {
    let mut in_code = false;
    document.lines().filter(move |line| {
        let is_fence = line.starts_with("```");
        in_code ^= is_fence;
        !in_code && !is_fence
    })
}

/// The anchor of a heading, as GitHub derives it from the text.
fn anchor(heading: &str) -> String {
    let kept = heading.chars().filter(|character| character.is_alphanumeric() || " -_".contains(*character));
    kept.collect::<String>().to_lowercase().replace(' ', "-")
}

/// The anchors of all headings except the title.
fn anchors(document: &str) -> BTreeSet<String> {
    prose(document).filter(|line| line.starts_with("##")).map(|line| anchor(line.trim_matches('#').trim())).collect()
}

/// The targets of its links and images.
fn links(document: &str) -> BTreeSet<&str> {
    prose(document)
        .flat_map(|line| line.split("](").skip(1))
        .map(|rest| rest.split_once(')').unwrap().0)
        .filter(|link| !link.starts_with("https://"))
        .collect()
}

/// The pages of the book, as paths below `docs/`.
fn pages() -> BTreeSet<String> {
    let files = fs::read_dir(root().join("docs")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let pages = files.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    let names = pages.map(|path| path.file_name().unwrap().to_str().unwrap().to_owned());
    names.filter(|name| name != "SUMMARY.md").collect()
}

#[test]
fn every_link_of_the_documents_leads_to_a_file_or_a_heading_that_exists() {
    let others =
        ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "docs/SUMMARY.md", "fixtures/INDEX.md"];
    let names = pages().into_iter().map(|page| format!("docs/{page}")).chain(others.map(str::to_owned));
    for name in names {
        let path = root().join(&name);
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
fn the_summary_of_the_book_and_the_readme_name_every_page() {
    let summary: BTreeSet<String> = links(&read("docs/SUMMARY.md")).into_iter().map(str::to_owned).collect();
    assert_eq!(summary, pages());
    let readme = read("README.md");
    let linked: BTreeSet<_> = links(&readme).into_iter().map(|link| link.split('#').next().unwrap()).collect();
    for page in pages() {
        assert!(
            page == "README.md" || linked.contains(format!("docs/{page}").as_str()),
            "README.md leads to no {page}"
        );
    }
}

#[test]
fn the_readme_is_short_and_shows_the_first_commands_and_the_picture_at_once() {
    let readme = read("README.md");
    assert!(readme.lines().count() <= 170, "{} lines: move some of it to docs/", readme.lines().count());
    let first = readme.lines().take(25).collect::<Vec<_>>().join("\n");
    for wanted in ["$ make demo", "$ make test", "](docs/status-page.png)"] {
        assert!(first.contains(wanted), "{wanted}");
    }
}

#[test]
fn every_setting_that_a_document_names_exists() {
    let known: BTreeSet<&str> = SETTINGS.iter().map(|setting| setting.name).collect();
    // A placeholder for any setting, a variable that Kubernetes sets, and prefixes of settings.
    let others = ["BRIDGE_X", "BRIDGE_SERVICE_HOST"];
    let names = pages().into_iter().map(|page| format!("docs/{page}"));
    let mut found = BTreeSet::new();
    for name in names.chain(["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md"].map(str::to_owned)) {
        let document = read(&name);
        let words = document.split(|character: char| !(character.is_ascii_alphanumeric() || character == '_'));
        for word in words.filter(|word| word.starts_with("BRIDGE_") && !word.ends_with('_')) {
            let setting = word.strip_suffix("_FILE").filter(|stem| !stem.is_empty()).unwrap_or(word);
            let exists = [word, setting].iter().any(|word| known.contains(word) || others.contains(word));
            assert!(exists, "{name} names {word}, which is not a setting");
            found.insert(setting.to_owned());
        }
    }
    assert!(found.len() > 20, "{found:?}");
}

/// The generated page of every command and its arguments, as `--help` prints them.
fn command_line() -> String {
    let mut page = String::from(
        "# Command line\n\n<!-- Generated: UPDATE_DOCS=1 cargo test --test docs -->\n\n\
         The help of every command. [Commands](commands.md) explains them with examples, [Settings](settings.md) lists the\n\
         variables.\n",
    );
    // The settings at the end of the main help are on their own page.
    let mut program = Cli::command().bin_name("sentry-pagerduty-bridge").after_long_help("").term_width(100);
    program.build();
    let mut waiting = vec![program];
    while let Some(mut command) = waiting.pop() {
        let help = command.render_long_help().to_string();
        let lines: Vec<&str> = help.trim_end().lines().map(str::trim_end).collect();
        let name = command.get_bin_name().unwrap().to_owned();
        page += &["\n## ", &name, "\n\n```text\n", &lines.join("\n"), "\n```\n"].concat();
        let subcommands: Vec<_> =
            command.get_subcommands().filter(|command| command.get_name() != "help").cloned().collect();
        waiting.extend(subcommands.into_iter().rev());
    }
    page
}

#[test]
fn the_page_of_the_command_line_is_what_help_says() {
    let path = root().join("docs/cli.md");
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, command_line()).unwrap();
    }
    assert_eq!(read("docs/cli.md"), command_line(), "run: UPDATE_DOCS=1 cargo test --test docs");
}

#[test]
fn every_alarm_and_every_alert_rule_has_an_entry_in_the_runbook() {
    let runbook = read("docs/runbook.md");
    let headings = anchors(&runbook);
    for cause in Cause::VARIANTS.iter().filter(|cause| cause.is_paged()) {
        assert!(headings.contains(cause.name()), "docs/runbook.md says nothing of the alarm {}", cause.name());
        assert!(
            read("docs/alarms.md").contains(&format!("\n| `{}` |", cause.name())),
            "docs/alarms.md: {}",
            cause.name()
        );
    }
    let rules = read("deploy/prometheus-alerts.yaml");
    let rules: Vec<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    assert!(rules.len() > 8, "{rules:?}");
    let text = read("deploy/prometheus-alerts.yaml");
    for rule in rules {
        let link = format!(
            "runbook_url: '{{{{ or $externalLabels.runbook \"docs/runbook.md\" }}}}#{}'\n",
            rule.to_lowercase()
        );
        assert_eq!(text.matches(&link).count(), 1, "the alert rule {rule} has no runbook_url");
        assert!(headings.contains(&rule.to_lowercase()), "docs/runbook.md says nothing of the alert rule {rule}");
    }
}
