//! `explain`: what would be sent for a payload, and why. Sends nothing.

use std::io::{Write, stdout};

use anyhow::Context;
use chrono::Utc;
use serde_json::Value;

use super::payloads::{Payload, collect};
use super::{say, settings_or_stand_ins};
use crate::cli::ExplainArgs;
use crate::exit::Exit;
use crate::intake::{Intake, Prepared, Verdict, Webhook};
use crate::routing::Routes;

/// Explains every payload in turn.
///
/// # Errors
///
/// When the settings are wrong, a file cannot be read, or standard output is closed.
pub fn run(args: &ExplainArgs) -> anyhow::Result<Exit> {
    let payloads = collect(&args.files)?;
    let (settings, missing) = settings_or_stand_ins()?;
    for name in missing {
        say(&format!("{name} is not set, so a stand-in serves"));
    }
    let intake = Intake::new(settings.routes.clone(), settings.incident_key_prefix, settings.min_level);
    let mut out = stdout().lock();
    let mut exit = Exit::Done;
    for payload in &payloads {
        let verdict = intake.judge(&Webhook { resource: None, body: &payload.body, received_at: Utc::now() });
        if let Verdict::Rejected(_) = verdict {
            exit = Exit::Failed;
        }
        if args.json {
            print_json(&mut out, payload, &verdict, args.show_keys)?;
        } else {
            print_text(&mut out, payload, &verdict, &settings.routes, args.show_keys)?;
        }
    }
    Ok(exit)
}

fn print_json(out: &mut impl Write, payload: &Payload, verdict: &Verdict, show_keys: bool) -> anyhow::Result<()> {
    match verdict {
        Verdict::Queue(prepared) => writeln!(out, "{}", event(prepared, show_keys)?)?,
        Verdict::Ignored(reason) => say(&format!("{}: ignored: {reason}", payload.name)),
        Verdict::Rejected(reason) => say(&format!("{}: refused: {reason}", payload.name)),
    }
    Ok(())
}

fn print_text(
    out: &mut impl Write,
    payload: &Payload,
    verdict: &Verdict,
    routes: &Routes,
    show_keys: bool,
) -> anyhow::Result<()> {
    writeln!(out, "{}", payload.name)?;
    match verdict {
        Verdict::Ignored(reason) => writeln!(out, "  ignored  {reason}")?,
        Verdict::Rejected(reason) => writeln!(out, "  refused  {reason}")?,
        Verdict::Queue(prepared) => {
            let steps = routes.explain(&prepared.alert);
            for step in &steps {
                writeln!(out, "  route    {step}")?;
            }
            let key = prepared.event.service_key();
            let shown = if show_keys { key.expose().to_owned() } else { key.to_string() };
            let by = if steps.last().is_some_and(|step| step.matched) { "that line's key" } else { "the default key" };
            writeln!(out, "  key      {shown}, {by}")?;
            for cut in &prepared.cuts {
                writeln!(out, "  cut      {cut}")?;
            }
            let size = prepared.event.body().len();
            writeln!(
                out,
                "  event    {} of incident {}, {size} bytes:",
                prepared.event.event_type(),
                prepared.event.incident_key()
            )?;
            for line in serde_json::to_string_pretty(&event(prepared, show_keys)?)?.lines() {
                writeln!(out, "           {line}")?;
            }
        }
    }
    writeln!(out)?;
    Ok(())
}

/// The very event, with its key masked unless it may be shown.
fn event(prepared: &Prepared, show_keys: bool) -> anyhow::Result<Value> {
    let mut event: Value = serde_json::from_slice(prepared.event.body()).context("the event is no JSON")?;
    if !show_keys {
        event["service_key"] = Value::String(prepared.event.service_key().to_string());
    }
    Ok(event)
}
