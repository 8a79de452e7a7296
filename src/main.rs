//! Parses the command line and hands over to the command.

use std::process::ExitCode;

use clap::Parser;
use sentry_pagerduty_bridge::cli::Cli;
use sentry_pagerduty_bridge::commands;

fn main() -> ExitCode {
    commands::run(Cli::parse()).into()
}
