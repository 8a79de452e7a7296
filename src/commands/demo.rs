//! `demo`: bridge, sandbox and sample alerts on this machine, with nothing to configure.

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, bail};
use pagerduty_sandbox::{JournalEntry, Options, Sandbox, Verdict};
use tokio::sync::broadcast::Receiver;
use tokio::sync::oneshot;
use tokio::time::timeout;
use url::Url;

use super::environment::{Signals, block_on, out, say};
use super::payloads::Payload;
use super::replay;
use super::sandbox::line;
use crate::bridge::Bridge;
use crate::cli::DemoArgs;
use crate::config::{Config, LogFormat};
use crate::exit_code::ExitCode;
use crate::logging;

/// How long the deliveries may take; they need a second or two.
const TIMEOUT: Duration = Duration::from_mins(1);

/// The token of the demo's webhook; it is public.
const TOKEN: &str = "demo-token-that-guards-nothing";

/// The token of the demo's status page, which everybody on this machine may see.
const ADMIN_TOKEN: &str = "look-at-the-demo";

/// The routes that the samples were recorded with.
const ROUTES: &str = "environment,production,0000000000000000000000000000000a
level,fatal,0000000000000000000000000000000b
level,warning,0000000000000000000000000000000c";

/// Posts the samples to a bridge of its own and prints what its sandbox made of them.
pub(super) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    logging::start(LogFormat::Text, "warn");
    let folder = tempfile::tempdir().context("no temporary folder for the demo's queue")?;
    block_on(async {
        let sandbox = Sandbox::start(Options::default(), loopback()?, Some(loopback()?))?;
        let config = Config::from_vars([
            ("BRIDGE_PAGERDUTY_URL", sandbox.url()),
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", "00000000000000000000000000000001".to_owned()),
            ("BRIDGE_PAGERDUTY_ROUTES", ROUTES.to_owned()),
            ("BRIDGE_WEBHOOK_TOKEN", TOKEN.to_owned()),
            ("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN.to_owned()),
            ("BRIDGE_DATABASE_URL", format!("sqlite:{}", folder.path().join("demo.db").display())),
            // What goes wrong here is shown, and pages nobody.
            ("BRIDGE_ALARMS", "off".to_owned()),
            ("BRIDGE_SHUTDOWN_DRAIN", "0s".to_owned()),
        ])?;
        let bridge = Bridge::build(config, loopback()?).await?;
        let address = bridge.address();
        let webhook = Url::parse(&format!("http://{address}/sentry/{TOKEN}"))?;
        let (stop, stopped) = oneshot::channel();
        let running = actix_web::rt::spawn(bridge.run_until_stopped(async { stopped.await.unwrap_or_default() }));

        say(&format!("bridge at {webhook}, sandbox at {}", sandbox.url()));
        say(&format!("status page at http://{address}/, admin token {ADMIN_TOKEN}"));
        let mut signals = Signals::new()?;
        let exit = tokio::select! {
            exit = show(&sandbox, &webhook, args.once) => exit?,
            () = signals.next() => ExitCode::Done,
        };
        let _ = stop.send(());
        running.await??;
        sandbox.stop().await;
        Ok(exit)
    })
}

fn loopback() -> anyhow::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0").context("no free port on this machine")
}

async fn show(sandbox: &Sandbox, webhook: &Url, once: bool) -> anyhow::Result<ExitCode> {
    let mut entries = sandbox.subscribe();
    post_samples(webhook).await?;
    let printed = timeout(TIMEOUT, print(&mut entries, SAMPLES.len())).await;
    let accepted = printed.unwrap_or_else(|_| bail!("not everything was delivered within {TIMEOUT:?}"))?;
    writeln!(out(), "{} alerts posted, {accepted} delivered", SAMPLES.len())?;
    if once {
        return Ok(ExitCode::of(accepted == SAMPLES.len()));
    }
    say("");
    say("Still serving; what you post appears here. Another terminal may try:");
    say(&format!("  curl -d @fixtures/legacy-9.1/example-python-exception.json {webhook}"));
    if let Some(control) = sandbox.control_url() {
        say(&format!("  curl {control}/incidents"));
    }
    say("Ctrl-C ends it.");
    print(&mut entries, usize::MAX).await?;
    Ok(ExitCode::Done)
}

