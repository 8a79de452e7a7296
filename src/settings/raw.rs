//! The settings as text, by way of `envy`.

use serde::Deserialize;

use super::source::Texts;
use super::table::PREFIX;

/// Every setting as it was written; `None` where it is neither set nor has a default.
///
/// Flat and of texts only: `envy` cannot flatten, repeats the values it could not parse, secrets too, and leaves the
/// prefix out of its messages.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RawSettings {
    pub(super) pagerduty_service_key: Option<String>,
    pub(super) webhook_token: Option<String>,
    pub(super) sentry_client_secret: Option<String>,
    pub(super) pagerduty_routes: Option<String>,
    pub(super) pagerduty_url: Option<String>,
    pub(super) pagerduty_timeout: Option<String>,
    pub(super) pagerduty_rate: Option<String>,
    pub(super) pagerduty_ca_file: Option<String>,
    pub(super) pagerduty_allow_http: Option<String>,
    pub(super) listen: Option<String>,
    pub(super) database_url: Option<String>,
    pub(super) incident_key_prefix: Option<String>,
    pub(super) min_level: Option<String>,
    pub(super) page_on: Option<String>,
    pub(super) resolve: Option<String>,
    pub(super) acknowledge: Option<String>,
    pub(super) redact: Option<String>,
    pub(super) give_up_after: Option<String>,
    pub(super) keep_delivered: Option<String>,
    pub(super) alarms: Option<String>,
    pub(super) silence_alarm: Option<String>,
    pub(super) waiting_alarm: Option<String>,
    pub(super) alarm_service_key: Option<String>,
    pub(super) admin_token: Option<String>,
    pub(super) max_body: Option<String>,
    pub(super) shutdown_drain: Option<String>,
    pub(super) shutdown_grace: Option<String>,
    pub(super) log_format: Option<String>,
    pub(super) rust_log: Option<String>,
}

impl RawSettings {
    /// Sorts texts by name into fields.
    pub(super) fn new(texts: Texts) -> Result<Self, envy::Error> {
        envy::from_iter(texts.into_iter().map(|(name, text)| (field(name).to_owned(), text)))
    }
}

/// What `envy` makes a field's name of; `RUST_LOG` has no prefix to lose.
fn field(name: &str) -> &str {
    name.strip_prefix(PREFIX).unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::settings::SETTINGS;

    #[test]
    fn the_table_lists_exactly_what_is_read() {
        let refusal = envy::from_iter::<_, RawSettings>([("no_setting".to_owned(), String::new())]).err().unwrap();
        let refusal = refusal.to_string();
        let (_, expected) = refusal.split_once("expected one of ").unwrap();
        let read: BTreeSet<String> = expected.split(", ").map(|name| name.trim_matches('`').to_owned()).collect();

        let listed: BTreeSet<String> = SETTINGS.iter().map(|setting| field(setting.name).to_lowercase()).collect();

        assert_eq!(read, listed);
        assert_eq!(listed.len(), SETTINGS.len(), "a name is listed twice");
    }
}
