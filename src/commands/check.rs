//! `check`: settings, database and the connection to PagerDuty.

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use chrono::{SecondsFormat, Utc};
use humantime::format_duration;

use super::environment::{block_on, config, out};
use crate::cli::CheckArgs;
use crate::config::{Config, DatabaseConfig, DatabaseUrl, FallbackUrl};
use crate::descriptors;
use crate::exit_code::ExitCode;
use crate::monitor::fallback::{FallbackWebhook, Message};
use crate::pagerduty::outcome::Outcome;
use crate::pagerduty::{ApiVersion, Destination, EventsClient, KeyNames, ServiceKey, render, test_page};
use crate::pagerduty_rest::types::{Integration, PagerDutyService, ServiceStatus, owners};
use crate::pagerduty_rest::{PagerDutyApiError, PagerDutyRestClient};
use crate::printable::line;
use crate::queue::{Durability, Queue, QueueError, Survives};

/// Integration keys of event orchestrations and rulesets begin with this letter; they belong to no service.
const RULESET: char = 'R';

/// Prints a line for each check. Continues after one that failed.
pub(super) fn run(args: &CheckArgs) -> anyhow::Result<ExitCode> {
    let config = config()?;
    block_on(async {
        let mut report = Report { all_ok: true };
        report.print("settings", Ok(format!("read; {} in use", count_keys(&config))))?;
        for text in low_urgency(&config) {
            Report::line("note", "Events API v2", &text)?;
        }
        report.print("alarms", Ok(alarms(&config)))?;
        report.print("canary", Ok(canary(&config)))?;
        let files = descriptors::raise_limit();
        if files < descriptors::FEW {
            Report::line("low", "open files", &descriptors::too_few(files))?;
        }
        let (commits, durability) = check_queue(&config).await;
        report.print("queue", commits)?;
        if let Some(durability) = durability {
            let mark = if durability.survives == Survives::Nothing { "unsafe" } else { "ok" };
            Report::line(mark, "durability", &durability.to_string())?;
        }
        match EventsClient::new(&config.pagerduty_url, config.pagerduty_timeout, config.pagerduty_ca_file.as_deref()) {
            Err(error) => report.print("PagerDuty", Err(error.to_string()))?,
            Ok(client) => {
                for api in apis_in_use(&config) {
                    report.print("PagerDuty", client.reach(api).await)?;
                }
                if args.page {
                    report.print("test incident", page(&config, &client).await)?;
                }
            }
        }
        check_services(&config, &mut report).await?;
        if let Some(url) = &config.fallback_url {
            report.print("fallback webhook", check_fallback(&config, url, args.page).await)?;
        }
        Ok(ExitCode::of(report.all_ok))
    })
}

struct Report {
    all_ok: bool,
}

impl Report {
    fn print(&mut self, what: &str, result: Result<String, String>) -> anyhow::Result<()> {
        let (mark, text) = match result {
            Ok(text) => ("ok", text),
            Err(text) => {
                self.all_ok = false;
                ("FAILED", text)
            }
        };
        Self::line(mark, what, &text)
    }

    fn line(mark: &str, what: &str, text: &str) -> anyhow::Result<()> {
        writeln!(out(), "{mark:<6}  {what}: {}", line(text))?;
        Ok(())
    }
}

fn count_keys(config: &Config) -> String {
    match config.routes().keys().len() {
        1 => "1 service key".to_owned(),
        number => format!("{number} service keys"),
    }
}

/// The keys that alerts and alarms go to, and the APIs by which they take events.
fn destinations(config: &Config) -> BTreeSet<Destination> {
    let routes = config.routes();
    let alarms = Some(config.alarm_key()).filter(|_| config.alarms);
    routes.keys().into_iter().chain(alarms).map(|key| routes.destination(key)).collect()
}

fn apis_in_use(config: &Config) -> BTreeSet<ApiVersion> {
    destinations(config).into_iter().map(|destination| destination.api).collect()
}

/// A note for each key that takes events by the Events API v2: less severe alerts may wake nobody.
fn low_urgency(config: &Config) -> Vec<String> {
    let by_v2 = destinations(config).into_iter().filter(|destination| destination.api == ApiVersion::V2);
    let text = |Destination { service_key: key, .. }| {
        format!(
            "the key {key} is sent severities: where its service notifies by alert severity, `warning` and `info` are of low \
             urgency and wake nobody; v1 is always of high urgency (BRIDGE_SEVERITY changes severities)"
        )
    };
    by_v2.map(text).collect()
}

