//! `connect`: sets Sentry up to call the bridge. `connect pagerduty` makes the integration that the bridge sends to.

mod arrival;

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::{fs, io};

use anyhow::{Context, bail};
use arrival::{WebhookArrival, WebhookWatch};

use super::environment::{ConfiguredSentry, sentry};
use super::environment::{UsageError, block_on, config_with_placeholders, out};
use crate::alert::TriggerKind;
use crate::cli::{ConnectArgs, ConnectOther, ConnectPagerDutyArgs};
use crate::config::{Config, Source};
use crate::exit_code::ExitCode;
use crate::ingest::canary;
use crate::pagerduty::{ApiVersion, ServiceKey};
use crate::pagerduty_rest::PagerDutyRestClient;
use crate::pagerduty_rest::types::{Integration, PagerDutyService, ServiceStatus};
use crate::printable::line;
use crate::sentry_api::SentryApiError;
use crate::sentry_api::address::{BridgeAddress, WebhookKind};
use crate::sentry_api::connect::{
    CanaryAlert, ConnectOptions, ConnectPlan, ConnectStep, StepError, StepRunner, TestWebhook, plan, undo,
};
use crate::sentry_api::inventory::{Inventory, InventoryOptions, read};

/// Shows the plan and, with `--yes`, carries it out and has Sentry prove it with a test webhook.
///
/// # Errors
///
/// When settings are missing, Sentry refuses, or the Client Secret cannot be stored.
pub(super) fn run(args: &ConnectArgs) -> anyhow::Result<ExitCode> {
    if let Some(ConnectOther::PagerDuty(args)) = &args.other {
        return connect_pagerduty(args);
    }
    let (config, missing) = config_with_placeholders()?;
    let sentry = sentry(&config)?;
    let options = options(args, &config, &missing)?;
    block_on(async {
        let hooks = args.undo || args.by == Some(WebhookKind::Legacy);
        let reading = InventoryOptions { alerts: args.alerts, hooks, new_issues: false };
        let inventory = read(&sentry.client, reading).await?;
        let planned = if args.undo { undo(&inventory, &options) } else { plan(&inventory, &options) };
        let planned = planned.map_err(|error| UsageError(error.to_string()))?;
        print_plan(args, &sentry, &inventory, &planned)?;
        if !args.yes {
            return Ok(ExitCode::Done);
        }
        let mut runner = StepRunner::new(&sentry.client, &inventory, &options.bridge);
        let has_new_secret = run_steps(args, &planned, &mut runner).await?;
        let Some(test) = planned.test.as_ref().filter(|_| !args.undo && !args.no_test) else {
            return Ok(ExitCode::Done);
        };
        if has_new_secret {
            let mut out = out();
            writeln!(
                out,
                "start the bridge with that secret, then run this again: it changes nothing more and sends a test webhook"
            )?;
            return Ok(ExitCode::Done);
        }
        send_test(&config, &options, test, &runner).await
    })
}

fn options(args: &ConnectArgs, config: &Config, missing: &[&str]) -> anyhow::Result<ConnectOptions> {
    let Some(root) = &args.bridge else {
        return Err(
            UsageError("--bridge is required: the root under which Sentry reaches the bridge".to_owned()).into()
        );
    };
    let is_plain = root.query().is_none() && root.fragment().is_none() && root.username().is_empty();
    if !matches!(root.scheme(), "http" | "https")
        || root.host().is_none()
        || !is_plain
        || root.path().ends_with("/sentry")
    {
        let wants = "the root under which Sentry reaches the bridge, such as `https://bridge.example.com`";
        return Err(UsageError(format!("--bridge must be {wants}; /sentry is added to it")).into());
    }
    // A placeholder is not a token that the bridge would accept.
    let tokens = if missing.contains(&"BRIDGE_WEBHOOK_TOKEN") { Vec::new() } else { config.webhook_token.clone() };
    let mut issue_events = Vec::new();
    if config.acknowledge {
        issue_events.push("issue.assigned");
    }
    if config.page_on.contains(&TriggerKind::IssueCreated) {
        issue_events.push("issue.created");
    }
    Ok(ConnectOptions {
        root: root.clone(),
        bridge: BridgeAddress { root: Some(root.clone()), tokens },
        token: Config::webhook_token_text(&Source::process()),
        webhooks: args.by,
        projects: args.projects.iter().cloned().collect(),
        extend: args.rules.clone(),
        wants_secret: args.secret_file.as_deref().is_some_and(|path| !path.exists()),
        issue_events,
        errors: config.page_on.contains(&TriggerKind::Error),
        canary: if args.canary { Some(canary_alert(config)?) } else { None },
    })
}

