//! `--version`, `completions` and `man`: what the program says about itself.

use std::io::Write;

use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;

use super::environment::out;
use crate::build_info::BuildInfo;
use crate::cli::{Cli, ManArgs};
use crate::config::Config;
use crate::exit_code::ExitCode;

/// Prints version and commit, and the fingerprint of the settings. Wrong settings are no failure here: `check` says what is
/// wrong with them.
pub(super) fn version() -> anyhow::Result<ExitCode> {
    let config = match Config::from_environment() {
        Ok(config) => config.fingerprint().to_string(),
        Err(_) => "none: the settings are incomplete or wrong; `check` says what is".to_owned(),
    };
    writeln!(out(), "sentry-pagerduty-bridge {}\nconfig {config}", BuildInfo::current())?;
    Ok(ExitCode::Done)
}

/// Prints the completion script for `shell`.
pub(super) fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
    // `generate` panics when standard output is closed, so it writes into memory first.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sentry-pagerduty-bridge", &mut script);
    // For bash, clap_complete 4.6 names a command in two ways when the program's name has a hyphen, and then completes
    // nothing after it: https://github.com/clap-rs/clap/issues/6421. Where that is fixed, this replaces nothing.
    let script =
        String::from_utf8(script)?.replace("sentry__subcmd__pagerduty__subcmd__bridge", "sentry__pagerduty__bridge");
    out().write_all(script.as_bytes())?;
    Ok(ExitCode::Done)
}

/// Prints the manual page, or writes those of all commands, which it refers to, into a folder.
pub(super) fn man(args: &ManArgs) -> anyhow::Result<ExitCode> {
    match &args.to {
        None => clap_mangen::Man::new(Cli::command()).render(&mut out())?,
        Some(folder) => clap_mangen::generate_to(Cli::command(), folder)
            .with_context(|| format!("cannot write the manual pages into {}", folder.display()))?,
    }
    Ok(ExitCode::Done)
}