/// Prints what PagerDuty's REST API says about the integration keys, if its token is set.
async fn check_services(config: &Config, report: &mut Report) -> anyhow::Result<()> {
    const API: &str = "PagerDuty's REST API";
    let Some((root, token)) = config.pagerduty_api() else {
        let off =
            "not used, because BRIDGE_PAGERDUTY_API_TOKEN is not set: nothing looks up whether events open incidents";
        return report.print(API, Ok(off.to_owned()));
    };
    match PagerDutyRestClient::new(&root, token.clone(), config.pagerduty_ca_file.as_deref()) {
        Err(error) => report.print(API, Err(error.to_string())),
        Ok(client) => {
            for (what, result) in service_findings(config, &client).await {
                report.print(&what, result)?;
            }
            Ok(())
        }
    }
}

/// What the bridge raises alarms for, and on which service key.
fn alarms(config: &Config) -> String {
    if !config.alarms {
        return "off, by BRIDGE_ALARMS: nobody is paged for problems of the bridge itself".to_owned();
    }
    let silence = match config.silence_alarm {
        Some(silence) => format!("no webhook for {}", format_duration(silence)),
        None => "not for silence (BRIDGE_SILENCE_ALARM)".to_owned(),
    };
    let canary = if config.canary_dsn.is_some() { ", a canary that does not come back" } else { "" };
    let signatures = if config.sentry_client_secret.is_empty() { "" } else { ", wrong signatures" };
    let waiting = format_duration(config.waiting_alarm);
    let service_key = config.alarm_key();
    format!(
        "paged on the key {service_key}: {silence}, an event that waits for {waiting}, dead letters{signatures}{canary}, a \
         database that cannot be written"
    )
}

/// Where the canary is sent, if anywhere.
fn canary(config: &Config) -> String {
    match &config.canary_dsn {
        Some(dsn) => format!(
            "sent to {dsn} every {}; `connect --canary` makes the alert in Sentry that lets it come back",
            format_duration(config.canary_every)
        ),
        None => "off, because BRIDGE_CANARY_DSN is not set: nothing tries the way through Sentry".to_owned(),
    }
}

/// Checks whether the queue commits alerts and how fast, and what they survive there. If there is no SQLite file yet,
/// another one beside it is tried and deleted again: whether the disk can be written is worth knowing before the first
/// start, and a check leaves nothing behind.
async fn check_queue(config: &Config) -> (Result<String, String>, Option<Durability>) {
    let name = config.database_url.to_string();
    match &config.database_url {
        DatabaseUrl::Sqlite(path) if !path.exists() => (try_beside(path, &name).await, None),
        _ => match time_commit(config.database()).await {
            Ok((took, durability)) => (Ok(format!("{name} {}", commits_in(took))), durability),
            Err(QueueError::InUse { .. }) => {
                (Ok(format!("{name} is locked by a running bridge; run `healthcheck`")), None)
            }
            Err(error) => (Err(error.to_string()), None),
        },
    }
}

async fn try_beside(path: &Path, name: &str) -> Result<String, String> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let trial = tempfile::Builder::new().prefix(".bridge-check-").tempdir_in(folder).map_err(|error| {
        let folder = folder.display();
        format!("{name} does not exist and cannot be created, because the folder {folder} is not writable: {error}")
    })?;
    let trial = trial.path().join("trial.db");
    let (took, _) = time_commit(trial.as_path()).await.map_err(|error| error.to_string())?;
    Ok(format!("{name} does not exist yet, `serve` creates it; a new one there {}", commits_in(took)))
}

async fn time_commit(database: impl Into<DatabaseConfig>) -> Result<(Duration, Option<Durability>), QueueError> {
    let queue = Queue::open(database).await?;
    let durability = queue.reader().durability().await.ok();
    let took = queue.probe().await;
    queue.close().await?;
    Ok((took?, durability))
}

fn commits_in(took: Duration) -> String {
    format!("commits in {:.1} ms; Sentry waits at least 1000 ms", took.as_secs_f64() * 1000.0)
}

/// Sends a test message to the fallback webhook, if that is wanted.
async fn check_fallback(config: &Config, url: &FallbackUrl, send: bool) -> Result<String, String> {
    let webhook =
        FallbackWebhook::new(url.clone(), config.fallback_ca_file.as_deref()).map_err(|error| error.to_string())?;
    if !send {
        return Ok(format!("{url} is told when PagerDuty itself takes no events; --page sends it a test message"));
    }
    match webhook.send(&Message::test(Utc::now())).await {
        Ok(()) => Ok(format!("{url} accepted a test message; look there whether it is shown")),
        Err(error) => Err(format!("{url}: {error}")),
    }
}

/// Opens a test incident on the default key and resolves it at once.
async fn page(config: &Config, client: &EventsClient) -> Result<String, String> {
    let (destination, prefix) =
        (config.routes().destination(&config.pagerduty_service_key), &config.incident_key_prefix);
    let events = test_page(&destination, prefix, "bridge-check", Utc::now(), "sentry-pagerduty-bridge check --page");
    let incident_key = events[0].incident_key.clone();
    for event in events {
        let what = event.event_type();
        match client.send(&event.destination, render(&event).bytes).await {
            Outcome::Delivered { note: None } => {}
            Outcome::Delivered { note: Some(reason) } => {
                return Err(format!("the {what} was accepted, but PagerDuty {reason}"));
            }
            failed => return Err(format!("the {what} was not accepted: {}", failed.failure().unwrap_or("no reason"))),
        }
    }
    // In the past, PagerDuty has answered with success and dropped events.
    Ok(format!(
        "{incident_key} was opened and resolved on the key {}, according to PagerDuty's answers; look there whether the \
         incident exists",
        config.pagerduty_service_key
    ))
}

