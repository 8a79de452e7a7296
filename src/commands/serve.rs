//! `serve`: run the bridge; and `healthcheck`: ask the local bridge whether it is ready.

use std::process;
use std::time::Duration;

use anyhow::{Context, bail};
use log::{info, warn};
use serde_json::Value;
use tokio::signal::unix::{SignalKind, signal};

use super::environment::{Signals, UsageError, block_on, config, config_with_secret_files, local_address};
use crate::bridge::{Bridge, StartupError, listen};
use crate::build_info::BuildInfo;
use crate::config::{Config, Source};
use crate::exit_code::ExitCode;
use crate::printable::line;
use crate::{descriptors, logging};

/// Container engines ask every few seconds; a bridge that takes longer than this is not ready.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Runs the bridge until SIGTERM or SIGINT. On SIGHUP it reads the files of secrets again.
pub(super) fn run() -> anyhow::Result<ExitCode> {
    let (config, secret_files) = config_with_secret_files()?;
    logging::start(config.log_format, &config.rust_log);
    let (build, fingerprint) = (BuildInfo::current(), config.fingerprint());
    info!(version:% = build, config:% = fingerprint; "sentry-pagerduty-bridge {build}, config {fingerprint}");
    log_settings(&config);
    let files = descriptors::raise_limit();
    if files < descriptors::FEW {
        warn!("few files may be open: {}", descriptors::too_few(files));
    }
    block_on(async {
        // Before anything takes time: SIGHUP without a handler would end the program.
        let hangups = signal(SignalKind::hangup())?;
        let listener = listen(config.listen)?;
        let bridge = Box::pin(Bridge::build(config, listener)).await.map_err(|error| match error {
            StartupError::Tls(error) => UsageError(error.to_string()).into(),
            other => anyhow::Error::from(other),
        })?;
        let bridge = bridge.with_secret_files(secret_files, hangups);
        let mut signals = Signals::new()?;
        bridge
            .run_until_stopped(async move {
                signals.next().await;
                actix_web::rt::spawn(async move {
                    signals.next().await;
                    warn!("a second signal: stopping at once; what is not delivered waits in the queue");
                    log::logger().flush();
                    process::exit(ExitCode::Failed as i32);
                });
            })
            .await?;
        Ok(ExitCode::Done)
    })
}

/// Logs a summary of the settings in one line, without secrets.
fn log_settings(config: &Config) {
    let authentication = match (config.webhook_token.is_empty(), config.sentry_client_secret.is_empty()) {
        (false, false) => "token and signature",
        (true, _) => "signature",
        (_, true) => "token",
    };
    let on = |is_on: bool, what: &'static str| if is_on { what } else { "off" };
    let (database, pagerduty) = (config.database_url.to_string(), config.pagerduty_url.as_str());
    let (routes, keys) = (config.pagerduty_routes.len(), config.routes().keys().len());
    let page = on(!config.admin_token.is_empty(), "on");
    let (alarms, canary) = (on(config.alarms, "on"), on(config.canary_dsn.is_some(), "on"));
    info!(
        database, authentication, routes, service_keys = keys, status_page = page, alarms, canary, pagerduty;
        "settings: database {database}, webhooks authenticated by {authentication}, {routes} routes to {keys} service keys, \
         status page {page}, alarms {alarms}, canary {canary}, PagerDuty at {pagerduty}"
    );
}

/// Asks `/readyz` at the address of `BRIDGE_LISTEN`. Prints nothing when it is ready.
pub(super) fn healthcheck() -> anyhow::Result<ExitCode> {
    // A file of a secret that became invalid does not stop a running bridge, so it must not make it unhealthy either.
    let listen = match Config::listen_of(&Source::process()) {
        Some(listen) => listen,
        None => config()?.listen,
    };
    let address = local_address(listen);
    block_on(async {
        let url = format!("http://{address}/readyz");
        let client = awc::Client::builder().timeout(TIMEOUT).disable_redirects().finish();
        let mut response = match client.get(&url).send().await {
            Ok(response) => response,
            Err(error) => bail!("no bridge answers at {url}: {error}"),
        };
        if response.status().is_success() {
            return Ok(ExitCode::Done);
        }
        let body: Value = response.json().await.context("the bridge is not ready, and does not say why")?;
        bail!(
            "the bridge is not ready: {}",
            line(body["reason"].as_str().or(body["status"].as_str()).unwrap_or("no reason"))
        );
    })
}
