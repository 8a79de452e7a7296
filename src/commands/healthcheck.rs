//! `healthcheck`: ask the local bridge whether it is ready.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::environment::{block_on, config, local_address};
use crate::config::{Config, Source};
use crate::exit_code::ExitCode;
use crate::printable::line;

/// Container engines ask every few seconds; a bridge that takes longer than this is not ready.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Asks `/readyz` at the address of `BRIDGE_LISTEN`. Prints nothing when it is ready.
pub(super) fn run() -> anyhow::Result<ExitCode> {
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
