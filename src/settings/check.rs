//! From texts to [`Settings`], with everything that is wrong told at once.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;

use super::raw::RawSettings;
use super::{
    AdminToken, AlarmSettings, ClientSecret, DatabaseUrl, Fault, PagerDutySettings, Problem, Settings, SettingsError,
    Source, WebhookToken, pagerduty_url, values,
};
use crate::pagerduty::ServiceKey;
use crate::redaction::Redaction;
use crate::routing::{Route, Routes};

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

const NO_SERVICE_KEY: &str = "alerts need somewhere to go; take the integration key of an Events API v1 integration from \
                              the Integrations page of the PagerDuty service";
const NO_WEBHOOK_TOKEN: &str = "nobody runs an open pager by accident; make a secret with `openssl rand -hex 24` and put \
                                it into the webhook's address, or set BRIDGE_SENTRY_CLIENT_SECRET to the Client Secret \
                                of an integration of Sentry's";

impl Settings {
    /// Reads the settings of this process: its environment, and `.env` in its working directory.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub fn from_environment() -> Result<Self, SettingsError> {
        Self::load(&Source::process())
    }

    /// Reads settings from these variables, without a `.env`.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub fn from_vars<N: Into<OsString>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, SettingsError> {
        Self::load(&Source::variables(variables))
    }

    /// Reads settings from a source.
    ///
    /// # Errors
    ///
    /// Everything that is wrong with them.
    pub fn load(source: &Source<'_>) -> Result<Self, SettingsError> {
        let (texts, problems) = source.texts().map_err(|problem| SettingsError::new(vec![problem]))?;
        let raw = RawSettings::new(texts).map_err(|error| SettingsError::new(vec![error.into()]))?;
        let mut check = Check { problems };
        check.settings(raw).filter(|_| check.problems.is_empty()).ok_or_else(|| SettingsError::new(check.problems))
    }
}

/// Collects problems while values are read; a value that does not do is `None` from then on.
struct Check {
    problems: Vec<Problem>,
}

impl Check {
    /// `None` only when there are problems, but there may be problems beside `Some`.
    fn settings(&mut self, raw: RawSettings) -> Option<Settings> {
        let service_key =
            self.required("BRIDGE_PAGERDUTY_SERVICE_KEY", raw.pagerduty_service_key, NO_SERVICE_KEY, ServiceKey::parse);
        let alarm_key = self
            .read("BRIDGE_ALARM_SERVICE_KEY", raw.alarm_service_key, ServiceKey::parse)
            .or_else(|| service_key.clone());
        let routes = self.routes(service_key, raw.pagerduty_routes);
        let (webhook_tokens, client_secrets) = self.doors(raw.webhook_token, raw.sentry_client_secret);
        let admin_tokens = self
            .read("BRIDGE_ADMIN_TOKEN", raw.admin_token, |text| AdminToken::parse_list(text, &webhook_tokens))
            .unwrap_or_default();

        let allow_http = self.read("BRIDGE_PAGERDUTY_ALLOW_HTTP", raw.pagerduty_allow_http, values::switch);
        let url = self.read("BRIDGE_PAGERDUTY_URL", raw.pagerduty_url, |text| {
            pagerduty_url::parse(text, allow_http.unwrap_or_default())
        });
        let timeout = self.read("BRIDGE_PAGERDUTY_TIMEOUT", raw.pagerduty_timeout, |text| {
            values::duration(text, Duration::from_millis(100)..=5 * MINUTE)
        });
        let rate = self.read("BRIDGE_PAGERDUTY_RATE", raw.pagerduty_rate, |text| values::number(text, 1..=10_000));
        let give_up_after =
            self.read("BRIDGE_GIVE_UP_AFTER", raw.give_up_after, |text| values::duration(text, SECOND..=30 * DAY));

        let listen = self.read("BRIDGE_LISTEN", raw.listen, values::address);
        let database = self.read("BRIDGE_DATABASE_URL", raw.database_url, DatabaseUrl::parse);
        let incident_key_prefix = self
            .read("BRIDGE_INCIDENT_KEY_PREFIX", raw.incident_key_prefix, values::incident_key_prefix)
            .unwrap_or_default();
        let min_level = self.read("BRIDGE_MIN_LEVEL", raw.min_level, values::level);
        // The attempts of the last minutes have to be known after a restart, for the pace.
        let keep_delivered = self
            .read("BRIDGE_KEEP_DELIVERED", raw.keep_delivered, |text| values::duration(text, 10 * MINUTE..=3650 * DAY));
        let page_on = self.read("BRIDGE_PAGE_ON", raw.page_on, values::openings);
        let resolve = self.read("BRIDGE_RESOLVE", raw.resolve, values::resolve_scope);
        let acknowledge = self.read("BRIDGE_ACKNOWLEDGE", raw.acknowledge, values::switch);
        let alarms = self.read("BRIDGE_ALARMS", raw.alarms, values::switch);
        let silence =
            self.read("BRIDGE_SILENCE_ALARM", raw.silence_alarm, |text| values::duration(text, SECOND..=30 * DAY));
        let waiting =
            self.read("BRIDGE_WAITING_ALARM", raw.waiting_alarm, |text| values::duration(text, SECOND..=30 * DAY));
        let max_body = self
            .read("BRIDGE_MAX_BODY", raw.max_body, |text| values::size(text, ByteSize::kib(1)..=ByteSize::mib(256)));
        let shutdown_drain = self.read("BRIDGE_SHUTDOWN_DRAIN", raw.shutdown_drain, |text| {
            values::duration(text, Duration::ZERO..=5 * MINUTE)
        });
        let shutdown_grace = self.read("BRIDGE_SHUTDOWN_GRACE", raw.shutdown_grace, |text| {
            values::duration(text, Duration::ZERO..=10 * MINUTE)
        });
        let log_format = self.read("BRIDGE_LOG_FORMAT", raw.log_format, values::log_format);

        Some(Settings {
            routes: routes?,
            pagerduty: PagerDutySettings {
                url: url?,
                timeout: timeout?,
                rate: rate?,
                ca_file: raw.pagerduty_ca_file.map(PathBuf::from),
                give_up_after: give_up_after?,
            },
            webhook_tokens,
            client_secrets,
            admin_tokens,
            listen: listen?,
            database: database?,
            incident_key_prefix,
            min_level,
            keep_delivered: keep_delivered?,
            page_on: page_on?,
            resolve: resolve?,
            acknowledge: acknowledge?,
            redaction: raw.redact.as_deref().map(Redaction::parse).unwrap_or_default(),
            max_body: max_body?,
            shutdown_drain: shutdown_drain?,
            shutdown_grace: shutdown_grace?,
            log_format: log_format?,
            alarms: AlarmSettings { page: alarms?, silence, waiting: waiting?, service_key: alarm_key? },
            log_filter: raw.rust_log?,
        })
    }

