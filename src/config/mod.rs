//! The configuration: `BRIDGE_*` variables, read at startup and parsed into types.
//!
//! Every setting is declared once, in the list below. A declaration is the field of [`Config`], its documentation (which
//! `--help`, `.env.example` and the table in `docs/settings.md` repeat), its default, whether it is secret, and its parser. To
//! add a setting, add a declaration there and use the new field; then run
//! `UPDATE_DOCS=1 cargo test --test config` to bring `.env.example` and `docs/settings.md` up to date.
//!
//! - `source`: environment, `.env` and the files that `BRIDGE_X_FILE` name, as one text per setting
//! - `declare`: the macro of the list, which sorts the texts into fields with `envy` and parses each of them
//! - `values`, `address`, `secrets`: the parsers
//! - `database`: where the queue is and how it is used
//! - `error`: what can be wrong, as sentences for the operator
//! - `reload`: secrets that are given as files and read again while the bridge runs
//! - `fingerprint`: a short digest of the whole configuration

mod address;
mod database;
mod declare;
mod error;
mod fingerprint;
mod reload;
mod secrets;
mod source;
mod values;

use std::convert::Infallible;
use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bytesize::ByteSize;
use url::Url;

use crate::alert::{Level, TriggerKind};
use crate::pagerduty::{ApiVersion, ServiceKey, Template};
use crate::redaction::Redaction;
use crate::routing::{Route, Routes, SeverityRule};

pub use crate::logging::LogFormat;
pub use address::{Dsn, FallbackUrl};
pub use database::{DatabaseConfig, DatabaseUrl, PostgresUrl};
pub use declare::{Setting, help};
pub use error::{ConfigError, Problem, ValueError};
pub use fingerprint::Fingerprint;
pub use reload::{Contents, Digests, SecretFiles, needs_restart};
pub use secrets::{AccessToken, ApiToken, SigningSecret};
pub use source::Source;
pub use values::{CatchUpMode, IncidentScope, ResolveScope, key_names, socket_address};

use declare::declare;

const SECOND: Duration = Duration::from_secs(1);
const MINUTE: Duration = Duration::from_mins(1);
const DAY: Duration = Duration::from_hours(24);

