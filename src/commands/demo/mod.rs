//! `demo`: bridge, sandbox and a shop's alerts on this machine, with nothing to configure. `shop` has the shop's services and
//! what Sentry posts about them; what happens is here.

mod shop;

use std::io::Write;
use std::net::TcpListener;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use awc::Client;
use awc::http::StatusCode;
use awc::http::header::{AUTHORIZATION, CONTENT_TYPE};
use chrono::Utc;
use pagerduty_sandbox::{CloseMode, Fault, FaultRule, JournalEntry, Options, RetryAfter, Sandbox, ThrottleStatus};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep};
use url::Url;

use self::shop::{DemoIssue, ISSUES, PAYMENTS, SHOP, WAREHOUSE};
use super::environment::{Signals, block_on, out, say};
use super::sandbox::line;
use crate::bridge::Bridge;
use crate::cli::DemoArgs;
use crate::config::{Config, LogFormat};
use crate::exit_code::ExitCode;
use crate::logging;
use crate::queue::{QueueError, Reader, State};

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
    let mut story = DemoStory { sandbox, webhook, reader, pause, client, posted: 0 };
    let is_well = tokio::select! {
        biased;
        printed = print(&mut entries) => { printed?; false }
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
    print(&mut entries).await?;
    Ok(ExitCode::Done)
}

/// The maximum time to wait for anything.
const PATIENCE: Duration = Duration::from_mins(1);

/// The interval at which the queue is checked while waiting for it.
const QUEUE_POLL: Duration = Duration::from_millis(50);

/// How many times the same issue fires during the outage.
const STORM: u32 = 10;

/// What the scenes need: the bridge, the sandbox, and how long each trouble lasts.
struct DemoStory<'a> {
    sandbox: &'a Sandbox,
    webhook: &'a Url,
    reader: &'a Reader,
    /// How long a trouble lasts.
    pause: Duration,
    client: Client,
    posted: u32,
}

impl DemoStory<'_> {
    /// Plays all scenes and prints a summary. Returns whether every incident was opened, and no event waits or is a
    /// dead letter.
    async fn play(&mut self) -> anyhow::Result<bool> {
        self.ordinary_minute().await?;
        self.outage().await?;
        self.throttled_key().await?;
        self.dead_letter().await?;
        self.resolve().await?;
        self.end().await
    }

    async fn ordinary_minute(&mut self) -> anyhow::Result<()> {
        tell(
            "A shop has three services: Shop, Payments and Warehouse. Four alerts come from Sentry, and PagerDuty opens an \
             incident for each.",
        )?;
        for issue in [shop::CART_TOTAL, shop::SLOW_SEARCH, shop::NEGATIVE_AMOUNT, shop::NO_ADDRESS] {
            self.post(issue).await?;
        }
        self.nothing_waits().await?;
        sleep(self.pause / 4).await;
        Ok(())
    }

    async fn outage(&mut self) -> anyhow::Result<()> {
        tell(&format!(
            "PagerDuty stops answering. {} alerts come meanwhile, {STORM} of them about one issue. Each is committed to disk \
             before Sentry gets its answer, so none is lost. The status page names the outage and counts what waits.",
            STORM + 2
        ))?;
        let faulted = self.sandbox.counters().faulted;
        self.sandbox.inject(Fault::Close { apply: false, cut: CloseMode::Silent })?;
        self.post(shop::NO_CARD_PROCESSOR).await?;
        for _ in 0..STORM {
            self.post(shop::NO_DATABASE).await?;
        }
        self.post(shop::CHECKOUT_DOWN).await?;
        self.failed_since(faulted).await?;
        sleep(self.pause).await;
        tell("PagerDuty answers again. All that waited is delivered in order; what was folded together is one event.")?;
        self.sandbox.clear_faults();
        self.nothing_waits().await
    }

    async fn throttled_key(&mut self) -> anyhow::Result<()> {
        tell(
            "PagerDuty throttles the service Payments: it answers 403. Alerts of Payments wait for some seconds, at half the \
             rate; those of the other services are not delayed.",
        )?;
        let status = ThrottleStatus::Forbidden;
        let fault = Fault::Throttled { status, retry_after: Some(RetryAfter::Seconds(1)) };
        let service_key = Some(shop::PAYMENTS.key.to_owned());
        let faulted = self.sandbox.counters().faulted;
        self.sandbox.inject(FaultRule { service_key, ..FaultRule::new(fault).times(1) })?;
        self.post(shop::CHARGED_TWICE).await?;
        self.failed_since(faulted).await?;
        self.post(shop::CART_TOTAL).await?;
        self.nothing_waits().await?;
        self.sandbox.clear_faults();
        tell("PagerDuty takes the alerts of Payments again.")
    }

    async fn dead_letter(&mut self) -> anyhow::Result<()> {
        tell(
            "PagerDuty rejects an alert of Warehouse for good: it answers 400. The alert is not dropped. It is a dead letter, \
             which the status page shows with its reason until somebody retries or discards it.",
        )?;
        let incident_key = Some(shop::DISK_FULL.id.to_owned());
        self.sandbox.inject(FaultRule { incident_key, ..FaultRule::new(Fault::status(400)).times(1) })?;
        self.post(shop::DISK_FULL).await?;
        let dead = async || Ok(self.reader.list(State::Dead, None, 1).await?.first().map(|letter| letter.id));
        let id = until("the dead letter", PATIENCE, dead).await?;
        sleep(self.pause).await;
        self.sandbox.clear_faults();
        tell("Somebody presses Retry, and this time PagerDuty accepts it.")?;
        let address = self.webhook.join(&format!("/api/events/{id}/retry"))?;
        let request =
            self.client.post(address.as_str()).insert_header((AUTHORIZATION, format!("Bearer {ADMIN_TOKEN}")));
        let answer = request.send().await.map_err(|error| anyhow::anyhow!("the bridge does not answer: {error}"))?;
        if !answer.status().is_success() {
            bail!("the retry was answered {}", answer.status());
        }
        self.nothing_waits().await
    }

    async fn resolve(&mut self) -> anyhow::Result<()> {
        tell("Somebody resolves an issue of Shop in Sentry. The bridge resolves its incident in PagerDuty.")?;
        let issue = shop::CART_TOTAL;
        self.send(Some("issue"), issue.resolved(Utc::now()).to_string()).await?;
        let resolved = self.sandbox.wait_for(PATIENCE, |records| {
            records
                .incident(issue.service.key, issue.id)
                .is_some_and(|incident| incident.state == pagerduty_sandbox::IncidentState::Resolved)
        });
        resolved.await?;
        self.nothing_waits().await
    }

    async fn end(&mut self) -> anyhow::Result<bool> {
        let missing = ISSUES
            .iter()
            .filter(|issue| self.sandbox.read(|records| records.incident(issue.service.key, issue.id).is_none()));
        let missing: Vec<_> = missing.map(|issue| issue.id).collect();
        let queue = until("a look at the queue", PATIENCE, async || self.reader.overview().await.map(Some)).await?;
        let delivered = self.sandbox.counters().accepted;
        tell(&format!(
            "{} webhooks posted, {delivered} events delivered, {} of {} incidents opened, {} waiting, {} dead letters.",
            self.posted,
            ISSUES.len() - missing.len(),
            ISSUES.len(),
            queue.waiting,
            queue.dead,
        ))?;
        Ok(missing.is_empty() && queue.waiting == 0 && queue.dead == 0)
    }

    async fn post(&mut self, issue: DemoIssue) -> anyhow::Result<()> {
        let body = issue.alert(self.posted, Utc::now()).to_string();
        self.send(None, body).await
    }

    async fn send(&mut self, resource: Option<&str>, body: String) -> anyhow::Result<()> {
        let mut request = self.client.post(self.webhook.as_str()).insert_header((CONTENT_TYPE, "application/json"));
        if let Some(resource) = resource {
            request = request.insert_header(("Sentry-Hook-Resource", resource));
        }
        let answer = request.send_body(body).await;
        let answer = answer.map_err(|error| anyhow::anyhow!("the bridge does not answer: {error}"))?;
        if answer.status() != StatusCode::ACCEPTED {
            bail!("a webhook was answered {}", answer.status());
        }
        self.posted += 1;
        Ok(())
    }

    /// Waits until the sandbox has failed more requests than `faulted`.
    async fn failed_since(&self, faulted: u64) -> anyhow::Result<()> {
        Ok(self.sandbox.wait_for(PATIENCE, |records| records.counters().faulted > faulted).await?)
    }

    async fn nothing_waits(&self) -> anyhow::Result<()> {
        until("the deliveries", PATIENCE, async || Ok((self.reader.overview().await?.waiting == 0).then_some(()))).await
    }
}

