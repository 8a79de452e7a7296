//! The commands of the program, mostly one file each. `environment` and `payloads`
//! hold what they share.

mod audit;
mod catch_up;
mod check;
mod connect;
mod demo;
mod environment;
mod explain;
mod payloads;
mod queue;
mod replay;
mod sandbox;
mod serve;

use std::io;
use std::io::Write;
use std::path::Path;

use anyhow::Context;
use clap::{CommandFactory, Parser};
use clap_complete::Shell;

use self::environment::{UsageError, out, say};
use crate::build_info::BuildInfo;
use crate::cli::{Cli, Command};
use crate::config::{Config, Source};
use crate::exit_code::ExitCode;
use crate::logging;

/// Parses the arguments of this process and runs the command.
#[must_use]
pub fn run_arguments() -> ExitCode {
    match Cli::try_parse() {
        Ok(cli) => run(cli),
        // Help and version, in colors where the terminal has some.
        Err(message) if !message.use_stderr() => {
            // If standard output is closed, that is not a failure.
            let _ = message.print();
            ExitCode::Done
        }
        // The message repeats arguments, which may contain control characters: without colors all of it can be escaped.
        Err(wrong) => {
            say(wrong.render().to_string().trim_end());
            ExitCode::Usage
        }
    }
}

/// Runs the command and prints to standard error what went wrong, if anything did.
#[must_use]
pub fn run(cli: Cli) -> ExitCode {
    let command = cli.command.unwrap_or(Command::Serve);
    let is_serve = matches!(command, Command::Serve) && !cli.version;
    let result = match command {
        _ if cli.version => version(),
        Command::Serve => serve::run(),
        Command::Demo(args) => demo::run(&args),
        Command::Sandbox(args) => sandbox::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Queue { command } => queue::run(&command),
        Command::Check(args) => check::run(&args),
        Command::Connect(args) => connect::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::CatchUp(args) => catch_up::run(&args),
        Command::Healthcheck => serve::healthcheck(),
        Command::Completions { shell } => completions(shell),
        Command::Man { to } => man(to.as_deref()),
        Command::Version => version(),
    };
    // Before anything below is printed, and before the program ends.
    log::logger().flush();
    match result {
        Ok(exit_code) => exit_code,
        // The reader of our output has seen enough, as with `explain … | head`.
        Err(error)
            if error.downcast_ref().is_some_and(|error: &io::Error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            ExitCode::Done
        }
        Err(error) => {
            let text = format!("{error:#}");
            // The log of a bridge should contain the reason why it ended.
            if is_serve && logging::is_json(Config::log_format_of(&Source::process())) {
                logging::write_error_as_json(&text);
            } else {
                say(&format!("error: {text}"));
            }
            if error.is::<UsageError>() { ExitCode::Usage } else { ExitCode::Failed }
        }
    }
}

/// Prints version and commit, and the fingerprint of the settings. Wrong settings are no failure here: `check` says what is
/// wrong with them.
fn version() -> anyhow::Result<ExitCode> {
    let config = match Config::from_environment() {
        Ok(config) => config.fingerprint().to_string(),
        Err(_) => "none: the settings are incomplete or wrong; `check` says what is".to_owned(),
    };
    writeln!(out(), "sentry-pagerduty-bridge {}\nconfig {config}", BuildInfo::current())?;
    Ok(ExitCode::Done)
}

/// Prints the completion script for `shell`.
fn completions(shell: Shell) -> anyhow::Result<ExitCode> {
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
fn man(folder: Option<&Path>) -> anyhow::Result<ExitCode> {
    match folder {
        None => clap_mangen::Man::new(Cli::command()).render(&mut out())?,
        Some(folder) => clap_mangen::generate_to(Cli::command(), folder)
            .with_context(|| format!("cannot write the manual pages into {}", folder.display()))?,
    }
    Ok(ExitCode::Done)
}