/// Asks PagerDuty's REST API about every integration key in use. Returns subjects, such as a key or the API itself, each with
/// what is well or wrong with it.
async fn service_findings(config: &Config, api: &PagerDutyRestClient) -> Vec<(String, Result<String, String>)> {
    let services = match api.services(None).await {
        Ok(services) => services,
        Err(error) => return vec![("PagerDuty's REST API".to_owned(), Err(error.to_string()))],
    };
    let number = services.len();
    let owners = owners(services);
    let names = KeyNames::new(config.pagerduty_names.iter().cloned());
    let mut findings = vec![("PagerDuty's REST API".to_owned(), Ok(format!("the token shows {number} services")))];
    let routes = config.routes();
    for key in config.service_keys() {
        findings.push((format!("key {}", names.show(&key)), check_key(&routes.destination(&key), &owners, api).await));
    }
    findings
}

async fn check_key(
    Destination { api: takes, service_key: key }: &Destination,
    owners: &BTreeMap<ServiceKey, (PagerDutyService, Integration)>,
    api: &PagerDutyRestClient,
) -> Result<String, String> {
    let Some((service, integration)) = owners.get(key) else {
        if key.expose().starts_with(RULESET) {
            return Ok("the key of an event orchestration or a ruleset, whose rules decide who is paged".to_owned());
        }
        return Err(
            "no service that the token shows has an integration with this key: take the key from the Integrations \
                    page of the service, or use a REST API key of the whole account"
                .to_owned(),
        );
    };
    let (mut good, mut bad) = (vec![format!("service {}", service.name)], Vec::new());
    match service.status {
        ServiceStatus::Active => good.push("enabled".to_owned()),
        ServiceStatus::Disabled => {
            bad.push("it is disabled and opens no incidents: enable it on its page in PagerDuty".to_owned());
        }
        ServiceStatus::Maintenance => bad.push(maintenance(service, api).await),
    }
    let what = integration.name.as_deref().unwrap_or("without a name");
    if integration.is_of(*takes) {
        good.push(format!("integration {what} of Events API {takes}"));
    } else if integration.takes_events() && *takes == ApiVersion::V2 {
        bad.push(format!(
            "its integration {what} is of Events API v1, the settings send to it by v2, and PagerDuty does not document that this works: \
             set v1 for it, or use the key of an integration of Events API v2"
        ));
    } else if integration.takes_events() {
        good.push(format!("integration {what} of Events API v2, which takes events of v1 as well"));
    } else {
        bad.push(format!(
            "its integration {what} is of the type {}, which takes no events: add one of the type Events API",
            integration.kind
        ));
    }
    match on_call(service, api).await {
        Ok(people) => good.push(people),
        Err(problem) => bad.push(problem),
    }
    if bad.is_empty() { Ok(good.join(", ")) } else { Err(format!("{}: {}", good.join(", "), bad.join("; "))) }
}

async fn maintenance(service: &PagerDutyService, api: &PagerDutyRestClient) -> String {
    let windows = api.maintenance(&service.id).await.unwrap_or_default();
    let Some(window) = windows.iter().max_by_key(|window| window.end_time) else {
        return "it is in maintenance and opens no incidents".to_owned();
    };
    let until = window.end_time.to_rfc3339_opts(SecondsFormat::Secs, true);
    match window.description.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => format!("it is in maintenance until {until} ({text}) and opens no incidents"),
        None => format!("it is in maintenance until {until} and opens no incidents"),
    }
}

/// Returns who is on call, or an error if nobody is. It is not a failure if the token may not see that.
async fn on_call(service: &PagerDutyService, api: &PagerDutyRestClient) -> Result<String, String> {
    let Some(policy) = &service.escalation_policy else {
        return Err("it has no escalation policy, so that nobody is notified".to_owned());
    };
    let name = policy.summary.as_deref().unwrap_or(&policy.id);
    match api.on_call(&policy.id).await {
        Ok(people) if people.is_empty() => Err(format!("nobody is on call for its escalation policy {name}")),
        Ok(people) => Ok(format!("on call: {}", people.join(", "))),
        Err(error @ (PagerDutyApiError::Forbidden { .. } | PagerDutyApiError::NotInPlan { .. })) => {
            Ok(format!("who is on call is not known: {error}"))
        }
        Err(error) => Err(format!("who is on call is not known: {error}")),
    }
}
