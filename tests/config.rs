//! Loads settings from variables, files and `.env`: valid ones become a configuration, and invalid ones are error messages.

#![expect(clippy::expect_used, clippy::unwrap_used, reason = "helpers of tests fail the test")]

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;
use std::{fs, io};

use sentry_pagerduty_bridge::alert::{Level, TriggerKind};
use sentry_pagerduty_bridge::config::{
    ApiToken, Config, ConfigError, DatabaseUrl, LogFormat, ResolveScope, SETTINGS, Setting, Source, help,
};
use sentry_pagerduty_bridge::pagerduty::ServiceKey;
use sentry_pagerduty_bridge::redaction::Redaction;

const KEY: &str = "0123456789abcdefSECRET9876543210";
const ROUTED_KEY: &str = "fedcba9876543210SECRET0123456789";
const TOKEN: &str = "SECRET-token-of-the-webhook";
const ADMIN_TOKEN: &str = "SECRET-of-the-operator";
const CLIENT_SECRET: &str = "SECRET-of-an-integration";

const REQUIRED: [(&str, &str); 2] = [("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY), ("BRIDGE_WEBHOOK_TOKEN", TOKEN)];

/// The required settings, with `more` added or overriding them.
fn with(more: &[(&str, &str)]) -> Vec<(OsString, OsString)> {
    let replaced = |name: &str| more.iter().any(|(other, _)| *other == name);
    let required = REQUIRED.iter().filter(|(name, _)| !replaced(name));
    required.chain(more).map(|(name, value)| (name.into(), value.into())).collect()
}

fn loaded(more: &[(&str, &str)]) -> Config {
    Config::from_vars(with(more)).unwrap()
}

fn sentences(result: Result<Config, ConfigError>) -> Vec<String> {
    let error = result.expect_err("settings were taken");
    for printed in [error.to_string(), format!("{error:?}")] {
        // Every secret of these tests contains the word, and so does the name of one setting.
        assert!(!printed.replace("BRIDGE_SENTRY_CLIENT_SECRET", "").contains("SECRET"), "{printed}");
    }
    let sentences: Vec<String> = error.problems().iter().map(ToString::to_string).collect();
    assert_eq!(error.to_string(), sentences.join("\n"));
    sentences
}

fn refused(more: &[(&str, &str)]) -> Vec<String> {
    sentences(Config::from_vars(with(more)))
}

/// Loads settings with a `.env` of this text.
fn with_dotenv(text: &str, variables: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let read = |path: &Path| {
        if path == Path::new(".env") { Ok(text.to_owned()) } else { Err(io::ErrorKind::NotFound.into()) }
    };
    let source = Source { dotenv: Some(".env".into()), read: &read, ..Source::variables(variables.to_vec()) };
    Config::load(&source)
}

#[test]
fn what_is_not_set_has_the_default_of_the_contract() {
    let config = loaded(&[]);
    assert_eq!(config.routes().keys(), [&ServiceKey::parse(KEY).unwrap()]);
    assert!(config.webhook_token[0].matches(TOKEN.as_bytes()));
    assert_eq!(config.pagerduty_url.as_str(), "https://events.pagerduty.com/");
    assert_eq!(config.pagerduty_timeout, Duration::from_secs(10));
    assert_eq!(config.pagerduty_rate, 120);
    assert_eq!(config.pagerduty_ca_file, None);
    assert_eq!(config.give_up_after, Duration::from_hours(1));
    assert_eq!(config.listen.to_string(), "0.0.0.0:8080");
    assert_eq!(config.database_url, DatabaseUrl::Sqlite("bridge.db".into()));
    assert_eq!(config.database_direct_url, None);
    assert_eq!(config.database_timeout, Duration::from_millis(700));
    assert_eq!((config.database_delivery_connections, config.database_read_connections), (2, 2));
    assert_eq!(config.incident_key_prefix, "");
    assert_eq!(config.min_level, None);
    assert!(config.sentry_client_secret.is_empty());
    assert!(config.admin_token.is_empty());
    assert_eq!(config.admin_listen, None);
    assert_eq!(config.page_on, [TriggerKind::Alert, TriggerKind::Metric]);
    assert_eq!(config.resolve, ResolveScope::Opened);
    assert!(!config.acknowledge);
    assert_eq!(config.redact, Redaction::default());
    assert_eq!(config.max_body, 16 * 1024 * 1024);
    assert_eq!(config.shutdown_drain, Duration::from_secs(2));
    assert_eq!(config.shutdown_grace, Duration::from_secs(20));
    assert!(config.alarms);
    assert!(config.sentry_url.is_none() && config.sentry_org.is_none() && config.sentry_api_token.is_none());
    assert!(!config.sentry_allow_http && config.sentry_ca_file.is_none());
    assert!(config.canary_dsn.is_none());
    assert_eq!(config.canary_every, Duration::from_mins(10));
    assert_eq!(config.silence_alarm, None);
    assert_eq!(config.waiting_alarm, Duration::from_mins(15));
    assert_eq!(config.alarm_key().expose(), KEY);
    assert!(config.fallback_url.is_none() && config.fallback_ca_file.is_none());
    assert_eq!(config.log_format, LogFormat::Auto);
    assert_eq!(config.rust_log, "info");
}

#[test]
fn every_setting_is_heeded() {
    let config = loaded(&[
        ("BRIDGE_PAGERDUTY_ROUTES", &format!("level,fatal,{ROUTED_KEY}")),
        ("BRIDGE_WEBHOOK_TOKEN", &format!("{TOKEN},{TOKEN}-2")),
        ("BRIDGE_PAGERDUTY_URL", "http://pagerduty.example"),
        ("BRIDGE_PAGERDUTY_ALLOW_HTTP", "on"),
        ("BRIDGE_PAGERDUTY_TIMEOUT", "3s"),
        ("BRIDGE_PAGERDUTY_RATE", "60"),
        ("BRIDGE_PAGERDUTY_CA_FILE", "/etc/ca.pem"),
        ("BRIDGE_GIVE_UP_AFTER", "2h"),
        ("BRIDGE_LISTEN", "localhost:9"),
        ("BRIDGE_DATABASE_URL", "postgres://bridge:SECRET@db:6432/queue?sslmode=verify-full"),
        ("BRIDGE_DATABASE_DIRECT_URL", "postgresql://bridge:SECRET@db:5432/queue"),
        ("BRIDGE_DATABASE_TIMEOUT", "500ms"),
        ("BRIDGE_DATABASE_DELIVERY_CONNECTIONS", "3"),
        ("BRIDGE_DATABASE_READ_CONNECTIONS", "1"),
        ("BRIDGE_INCIDENT_KEY_PREFIX", "eu-"),
        ("BRIDGE_MIN_LEVEL", "warning"),
        ("BRIDGE_SENTRY_CLIENT_SECRET", CLIENT_SECRET),
        ("BRIDGE_PAGE_ON", "alert, issue.unresolved, error"),
        ("BRIDGE_RESOLVE", "all"),
        ("BRIDGE_ACKNOWLEDGE", "on"),
        ("BRIDGE_REDACT", "user, customer_id"),
        ("BRIDGE_SENTRY_URL", "http://sentry.example/folder"),
        ("BRIDGE_SENTRY_ORG", "acme"),
        ("BRIDGE_SENTRY_API_TOKEN", "SECRET-of-the-api-of-sentry"),
        ("BRIDGE_SENTRY_CA_FILE", "/etc/sentry-ca.pem"),
        ("BRIDGE_SENTRY_ALLOW_HTTP", "on"),
        ("BRIDGE_CANARY_DSN", "https://SECRETofthecanary@sentry.example/7"),
        ("BRIDGE_CANARY_EVERY", "6m"),
        ("BRIDGE_ALARMS", "off"),
        ("BRIDGE_SILENCE_ALARM", "12h"),
        ("BRIDGE_WAITING_ALARM", "1m"),
        ("BRIDGE_ALARM_SERVICE_KEY", ROUTED_KEY),
        ("BRIDGE_FALLBACK_URL", "https://chat.example.com/hooks/SECRET"),
        ("BRIDGE_FALLBACK_CA_FILE", "/etc/chat-ca.pem"),
        ("BRIDGE_ADMIN_TOKEN", &format!("{ADMIN_TOKEN},{ADMIN_TOKEN}-2")),
        ("BRIDGE_ADMIN_LISTEN", "[::1]:9"),
        ("BRIDGE_MAX_BODY", "1MiB"),
        ("BRIDGE_SHUTDOWN_DRAIN", "0s"),
        ("BRIDGE_SHUTDOWN_GRACE", "1m"),
        ("BRIDGE_LOG_FORMAT", "json"),
        ("RUST_LOG", "debug"),
    ]);
    assert_eq!(config.routes().keys().len(), 2);
    assert_eq!(config.webhook_token.len(), 2);
    assert_eq!(config.pagerduty_url.as_str(), "http://pagerduty.example/");
    assert_eq!(config.pagerduty_timeout, Duration::from_secs(3));
    assert_eq!(config.pagerduty_rate, 60);
    assert_eq!(config.pagerduty_ca_file.as_deref(), Some(Path::new("/etc/ca.pem")));
    assert_eq!(config.give_up_after, Duration::from_hours(2));
    assert_eq!(config.listen.to_string(), "127.0.0.1:9");
    assert_eq!(config.database_url.to_string(), "postgres://db:6432/queue");
    assert_eq!(config.database_direct_url.as_ref().unwrap().to_string(), "postgres://db:5432/queue");
    assert_eq!(config.database_timeout, Duration::from_millis(500));
    assert_eq!((config.database_delivery_connections, config.database_read_connections), (3, 1));
    assert_eq!(config.incident_key_prefix, "eu-");
    assert_eq!(config.min_level, Some(Level::Warning));
    assert_eq!(config.sentry_client_secret.len(), 1);
    assert_eq!(config.page_on, [TriggerKind::Alert, TriggerKind::IssueUnresolved, TriggerKind::Error]);
    assert_eq!(config.resolve, ResolveScope::All);
    assert!(config.acknowledge);
    assert_eq!(config.redact, Redaction::parse("customer_id,user"));
    assert_eq!(config.admin_token.len(), 2);
    assert!(config.admin_token[0].matches(ADMIN_TOKEN.as_bytes()));
    assert_eq!(config.admin_listen.map(|address| address.to_string()).as_deref(), Some("[::1]:9"));
    assert_eq!(config.max_body, 1024 * 1024);
    assert_eq!(config.shutdown_drain, Duration::ZERO);
    assert_eq!(config.shutdown_grace, Duration::from_mins(1));
    assert_eq!(config.sentry_url.as_ref().map(url::Url::as_str), Some("http://sentry.example/folder"));
    assert_eq!(config.sentry_org.as_deref(), Some("acme"));
    assert_eq!(config.sentry_api_token.as_ref().map(ApiToken::expose), Some("SECRET-of-the-api-of-sentry"));
    assert_eq!(config.sentry_ca_file.as_deref(), Some(Path::new("/etc/sentry-ca.pem")));
    assert!(config.sentry_allow_http);
    assert_eq!(
        config.canary_dsn.as_ref().map(ToString::to_string).as_deref(),
        Some("project 7 at https://sentry.example")
    );
    assert_eq!(config.canary_every, Duration::from_mins(6));
    assert!(!config.alarms);
    assert_eq!(config.silence_alarm, Some(Duration::from_hours(12)));
    assert_eq!(config.waiting_alarm, Duration::from_mins(1));
    assert_eq!(config.alarm_key().expose(), ROUTED_KEY);
    let fallback = config.fallback_url.as_ref().map(|url| url.expose().as_str());
    assert_eq!(fallback, Some("https://chat.example.com/hooks/SECRET"));
    assert_eq!(config.fallback_ca_file.as_deref(), Some(Path::new("/etc/chat-ca.pem")));
    assert_eq!(config.log_format, LogFormat::Json);
    assert_eq!(config.rust_log, "debug");
}

#[test]
fn a_webhook_without_protection_is_refused() {
    assert_eq!(
        sentences(Config::from_vars([("PATH", "/bin")])),
        [
            "BRIDGE_PAGERDUTY_SERVICE_KEY is not set: required, because alerts are sent to it; take the integration key of an \
             Events API v1 integration from the Integrations page of the PagerDuty service",
            "BRIDGE_WEBHOOK_TOKEN is not set: required, because it protects the webhook; make a secret with \
             `openssl rand -hex 24` and put it into the webhook's address, or set BRIDGE_SENTRY_CLIENT_SECRET to the \
             Client Secret of a Sentry integration",
        ]
    );
}

#[test]
fn a_client_secret_stands_in_for_a_token() {
    let secret = ("BRIDGE_SENTRY_CLIENT_SECRET", CLIENT_SECRET);
    let config = Config::from_vars([REQUIRED[0], secret]).unwrap();
    assert!(config.webhook_token.is_empty());
    assert_eq!(config.sentry_client_secret.len(), 1);
    assert_eq!(
        loaded(&[("BRIDGE_SENTRY_CLIENT_SECRET", &format!("{CLIENT_SECRET},{CLIENT_SECRET}-2"))])
            .sentry_client_secret
            .len(),
        2
    );

    let short = Config::from_vars([REQUIRED[0], ("BRIDGE_SENTRY_CLIENT_SECRET", "SECRET")]);
    assert_eq!(
        sentences(short),
        [
            "BRIDGE_SENTRY_CLIENT_SECRET has 6 characters in secret 1, but needs at least 16: copy the Client Secret from the page \
          of the integration in Sentry"
        ]
    );
    let missing = Config::from_vars([REQUIRED[0], ("BRIDGE_SENTRY_CLIENT_SECRET_FILE", "/no/such/file")]);
    assert_eq!(sentences(missing).len(), 1, "a token is not called missing as well");
}

#[test]
fn the_token_of_the_webhook_does_not_open_the_status_page() {
    assert_eq!(
        refused(&[("BRIDGE_ADMIN_TOKEN", &format!("{ADMIN_TOKEN},{TOKEN}"))]),
        [
            "BRIDGE_ADMIN_TOKEN contains a token of BRIDGE_WEBHOOK_TOKEN, which Sentry and access logs know: make another one \
          with `openssl rand -hex 24`"
        ]
    );
}

#[test]
fn blank_means_unset() {
    let names: Vec<(&str, &str)> = SETTINGS
        .iter()
        .filter(|setting| !REQUIRED.iter().any(|(required, _)| *required == setting.name))
        .map(|setting| (setting.name, " \n"))
        .collect();
    assert_eq!(format!("{:?}", loaded(&names)), format!("{:?}", loaded(&[])));
    assert_eq!(refused(&[("BRIDGE_WEBHOOK_TOKEN", "")]).len(), 1);
    assert_eq!(loaded(&[("BRIDGE_OF_ANOTHER_VERSION", "")]).pagerduty_rate, 120);
}

#[test]
fn all_that_is_wrong_is_told_at_once_and_without_secrets() {
    assert_eq!(
        refused(&[
            ("BRIDGE_PAGERDUTY_SERVICE_KEY", &KEY[1..]),
            ("BRIDGE_PAGERDUTY_ROUTES", &format!("level,fatal,{ROUTED_KEY}\nlevel,{ROUTED_KEY}\na,b,{ROUTED_KEY}!")),
            ("BRIDGE_WEBHOOK_TOKEN", &format!("{TOKEN},{TOKEN}/")),
            ("BRIDGE_ADMIN_TOKEN", &ADMIN_TOKEN[..15]),
            ("BRIDGE_PAGERDUTY_TIMEOUT", "10x"),
            ("BRIDGE_PAGERDUTY_RATE", "0"),
            ("BRIDGE_PAGERDUTY_URL", "https://me:SECRET@events.pagerduty.com"),
            ("BRIDGE_DATABASE_URL", "postgres://me:SECRET@db"),
            ("BRIDGE_DATABASE_DIRECT_URL", "postgres://me:SECRET@db/bridge?options=-cfsync=off"),
            ("BRIDGE_DATABASE_TIMEOUT", "10ms"),
            ("BRIDGE_LISTEN", ":8080"),
            ("BRIDGE_PAGERDUTY_EVENTS_API", "2"),
            ("BRIDGE_SEVERITY", "level,fatal,critical;level,error,fatal"),
            ("BRIDGE_DESCRIPTION", "{title"),
            ("BRIDGE_INCIDENT_KEY", "team"),
            ("BRIDGE_MIN_LEVEL", "critical"),
            ("BRIDGE_PAGE_ON", "alerts"),
            ("BRIDGE_RESOLVE", "on"),
            ("BRIDGE_ACKNOWLEDGE", "all"),
            ("BRIDGE_SENTRY_URL", "http://me:SECRET@sentry.example"),
            ("BRIDGE_SENTRY_ORG", "acme/shop"),
            ("BRIDGE_SENTRY_API_TOKEN", "SECRET"),
            ("BRIDGE_ALARMS", "none"),
            ("BRIDGE_SILENCE_ALARM", "off"),
            ("BRIDGE_WAITING_ALARM", "0s"),
            ("BRIDGE_ALARM_SERVICE_KEY", &ROUTED_KEY[1..]),
            ("BRIDGE_FALLBACK_URL", "http://chat.example.com/hooks/SECRET"),
            ("RUST_LOG", "inf"),
        ]),
        [
            "BRIDGE_PAGERDUTY_SERVICE_KEY has 31 characters, but an integration key has 32",
            "BRIDGE_WEBHOOK_TOKEN has a character in token 2 that a URL cannot contain: use letters, digits and `-._~+=` \
             only, as `openssl rand -hex 24` does",
            "BRIDGE_PAGERDUTY_ROUTES line 2 has 2 fields, but a route has 3 or 4: `tag,value,KEY` or `tag,value,KEY,v2` (put a \
             value that contains `,` or `;` in double quotes)",
            "BRIDGE_PAGERDUTY_ROUTES line 3 ends in a key that has 33 characters, but an integration key has 32",
            "BRIDGE_PAGERDUTY_EVENTS_API is `2`: write `v1` or `v2`",
            "BRIDGE_SEVERITY line 2 ends in something that is not a severity: write one of critical, error, warning, info",
            "BRIDGE_PAGERDUTY_URL contains a user or password, but PagerDuty identifies the sender by the integration key: \
             remove them",
            "BRIDGE_PAGERDUTY_TIMEOUT is `10x`, which is not a valid duration: write it like `10s`, `2m` or `1h30m`",
            "BRIDGE_PAGERDUTY_RATE is `0`, but must be between 1 and 10,000",
            "BRIDGE_LISTEN is `:8080`, which is not an IP address with a port: write `0.0.0.0:8080` for all of IPv4, \
             `[::]:8080` for IPv6 too, or `localhost:8080` for this machine only",
            "BRIDGE_DATABASE_URL names no database: write `postgres://USER:PASSWORD@HOST/DATABASE`",
            "BRIDGE_DATABASE_DIRECT_URL has the parameter `options`, but the bridge takes only host, sslmode, sslrootcert, \
             sslcert, sslkey",
            "BRIDGE_DATABASE_TIMEOUT is `10ms`, but must be between 100ms and 1m",
            "BRIDGE_DESCRIPTION has a `{` without its other brace: write `{{` for a brace that is no placeholder",
            "BRIDGE_INCIDENT_KEY is `team`: write `issue`, `rule` or `project`",
            "BRIDGE_MIN_LEVEL is `critical`, which is not a level of Sentry: write one of debug, info, warning, error, fatal",
            "BRIDGE_PAGE_ON names `alerts`, which cannot open incidents: write some of alert, metric, issue.created, \
             issue.unresolved, error",
            "BRIDGE_RESOLVE is `on`: write `opened`, `all` or `off`",
            "BRIDGE_ACKNOWLEDGE is `all`: write `on` or `off`",
            "BRIDGE_SENTRY_URL contains a user or password, but Sentry identifies the caller by BRIDGE_SENTRY_API_TOKEN: \
             remove them",
            "BRIDGE_SENTRY_ORG is not a slug: write it as in the addresses of the organization's pages, such as `acme`",
            "BRIDGE_SENTRY_API_TOKEN has 6 characters, but an API token has at least 16: copy it whole from Sentry",
            "BRIDGE_ALARMS is `none`: write `on` or `off`",
            "BRIDGE_SILENCE_ALARM is `off`, which is not a valid duration: write it like `10s`, `2m` or `1h30m`",
            "BRIDGE_WAITING_ALARM is `0s`, but must be between 1s and 30d",
            "BRIDGE_ALARM_SERVICE_KEY has 31 characters, but an integration key has 32",
            "BRIDGE_FALLBACK_URL is plain `http` to chat.example.com, where anyone on the network could read the secret in the \
             address: write `https`",
            "BRIDGE_ADMIN_TOKEN has 15 characters in token 1, but needs at least 16: make one with `openssl rand -hex 24`",
            "RUST_LOG has `inf`, which is not a level: write off, error, warn, info, debug or trace, or a module with one, \
             such as `info,sentry_pagerduty_bridge=debug`",
        ]
    );
}

#[test]
fn a_key_to_plain_http_needs_leave() {
    let url = ("BRIDGE_PAGERDUTY_URL", "http://pagerduty.example");
    assert!(refused(&[url])[0].starts_with("BRIDGE_PAGERDUTY_URL is plain `http` to pagerduty.example, where "));
    assert_eq!(refused(&[url, ("BRIDGE_PAGERDUTY_ALLOW_HTTP", "off")]).len(), 1);
}

#[test]
fn an_api_token_of_sentry_to_plain_http_needs_leave() {
    let url = ("BRIDGE_SENTRY_URL", "http://sentry.example");
    assert!(refused(&[url])[0].starts_with("BRIDGE_SENTRY_URL is plain `http` to sentry.example, where "));
    loaded(&[url, ("BRIDGE_SENTRY_ALLOW_HTTP", "on")]);
    loaded(&[("BRIDGE_SENTRY_URL", "http://127.0.0.1:9000")]);
}

#[test]
fn an_unknown_name_is_refused_with_the_one_that_was_meant() {
    let nearest = |name: &str| refused(&[(name, "SECRET")]).remove(0);
    for (name, known) in [
        ("BRIDGE_WEBHOK_TOKEN", "BRIDGE_WEBHOOK_TOKEN"),
        ("BRIDGE_PAGERDUTY_SERVICEKEY", "BRIDGE_PAGERDUTY_SERVICE_KEY"),
        ("BRIDGE_PAGERDUTY_CA", "BRIDGE_PAGERDUTY_CA_FILE"),
        ("BRIDGE_WEBHOOK_TOKENS_FILE", "BRIDGE_WEBHOOK_TOKEN_FILE"),
        ("BRIDGE_listen", "BRIDGE_LISTEN"),
        ("BRIDGE_TOKEN", "BRIDGE_WEBHOOK_TOKEN"),
        ("BRIDGE_TOKEN_FILE", "BRIDGE_WEBHOOK_TOKEN_FILE"),
        ("BRIDGE_SERVICE_KEY", "BRIDGE_PAGERDUTY_SERVICE_KEY"),
        ("BRIDGE_PAGERDUTY_ROUTING_KEY", "BRIDGE_PAGERDUTY_SERVICE_KEY"),
        ("BRIDGE_PAGERDUTY_KEY", "BRIDGE_PAGERDUTY_SERVICE_KEY"),
        ("BRIDGE_ADMIN_PASSWORD", "BRIDGE_ADMIN_TOKEN"),
        ("BRIDGE_ROUTES", "BRIDGE_PAGERDUTY_ROUTES"),
        ("BRIDGE_BIND_ADDRESS", "BRIDGE_LISTEN"),
        ("BRIDGE_DB_URL", "BRIDGE_DATABASE_URL"),
        ("BRIDGE_TIMEOUT", "BRIDGE_PAGERDUTY_TIMEOUT"),
        ("BRIDGE_LOG", "BRIDGE_LOG_FORMAT"),
    ] {
        assert_eq!(nearest(name), format!("{name} is an unknown setting; did you mean {known}?"));
    }
    assert!(nearest("BRIDGE_PORT_8080_TCP_ADDR").contains("`enableServiceLinks: false`"));
    assert!(nearest("BRIDGE_SERVICE_HOST").contains("`enableServiceLinks: false`"));
    assert_eq!(loaded(&[("SENTRY_BRIDGE_LISTEN", "x"), ("RUST_LOG_FILE", "x")]).rust_log, "info");
}

#[test]
fn bytes_that_are_no_text_are_refused_only_where_they_matter() {
    let bytes = OsStr::from_bytes(b"SECRET\xff").to_owned();
    let mut variables = with(&[]);
    variables.push(("SOMEBODY_ELSES".into(), bytes.clone()));
    variables.push((bytes.clone(), "1".into()));
    assert!(Config::from_vars(variables.clone()).is_ok());

    for name in ["BRIDGE_LISTEN", "BRIDGE_PAGERDUTY_ROUTES_FILE", "RUST_LOG"] {
        let mut variables = variables.clone();
        variables.push((name.into(), bytes.clone()));
        assert_eq!(sentences(Config::from_vars(variables)), [format!("{name} is not valid UTF-8")]);
    }
    let key = ("BRIDGE_PAGERDUTY_SERVICE_KEY_FILE", bytes.as_os_str());
    let told = sentences(Config::from_vars([key, (REQUIRED[1].0, OsStr::new(REQUIRED[1].1))]));
    assert_eq!(told.len(), 1, "it is not called missing as well: {told:?}");
}

#[test]
fn any_setting_may_stand_in_a_file() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str, text: &str| {
        let path = folder.path().join(name);
        fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let key = path("key", &format!("{KEY}\r\n"));
    let token = path("token", &format!("{TOKEN}\n"));
    let routes = path("routes", &format!("# fatal\nlevel,fatal,{ROUTED_KEY}\n"));
    let config = Config::from_vars([
        ("BRIDGE_PAGERDUTY_SERVICE_KEY_FILE", key.as_str()),
        ("BRIDGE_WEBHOOK_TOKEN_FILE", &token),
        ("BRIDGE_PAGERDUTY_ROUTES_FILE", &routes),
        ("BRIDGE_LISTEN_FILE", ""),
    ])
    .unwrap();
    assert_eq!(config.routes().keys().iter().map(|key| key.expose()).collect::<Vec<_>>(), [KEY, ROUTED_KEY]);
    assert!(config.webhook_token[0].matches(TOKEN.as_bytes()));

    assert_eq!(
        refused(&[("BRIDGE_WEBHOOK_TOKEN_FILE", &token)]),
        ["BRIDGE_WEBHOOK_TOKEN and BRIDGE_WEBHOOK_TOKEN_FILE are both set: keep one of them"]
    );
}

#[test]
fn a_file_that_says_nothing_is_told_by_its_path_alone() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("missing").to_str().unwrap().to_owned();
    let empty = folder.path().join("empty");
    fs::write(&empty, "\n").unwrap();
    let large = folder.path().join("large");
    fs::write(&large, "SECRET\n".repeat(200_000)).unwrap();
    let binary = folder.path().join("binary");
    fs::write(&binary, b"SECRET\xff").unwrap();

    assert_eq!(
        sentences(Config::from_vars([("BRIDGE_PAGERDUTY_SERVICE_KEY_FILE", missing.as_str()), REQUIRED[1]])),
        [format!(
            "BRIDGE_PAGERDUTY_SERVICE_KEY_FILE names `{missing}`, which cannot be read: \
             No such file or directory (os error 2)"
        )]
    );
    let empty = empty.to_str().unwrap();
    assert_eq!(
        sentences(Config::from_vars([REQUIRED[0], ("BRIDGE_WEBHOOK_TOKEN_FILE", empty)])),
        [format!("BRIDGE_WEBHOOK_TOKEN_FILE names `{empty}`, which is empty")]
    );
    assert!(
        refused(&[("BRIDGE_PAGERDUTY_ROUTES_FILE", large.to_str().unwrap())])[0].ends_with(": it is larger than 1 MiB")
    );
    assert!(refused(&[("BRIDGE_PAGERDUTY_ROUTES_FILE", binary.to_str().unwrap())])[0].contains("UTF-8"));
}

#[test]
fn a_secret_written_in_place_of_its_path_is_not_repeated() {
    let told = sentences(Config::from_vars([REQUIRED[0], ("BRIDGE_WEBHOOK_TOKEN_FILE", TOKEN)]));
    assert!(
        told[0].starts_with("BRIDGE_WEBHOOK_TOKEN_FILE names a file (not shown, because it may be the secret itself)")
    );
    assert_eq!(refused(&[("BRIDGE_DATABASE_URL_FILE", "postgres://me:SECRET@db/bridge")]).len(), 1);
}

#[test]
fn dotenv_fills_what_the_environment_leaves_open() {
    let text = format!(
        "# a comment\nBRIDGE_PAGERDUTY_SERVICE_KEY={KEY}\nBRIDGE_WEBHOOK_TOKEN='{TOKEN}'\nRUST_LOG=debug\n\
         BRIDGE_PAGERDUTY_RATE=7\nBRIDGE_LISTEN_FILE=/nowhere\nOTHER=x\nOTHER=y\n\
         BRIDGE_PAGERDUTY_ROUTES='level,fatal,{ROUTED_KEY}\nlevel,error,{KEY}'\n"
    );
    let config = with_dotenv(&text, &[("BRIDGE_LISTEN", "127.0.0.1:1"), ("BRIDGE_PAGERDUTY_RATE", "")]).unwrap();
    assert_eq!(config.listen.to_string(), "127.0.0.1:1", "a setting of the environment hides its file in `.env`");
    assert_eq!(config.pagerduty_rate, 7);
    assert_eq!(config.routes().keys().len(), 2);
    assert_eq!(config.rust_log, "debug");

    assert_eq!(with_dotenv("BRIDGE_PAGERDUTY_RATE=7", &REQUIRED).unwrap().pagerduty_rate, 7);
    let both = [REQUIRED[0], REQUIRED[1], ("BRIDGE_PAGERDUTY_RATE", "8")];
    assert_eq!(with_dotenv("BRIDGE_PAGERDUTY_RATE=7", &both).unwrap().pagerduty_rate, 8);
}

#[test]
fn a_broken_dotenv_is_told_by_its_line() {
    let told = sentences(with_dotenv("A=1\nBRIDGE_WEBHOOK_TOKEN='SECRET\n", &[]));
    assert_eq!(told.len(), 1, "nothing is called missing: {told:?}");
    assert!(told[0].starts_with("`.env` has no `NAME=value` on line 2: "));

    let twice = sentences(with_dotenv("BRIDGE_LISTEN=127.0.0.1:2\nBRIDGE_LISTEN=127.0.0.1:1", &REQUIRED));
    assert_eq!(twice, ["`.env` sets BRIDGE_LISTEN twice: keep one of them"]);

    let unknown = sentences(with_dotenv("BRIDGE_LISTN=SECRET", &REQUIRED));
    assert_eq!(unknown, ["BRIDGE_LISTN is an unknown setting; did you mean BRIDGE_LISTEN?"]);
}

#[test]
fn a_dotenv_that_cannot_be_read_is_no_dotenv_that_is_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let dotenv = folder.path().join(".env");
    let load = || Config::load(&Source { dotenv: Some(dotenv.clone()), ..Source::variables(REQUIRED) });
    assert!(load().is_ok());

    fs::create_dir(&dotenv).unwrap();
    assert!(sentences(load())[0].starts_with("`.env` exists but cannot be read: "));

    fs::remove_dir(&dotenv).unwrap();
    fs::write(&dotenv, "BRIDGE_PAGERDUTY_RATE=9").unwrap();
    assert_eq!(load().unwrap().pagerduty_rate, 9);
}

