//! `--version`: which build this is, and with which settings.

use std::io::Write;

use super::out;
use crate::about::Build;
use crate::config::Config;
use crate::exit::Exit;

/// Prints version and commit, and the fingerprint of the settings or that there is none. Wrong settings are no failure
/// here, and what is wrong with them is left to `check`.
///
/// # Errors
///
/// When standard output cannot be written.
pub(super) fn run() -> anyhow::Result<Exit> {
    let config = match Config::from_environment() {
        Ok(config) => config.fingerprint().to_string(),
        Err(_) => "none: the settings are incomplete or wrong; `check` says what is".to_owned(),
    };
    writeln!(out(), "sentry-pagerduty-bridge {}\nconfig {config}", Build::current())?;
    Ok(Exit::Done)
}
