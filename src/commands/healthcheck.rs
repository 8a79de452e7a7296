//! `healthcheck`: ask the local bridge whether it is ready.

use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::{block_on, config, local_address};
use crate::exit::Exit;
use crate::printable::line;

/// Container engines ask every few seconds; a bridge that takes longer than this is not well.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Asks `/readyz` at the address of `BRIDGE_LISTEN`. Says nothing when all is well.
///
/// # Errors
///
/// When the bridge does not answer, or answers that it is not ready.
pub fn run() -> anyhow::Result<Exit> {
    let address = local_address(config()?.listen);
    block_on(async {
        let url = format!("http://{address}/readyz");
        let client = awc::Client::builder().timeout(TIMEOUT).disable_redirects().finish();
        let mut response = match client.get(&url).send().await {
            Ok(response) => response,
            Err(error) => bail!("no bridge answers at {url}: {error}"),
        };
        if response.status().is_success() {
            return Ok(Exit::Done);
        }
        let body: Value = response.json().await.context("the bridge is not ready, and does not say why")?;
        bail!(
            "the bridge is not ready: {}",
            line(body["reason"].as_str().or(body["status"].as_str()).unwrap_or("no reason"))
        );
    })
}
