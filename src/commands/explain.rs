//! `explain`: what would be sent for a payload, and why. Sends nothing.

use std::io::Write;

use anyhow::Context;
use chrono::Utc;
use serde_json::Value;

use super::environment::{config_with_placeholders, out, say};
use super::payloads::collect;
use crate::alert::Alert;
use crate::cli::{ExplainApi, ExplainArgs};
use crate::envelope::{EnqueueRequest, FollowUp};
use crate::exit_code::ExitCode;
use crate::ingest::{Decision, Ingest, Webhook};
use crate::pagerduty::{ApiVersion, Destination, Event, Rendered, ServiceKey, Template, events_api, render};
use crate::printable::{self, line};
use crate::routing::{self, Routes, SeverityRule};

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
        let description = config.description.as_ref();
        let show = ExplainOutput {
            ingest: &ingest,
            routes: &routes,
            severity: &config.severity,
            description,
            api: args.api,
            keys: args.show_keys,
        };
        if args.json {
            print_json(&mut out, &payload.name, &webhook, &decision, &show)?;
        } else {
            print_text(&mut out, &payload.name, &webhook, &decision, &show)?;
        }
    }
    Ok(exit)
}

/// What is shown, and how.
struct ExplainOutput<'a> {
    ingest: &'a Ingest,
    routes: &'a Routes,
    severity: &'a [SeverityRule],
    description: Option<&'a Template>,
    api: Option<ExplainApi>,
    keys: bool,
}

impl ExplainOutput<'_> {
    /// The event of a webhook that opens an incident.
    fn trigger(&self, webhook: &Webhook<'_>) -> anyhow::Result<Event> {
        self.ingest.trigger_of(webhook).context("the payload is not an alert")
    }

    /// The events to show: for the API of the integration, or for the APIs that were asked for.
    fn events(&self, event: &Event) -> Vec<Event> {
        let apis = match self.api {
            None => vec![event.destination.api],
            Some(ExplainApi::V1) => vec![ApiVersion::V1],
            Some(ExplainApi::V2) => vec![ApiVersion::V2],
            Some(ExplainApi::Both) => vec![ApiVersion::V1, ApiVersion::V2],
        };
        let by = |api| Event { destination: Destination { api, ..event.destination.clone() }, ..event.clone() };
        apis.into_iter().map(by).collect()
    }

    fn key(&self, key: &ServiceKey) -> String {
        if self.keys { key.expose().to_owned() } else { key.to_string() }
    }
}

fn print_json(
    out: &mut impl Write,
    name: &str,
    webhook: &Webhook<'_>,
    decision: &Decision,
    show: &ExplainOutput<'_>,
) -> anyhow::Result<()> {
    let event = match decision {
        Decision::Enqueue(enqueue) => match &**enqueue {
            EnqueueRequest::Event { .. } => show.trigger(webhook)?,
            EnqueueRequest::FollowUp(follow_up) => {
                let Some(key) = &follow_up.fallback else {
                    say(&line(&format!("{name}: {}", destinations(follow_up))));
                    return Ok(());
                };
                follow_up.event_for(show.routes.destination(key))
            }
        },
        Decision::Ignored(reason) => {
            say(&line(&format!("{name}: ignored: {reason}")));
            return Ok(());
        }
        Decision::Rejected(reason) => {
            say(&line(&format!("{name}: refused: {reason}")));
            return Ok(());
        }
    };
    for event in show.events(&event) {
        writeln!(out, "{}", compact(&json(&event, &render(&event), show.keys)?))?;
    }
    Ok(())
}

fn print_text(
    out: &mut impl Write,
    name: &str,
    webhook: &Webhook<'_>,
    decision: &Decision,
    show: &ExplainOutput<'_>,
) -> anyhow::Result<()> {
    writeln!(out, "{}", line(name))?;
    match decision {
        Decision::Ignored(reason) => writeln!(out, "  ignored  {}", line(&reason.to_string()))?,
        Decision::Rejected(reason) => writeln!(out, "  refused  {}", line(&reason.to_string()))?,
        Decision::Enqueue(enqueue) => match &**enqueue {
            EnqueueRequest::Event { .. } => print_trigger(out, webhook, show)?,
            EnqueueRequest::FollowUp(follow_up) => print_follow_up(out, follow_up, show)?,
        },
    }
    writeln!(out)?;
    Ok(())
}

