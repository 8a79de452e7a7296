//! The commands of the program, one file each. `environment` and `payloads` hold what they share.

mod audit;
mod catch_up;
mod check;
mod connect;
mod demo;
mod describe;
mod environment;
mod explain;
mod healthcheck;
mod payloads;
mod queue;
mod replay;
mod sandbox;
mod sentry;
mod serve;

use std::io;

use clap::Parser;

use self::environment::{UsageError, say};
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
        _ if cli.version => describe::version(),
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
        Command::Healthcheck => healthcheck::run(),
        Command::Completions { shell } => describe::completions(shell),
        Command::Man(args) => describe::man(&args),
        Command::Version => describe::version(),
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