#[test]
fn settings_do_not_print_secrets() {
    let config = loaded(&[
        ("BRIDGE_PAGERDUTY_ROUTES", &format!("level,fatal,{ROUTED_KEY}")),
        ("BRIDGE_SENTRY_CLIENT_SECRET", CLIENT_SECRET),
        ("BRIDGE_ADMIN_TOKEN", ADMIN_TOKEN),
        ("BRIDGE_FALLBACK_URL", "https://chat.example.com/hooks/SECRET?token=SECRET"),
    ]);
    let printed = format!("{config:?} {config:#?}");
    assert!(printed.contains("…3210") && printed.contains("…6789"), "{printed}");
    assert!(!printed.contains("SECRET"), "{printed}");
}

/// Compares a part of a file with the text that is generated from the declarations of the settings. If `UPDATE_DOCS` is
/// set, it writes that part instead.
#[track_caller]
fn generated(file: &str, begin: &str, end: &str, expected: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    let text = fs::read_to_string(&path).unwrap();
    let start = text.find(begin).unwrap_or_else(|| panic!("{file} has no {begin:?}")) + begin.len();
    let length = if end.is_empty() { text.len() - start } else { text[start..].find(end).unwrap() };
    if std::env::var_os("UPDATE_DOCS").is_some() {
        fs::write(&path, format!("{}{expected}{}", &text[..start], &text[start + length..])).unwrap();
    } else {
        assert_eq!(&text[start..start + length], expected, "run: UPDATE_DOCS=1 cargo test --test config");
    }
}

