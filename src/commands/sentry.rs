//! What `audit`, `catch-up` and `connect` share: the client for Sentry's API, and the names that they print.

use super::environment::UsageError;
use crate::config::Config;
use crate::sentry_api::SentryClient;

/// Where the set-up of Sentry's API is described.
const GUIDE: &str = "docs/sentry.md says how to make the token";

/// The Sentry of this configuration, and its names for printing.
pub(super) struct Sentry {
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
pub(super) fn sentry(config: &Config) -> anyhow::Result<Sentry> {
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
    Ok(Sentry {
        client: client.map_err(|error| UsageError(error.to_string()))?,
        root: url.as_str().trim_end_matches('/').to_owned(),
        organization: org.clone(),
    })
}