async fn post_samples(webhook: &Url) -> anyhow::Result<()> {
    let client = awc::Client::default();
    for (name, body) in SAMPLES {
        let payload = Payload { name: (*name).to_owned(), body: body.to_vec() };
        if let Err(error) = replay::post(&client, webhook, &payload, None).await {
            bail!("{name}: {}", error.reason());
        }
    }
    Ok(())
}

/// Prints a line for each of the next `number` events, and returns how many of them PagerDuty would have accepted.
async fn print(entries: &mut Receiver<std::sync::Arc<JournalEntry>>, number: usize) -> anyhow::Result<usize> {
    let mut accepted = 0;
    for _ in 0..number {
        let entry = entries.recv().await.context("the sandbox ended")?;
        accepted += usize::from(matches!(entry.verdict, Verdict::Accepted { .. }));
        writeln!(out(), "{}", line(&entry))?;
    }
    Ok(accepted)
}

macro_rules! samples {
    ($($name:literal,)*) => {
        &[$(($name, include_bytes!(concat!("../../fixtures/", $name, ".json")))),*]
    };
}

/// Name and body of each alert that is posted: the fixtures of the legacy plugin, built into the program so that it runs
/// anywhere.
const SAMPLES: &[(&str, &[u8])] = samples![
    "legacy-9.1/browser-error",
    "legacy-9.1/csp-report",
    "legacy-9.1/every-attribute",
    "legacy-9.1/example-python-exception",
    "legacy-9.1/integer-event-id",
    "legacy-9.1/java-exception",
    "legacy-9.1/level-debug",
    "legacy-9.1/level-error",
    "legacy-9.1/level-fatal",
    "legacy-9.1/level-info",
    "legacy-9.1/level-warning",
    "legacy-9.1/message-in-many-scripts",
    "legacy-9.1/message-of-8192-characters",
    "legacy-9.1/message-of-many-lines",
    "legacy-9.1/message-with-control-characters",
    "legacy-9.1/message-with-lone-surrogates",
    "legacy-9.1/message-with-markup",
    "legacy-9.1/message-with-parameters",
    "legacy-9.1/no-message",
    "legacy-9.1/node-exception",
    "legacy-9.1/node-exception-half-emoji",
    "legacy-9.1/nulls",
    "legacy-9.1/odd-numbers",
    "legacy-9.1/organizations-url",
    "legacy-9.1/plain-message",
    "legacy-9.1/python-exception",
    "legacy-9.1/python-exception-with-request",
    "legacy-9.1/python-log-warning",
    "legacy-9.1/python-sql-query",
    "legacy-9.1/tag-named-logger",
    "legacy-9.1/tags-301",
    "legacy-9.1/two-alert-rules",
    "legacy-other/nothing-to-read",
    "legacy-other/relay-with-shapes-of-its-own",
    "legacy-other/sentry-20-without-timestamp",
    "legacy-other/sentry-24-test-notification",
    "legacy-other/sentry-8.0-java-exception",
    "legacy-other/sentry-8.22-null-level",
    "legacy-other/sentry-9.0-message-with-stack",
    "legacy-other/sentry-in-a-folder",
    "legacy-other/sentry-io-2023-chained-exception",
    "legacy-other/service-hook-23.7",
    "legacy-other/service-hook-9.1",
];

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    #[test]
    fn every_fixture_of_the_plugin_is_a_sample() {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
        let mut names = Vec::new();
        for folder in ["legacy-9.1", "legacy-other"] {
            for entry in fs::read_dir(fixtures.join(folder)).unwrap() {
                let path = entry.unwrap().path();
                names.push(format!("{folder}/{}", path.file_stem().unwrap().to_string_lossy()));
            }
        }
        names.sort();
        assert_eq!(SAMPLES.iter().map(|(name, _)| *name).collect::<Vec<_>>(), names);
    }
}