/// Calls `look` until it returns something. On a machine that is busy with other things, a call may take too long; the
/// next one need not.
async fn until<T>(
    what: &str,
    patience: Duration,
    mut look: impl AsyncFnMut() -> Result<Option<T>, QueueError>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let missing = match look().await {
            Ok(Some(found)) => return Ok(found),
            Ok(None) => None,
            Err(error @ (QueueError::Busy { .. } | QueueError::Stuck { .. })) => Some(error),
            Err(error) => return Err(error.into()),
        };
        if Instant::now() > deadline {
            return match missing {
                Some(error) => Err(error.into()),
                None => bail!("{what} took longer than {patience:?}"),
            };
        }
        sleep(QUEUE_POLL).await;
    }
}

/// Prints a sentence, separated from the lines of the events.
fn tell(sentence: &str) -> anyhow::Result<()> {
    writeln!(out(), "\n{sentence}")?;
    Ok(())
}

/// Prints a line for each event that PagerDuty gets, for as long as it is polled.
async fn print(entries: &mut Receiver<Arc<JournalEntry>>) -> anyhow::Result<()> {
    loop {
        match entries.recv().await {
            Ok(entry) => writeln!(out(), "  {}", line(&entry))?,
            Err(RecvError::Lagged(_)) => {}
            Err(RecvError::Closed) => bail!("the sandbox ended"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn busy() -> QueueError {
        QueueError::Busy { database: "demo.db".to_owned() }
    }

    #[tokio::test]
    async fn a_look_that_takes_too_long_is_taken_again() {
        let mut looks = vec![Ok(Some(7)), Err(busy()), Ok(None), Err(busy())];
        let found = until("the answer", PATIENCE, async || looks.pop().unwrap_or(Ok(None))).await;
        assert_eq!(found.ok(), Some(7));
    }

    #[tokio::test]
    async fn what_does_not_come_is_named_and_so_is_what_kept_it() {
        let error = until("the answer", Duration::ZERO, async || Ok::<Option<()>, _>(None)).await.err();
        assert_eq!(error.map(|error| error.to_string()), Some("the answer took longer than 0ns".to_owned()));
        let error = until("the answer", Duration::ZERO, async || Err::<Option<()>, _>(busy())).await.err();
        assert_eq!(error.map(|error| error.to_string()), Some(busy().to_string()));
    }
}
