//! `explain`: what would be sent for a payload, and why. Sends nothing.

use std::io::Write;

use anyhow::Context;
use chrono::Utc;
use serde_json::Value;

use super::environment::{config_with_placeholders, out, say};
use super::payloads::{Payload, collect};
use crate::cli::ExplainArgs;
use crate::exit_code::ExitCode;
use crate::ingest::{Decision, FollowUp, Ingest, Prepared, Webhook};
use crate::pagerduty::{Destination, Event, Rendered, ServiceKey, render};
use crate::printable::{self, line};
use crate::routing::Routes;

/// Explains every payload in turn.
pub(super) fn run(args: &ExplainArgs) -> anyhow::Result<ExitCode> {
    let payloads = collect(&args.files)?;
    let (config, missing) = config_with_placeholders()?;
    for name in missing {
        say(&format!("{name} is not set, so a placeholder is used"));
    }
    let ingest = Ingest::from(&config);
    let routes = config.routes();
    let mut out = out();
    let mut exit = ExitCode::Done;
    for payload in &payloads {
        let webhook = Webhook::of_body(&payload.body, Utc::now());
        let decision = ingest.decide(&webhook);
        if let Decision::Rejected(_) = decision {
            exit = ExitCode::Failed;
        }
        if args.json {
            print_json(&mut out, payload, &decision, args.show_keys)?;
        } else {
            print_text(&mut out, &payload.name, &webhook, &decision, &routes, args.show_keys)?;
        }
    }
    Ok(exit)
}

fn print_json(out: &mut impl Write, payload: &Payload, decision: &Decision, show_keys: bool) -> anyhow::Result<()> {
    match decision {
        Decision::Queue(prepared) => {
            writeln!(out, "{}", compact(&json(&prepared.event, &prepared.rendered, show_keys)?))?;
        }
        Decision::Follow(follow_up) => match &follow_up.fallback {
            Some(key) => {
                let event = follow_up.event_for(Destination::v1(key.clone()));
                writeln!(out, "{}", compact(&json(&event, &render(&event), show_keys)?))?;
            }
            None => say(&line(&format!("{}: {}", payload.name, destinations(follow_up)))),
        },
        Decision::Ignored(reason) => say(&line(&format!("{}: ignored: {reason}", payload.name))),
        Decision::Rejected(reason) => say(&line(&format!("{}: refused: {reason}", payload.name))),
    }
    Ok(())
}

fn print_text(
    out: &mut impl Write,
    name: &str,
    webhook: &Webhook<'_>,
    decision: &Decision,
    routes: &Routes,
    show_keys: bool,
) -> anyhow::Result<()> {
    writeln!(out, "{}", line(name))?;
    match decision {
        Decision::Ignored(reason) => writeln!(out, "  ignored  {}", line(&reason.to_string()))?,
        Decision::Rejected(reason) => writeln!(out, "  refused  {}", line(&reason.to_string()))?,
        Decision::Queue(prepared) => print_trigger(out, webhook, prepared, routes, show_keys)?,
        Decision::Follow(follow_up) => {
            writeln!(out, "  event    {}:", line(&destinations(follow_up)))?;
            // The integration is all that differs from one event to the next.
            let key = follow_up.fallback.as_ref().unwrap_or(routes.default_key());
            let event = follow_up.event_for(Destination::v1(key.clone()));
            let mut event = json(&event, &render(&event), show_keys)?;
            if follow_up.fallback.is_none() {
                event["service_key"] = Value::from("each where the incident is open");
            }
            print_event(out, &event)?;
        }
    }
    writeln!(out)?;
    Ok(())
}

fn print_trigger(
    out: &mut impl Write,
    webhook: &Webhook<'_>,
    prepared: &Prepared,
    routes: &Routes,
    show_keys: bool,
) -> anyhow::Result<()> {
    // The route was chosen before anything was redacted.
    let (alert, _) = webhook.parse().context("the payload is not an alert")?;
    let steps = routes.explain(&alert);
    for step in &steps {
        writeln!(out, "  route    {step}")?;
    }
    let by = if steps.last().is_some_and(|step| step.matched) { "that line's key" } else { "the default key" };
    writeln!(out, "  key      {}, {by}", shown(&prepared.event.destination.key, show_keys))?;
    for cut in &prepared.rendered.cuts {
        writeln!(out, "  cut      {}", line(&cut.to_string()))?;
    }
    let event = &prepared.event;
    let size = prepared.rendered.bytes.len();
    let incident = event.incident_key.to_string();
    writeln!(out, "  event    {} of incident {}, {size} bytes:", event.event_type(), line(&incident))?;
    print_event(out, &json(event, &prepared.rendered, show_keys)?)
}

/// Where an event goes that is not routed.
fn destinations(follow_up: &FollowUp) -> String {
    let unknown = match &follow_up.fallback {
        Some(key) => format!("if there is none, to {key}"),
        None => "if there is none, nowhere".to_owned(),
    };
    format!(
        "{} of incident {}: to every key where the running bridge opened it; {unknown}",
        follow_up.event_type(),
        follow_up.incident_key
    )
}

fn shown(key: &ServiceKey, show_keys: bool) -> String {
    if show_keys { key.expose().to_owned() } else { key.to_string() }
}

fn print_event(out: &mut impl Write, event: &Value) -> anyhow::Result<()> {
    for line in printable::json(&serde_json::to_string_pretty(event)?).lines() {
        writeln!(out, "           {line}")?;
    }
    Ok(())
}

/// On one line.
fn compact(event: &Value) -> String {
    printable::json(&event.to_string()).into_owned()
}

/// The event as it would be sent, with its key masked unless it may be shown.
fn json(event: &Event, rendered: &Rendered, show_keys: bool) -> anyhow::Result<Value> {
    let mut json: Value = serde_json::from_slice(&rendered.bytes).context("the event is not JSON")?;
    if !show_keys {
        json["service_key"] = Value::String(event.destination.key.to_string());
    }
    Ok(json)
}