declare! {
    /// Default integration key of an Events API integration, 32 letters and digits.
    required secret BRIDGE_PAGERDUTY_SERVICE_KEY pagerduty_service_key: ServiceKey = ServiceKey::parse,
        or "required, because alerts are sent to it; take the integration key of an Events API v1 integration from the Integrations \
            page of the PagerDuty service";

    /// Secret in the webhook's path, 16 characters or more; several, comma separated. Needed unless the next is set.
    list secret BRIDGE_WEBHOOK_TOKEN webhook_token: Vec<AccessToken> = AccessToken::parse_list;

    /// Client Secret of the Sentry integration, which signs its webhooks; several, comma separated, while rotating.
    list secret BRIDGE_SENTRY_CLIENT_SECRET sentry_client_secret: Vec<SigningSecret> = SigningSecret::parse_sentry_list;

    /// Lines (or `;`) of `tag,value,KEY[,v2]`, first match wins; also `project`, `level`, `environment`, `rule`.
    list secret BRIDGE_PAGERDUTY_ROUTES pagerduty_routes: Vec<Route> = Route::parse_lines;

    /// `v1` or `v2`: the Events API of keys whose route names none. v2 has severities, some of which wake nobody.
    default plain BRIDGE_PAGERDUTY_EVENTS_API pagerduty_events_api: ApiVersion = values::events_api, or "v1";

    /// For `v2`: lines (or `;`) of `tag,value,SEVERITY`, as routes; where none matches, the level decides.
    list plain BRIDGE_SEVERITY severity: Vec<SeverityRule> = SeverityRule::parse_lines;

    /// The root of PagerDuty's Events API; in the EU `https://events.eu.pagerduty.com`.
    default plain BRIDGE_PAGERDUTY_URL pagerduty_url: Url = address::pagerduty_root, or "https://events.pagerduty.com";

    /// The time one attempt may take, from connecting to the last byte.
    default plain BRIDGE_PAGERDUTY_TIMEOUT pagerduty_timeout: Duration
        = |text| values::duration(text, Duration::from_millis(100)..=5 * MINUTE), or "10s";

    /// Events per 60 seconds and integration key.
    default plain BRIDGE_PAGERDUTY_RATE pagerduty_rate: u32 = |text| values::number(text, 1..=10_000), or "120";

    /// PEM file of further certificate authorities to trust for PagerDuty.
    optional plain BRIDGE_PAGERDUTY_CA_FILE pagerduty_ca_file: Option<PathBuf> = |text| Ok::<_, Infallible>(text.into());

    /// `on` allows plain `http` to PagerDuty beyond loopback addresses; keys then travel unencrypted.
    default plain BRIDGE_PAGERDUTY_ALLOW_HTTP pagerduty_allow_http: bool = values::switch, or "off";

    /// Key of PagerDuty's REST API; read-only is enough. The bridge then looks up whether events opened incidents.
    optional secret BRIDGE_PAGERDUTY_API_TOKEN pagerduty_api_token: Option<ApiToken> = ApiToken::parse_pagerduty;

    /// Root of PagerDuty's REST API; unset: the one that belongs to `BRIDGE_PAGERDUTY_URL`.
    optional plain BRIDGE_PAGERDUTY_API_URL pagerduty_api_url: Option<Url> = address::pagerduty_api_root;

    /// Names of integration keys for pages and commands: lines (or `;`) of `KEY,name`.
    list secret BRIDGE_PAGERDUTY_NAMES pagerduty_names: Vec<(ServiceKey, String)> = values::key_names;

    /// Address and port to listen on.
    default plain BRIDGE_LISTEN listen: SocketAddr = values::socket_address, or "0.0.0.0:8080";

    /// Database of the queue: `sqlite:` and a path, or `postgres://USER:PASSWORD@HOST/DATABASE`, which bridges may share.
    default secret BRIDGE_DATABASE_URL database_url: DatabaseUrl = DatabaseUrl::parse, or "sqlite:bridge.db";

    /// Address of the same database without a pooler like `PgBouncer`, for `LISTEN` and migrations; unset: the one above.
    optional secret BRIDGE_DATABASE_DIRECT_URL database_direct_url: Option<PostgresUrl> = PostgresUrl::parse;

    /// The time a commit to PostgreSQL may take; then the webhook is answered 503. Sentry waits for one second.
    default plain BRIDGE_DATABASE_TIMEOUT database_timeout: Duration
        = |text| values::duration(text, Duration::from_millis(100)..=MINUTE), or "700ms";

    /// Connections to PostgreSQL for reads by the deliveries; four more are used for commits and `LISTEN`.
    default plain BRIDGE_DATABASE_DELIVERY_CONNECTIONS database_delivery_connections: u32
        = |text| values::number(text, 1..=50), or "2";

    /// Connections to PostgreSQL for pages, `/api`, metrics and checks.
    default plain BRIDGE_DATABASE_READ_CONNECTIONS database_read_connections: u32
        = |text| values::number(text, 1..=50), or "2";

    /// Template of descriptions, such as `[{project}/{environment}] {title}`; docs/events.md lists the placeholders.
    optional plain BRIDGE_DESCRIPTION description: Option<Template> = Template::parse;

    /// What one incident stands for: `issue`; or `rule` or `project`, resolved once none of its issues is open any more.
    default plain BRIDGE_INCIDENT_KEY incident_key: IncidentScope = values::incident_scope, or "issue";

    /// Prefix of incident keys, to tell several Sentrys on one service apart; at most 100 characters.
    list plain BRIDGE_INCIDENT_KEY_PREFIX incident_key_prefix: String = values::incident_key_prefix;

    /// Alerts below it are ignored: `debug`, `info`, `warning`, `error` or `fatal`.
    optional plain BRIDGE_MIN_LEVEL min_level: Option<Level> = values::level;

    /// What opens incidents, comma separated: `alert`, `metric`, `issue.created`, `issue.unresolved`, `error`.
    default plain BRIDGE_PAGE_ON page_on: Vec<TriggerKind> = values::openings, or "alert,metric";

    /// What resolved webhooks close: incidents the bridge `opened`, `all` (unknown ones on the default key), or `off`.
    default plain BRIDGE_RESOLVE resolve: ResolveScope = values::resolve_scope, or "opened";

    /// `on`: an issue that is assigned to somebody acknowledges its incident.
    default plain BRIDGE_ACKNOWLEDGE acknowledge: bool = values::switch, or "off";

    /// Tags and details that are removed before storing and sending, comma separated, such as `user,customer_id`.
    list plain BRIDGE_REDACT redact: Redaction = |text| Ok::<_, Infallible>(Redaction::parse(text));

    /// Give up on an event that keeps failing this long while others of its key are delivered.
    default plain BRIDGE_GIVE_UP_AFTER give_up_after: Duration = |text| values::duration(text, SECOND..=30 * DAY), or "1h";

    /// How long delivered events are kept, 10m or more; at most a million of them.
    // At least ten minutes, because the rate limiter is rebuilt from the attempts of the last minutes after a restart.
    default plain BRIDGE_KEEP_DELIVERED keep_delivered: Duration
        = |text| values::duration(text, 10 * MINUTE..=3650 * DAY), or "7d";

    /// Root of your Sentry, such as `https://sentry.io`, for its API; unset: the API is not used.
    optional plain BRIDGE_SENTRY_URL sentry_url: Option<Url> = address::sentry_root;

    /// Slug of the organization in Sentry, as in the addresses of its pages.
    optional plain BRIDGE_SENTRY_ORG sentry_org: Option<String> = values::organization;

    /// Token for Sentry's API; docs/sentry.md lists the scopes it needs.
    optional secret BRIDGE_SENTRY_API_TOKEN sentry_api_token: Option<ApiToken> = ApiToken::parse_sentry;

    /// PEM file of certificate authorities to trust for Sentry's API besides the usual ones.
    optional plain BRIDGE_SENTRY_CA_FILE sentry_ca_file: Option<PathBuf> = |text| Ok::<_, Infallible>(text.into());

    /// `on` allows plain `http` to Sentry's API beyond loopback addresses; the token then travels unencrypted.
    default plain BRIDGE_SENTRY_ALLOW_HTTP sentry_allow_http: bool = values::switch, or "off";

    /// What is done about alerts that fired in Sentry and never came: `page`, `report` or `off`. Needs Sentry's API.
    default plain BRIDGE_CATCH_UP catch_up: CatchUpMode = values::catch_up, or "page";

    /// DSN of a project in Sentry: a marked event is sent to it, and its webhook has to come back; unset: no canary.
    optional secret BRIDGE_CANARY_DSN canary_dsn: Option<Dsn> = Dsn::parse;

    /// How often the canary is sent, 1m or more; alert rules of older Sentrys fire for it every 6m at most.
    default plain BRIDGE_CANARY_EVERY canary_every: Duration = |text| values::duration(text, MINUTE..=DAY), or "10m";

    /// Secret of PagerDuty's webhooks to `POST /pagerduty`: an incident that a person resolves resolves its issue.
    list secret BRIDGE_PAGERDUTY_WEBHOOK_SECRET pagerduty_webhook_secret: Vec<SigningSecret>
        = SigningSecret::parse_pagerduty_list;

    /// `on`: an incident that a person reopens in PagerDuty unresolves its issue. Needs the secret above.
    default plain BRIDGE_PAGERDUTY_REOPEN pagerduty_reopen: bool = values::switch, or "off";

    /// `off`: the bridge does not page for its own troubles.
    default plain BRIDGE_ALARMS alarms: bool = values::switch, or "on";

    /// Pages when no webhook was received for this long, such as `12h`; unset: never.
    optional plain BRIDGE_SILENCE_ALARM silence_alarm: Option<Duration> = |text| values::duration(text, SECOND..=30 * DAY);

    /// Pages when an event has been waiting for this long.
    default plain BRIDGE_WAITING_ALARM waiting_alarm: Duration = |text| values::duration(text, SECOND..=30 * DAY), or "15m";

    /// Integration key for the bridge's own alarms, preferably of another service; unset: the default one.
    optional secret BRIDGE_ALARM_SERVICE_KEY alarm_service_key: Option<ServiceKey> = ServiceKey::parse;

    /// Webhook of a chat tool, notified when PagerDuty itself takes no events and when that is over; unset: no webhook.
    optional secret BRIDGE_FALLBACK_URL fallback_url: Option<FallbackUrl> = FallbackUrl::parse;

    /// PEM file of certificate authorities to trust for that webhook besides the usual ones.
    optional plain BRIDGE_FALLBACK_CA_FILE fallback_ca_file: Option<PathBuf> = |text| Ok::<_, Infallible>(text.into());

    /// Secret that opens the status page and `/api`, 16 characters or more; several, comma separated. Unset: no page.
    list secret BRIDGE_ADMIN_TOKEN admin_token: Vec<AccessToken> = AccessToken::parse_list;

    /// Address and port of a listener of its own for the status page, `/api` and `/metrics`; unset: `BRIDGE_LISTEN`.
    optional plain BRIDGE_ADMIN_LISTEN admin_listen: Option<SocketAddr> = values::socket_address;

    /// Largest webhook body. All bodies together take at most 128 MiB, or 16 MiB plus twice this where that is more.
    default plain BRIDGE_MAX_BODY max_body: usize
        = |text| values::size(text, ByteSize::kib(1)..=ByteSize::mib(256)), or "16MiB";

    /// How long webhooks are still served after SIGTERM, while `/readyz` is 503 already.
    default plain BRIDGE_SHUTDOWN_DRAIN shutdown_drain: Duration
        = |text| values::duration(text, Duration::ZERO..=5 * MINUTE), or "2s";

    /// How long requests and deliveries in flight may take after that.
    default plain BRIDGE_SHUTDOWN_GRACE shutdown_grace: Duration
        = |text| values::duration(text, Duration::ZERO..=10 * MINUTE), or "20s";

    /// `text`, `json`, or `auto`: text on a terminal, else JSON.
    default plain BRIDGE_LOG_FORMAT log_format: LogFormat = values::log_format, or "auto";

    /// What is logged, as in `warn` or `info,sentry_pagerduty_bridge=debug`.
    default plain RUST_LOG rust_log: String = values::log_filter, or "info";

    // Requirements of one setting on another. A setting that already has a problem is `None` here.
    check |problems| {
        if webhook_token.is_none() && sentry_client_secret.is_none() {
            problems.missing(
                ["BRIDGE_WEBHOOK_TOKEN", "BRIDGE_SENTRY_CLIENT_SECRET"],
                "required, because it protects the webhook; make a secret with `openssl rand -hex 24` and put it into the \
                 webhook's address, or set BRIDGE_SENTRY_CLIENT_SECRET to the Client Secret of a Sentry integration",
            );
        }
        if let (Some(webhook), Some(admin)) = (&webhook_token, &admin_token) {
            problems.check("BRIDGE_ADMIN_TOKEN", secrets::are_apart(admin, webhook));
        }
        if let Some(url) = &pagerduty_url {
            let allowed = pagerduty_allow_http.unwrap_or_default();
            let setting = Some("BRIDGE_PAGERDUTY_ALLOW_HTTP");
            problems.check("BRIDGE_PAGERDUTY_URL", address::may_carry(url, "integration keys", allowed, setting));
        }
        if let Some(url) = &pagerduty_api_url {
            let allowed = pagerduty_allow_http.unwrap_or_default();
            let setting = Some("BRIDGE_PAGERDUTY_ALLOW_HTTP");
            problems.check("BRIDGE_PAGERDUTY_API_URL", address::may_carry(url, "API token", allowed, setting));
        }
        if let (Some(url), None, Some(_)) = (&pagerduty_url, &pagerduty_api_url, &pagerduty_api_token)
            && address::pagerduty_api_root_of(url).is_none()
        {
            problems.missing(
                ["BRIDGE_PAGERDUTY_API_URL"],
                "required with BRIDGE_PAGERDUTY_API_TOKEN, because BRIDGE_PAGERDUTY_URL is not an address of PagerDuty's own",
            );
        }
        if let (Some(DatabaseUrl::Sqlite(_)), Some(_)) = (&database_url, &database_direct_url) {
            problems.check::<(), _>("BRIDGE_DATABASE_DIRECT_URL", Err(ValueError::new(database::NEEDS_POSTGRES)));
        }
        if let Some(url) = &sentry_url {
            let allowed = sentry_allow_http.unwrap_or_default();
            let setting = Some("BRIDGE_SENTRY_ALLOW_HTTP");
            problems.check("BRIDGE_SENTRY_URL", address::may_carry(url, "API token", allowed, setting));
        }
        if pagerduty_webhook_secret.is_some() {
            let api = [sentry_url.is_some(), sentry_org.is_some(), sentry_api_token.is_some()];
            let names = ["BRIDGE_SENTRY_URL", "BRIDGE_SENTRY_ORG", "BRIDGE_SENTRY_API_TOKEN"];
            for (name, _) in names.into_iter().zip(api).filter(|(_, is_set)| !is_set) {
                problems.missing(
                    [name],
                    "required beside BRIDGE_PAGERDUTY_WEBHOOK_SECRET, because what people do in PagerDuty is passed on by Sentry's \
                     API; set it, or remove that secret",
                );
            }
        }
    }
}

