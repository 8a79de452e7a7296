//! What happens in the demo: each scene is described in a sentence, posted to the bridge, and waited for.

use std::io::Write;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use awc::Client;
use awc::http::StatusCode;
use awc::http::header::{AUTHORIZATION, CONTENT_TYPE};
use chrono::Utc;
use pagerduty_sandbox::{CloseMode, Fault, FaultRule, JournalEntry, RetryAfter, Sandbox, ThrottleStatus};
use tokio::sync::broadcast::Receiver;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, sleep};
use url::Url;

use super::super::environment::out;
use super::super::sandbox::line;
use super::ADMIN_TOKEN;
use super::shop::{self, ISSUES, Issue};
use crate::queue::{QueueError, Reader, State};

/// The maximum time to wait for anything.
pub(super) const PATIENCE: Duration = Duration::from_mins(1);

/// The interval at which the queue is checked while waiting for it.
const GLANCES: Duration = Duration::from_millis(50);

/// How many times the same issue fires during the outage.
const STORM: u32 = 10;

/// What the scenes need: the bridge, the sandbox, and how long each trouble lasts.
pub(super) struct Story<'a> {
    pub(super) sandbox: &'a Sandbox,
    pub(super) webhook: &'a Url,
    pub(super) reader: &'a Reader,
    /// How long a trouble lasts.
    pub(super) pause: Duration,
    pub(super) client: Client,
    pub(super) posted: u32,
}

impl Story<'_> {
    /// Plays all scenes and prints a summary. Returns whether every incident was opened, and no event waits or is a
    /// dead letter.
    pub(super) async fn play(&mut self) -> anyhow::Result<bool> {
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

    async fn post(&mut self, issue: Issue) -> anyhow::Result<()> {
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
        sleep(GLANCES).await;
    }
}

/// Prints a sentence, separated from the lines of the events.
fn tell(sentence: &str) -> anyhow::Result<()> {
    writeln!(out(), "\n{sentence}")?;
    Ok(())
}

/// Prints a line for each event that PagerDuty gets, for as long as it is polled.
pub(super) async fn print(entries: &mut Receiver<Arc<JournalEntry>>) -> anyhow::Result<()> {
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
