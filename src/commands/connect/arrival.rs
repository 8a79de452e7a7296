//! Whether a webhook came, according to the counters in the `/metrics` of a running bridge.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::{Instant, sleep};
use url::Url;

use crate::commands::environment::local_address;

/// The timeout of one request to `/metrics`.
const TIMEOUT: Duration = Duration::from_secs(5);

/// How long Sentry may take to send the webhook that it was asked for.
const PATIENCE: Duration = Duration::from_secs(20);

/// The pause between two requests.
const PAUSE: Duration = Duration::from_millis(250);

/// The maximum size of `/metrics` that is read, in bytes.
const MAX_METRICS: usize = 4 * 1024 * 1024;

/// The number of webhooks by answer, such as `queued`.
type Counts = BTreeMap<String, u64>;

/// What became of the webhook that was waited for.
#[derive(Debug, Eq, PartialEq)]
pub(super) enum WebhookArrival {
    /// It was queued, or ignored because it came before.
    Taken,
    /// It was answered otherwise; the name of the answer.
    Refused(String),
    /// Nothing came within this time.
    None(Duration),
}

/// A bridge whose counters are watched.
pub(super) struct WebhookWatch {
    url: String,
    before: Counts,
}

impl WebhookWatch {
    /// Reads the counters of the bridge on this machine, or else of the one that Sentry is supposed to reach. `None` if
    /// neither has any.
    pub(super) async fn begin(listen: SocketAddr, root: &Url) -> Option<Self> {
        let local = format!("http://{}/metrics", local_address(listen));
        let remote = format!("{}/metrics", root.as_str().trim_end_matches('/'));
        for url in [local, remote] {
            if let Some(before) = counts(&url).await {
                return Some(Self { url, before });
            }
        }
        None
    }

    /// Waits for a webhook that was not counted at the beginning.
    pub(super) async fn arrival(&self) -> WebhookArrival {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = counts(&self.url).await.unwrap_or_default();
            if let Some(arrival) = change(&self.before, &now) {
                return arrival;
            }
            if Instant::now() >= deadline {
                return WebhookArrival::None(PATIENCE);
            }
            sleep(PAUSE).await;
        }
    }
}

/// Returns what came between two readings of the counters; a webhook that was taken takes precedence over one that was
/// refused.
fn change(before: &Counts, now: &Counts) -> Option<WebhookArrival> {
    let grew = |answer: &&String| now.get(*answer) > before.get(*answer);
    let mut refused = None;
    for answer in now.keys().filter(grew) {
        if matches!(answer.as_str(), "queued" | "ignored") {
            return Some(WebhookArrival::Taken);
        }
        refused = Some(WebhookArrival::Refused(answer.clone()));
    }
    refused
}

async fn counts(url: &str) -> Option<Counts> {
    let client = awc::Client::builder().timeout(TIMEOUT).disable_redirects().finish();
    let mut response = client.get(url).send().await.ok()?;
    if !response.status().is_success() {
        return None;
    }
    let body = response.body().limit(MAX_METRICS).await.ok()?;
    parse(std::str::from_utf8(&body).ok()?)
}

/// Parses the counters of webhooks from Prometheus' text format; `None` if it is not that of a bridge.
fn parse(text: &str) -> Option<Counts> {
    let mut counts = Counts::new();
    for line in text.lines() {
        let Some((labels, number)) = line.strip_prefix("bridge_webhooks_total{").and_then(|rest| rest.split_once("} "))
        else {
            continue;
        };
        let answer = labels.split(',').find_map(|label| label.strip_prefix("answer=\"")?.strip_suffix('"'))?;
        // The bridge's own canary may come at any time.
        if answer == "canary" {
            continue;
        }
        *counts.entry(answer.to_owned()).or_default() += number.trim().parse::<u64>().ok()?;
    }
    (!counts.is_empty()).then_some(counts)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_webhook_that_came_is_told_by_the_counters() {
        let text = |queued: u64, wrong: u64| {
            format!(
                "# HELP bridge_webhooks_total x\nbridge_webhooks_total{{answer=\"queued\",source=\"legacy\"}} {queued}\n\
                 bridge_webhooks_total{{answer=\"queued\",source=\"platform\"}} 2\n\
                 bridge_webhooks_total{{answer=\"wrong_signature\",source=\"unknown\"}} {wrong}\nother 1\n"
            )
        };
        let before = parse(&text(1, 0)).unwrap();
        assert_eq!(before["queued"], 3);
        let arrived = |queued, wrong| change(&before, &parse(&text(queued, wrong)).unwrap());
        assert_eq!(arrived(1, 0), None);
        assert_eq!(arrived(2, 0), Some(WebhookArrival::Taken));
        assert_eq!(arrived(2, 1), Some(WebhookArrival::Taken));
        assert_eq!(arrived(1, 1), Some(WebhookArrival::Refused("wrong_signature".to_owned())));
        assert_eq!(parse("<html>"), None);
    }
}
