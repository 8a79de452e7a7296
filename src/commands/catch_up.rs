//! `catch-up`: enqueue alerts that Sentry fired and whose webhooks never came, with or without a running bridge.

use std::io::Write;

use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use serde_json::{Value, json};

use super::environment::sentry;
use super::environment::{UsageError, block_on, config, config_with_placeholders, out, say};
use crate::catch_up::plan::{MissingAlerts, window};
use crate::catch_up::{CatchUp, CatchUpOutcome};
use crate::cli::{CatchUpArgs, Since};
use crate::config::{CatchUpMode, Config};
use crate::exit_code::ExitCode;
use crate::ingest::Ingest;
use crate::printable::{self, line};
use crate::queue::{Editor, Reader};
use crate::sentry_api::address::BridgeAddress;
use crate::sentry_api::types::{Firing, TimeWindow};

/// Asks Sentry and prints the alerts that are missing; enqueues them unless it is a dry run.
///
/// # Errors
///
/// When settings are missing, Sentry does not answer, or the database cannot be used.
pub(super) fn run(args: &CatchUpArgs) -> anyhow::Result<ExitCode> {
    // A dry run sends nothing, so required settings may be missing.
    let config = if args.dry_run { config_with_placeholders()?.0 } else { config()? };
    block_on(catch_up(args, &config))
}

async fn catch_up(args: &CatchUpArgs, config: &Config) -> anyhow::Result<ExitCode> {
    let sentry = sentry(config)?;
    let mut editor = Editor::open(config.database()).await?;
    let now = Utc::now();
    let window = match args.since {
        Some(since) => TimeWindow { from: moment(since, now)?, until: now.trunc_subsecs(0) },
        None => since_last(editor.reader(), now).await?,
    };
    let ingest = Ingest::from(config);
    let bridge = BridgeAddress { root: args.bridge.clone(), tokens: config.webhook_token.clone() };
    let reader = editor.reader().clone();
    let run = CatchUp {
        api: &sentry.client,
        ingest: &ingest,
        reader: &reader,
        bridge: &bridge,
        // Running this command means that catch-up is wanted, even if it is off in the bridge.
        mode: if config.catch_up == CatchUpMode::Report { CatchUpMode::Report } else { CatchUpMode::Page },
        alerts: args.alerts,
        summary_key: config.alarm_key(),
    };
    let found = run.find(window).await?;
    for unseen in &found.unseen {
        say(&format!("not complete: {unseen}"));
    }
    let mut done = Vec::new();
    if !args.dry_run {
        let tell = |firing: &Firing, outcome: &CatchUpOutcome| done.push((firing.issue.id.clone(), outcome.clone()));
        run.carry_out(&found, window.until, &mut editor, tell).await?;
    }
    if args.json {
        print_json(&window, &found, &done, args.dry_run)?;
    } else {
        print_text(&window, &found, &done, args.dry_run)?;
    }
    editor.close().await?;
    Ok(ExitCode::of(found.unseen.is_empty()))
}

/// The moment that `--since` names.
fn moment(since: Since, now: DateTime<Utc>) -> anyhow::Result<DateTime<Utc>> {
    let at = match since {
        Since::At(at) => Some(at),
        Since::Ago(ago) => TimeDelta::from_std(ago).ok().and_then(|ago| now.checked_sub_signed(ago)),
    };
    match at {
        Some(at) if at < now => Ok(at),
        Some(_) => Err(UsageError("--since is in the future".to_owned()).into()),
        None => Err(UsageError("--since is too long ago".to_owned()).into()),
    }
}

/// The window that a running bridge would ask for.
async fn since_last(reader: &Reader, now: DateTime<Utc>) -> anyhow::Result<TimeWindow> {
    let last = reader.catch_up().await?;
    let metrics = reader.persisted_metrics(now).await?;
    let window = window(last.as_ref(), metrics.last_webhook_at, now);
    let missing =
        || UsageError("it is not known when the last webhook came: say --since, as in `--since 2h`".to_owned());
    window.ok_or_else(|| missing().into())
}

/// Describes what is done, or would be done, with a missing alert.
fn action(found: &MissingAlerts, firing: &Firing, done: &[(String, CatchUpOutcome)], is_dry: bool) -> String {
    if found.report.contains(firing) {
        return if firing.is_exact {
            "reported".to_owned()
        } else {
            "reported: a guess from the list of issues".to_owned()
        };
    }
    let is_summarized = found.summarize.contains(firing);
    match done.iter().find(|(issue, _)| *issue == firing.issue.id) {
        Some((_, CatchUpOutcome::Enqueued(events))) => {
            let events: Vec<_> = events.iter().map(ToString::to_string).collect();
            format!("enqueued as event {}", events.join(", "))
        }
        Some((_, CatchUpOutcome::NotNeeded(why))) => format!("not enqueued: {why}"),
        None if is_summarized && is_dry => "would be part of one summarizing event".to_owned(),
        None if is_summarized => "part of one summarizing event".to_owned(),
        None => "would be enqueued".to_owned(),
    }
}

fn all(found: &MissingAlerts) -> impl Iterator<Item = &Firing> {
    found.page.iter().chain(&found.summarize).chain(&found.report)
}

fn time(at: DateTime<Utc>) -> String {
    at.to_rfc3339_opts(SecondsFormat::Secs, true)
}

fn print_text(
    window: &TimeWindow,
    found: &MissingAlerts,
    done: &[(String, CatchUpOutcome)],
    is_dry: bool,
) -> anyhow::Result<()> {
    let mut out = out();
    let kind = if found.is_exact { "as Sentry recorded them" } else { "guessed from new issues" };
    writeln!(
        out,
        "from {} to {}: alerts fired for {} issues, {kind}; {} of them missing",
        time(window.from),
        time(window.until),
        found.fired,
        found.number()
    )?;
    for firing in all(found) {
        let what = action(found, firing, done, is_dry);
        writeln!(
            out,
            "{}  issue {}  {} ({}): {what}",
            time(firing.at),
            firing.issue.id,
            line(&firing.issue.title),
            line(&firing.alerts.join(", "))
        )?;
    }
    Ok(())
}

fn print_json(
    window: &TimeWindow,
    found: &MissingAlerts,
    done: &[(String, CatchUpOutcome)],
    is_dry: bool,
) -> anyhow::Result<()> {
    let view = |firing: &Firing| -> Value {
        json!({
            "issue": firing.issue.id,
            "title": firing.issue.title,
            "fired_at": time(firing.at),
            "alerts": firing.alerts,
            "is_exact": firing.is_exact,
            "action": action(found, firing, done, is_dry),
        })
    };
    let document = json!({
        "from": time(window.from),
        "until": time(window.until),
        "is_exact": found.is_exact,
        "fired": found.fired,
        "missing": all(found).map(view).collect::<Vec<_>>(),
        "unseen": found.unseen,
        "dry_run": is_dry,
    });
    writeln!(out(), "{}", printable::json(&serde_json::to_string_pretty(&document)?))?;
    Ok(())
}
