//! `demo`: bridge, sandbox and a shop's alerts on this machine, with nothing to configure.
//!
//! - `story`: what happens
//! - `shop`: the shop's services and what Sentry posts about them

mod shop;
mod story;

use std::io::Write;
use std::net::TcpListener;
use std::time::Duration;

use anyhow::Context;
use pagerduty_sandbox::{Options, Sandbox};
use tokio::sync::oneshot;
use url::Url;

use self::shop::{PAYMENTS, SHOP, WAREHOUSE};
use self::story::{PATIENCE, Story};
use super::environment::{Signals, block_on, out, say};
use crate::bridge::Bridge;
use crate::cli::DemoArgs;
use crate::config::{Config, LogFormat};
use crate::exit_code::ExitCode;
use crate::logging;
use crate::queue::Reader;

/// How long each trouble lasts, so that one can look at it; below, how long with `--once`.
const PAUSE: Duration = Duration::from_secs(10);
const PAUSE_ONCE: Duration = Duration::from_secs(1);

/// The token of the demo's webhook; it is public.
const TOKEN: &str = "demo-token-that-guards-nothing";

/// The token of the demo's status page, which everybody on this machine may see.
const ADMIN_TOKEN: &str = "look-at-the-demo";

/// Plays the story with a bridge and a sandbox of its own, and prints what PagerDuty gets.
pub(super) fn run(args: &DemoArgs) -> anyhow::Result<ExitCode> {
    // Failures are part of the story, which describes them.
    logging::start(LogFormat::Text, "off");
    let folder = tempfile::tempdir().context("no temporary folder for the demo's queue")?;
    block_on(async {
        let sandbox = Sandbox::start(Options::default(), loopback()?, Some(loopback()?))?;
        let database = folder.path().join("demo.db").display().to_string();
        let config = Config::from_vars(settings(&sandbox.url(), &database))?;
        let bridge = Box::pin(Bridge::build(config, loopback()?)).await?;
        let address = bridge.address();
        let reader = bridge.queue().reader().clone();
        let webhook = Url::parse(&format!("http://{address}/sentry/{TOKEN}"))?;
        let (stop, stopped) = oneshot::channel();
        let running = actix_web::rt::spawn(bridge.run_until_stopped(async { stopped.await.unwrap_or_default() }));

        say(&format!("bridge at {webhook}, sandbox at {}", sandbox.url()));
        say(&format!("status page at http://{address}/, admin token {ADMIN_TOKEN}"));
        let mut signals = Signals::new()?;
        let shown = tokio::select! {
            shown = show(&sandbox, &webhook, &reader, args) => shown,
            () = signals.next() => Ok(ExitCode::Done),
        };
        // Also if the story ended early, because what the bridge holds cannot be dropped after the runtime.
        let _ = stop.send(());
        running.await??;
        sandbox.stop().await;
        shown
    })
}

/// The settings of the demo's bridge: each project of the shop has a service of its own.
fn settings(pagerduty: &str, database: &str) -> [(&'static str, String); 9] {
    let routes = [PAYMENTS, WAREHOUSE].map(|service| format!("project,{},{}", service.slug, service.key));
    let names = [SHOP, PAYMENTS, WAREHOUSE].map(|service| format!("{},{}", service.key, service.name));
    [
        ("BRIDGE_PAGERDUTY_URL", pagerduty.to_owned()),
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", SHOP.key.to_owned()),
        ("BRIDGE_PAGERDUTY_ROUTES", routes.join("\n")),
        ("BRIDGE_PAGERDUTY_NAMES", names.join("\n")),
        ("BRIDGE_WEBHOOK_TOKEN", TOKEN.to_owned()),
        ("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN.to_owned()),
        ("BRIDGE_DATABASE_URL", format!("sqlite:{database}")),
        // Failures here are shown, and page nobody.
        ("BRIDGE_ALARMS", "off".to_owned()),
        ("BRIDGE_SHUTDOWN_DRAIN", "0s".to_owned()),
    ]
}

fn loopback() -> anyhow::Result<TcpListener> {
    TcpListener::bind("127.0.0.1:0").context("no free port on this machine")
}

async fn show(sandbox: &Sandbox, webhook: &Url, reader: &Reader, args: &DemoArgs) -> anyhow::Result<ExitCode> {
    let mut entries = sandbox.subscribe();
    let usual = if args.once { PAUSE_ONCE } else { PAUSE };
    let pause = args.pause.map_or(usual, Duration::from_secs);
    let client = awc::Client::builder().timeout(PATIENCE).finish();
    let mut story = Story { sandbox, webhook, reader, pause, client, posted: 0 };
    let is_well = tokio::select! {
        biased;
        printed = story::print(&mut entries) => { printed?; false }
        is_well = story.play() => is_well?,
    };
    if args.once {
        return Ok(ExitCode::of(is_well));
    }
    say("");
    say("Still serving; what you post appears here. Another terminal may try:");
    say(&format!("  curl -d @fixtures/legacy-9.1/example-python-exception.json {webhook}"));
    if let Some(control) = sandbox.control_url() {
        say(&format!("  curl {control}/incidents"));
    }
    say("Ctrl-C ends it.");
    out().flush()?;
    story::print(&mut entries).await?;
    Ok(ExitCode::Done)
}
