//! `replay`: post payload files to a running bridge.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use awc::Client;
use awc::http::StatusCode;
use awc::http::header::{CONTENT_TYPE, USER_AGENT};
use chrono::Utc;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use url::Url;

use super::environment::{UsageError, block_on, out, say};
use super::payloads::{PayloadFile, collect};
use crate::cli::ReplayArgs;
use crate::config::{Config, SigningSecret, Source};
use crate::exit_code::ExitCode;
use crate::printable::line;
use crate::sentry::signature::{HOOK_SIGNATURE, HOOK_TIMESTAMP, Signature};

/// How long the bridge may take to commit an alert before it counts as refused.
const TIMEOUT: Duration = Duration::from_secs(30);

/// How the payloads were answered.
#[derive(Debug, Default, Serialize)]
struct ReplaySummary {
    posted: u64,
    queued: u64,
    ignored: u64,
    refused: u64,
    unreachable: u64,
}

/// Why a payload was not accepted.
pub(super) enum NotAccepted {
    /// The bridge refused it, or the response is not that of a bridge.
    Refused(String),
    /// There was no response.
    Unreachable(String),
}

impl NotAccepted {
    pub(super) fn reason(&self) -> &str {
        let (Self::Refused(reason) | Self::Unreachable(reason)) = self;
        reason
    }
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
    let target = with_path(target);
    let secret = args.secret_file.as_deref().map(client_secret).transpose()?;
    let summary = block_on(post_all(&target, &payloads, args, secret.as_ref()));
    let mut out = out();
    if args.json {
        writeln!(out, "{}", serde_json::to_string(&summary)?)?;
    } else {
        let ReplaySummary { posted, queued, ignored, refused, unreachable } = summary;
        let unanswered = if unreachable == 0 { String::new() } else { format!(", {unreachable} not answered") };
        writeln!(out, "{posted} posted: {queued} queued, {ignored} ignored, {refused} refused{unanswered}")?;
    }
    Ok(ExitCode::of(summary.refused + summary.unreachable == 0))
}

/// Adds the path of the webhook, with the first token of the settings, if `target` has no path.
fn with_path(target: &Url) -> Url {
    let mut target = target.clone();
    if target.path() == "/" {
        match Config::webhook_token_text(&Source::process()) {
            Some(token) => target.set_path(&format!("/sentry/{token}")),
            None => target.set_path("/sentry"),
        }
    }
    target
}

/// The first Client Secret in a file.
fn client_secret(path: &Path) -> anyhow::Result<SigningSecret> {
    let path = path.display();
    let text = fs::read_to_string(path.to_string()).with_context(|| format!("cannot read {path} of --secret-file"))?;
    let secrets = SigningSecret::parse_sentry_list(text.trim());
    let secrets = secrets.map_err(|error| UsageError(format!("{path} of --secret-file {error}")))?;
    secrets.into_iter().next().ok_or_else(|| UsageError(format!("{path} of --secret-file is empty")).into())
}

async fn post_all(
    target: &Url,
    payloads: &[PayloadFile],
    args: &ReplayArgs,
    secret: Option<&SigningSecret>,
) -> ReplaySummary {
    let client = Client::builder().timeout(TIMEOUT).disable_redirects().finish();
    let total = payloads.len() as u64 * u64::from(args.repeat);
    let bar = progress(total);
    let mut summary = ReplaySummary::default();
    let mut due = Instant::now();
    for payload in (0..args.repeat).flat_map(|_| payloads) {
        if let Some(interval) = args.interval {
            sleep_until(due).await;
            due += interval;
        }
        summary.posted += 1;
        match post(&client, target, payload, secret).await {
            Ok(answer) if answer == "queued" => summary.queued += 1,
            Ok(_) => summary.ignored += 1,
            Err(error) => {
                match error {
                    NotAccepted::Refused(_) => summary.refused += 1,
                    NotAccepted::Unreachable(_) => summary.unreachable += 1,
                }
                bar.suspend(|| say(&line(&format!("{}: {}", payload.name, error.reason()))));
            }
        }
        bar.inc(1);
    }
    bar.finish_and_clear();
    summary
}

/// A progress bar on standard error, if that is a terminal.
fn progress(total: u64) -> ProgressBar {
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} {per_sec} {eta}");
    ProgressBar::new(total).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// Posts one payload, signed if there is a secret, and returns the `status` in the response.
pub(super) async fn post(
    client: &Client,
    target: &Url,
    payload: &PayloadFile,
    secret: Option<&SigningSecret>,
) -> Result<String, NotAccepted> {
    let mut request = client
        .post(target.as_str())
        .insert_header((CONTENT_TYPE, "application/json"))
        .insert_header((USER_AGENT, concat!("sentry-pagerduty-bridge/", env!("CARGO_PKG_VERSION"), " replay")));
    if let Some(secret) = secret {
        let signature = Signature::of(&payload.body, secret).to_string();
        request = request.insert_header((HOOK_SIGNATURE, signature));
        request = request.insert_header((HOOK_TIMESTAMP, Utc::now().timestamp().to_string()));
    }
    let sent = request.send_body(payload.body.clone()).await;
    let mut response = sent.map_err(|error| {
        NotAccepted::Unreachable(format!("no answer from {}: {error}", target.origin().ascii_serialization()))
    })?;
    let status = response.status();
    let body = response.body().await.unwrap_or_default();
    let answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let member = |name: &str| answer.get(name).and_then(Value::as_str).map(str::to_owned);
    if status == StatusCode::ACCEPTED {
        member("status").ok_or_else(|| NotAccepted::Refused("answered 202, but not as a bridge does".to_owned()))
    } else {
        let reason = member("reason").unwrap_or_else(|| "without a reason".to_owned());
        Err(NotAccepted::Refused(format!("answered {}: {reason}", status.as_u16())))
    }
}

fn count(number: u64, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