impl Config {
    /// Reads the configuration of this process: its environment, and `.env` in its working directory.
    ///
    /// # Errors
    ///
    /// The error contains every problem of the configuration.
    pub fn from_environment() -> Result<Self, ConfigError> {
        Self::load(&Source::process())
    }

    /// Reads the configuration from these variables, without a `.env`.
    ///
    /// # Errors
    ///
    /// The error contains every problem of the configuration.
    pub fn from_vars<N: Into<OsString>, V: Into<OsString>>(
        variables: impl IntoIterator<Item = (N, V)>,
    ) -> Result<Self, ConfigError> {
        Self::load(&Source::variables(variables))
    }

    /// Returns the first token of `BRIDGE_WEBHOOK_TOKEN` as it is written in `source`, for a URL that is given to
    /// Sentry; an [`AccessToken`] keeps only its digest. `None` if `source` sets no valid token.
    #[must_use]
    pub fn webhook_token_text(source: &Source<'_>) -> Option<String> {
        let (texts, _) = source.texts().ok()?;
        let text = texts.get("BRIDGE_WEBHOOK_TOKEN")?;
        AccessToken::parse_list(text).ok()?;
        text.split(',').map(str::trim).find(|token| !token.is_empty()).map(str::to_owned)
    }

    /// Returns the log format that `source` sets, even if other settings are wrong.
    #[must_use]
    pub fn log_format_of(source: &Source<'_>) -> LogFormat {
        let text = source.texts().ok().and_then(|(mut texts, _)| texts.remove("BRIDGE_LOG_FORMAT"));
        text.and_then(|text| values::log_format(&text).ok()).unwrap_or(LogFormat::Auto)
    }