fn print_follow_up(out: &mut impl Write, follow_up: &FollowUp, show: &ExplainOutput<'_>) -> anyhow::Result<()> {
    // The events differ only in their integration.
    let key = follow_up.fallback.as_ref().unwrap_or(show.routes.default_key());
    for event in show.events(&follow_up.event_for(show.routes.destination(key))) {
        let api = event.destination.api;
        writeln!(out, "  event    {}, by the Events API {api}:", line(&destinations(follow_up)))?;
        let mut json = json(&event, &render(&event), show.keys)?;
        if follow_up.fallback.is_none() {
            json[events_api(api).key_member()] = Value::from("the key of each integration where the incident is open");
        }
        print_event(out, &json)?;
    }
    Ok(())
}

fn print_trigger(out: &mut impl Write, webhook: &Webhook<'_>, show: &ExplainOutput<'_>) -> anyhow::Result<()> {
    let event = show.trigger(webhook)?;
    // Routes are matched before anything is redacted, so the payload is parsed again.
    let (alert, _) = webhook.parse().context("the payload is not an alert")?;
    let steps = show.routes.explain(&alert);
    for step in &steps {
        writeln!(out, "  route    {step}")?;
    }
    let by = if steps.last().is_some_and(|step| step.is_match) { "that line's key" } else { "the default key" };
    writeln!(out, "  key      {}, {by}", show.key(&event.destination.service_key))?;
    if let Some(template) = show.description {
        writeln!(out, "  template {}", line(&template.to_string()))?;
    }
    for event in show.events(&event) {
        let (api, rendered) = (event.destination.api, render(&event));
        if api == ApiVersion::V2 {
            writeln!(out, "  severity {}", severity(&alert, show.severity))?;
        }
        for cut in &rendered.cuts {
            writeln!(out, "  cut      {}", line(&cut.to_string()))?;
        }
        let (event_type, size) = (event.event_type(), rendered.bytes.len());
        let incident = event.incident_key.to_string();
        writeln!(
            out,
            "  event    {event_type} of incident {}, {size} bytes by the Events API {api}:",
            line(&incident)
        )?;
        print_event(out, &json(&event, &rendered, show.keys)?)?;
    }
    Ok(())
}

/// How severe the alert is for the Events API v2, and why.
fn severity(alert: &Alert, rules: &[SeverityRule]) -> String {
    let severity = routing::severity(rules, alert);
    let why = if let Some(rule) = routing::severity_rule(rules, alert) {
        format!("by line {} of BRIDGE_SEVERITY", rule.condition().number())
    } else {
        let level = alert.level.as_deref().map_or_else(|| "no level".to_owned(), |level| format!("the level {level}"));
        let priority = alert.priority().map_or_else(String::new, |priority| format!(" and the priority {priority}"));
        format!("by {level}{priority}")
    };
    let urgency = if severity.is_low_urgency() {
        "; of low urgency where the service notifies by severity: nobody is woken"
    } else {
        ""
    };
    line(&format!("{}, {why}{urgency}", severity.name())).into_owned()
}

/// Describes where an event that is not routed goes.
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

fn print_event(out: &mut impl Write, event: &Value) -> anyhow::Result<()> {
    for line in printable::json(&serde_json::to_string_pretty(event)?).lines() {
        writeln!(out, "           {line}")?;
    }
    Ok(())
}

/// Formats an event on one line.
fn compact(event: &Value) -> String {
    printable::json(&event.to_string()).into_owned()
}

/// The event as it would be sent, with its key masked unless it may be shown.
fn json(event: &Event, rendered: &Rendered, show_keys: bool) -> anyhow::Result<Value> {
    let mut json: Value = serde_json::from_slice(&rendered.bytes).context("the event is not JSON")?;
    if !show_keys {
        json[events_api(event.destination.api).key_member()] = Value::String(event.destination.service_key.to_string());
    }
    Ok(json)
}
