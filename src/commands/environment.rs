//! What commands share: the settings, Sentry's API, output, runtime and signals of this process.

use std::future::Future;
use std::io;
use std::io::{StdoutLock, Write};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::{Config, Problem, SecretFiles, Source};
use crate::printable::Printer;
use crate::sentry_api::SentryClient;

/// Wrong usage or settings; ends the program with exit code 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct UsageError(pub(super) String);

/// The configuration of this process, or the reason it cannot be used.
pub(super) fn config() -> anyhow::Result<Config> {
    Config::from_environment().map_err(|error| UsageError(error.to_string()).into())
}

/// As [`config`], with the files of secrets, which may change while the configuration is in use.
pub(super) fn config_with_secret_files() -> anyhow::Result<(Config, SecretFiles)> {
    let source = Source::process();
    let files = SecretFiles::of(&source);
    let config = Config::load(&source).map_err(|error| UsageError(error.to_string()))?;
    Ok((config, files))
}

/// A text with the form of a service key and of a webhook's token that is neither.
const PLACEHOLDER: &str = "00000000000000000000000000000000";

/// The configuration of this process for commands that send nothing: required settings that are missing are replaced by
/// a placeholder. Also returns the names of those settings.
pub(super) fn config_with_placeholders() -> anyhow::Result<(Config, Vec<&'static str>)> {
    let mut source = Source::process();
    let error = match Config::load(&source) {
        Ok(config) => return Ok((config, Vec::new())),
        Err(error) => error,
    };
    let missing = error.problems().iter().filter_map(|problem| match problem {
        Problem::Missing { name, .. } => Some(*name),
        _ => None,
    });
    let missing: Vec<_> = missing.collect();
    source.variables.extend(missing.iter().map(|name| (name.into(), PLACEHOLDER.into())));
    let config = Config::load(&source).map_err(|error| UsageError(error.to_string()))?;
    Ok((config, missing))
}

/// Standard output, where control characters in untrusted text are escaped.
#[expect(clippy::disallowed_methods, reason = "the one place that wraps it")]
pub(super) fn out() -> Printer<StdoutLock<'static>> {
    Printer(io::stdout().lock())
}

/// Writes a line to standard error. Does not fail if that is closed.
pub(super) fn say(line: &str) {
    let _ = writeln!(Printer(io::stderr()), "{line}");
}

/// Runs a future in an actix system of its own.
pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    actix_web::rt::System::new().block_on(future)
}

/// Returns the address at which a bridge that listens on `listen` is reached from its own machine.
pub(super) fn local_address(listen: SocketAddr) -> SocketAddr {
    let ip = match listen.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::V4(Ipv4Addr::LOCALHOST),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    SocketAddr::new(ip, listen.port())
}

/// SIGTERM and SIGINT, handled alike: actix would drop all connections on SIGINT.
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(super) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// Waits for the next signal.
    pub(super) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}

/// Where the set-up of Sentry's API is described.
const GUIDE: &str = "docs/sentry.md says how to make the token";

/// The Sentry of this configuration, and its names for printing.
pub(super) struct ConfiguredSentry {
    pub(super) client: SentryClient,
    /// Its root, without the trailing slash.
    pub(super) root: String,
    pub(super) organization: String,
}

/// Creates the client of the configured Sentry.
///
/// # Errors
///
/// When one of its settings is missing, or the file of certificate authorities cannot be used.
pub(super) fn sentry(config: &Config) -> anyhow::Result<ConfiguredSentry> {
    let (url, org, token) = (&config.sentry_url, &config.sentry_org, &config.sentry_api_token);
    let (Some(url), Some(org), Some(token)) = (url, org, token) else {
        let names = [
            ("BRIDGE_SENTRY_URL", url.is_none()),
            ("BRIDGE_SENTRY_ORG", org.is_none()),
            ("BRIDGE_SENTRY_API_TOKEN", token.is_none()),
        ];
        let missing: Vec<_> = names.into_iter().filter(|(_, missing)| *missing).map(|(name, _)| name).collect();
        let verb = if missing.len() == 1 { "is" } else { "are" };
        return Err(UsageError(format!(
            "{} {verb} not set: without them Sentry cannot be asked; {GUIDE}",
            missing.join(", ")
        ))
        .into());
    };
    let client = SentryClient::new(url, org, token.clone(), config.sentry_ca_file.as_deref());
    Ok(ConfiguredSentry {
        client: client.map_err(|error| UsageError(error.to_string()))?,
        root: url.as_str().trim_end_matches('/').to_owned(),
        organization: org.clone(),
    })
}