    /// Returns the address that `source` sets to listen on, even if other settings are wrong; `None` if that setting is.
    #[must_use]
    pub fn listen_of(source: &Source<'_>) -> Option<SocketAddr> {
        let (texts, _) = source.texts().ok()?;
        values::socket_address(texts.get("BRIDGE_LISTEN")?).ok()
    }

    /// Where alerts go: the routes, and the default integration key for alerts that no route matches.
    #[must_use]
    pub fn routes(&self) -> Routes {
        Routes::from_lines(self.pagerduty_service_key.clone(), self.pagerduty_routes.clone(), self.pagerduty_events_api)
    }

    /// The root of PagerDuty's REST API and the token for it; `None` where no token is set.
    #[must_use]
    pub fn pagerduty_api(&self) -> Option<(Url, &ApiToken)> {
        let token = self.pagerduty_api_token.as_ref()?;
        let root = self.pagerduty_api_url.clone().or_else(|| address::pagerduty_api_root_of(&self.pagerduty_url))?;
        Some((root, token))
    }

    /// Every integration key that events may be sent to: those of alerts, and the one of the bridge's own alarms.
    #[must_use]
    pub fn service_keys(&self) -> Vec<ServiceKey> {
        let mut keys: Vec<_> = self.routes().keys().into_iter().cloned().collect();
        if self.alarms && !keys.contains(self.alarm_key()) {
            keys.push(self.alarm_key().clone());
        }
        keys
    }

    /// Where the queue is, and how it is used.
    #[must_use]
    pub fn database(&self) -> DatabaseConfig {
        DatabaseConfig {
            url: self.database_url.clone(),
            direct_url: self.database_direct_url.clone(),
            timeout: self.database_timeout,
            delivery_connections: self.database_delivery_connections,
            read_connections: self.database_read_connections,
        }
    }

    /// The integration key that the bridge's own alarms go to.
    #[must_use]
    pub fn alarm_key(&self) -> &ServiceKey {
        self.alarm_service_key.as_ref().unwrap_or(&self.pagerduty_service_key)
    }
}
