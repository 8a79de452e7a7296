//! The command line itself: help, completions, the manual page, wrong usage.

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
    for flag in ["--version", "-V"] {
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
    let page = run(&["man"], &[]);
    assert_eq!((page.code, page.stderr.as_str()), (Some(0), ""));
    assert!(
        page.stdout.contains(".TH sentry-pagerduty-bridge") && page.stdout.contains("healthcheck"),
        "{}",
        page.stdout
    );
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
    let wrong: [&[&str]; 8] = [
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
