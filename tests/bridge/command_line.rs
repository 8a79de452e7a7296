//! The command line: help, version, completions, manual pages, wrong usage.

use sentry_pagerduty_bridge::build_info::BuildInfo;
use sentry_pagerduty_bridge::config::{Config, SETTINGS};

use crate::support::{KEY, OTHER_KEY, ROUTES, TOKEN, run};

#[test]
fn the_help_lists_every_setting_and_every_command() {
    let help = run(&["--help"], &[]);
    assert_eq!((help.code, help.stderr.as_str()), (Some(0), ""));
    for setting in SETTINGS {
        assert!(help.stdout.contains(&format!("\n  {}", setting.name)), "{}", setting.name);
    }
    for command in ["serve", "demo", "sandbox", "explain", "replay", "check", "healthcheck", "completions", "man"] {
        assert!(help.stdout.contains(&format!("\n  {command} ")), "{command}: {}", help.stdout);
        assert_eq!(run(&[command, "--help"], &[]).code, Some(0), "{command}");
    }
    assert!(help.stdout.contains("Exit codes: 0 done, 1 something failed, 2 wrong usage or settings."));
}

#[test]
fn without_settings_the_version_says_how_to_find_out_what_is_missing() {
    for flag in ["--version", "-V", "version"] {
        let version = run(&[flag], &[]);
        assert_eq!((version.code, version.stderr.as_str()), (Some(0), ""));
        let (build, config) = version.stdout.split_once('\n').unwrap();
        assert_eq!(build, format!("sentry-pagerduty-bridge {}", BuildInfo::current()));
        assert!(build.starts_with(concat!("sentry-pagerduty-bridge ", env!("CARGO_PKG_VERSION"))), "{build}");
        assert_eq!(config, "config none: the settings are incomplete or wrong; `check` says what is\n");
    }
}

#[test]
fn with_settings_the_version_shows_their_mark_and_no_secret() {
    let settings = [("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY), ("BRIDGE_WEBHOOK_TOKEN", TOKEN), ROUTES];
    let version = run(&["--version"], &settings);
    let (_, config) = version.stdout.split_once("\nconfig ").unwrap();
    let fingerprint = Config::from_vars(settings).unwrap().fingerprint().to_string();
    assert_eq!((version.code, config.trim_end()), (Some(0), fingerprint.as_str()));
    let wrong = [("BRIDGE_PAGERDUTY_SERVICE_KEY", "wrong-key-0001"), ("BRIDGE_WEBHOOK_TOKEN", TOKEN)];
    for told in [version, run(&["--version"], &wrong)] {
        assert_eq!(told.stderr, "");
        for secret in [KEY, OTHER_KEY, TOKEN, "wrong-key-0001"] {
            assert!(!told.stdout.contains(secret), "{}", told.stdout);
        }
    }
}

#[test]
fn completions_and_the_manual_page_need_no_settings() {
    for (shell, part) in [("bash", "complete -F _sentry"), ("zsh", "#compdef"), ("fish", "complete -c")] {
        let script = run(&["completions", shell], &[]);
        assert_eq!((script.code, script.stderr.as_str()), (Some(0), ""), "{shell}");
        assert!(script.stdout.contains(part), "{shell}: {}", script.stdout);
    }
    let help = run(&["help"], &[]);
    assert_eq!((help.code, &help.stdout), (Some(0), &run(&["--help"], &[]).stdout));
    assert!(run(&["help", "queue", "retry"], &[]).stdout.contains("queue retry [OPTIONS]"));
    let page = run(&["man"], &[]);
    assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""));
    assert!(
        page.stdout.contains(".TH sentry-pagerduty-bridge") && page.stdout.contains("healthcheck"),
        "{}",
        page.stdout
    );
}

#[test]
fn every_manual_page_that_a_manual_page_refers_to_is_written() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().to_str().unwrap();
    assert_eq!(run(&["man", "--to", path], &[]).code, Some(0));
    let read = |name: String| std::fs::read_to_string(folder.path().join(name));
    let mut waiting = vec!["sentry-pagerduty-bridge".to_owned()];
    let mut seen = 0;
    while let Some(name) = waiting.pop() {
        let page = read(format!("{name}.1")).unwrap_or_else(|error| panic!("{name}(1): {error}"));
        seen += 1;
        let cited = page.lines().filter_map(|line| line.strip_suffix("(1)"));
        waiting.extend(cited.map(|name| name.replace('\\', "")));
    }
    assert!(seen > 15, "{seen}");
    assert_eq!(run(&["man", "--to", "/no/such/folder"], &[]).code, Some(1));
}

#[test]
fn an_argument_that_commands_a_terminal_is_printed_as_what_it_is() {
    let evil = "\u{1b}[2J\u{202e}";
    let to = format!("http://{evil}");
    for args in [&[evil][..], &["replay", "--to", &to, "."], &["queue", "list", "--state", evil], &["serve", evil]] {
        let told = run(args, &[]);
        assert_eq!(told.code, Some(2), "{args:?}");
        assert!(!told.stderr.contains(['\u{1b}', '\u{202e}']), "{}", told.stderr);
        assert!(told.stderr.contains("\\u{202e}"), "{}", told.stderr);
    }
}

#[test]
fn bash_completes_what_comes_behind_a_command() {
    let script = run(&["completions", "bash"], &[]).stdout;
    let commands: Vec<_> =
        script.lines().filter_map(|line| line.trim().strip_prefix("cmd=\"")?.strip_suffix('"')).collect();
    assert!(commands.len() >= 10, "{script}");
    for command in commands.iter().filter(|command| !command.is_empty()) {
        let label = format!("{command})");
        assert!(script.lines().any(|line| line.trim() == label), "nothing is completed behind {command}");
    }
}

#[test]
fn wrong_usage_is_told_with_exit_code_2() {
    let wrong: [&[&str]; 9] = [
        &["queue", "list", "--limit", "0"],
        &["fly"],
        &["serve", "--now"],
        &["explain"],
        &["replay", "."],
        &["replay", "--to", "nowhere", "."],
        &["replay", "--to", "http://127.0.0.1:1", "--repeat", "0", "."],
        &["replay", "--to", "http://127.0.0.1:1", "--rate", "fast", "."],
        &["completions", "dos"],
    ];
    for args in wrong {
        let told = run(args, &[]);
        assert_eq!((told.code, told.stdout.as_str()), (Some(2), ""), "{args:?}");
        assert!(told.stderr.starts_with("error: "), "{args:?}: {}", told.stderr);
    }
}