    /// The routes. Without a default key their lines are still read, so that one start tells what is wrong with both.
    fn routes(&mut self, default: Option<ServiceKey>, lines: Option<String>) -> Option<Routes> {
        let lines = lines.unwrap_or_default();
        let routes = match default {
            Some(default) => Routes::new(default, &lines).map(Some),
            None => Route::parse_lines(&lines).map(|_| None),
        };
        routes.unwrap_or_else(|errors| {
            self.problems.extend(errors.into_iter().map(|error| fault("BRIDGE_PAGERDUTY_ROUTES", error)));
            None
        })
    }

    /// What opens the webhook: tokens, client secrets, or both. Empty only when there are problems, but not both.
    fn doors(&mut self, token: Option<String>, secret: Option<String>) -> (Vec<WebhookToken>, Vec<ClientSecret>) {
        const TOKEN: &str = "BRIDGE_WEBHOOK_TOKEN";
        const SECRET: &str = "BRIDGE_SENTRY_CLIENT_SECRET";
        let has_secret = secret.is_some() || self.problems.iter().any(|problem| problem.concerns(SECRET));
        let secrets = self.read(SECRET, secret, ClientSecret::parse_list);
        let tokens = if has_secret {
            self.read(TOKEN, token, WebhookToken::parse_list)
        } else {
            self.required(TOKEN, token, NO_WEBHOOK_TOKEN, WebhookToken::parse_list)
        };
        (tokens.unwrap_or_default(), secrets.unwrap_or_default())
    }

    /// A setting that must be given.
    fn required<T, E: Into<Fault>>(
        &mut self,
        name: &'static str,
        text: Option<String>,
        remedy: &'static str,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        // A setting whose file cannot be read, for one, is not called missing as well.
        if text.is_none() && !self.problems.iter().any(|problem| problem.concerns(name)) {
            self.problems.push(Problem::Missing { name, remedy });
        }
        self.read(name, text, parse)
    }

    /// A setting that may be missing, or has a default and is always there.
    fn read<T, E: Into<Fault>>(
        &mut self,
        name: &'static str,
        text: Option<String>,
        parse: impl FnOnce(&str) -> Result<T, E>,
    ) -> Option<T> {
        parse(&text?).map_err(|error| self.problems.push(fault(name, error))).ok()
    }
}

fn fault(name: &'static str, fault: impl Into<Fault>) -> Problem {
    Problem::Value { name, fault: fault.into() }
}
