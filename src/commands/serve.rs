//! `serve`: run the bridge.

use std::process;

use log::{info, warn};

use super::environment::{Signals, UsageError, block_on, config};
use crate::bridge::{Bridge, StartupError, listen};
use crate::build_info::BuildInfo;
use crate::descriptors;
use crate::exit_code::ExitCode;
use crate::logging;

/// Runs the bridge until SIGTERM or SIGINT.
pub(super) fn run() -> anyhow::Result<ExitCode> {
    let config = config()?;
    logging::start(config.log_format, &config.rust_log);
    let (build, fingerprint) = (BuildInfo::current(), config.fingerprint());
    info!(version:% = build, config:% = fingerprint; "sentry-pagerduty-bridge {build}, config {fingerprint}");
    let files = descriptors::raise_limit();
    if files < descriptors::FEW {
        warn!("few files may be open: {}", descriptors::too_few(files));
    }
    block_on(async {
        let listener = listen(config.listen)?;
        let bridge = Bridge::build(config, listener).await.map_err(|error| match error {
            StartupError::Tls(error) => UsageError(error.to_string()).into(),
            other => anyhow::Error::from(other),
        })?;
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