fn canary_alert(config: &Config) -> anyhow::Result<CanaryAlert> {
    let Some(dsn) = &config.canary_dsn else {
        return Err(UsageError(
            "--canary wants BRIDGE_CANARY_DSN, the DSN of the project that the canary is sent to: copy it from Project \
             Settings > Client Keys (DSN)"
                .to_owned(),
        )
        .into());
    };
    Ok(CanaryAlert { project_id: dsn.project().to_owned(), tag: canary::tag_value(dsn) })
}

fn print_plan(
    args: &ConnectArgs,
    sentry: &ConfiguredSentry,
    inventory: &Inventory,
    plan: &ConnectPlan,
) -> anyhow::Result<()> {
    let mut out = out();
    writeln!(out, "{}, organization {}: {}", sentry.root, sentry.organization, inventory.generation())?;
    writeln!(out, "with the token of {}\n", inventory.identity)?;
    for (number, step) in (1..).zip(&plan.steps) {
        writeln!(out, "{number}. {}", line(&step.to_string()))?;
    }
    if plan.steps.is_empty() {
        writeln!(out, "{}", if args.undo { "nothing of the bridge's is there" } else { "nothing is missing" })?;
    }
    for note in &plan.notes {
        writeln!(out, "note: {}", line(note))?;
    }
    let makes_app = plan.steps.iter().any(|step| matches!(step, ConnectStep::CreateApp { .. }));
    if !args.undo && !args.no_test && !makes_app {
        let of = match &plan.test {
            Some(TestWebhook::Plugin { project } | TestWebhook::RuleAction { project }) => format!(" of {project}"),
            Some(TestWebhook::Action(_)) | None => String::new(),
        };
        if plan.test.is_some() {
            writeln!(
                out,
                "then Sentry sends a test webhook{of}, which opens a test incident (--no-test leaves it out)"
            )?;
        }
    }
    if !args.yes {
        writeln!(out, "\nnothing was changed; --yes does it")?;
    }
    Ok(())
}

/// Carries out all steps, and returns whether one of them created a secret that the bridge cannot have yet.
async fn run_steps(args: &ConnectArgs, plan: &ConnectPlan, runner: &mut StepRunner<'_>) -> anyhow::Result<bool> {
    let hands_out = |step: &ConnectStep| matches!(step, ConnectStep::CreateApp { .. } | ConnectStep::ReadSecret { .. });
    // Created before the first step, because a secret that cannot be stored would be lost.
    let file = args.secret_file.as_deref().filter(|_| plan.steps.iter().any(hands_out));
    let mut file = file.map(SecretFile::create).transpose()?;
    let mut has_new_secret = false;
    for (number, step) in (1..).zip(&plan.steps) {
        let secret = runner.run(step).await.with_context(|| {
            let before = number - 1;
            let or_undo = if args.undo { "" } else { ", or with --undo" };
            format!("step {number} failed ({before} are done and kept; run it again to go on{or_undo})")
        })?;
        let mut out = out();
        writeln!(out, "done  {number}. {}", line(&step.to_string()))?;
        if let Some(secret) = secret {
            has_new_secret = true;
            match file.take() {
                Some(file) => {
                    let path = file.write(&secret)?;
                    writeln!(
                        out,
                        "      its Client Secret is in {}: BRIDGE_SENTRY_CLIENT_SECRET_FILE={0}",
                        path.display()
                    )?;
                }
                None => writeln!(out, "      BRIDGE_SENTRY_CLIENT_SECRET={secret}\n      (shown this once; keep it)")?,
            }
        }
    }
    Ok(has_new_secret)
}

