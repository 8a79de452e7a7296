//! `connect pagerduty`: makes an integration of an Events API on a service, and prints its key.

use std::io::Write;

use anyhow::{Context, bail};

use super::SecretFile;
use crate::cli::ConnectPagerDutyArgs;
use crate::commands::environment::{UsageError, block_on, config_with_placeholders, out};
use crate::exit_code::ExitCode;
use crate::pagerduty::{ApiVersion, ServiceKey};
use crate::pagerduty_api::PagerDutyRestClient;
use crate::pagerduty_api::types::{Integration, PagerDutyService, ServiceStatus};
use crate::printable::line;

/// Shows the plan and, with `--yes`, carries it out. An integration that exists is not made again.
///
/// # Errors
///
/// When settings are missing, PagerDuty refuses, no service has the name, or the key cannot be stored.
pub(super) fn run(args: &ConnectPagerDutyArgs) -> anyhow::Result<ExitCode> {
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
