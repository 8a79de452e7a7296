//! `healthcheck`: ask the local bridge whether it is ready.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, bail};
use serde_json::Value;

use super::environment::{block_on, config};
use crate::exit_code::ExitCode;
use crate::printable::line;

/// Container engines ask every few seconds; a bridge that takes longer than this is not ready.
const TIMEOUT: Duration = Duration::from_secs(4);

/// Asks `/readyz` at the address of `BRIDGE_LISTEN`. Prints nothing when it is ready.
pub(super) fn run() -> anyhow::Result<ExitCode> {
    let address = local_address(config()?.listen);
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

/// Where a bridge that listens on `listen` is reached from its own machine.
fn local_address(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}
