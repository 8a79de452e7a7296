//! `replay`: post payload files to a running bridge.

use std::io::Write;
use std::time::Duration;

use awc::Client;
use awc::http::StatusCode;
use awc::http::header::{CONTENT_TYPE, USER_AGENT};
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::environment::{UsageError, block_on, out, say};
use super::payloads::{Payload, collect};
use crate::cli::ReplayArgs;
use crate::exit_code::ExitCode;
use crate::printable::line;

/// How long the bridge may take to commit an alert before it counts as refused.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How the payloads were answered.
#[derive(Debug, Default, Serialize)]
struct Summary {
    posted: u64,
    queued: u64,
    ignored: u64,
    refused: u64,
}

/// Posts every payload in order and prints how they were answered.
pub(super) fn run(args: &ReplayArgs) -> anyhow::Result<ExitCode> {
    let payloads = collect(&args.paths)?;
    if args.dry_run {
        let mut out = out();
        for payload in &payloads {
            writeln!(out, "{} ({} bytes)", line(&payload.name), payload.body.len())?;
        }
        writeln!(out, "{} would be posted, {} times each", count(payloads.len() as u64, "payload"), args.repeat)?;
        return Ok(ExitCode::Done);
    }
    let target = args.to.as_ref().ok_or_else(|| UsageError("--to is missing: the webhook to post to".to_owned()))?;
    let summary = block_on(post_all(target, &payloads, args));
    let mut out = out();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&summary)?)?;
    } else {
        let Summary { posted, queued, ignored, refused } = summary;
        writeln!(out, "{posted} posted: {queued} queued, {ignored} ignored, {refused} refused")?;
    }
    Ok(ExitCode::of(summary.refused == 0))
}

async fn post_all(target: &Url, payloads: &[Payload], args: &ReplayArgs) -> Summary {
    let client = Client::builder().timeout(TIMEOUT).disable_redirects().finish();
    let total = payloads.len() as u64 * u64::from(args.repeat);
    let bar = progress(total);
    let mut summary = Summary::default();
    let mut due = Instant::now();
    for payload in (0..args.repeat).flat_map(|_| payloads) {
        if let Some(rate) = args.rate {
            sleep_until(due).await;
            due += rate.interval();
        }
        summary.posted += 1;
        match post(&client, target, payload).await {
            Ok(answer) if answer == "queued" => summary.queued += 1,
            Ok(_) => summary.ignored += 1,
            Err(reason) => {
                summary.refused += 1;
                bar.suspend(|| say(&line(&format!("{}: {reason}", payload.name))));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    summary
}

/// A bar on standard error, if that is a terminal.
fn progress(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}");
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Posts one payload; the answer's `status`, or why it was not accepted.
pub(super) async fn post(client: &Client, target: &Url, payload: &Payload) -> Result<String, String> {
    let mut response = client
        .post(target.as_str())
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((USER_AGENT, concat!("sentry-pagerduty-bridge/", env!("CARGO_PKG_VERSION"), " replay")))
        .send_body(payload.body.clone())
        .await
        .map_err(|error| format!("no answer from {}: {error}", target.origin().ascii_serialization()))?;
    let status = response.status();
    let body = response.body().await.unwrap_or_default();
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let member = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    if status == StatusCode::ACCEPTED {
        member("status").ok_or_else(|| "answered 202, but not as a bridge does".to_owned())
    } else {
        Err(format!(
            "answered {}: {}",
            status.as_u16(),
            member("reason").unwrap_or_else(|| "without a reason".to_owned())
        ))
    }
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
