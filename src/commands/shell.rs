//! `completions` and `man`: the command line described for other programs.

use std::io::Write;

use clap::CommandFactory;
use clap_complete::Shell;

use super::out;
use crate::cli::Cli;
use crate::exit::Exit;

/// Prints the completion script for `shell`.
pub(super) fn completions(shell: Shell) -> anyhow::Result<Exit> {
    // `generate` panics when standard output is closed, so it writes into memory first.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "sentry-pagerduty-bridge", &mut script);
    // For bash, clap_complete 4.6 names a command in two ways when the program's name has a hyphen, and then completes
    // nothing behind it: https://github.com/clap-rs/clap/issues/6421. Where it is mended, nothing is found to replace.
    let script =
        String::from_utf8(script)?.replace("sentry__subcmd__pagerduty__subcmd__bridge", "sentry__pagerduty__bridge");
    out().write_all(script.as_bytes())?;
    Ok(Exit::Done)
}

/// Prints the manual page.
pub(super) fn man() -> anyhow::Result<Exit> {
    clap_mangen::Man::new(Cli::command()).render(&mut out())?;
    Ok(Exit::Done)
}
