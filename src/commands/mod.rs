//! The verbs of the program, one file each, and what they share.

pub mod audit;
pub mod check;
pub mod connect;
pub mod demo;
pub mod explain;
pub mod healthcheck;
pub mod payloads;
pub mod queue;
pub mod replay;
pub mod sandbox;
mod sentry;
pub mod serve;
mod shell;
mod signals;
mod version;

use std::future::Future;
use std::io::{self, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use crate::cli::{Cli, Command};
use crate::config::{Config, Problem, Source};
use crate::exit::Exit;

/// Runs the command and says on standard error what went wrong, if anything did.
#[must_use]
pub fn run(cli: Cli) -> Exit {
    let command = cli.command.unwrap_or(Command::Serve);
    let result = match command {
        _ if cli.version => version::run(),
        Command::Serve => serve::run(),
        Command::Demo(args) => demo::run(&args),
        Command::Sandbox(args) => sandbox::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Replay(args) => replay::run(&args),
        Command::Queue { command } => queue::run(&command),
        Command::Check(args) => check::run(&args),
        Command::Connect(args) => connect::run(&args),
        Command::Audit(args) => audit::run(&args),
        Command::Healthcheck => healthcheck::run(),
        Command::Completions { shell } => shell::completions(shell),
        Command::Man => shell::man(),
    };
    // Before anything below is said, and before the program ends.
    log::logger().flush();
    match result {
        Ok(exit) => exit,
        // Whoever reads our output has seen enough, as with `explain … | head`.
        Err(error)
            if error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe) =>
        {
            Exit::Done
        }
        Err(error) => {
            say(&format!("error: {error:#}"));
            if error.is::<Misuse>() { Exit::Usage } else { Exit::Failed }
        }
    }
}

/// Wrong usage or settings; ends the program with [`Exit::Usage`].
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Misuse(pub String);

/// The configuration of this process, or the reason it cannot be used.
fn config() -> anyhow::Result<Config> {
    Config::from_environment().map_err(|error| Misuse(error.to_string()).into())
}

/// Has the form of a service key and of a webhook's token, and is neither.
const STAND_IN: &str = "00000000000000000000000000000000";

/// The configuration of this process for commands that send nothing: where a required one is missing, a stand-in serves.
/// Also tells the names of those.
fn config_or_stand_ins() -> anyhow::Result<(Config, Vec<&'static str>)> {
    let mut source = Source::process();
    let error = match Config::load(&source) {
        Ok(config) => return Ok((config, Vec::new())),
        Err(error) => error,
    };
    let missing = error.problems().iter().filter_map(|problem| match problem {
        Problem::Missing { name, .. } => Some(*name),
        _ => None,
    });
    let missing: Vec<_> = missing.collect();
    source.variables.extend(missing.iter().map(|name| (name.into(), STAND_IN.into())));
    let config = Config::load(&source).map_err(|error| Misuse(error.to_string()))?;
    Ok((config, missing))
}

/// Writes a line to standard error. That it is closed is no reason to fail.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}

/// Runs a future in an actix system of its own.
fn block_on<F: Future>(future: F) -> F::Output {
    actix_web::rt::System::new().block_on(future)
}

/// Where a bridge that listens on `listen` is reached from its own machine.
fn local_address(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
