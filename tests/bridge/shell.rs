//! The command line itself: help, completions, the manual page, wrong usage.

use sentry_pagerduty_bridge::settings::SETTINGS;

use crate::support::run;

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
fn the_version_is_that_of_the_crate() {
    let version = run(&["--version"], &[]);
    assert_eq!(version.stdout, concat!("sentry-pagerduty-bridge ", env!("CARGO_PKG_VERSION"), "\n"));
    assert_eq!(version.code, Some(0));
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
