//! `sandbox`: run a strict local PagerDuty to rehearse with.

use std::io::Write;
use std::net::{SocketAddr, TcpListener};

use anyhow::Context;
use tokio::sync::broadcast::error::RecvError;

use super::environment::{Signals, UsageError, block_on, out, say};
use crate::bridge::cannot_listen;
use crate::cli::SandboxArgs;
use crate::exit_code::ExitCode;
use crate::printable;
use pagerduty_sandbox::{Fault, FaultRule, JournalEntry, Options, Sandbox, ThrottleOptions, ThrottleStatus, Verdict};

/// Runs a sandbox until SIGTERM or SIGINT and prints a line for each request.
pub(super) fn run(args: &SandboxArgs) -> anyhow::Result<ExitCode> {
    let api = bind(args.listen, "--listen")?;
    let control = bind(args.control, "--control")?;
    let sandbox = Sandbox::start(options(args), api, Some(control)).context("the sandbox cannot start")?;
    if let Some(status) = args.fail {
        let rule = FaultRule { times: args.fail_first, ..FaultRule::new(Fault::status(status)) };
        sandbox.inject(rule).map_err(|error| UsageError(format!("--fail {status}: {error}")))?;
    }
    say(&format!("The Events APIs v1 and v2 are served at {}; set BRIDGE_PAGERDUTY_URL to that.", sandbox.url()));
    if let Some(url) = sandbox.control_url() {
        say(&format!("Journal, incidents and faults: {url}/journal, {url}/incidents, {url}/faults"));
    }
    block_on(async {
        let mut signals = Signals::new()?;
        let printed = tokio::select! {
            printed = print_all(&sandbox) => printed,
            () = signals.next() => Ok(()),
        };
        sandbox.stop().await;
        printed
    })?;
    Ok(ExitCode::Done)
}

fn bind(address: SocketAddr, option: &str) -> Result<TcpListener, UsageError> {
    TcpListener::bind(address).map_err(|error| UsageError(format!("{option}: {}", cannot_listen(address, &error))))
}

fn options(args: &SandboxArgs) -> Options {
    let status = if args.throttle_429 { ThrottleStatus::TooManyRequests } else { ThrottleStatus::Forbidden };
    Options {
        strict: !args.lax,
        silent_drop: args.silent_drop,
        throttle: ThrottleOptions { limit: args.rate as usize, status, ..ThrottleOptions::default() },
        ..Options::default()
    }
}

async fn print_all(sandbox: &Sandbox) -> anyhow::Result<()> {
    let mut entries = sandbox.subscribe();
    loop {
        match entries.recv().await {
            Ok(entry) => writeln!(out(), "{}", line(&entry))?,
            Err(RecvError::Lagged(missed)) => say(&format!("{missed} requests came too fast to be printed")),
            Err(RecvError::Closed) => return Ok(()),
        }
    }
}

/// How much of a description is printed, in characters.
const MAX_SHOWN: usize = 100;

/// Formats one request on one line. Untrusted text is escaped, so that it cannot control the terminal.
pub(super) fn line(entry: &JournalEntry) -> String {
    let verdict = match &entry.verdict {
        Verdict::Accepted { effect } => format!("{effect:?}").to_lowercase(),
        Verdict::Invalid { errors } => format!("invalid: {}", errors.join("; ")),
        other => format!("{other:?}").to_lowercase(),
    };
    let status = entry.status.map_or_else(|| "---".to_owned(), |status| status.to_string());
    let shown = |text: Option<&str>| printable(text.unwrap_or("-"), MAX_SHOWN);
    let key: String = shown(entry.service_key()).chars().rev().take(4).collect::<Vec<_>>().into_iter().rev().collect();
    let incident = shown(entry.incident_key.as_deref().or_else(|| entry.text("incident_key")));
    format!(
        "{} {status} {:<11} {verdict:<9} incident {incident:<12} key …{key:<4} {}",
        entry.request.at.format("%H:%M:%S%.3f"),
        shown(entry.event_type()),
        shown(entry.description()),
    )
}

fn printable(text: &str, most: usize) -> String {
    let beginning: String = text.chars().take(most).collect();
    let mut shown = printable::line(&beginning).into_owned();
    if text.chars().nth(most).is_some() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_stranger_wrote_cannot_play_with_the_terminal() {
        assert_eq!(printable("it's \"red\" \u{1b}[31m\u{202e}", 100), "it's \"red\" \\u{1b}[31m\\u{202e}");
        assert_eq!(printable("🔥🔥🔥", 2), "🔥🔥…");
    }
}