#[test]
fn the_example_lists_every_setting_with_its_default() {
    let entry = |setting: &Setting| {
        let required = if setting.required { " Required." } else { "" };
        format!("# {}{required}\n#{}={}\n", setting.help(), setting.name, setting.default.unwrap_or_default())
    };
    generated(".env.example", "\n\n", "", &SETTINGS.iter().map(entry).collect::<Vec<_>>().join("\n"));
}

#[test]
fn the_example_works_once_its_required_lines_are_filled_in() {
    let uncommented: Vec<String> = include_str!("../.env.example")
        .lines()
        .map(|line| match line.strip_prefix('#').and_then(|line| line.split_once('=')) {
            Some((name, "")) if name == REQUIRED[0].0 => format!("{name}={KEY}"),
            Some((name, "")) if name == REQUIRED[1].0 => format!("{name}={TOKEN}"),
            Some((name, value)) if !name.contains(' ') => format!("{name}={value}"),
            _ => line.to_owned(),
        })
        .collect();
    let config = with_dotenv(&uncommented.join("\n"), &[]).unwrap();
    assert_eq!(format!("{config:?}"), format!("{:?}", loaded(&[])));
}

#[test]
fn help_tells_every_setting_its_default_and_meaning() {
    let help = help();
    for setting in SETTINGS {
        assert!(help.contains(&format!("  {}", setting.name)), "{}", setting.name);
        assert!(help.contains(setting.help()), "{}", setting.name);
    }
    assert!(help.contains("BRIDGE_PAGERDUTY_SERVICE_KEY [required]"));
    assert!(help.contains("BRIDGE_LISTEN [default: 0.0.0.0:8080]"));
    assert!(help.lines().all(|line| line.chars().count() <= 120), "{help}");
}

#[test]
fn the_page_of_settings_lists_every_one_with_its_default_and_its_line() {
    let row = |setting: &Setting| {
        let default = match setting.default {
            _ if setting.required => "required".to_owned(),
            Some(default) => format!("`{default}`"),
            None => "–".to_owned(),
        };
        format!("| `{}` | {default} | {} |", setting.name, setting.help())
    };
    let head = "| variable | default | meaning |\n|---|---|---|\n";
    generated("docs/settings.md", head, "", &SETTINGS.iter().map(row).map(|row| row + "\n").collect::<String>());
}