/// A new file for a secret; removed again unless the secret was written to it.
struct SecretFile {
    path: PathBuf,
    /// `None` once the secret is in it.
    file: Option<File>,
}

impl SecretFile {
    fn create(path: &Path) -> anyhow::Result<Self> {
        match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(file) => Ok(Self { path: path.to_owned(), file: Some(file) }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(UsageError(format!("{} is there already: name a new file for the secret", path.display())).into())
            }
            Err(error) => Err(error).with_context(|| format!("{} cannot be written", path.display())),
        }
    }

    fn write(mut self, secret: &str) -> anyhow::Result<PathBuf> {
        let path = self.path.clone();
        let written = self.file.as_mut().map_or(Ok(()), |file| {
            writeln!(file, "{secret}")?;
            file.sync_all()
        });
        written.with_context(|| format!("the secret cannot be written to {}", path.display()))?;
        self.file = None;
        Ok(path)
    }
}

impl Drop for SecretFile {
    fn drop(&mut self) {
        if self.file.is_some() {
            // It is empty, or contains part of a secret.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Has Sentry send its test webhook, and checks whether the bridge received it.
async fn send_test(
    config: &Config,
    options: &ConnectOptions,
    webhook: &TestWebhook,
    runner: &StepRunner<'_>,
) -> anyhow::Result<ExitCode> {
    let listen = config.admin_listen.unwrap_or(config.listen);
    let watch = WebhookWatch::begin(listen, &options.root).await;
    let sent = runner.test(webhook).await;
    let mut out = out();
    if let (Err(StepError::Api(SentryApiError::Gone { .. })), TestWebhook::RuleAction { .. }) = (&sent, webhook) {
        writeln!(
            out,
            "this Sentry cannot send a test webhook of an integration's alert: the next alert will show whether it arrives"
        )?;
        return Ok(ExitCode::Done);
    }
    if let Err(error) = sent {
        writeln!(out, "FAILED  test webhook: {error}")?;
        return Ok(ExitCode::Failed);
    }
    let Some(watch) = watch else {
        writeln!(
            out,
            "sent    test webhook; it is not known whether it arrived, because no bridge answers /metrics at {} or {}: look \
             for the incident",
            listen, options.root
        )?;
        return Ok(ExitCode::Done);
    };
    let (good, text) = match watch.arrival().await {
        WebhookArrival::Taken => (true, "it came, and the bridge took it".to_owned()),
        WebhookArrival::Refused(answer) => (false, format!("it came, and the bridge refused it: {answer}")),
        WebhookArrival::None(waited) => {
            (false, format!("nothing came within {waited:?}: can Sentry reach {}?", options.root))
        }
    };
    writeln!(out, "{:<6}  test webhook: {text}", if good { "ok" } else { "FAILED" })?;
    Ok(ExitCode::of(good))
}

/// Makes an integration of the Events API in PagerDuty, and prints or stores its key. Shows the plan and, with `--yes`, carries
/// it out. An integration that exists is not made again.
///
/// # Errors
///
/// When settings are missing, PagerDuty refuses, no service has the name, or the key cannot be stored.
fn connect_pagerduty(args: &ConnectPagerDutyArgs) -> anyhow::Result<ExitCode> {
    let (config, _) = config_with_placeholders()?;
    let Some((root, token)) = config.pagerduty_api() else {
        return Err(UsageError(
            "BRIDGE_PAGERDUTY_API_TOKEN is not set: without it PagerDuty's REST API cannot be asked; make a REST API key under \
             Integrations > API Access Keys, not read-only for this"
                .to_owned(),
        )
        .into());
    };
    let api = PagerDutyRestClient::new(&root, token.clone(), config.pagerduty_ca_file.as_deref())?;
    block_on(async {
        let service = find(&api, &args.service).await?;
        let status = match service.status {
            ServiceStatus::Active => "enabled",
            ServiceStatus::Disabled => "disabled: it opens no incidents until it is enabled",
            ServiceStatus::Maintenance => "in maintenance: it opens no incidents until that ends",
        };
        let root = root.as_str().trim_end_matches('/');
        writeln!(out(), "{root}: service {} ({}), {status}\n", line(&service.name), line(&service.id))?;
        let events_api = args.api.unwrap_or(config.pagerduty_events_api);
        let step = format!("make the integration {} of Events API {}", args.name, events_api.name());
        let is_wanted = |integration: &&Integration| {
            integration.is_of(events_api) && integration.name.as_deref() == Some(args.name.as_str())
        };
        if let Some(there) = service.integrations.iter().find(is_wanted) {
            writeln!(out(), "nothing is missing: it has the integration {}", line(&args.name))?;
            return if args.yes {
                hand_out(args, &key(&api, &service, there).await?, events_api)
            } else {
                Ok(ExitCode::Done)
            };
        }
        writeln!(out(), "1. {}", line(&step))?;
        if !args.yes {
            writeln!(out(), "\nnothing was changed; --yes does it")?;
            return Ok(ExitCode::Done);
        }
        let made = api.create_integration(&service.id, events_api, &args.name).await?;
        writeln!(out(), "done  1. {}", line(&step))?;
        hand_out(args, &key(&api, &service, &made).await?, events_api)
    })
}

/// Finds the service with this name or id.
async fn find(api: &PagerDutyRestClient, wanted: &str) -> anyhow::Result<PagerDutyService> {
    let services = api.services(Some(wanted)).await?;
    let is_meant = |service: &&PagerDutyService| service.name.eq_ignore_ascii_case(wanted);
    let mut meant = services.iter().filter(is_meant);
    match (meant.next(), meant.next()) {
        (Some(service), None) => return Ok(service.clone()),
        (Some(_), Some(_)) => {
            return Err(
                UsageError(format!("several services are called {wanted}: name the one you mean by its id")).into()
            );
        }
        (None, _) => {}
    }
    if wanted.starts_with('P')
        && wanted.bytes().all(|byte| byte.is_ascii_alphanumeric())
        && let Ok(service) = api.service(wanted).await
    {
        return Ok(service);
    }
    let names: Vec<_> = services.iter().take(5).map(|service| service.name.as_str()).collect();
    let hint = if names.is_empty() { String::new() } else { format!("; did you mean {}?", names.join(", ")) };
    Err(UsageError(format!("no service that the token shows is called {wanted}{hint}")).into())
}

/// Returns the key of an integration, which not every response contains.
async fn key(
    api: &PagerDutyRestClient,
    service: &PagerDutyService,
    integration: &Integration,
) -> anyhow::Result<ServiceKey> {
    if let Some(key) = integration.key() {
        return Ok(key);
    }
    match api.integration(&service.id, &integration.id).await?.key() {
        Some(key) => Ok(key),
        None => {
            bail!("PagerDuty does not show the key of the integration: copy it from the service's Integrations page")
        }
    }
}

fn hand_out(args: &ConnectPagerDutyArgs, key: &ServiceKey, events_api: ApiVersion) -> anyhow::Result<ExitCode> {
    match &args.key_file {
        Some(path) => {
            let path =
                SecretFile::create(path)?.write(key.expose()).context("the integration is there all the same")?;
            writeln!(out(), "its key is in {}: BRIDGE_PAGERDUTY_SERVICE_KEY_FILE={0}", path.display())?;
        }
        None => writeln!(out(), "BRIDGE_PAGERDUTY_SERVICE_KEY={}", key.expose())?,
    }
    if events_api != ApiVersion::V1 {
        writeln!(
            out(),
            "the bridge has to send to it by {0}: set BRIDGE_PAGERDUTY_EVENTS_API={0}, or add `,{0}` to its routes",
            events_api.name()
        )?;
    }
    Ok(ExitCode::Done)
}
