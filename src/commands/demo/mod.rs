//! `demo`: bridge, sandbox and sample alerts on this machine, with nothing to configure.

mod samples;

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::{Context, bail};
use pagerduty_sandbox::{JournalEntry, Options, Sandbox, Verdict};
use tokio::sync::broadcast::Receiver;
use tokio::sync::oneshot;
use tokio::time::timeout;
use url::Url;

use self::samples::SAMPLES;
use super::payloads::Payload;
use super::sandbox::line;
use super::signals::Signals;
use super::{block_on, out, replay, say};
use crate::bridge::Bridge;
use crate::cli::DemoArgs;
use crate::config::{Config, LogFormat};
use crate::exit::Exit;
use crate::logging;

/// How long the deliveries may take; they need a second or two.
const PATIENCE: Duration = Duration::from_mins(1);

/// The token of the demo's webhook; it guards nothing.
const TOKEN: &str = "demo-token-that-guards-nothing";

/// The token of the demo's status page. Whoever is on this machine may look at it while the demo runs.
const ADMIN_TOKEN: &str = "look-at-the-demo";

/// The routes that the samples were recorded with.
const ROUTES: &str = "environment,production,0000000000000000000000000000000a
level,fatal,0000000000000000000000000000000b
level,warning,0000000000000000000000000000000c";

/// Posts the samples to a bridge of its own and prints what its sandbox made of them.
///
/// # Errors
///
/// When no port or no temporary folder is to be had, or standard output is closed.
pub fn run(args: &DemoArgs) -> anyhow::Result<Exit> {
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
            () = signals.next() => Exit::Done,
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

async fn show(sandbox: &Sandbox, webhook: &Url, once: bool) -> anyhow::Result<Exit> {
    let mut entries = sandbox.subscribe();
    post_samples(webhook).await?;
    let printed = timeout(PATIENCE, print(&mut entries, SAMPLES.len())).await;
    let taken = printed.unwrap_or_else(|_| bail!("not everything was delivered within {PATIENCE:?}"))?;
    writeln!(out(), "{} alerts posted, {taken} delivered", SAMPLES.len())?;
    if once {
        return Ok(Exit::of(taken == SAMPLES.len()));
    }
    say("");
    say("Still serving; what you post appears here. Another terminal may try:");
    say(&format!("  curl -d @fixtures/legacy-9.1/example-python-exception.json {webhook}"));
    if let Some(control) = sandbox.control_url() {
        say(&format!("  curl {control}/incidents"));
    }
    say("Ctrl-C ends it.");
    print(&mut entries, usize::MAX).await?;
    Ok(Exit::Done)
}

async fn post_samples(webhook: &Url) -> anyhow::Result<()> {
    let client = awc::Client::default();
    for (name, body) in SAMPLES {
        let payload = Payload { name: (*name).to_owned(), body: body.to_vec() };
        if let Err(reason) = replay::post(&client, webhook, &payload).await {
            bail!("{name}: {reason}");
        }
    }
    Ok(())
}

/// Prints a line for each of the next `number` events, and tells how many of them PagerDuty would have taken.
async fn print(entries: &mut Receiver<std::sync::Arc<JournalEntry>>, number: usize) -> anyhow::Result<usize> {
    let mut taken = 0;
    for _ in 0..number {
        let entry = entries.recv().await.context("the sandbox ended")?;
        taken += usize::from(matches!(entry.verdict, Verdict::Accepted { .. }));
        writeln!(out(), "{}", line(&entry))?;
    }
    Ok(taken)
}
