//! The one list of all settings: what `--help` and `.env.example` say, and the defaults [`Settings`](super::Settings)
//! really gets.

use std::fmt::Write as _;

/// What every setting of the bridge but `RUST_LOG` begins with.
pub(super) const PREFIX: &str = "BRIDGE_";

/// One setting, for people.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SettingDoc {
    /// The name of the variable, in full.
    pub name: &'static str,
    /// What it is when it is not set, as one would write it; `None` where nothing is.
    pub default: Option<&'static str>,
    /// Whether the bridge refuses to start without it.
    pub required: bool,
    /// Whether its value is never shown.
    pub secret: bool,
    /// What it means, in one line.
    pub help: &'static str,
}

impl SettingDoc {
    const fn optional(name: &'static str, help: &'static str) -> Self {
        Self { name, default: None, required: false, secret: false, help }
    }

    const fn with_default(name: &'static str, default: &'static str, help: &'static str) -> Self {
        Self { default: Some(default), ..Self::optional(name, help) }
    }

    const fn required(self) -> Self {
        Self { required: true, ..self }
    }

    const fn secret(self) -> Self {
        Self { secret: true, ..self }
    }
}

/// Every setting, the ones people need first.
pub const SETTINGS: &[SettingDoc] = &[
    SettingDoc::optional(
        "BRIDGE_PAGERDUTY_SERVICE_KEY",
        "Default integration key of an Events API v1 integration, 32 letters and digits.",
    )
    .required()
    .secret(),
    SettingDoc::optional(
        "BRIDGE_WEBHOOK_TOKEN",
        "Secret in the webhook's path, 16 characters or more; several, comma separated. Needed unless the next is set.",
    )
    .secret(),
    SettingDoc::optional(
        "BRIDGE_SENTRY_CLIENT_SECRET",
        "Client Secret of the Sentry integration, which signs its webhooks; several, comma separated, while rotating.",
    )
    .secret(),
    SettingDoc::optional(
        "BRIDGE_PAGERDUTY_ROUTES",
        "Lines (or `;`) of `tag,value,KEY`, first match wins; also `project`, `level`, `environment`, `rule`.",
    )
    .secret(),
    SettingDoc::with_default(
        "BRIDGE_PAGERDUTY_URL",
        "https://events.pagerduty.com",
        "The root of PagerDuty's Events API; in the EU `https://events.eu.pagerduty.com`.",
    ),
    SettingDoc::with_default(
        "BRIDGE_PAGERDUTY_TIMEOUT",
        "10s",
        "The time one attempt may take, from connecting to the last byte.",
    ),
    SettingDoc::with_default("BRIDGE_PAGERDUTY_RATE", "120", "Events per 60 seconds and integration key."),
    SettingDoc::optional(
        "BRIDGE_PAGERDUTY_CA_FILE",
        "PEM file of certificate authorities to trust besides the usual ones.",
    ),
    SettingDoc::with_default(
        "BRIDGE_PAGERDUTY_ALLOW_HTTP",
        "off",
        "`on` allows plain `http` to PagerDuty beyond loopback addresses; keys then travel unencrypted.",
    ),
    SettingDoc::with_default("BRIDGE_LISTEN", "0.0.0.0:8080", "Address and port of the webhook."),
    SettingDoc::with_default("BRIDGE_DATABASE_URL", "sqlite:bridge.db", "Where alerts wait: `sqlite:` and a path."),
    SettingDoc::optional(
        "BRIDGE_INCIDENT_KEY_PREFIX",
        "Put before the issue's id in incident keys, for several Sentrys on one service; at most 100 characters.",
    ),
    SettingDoc::optional(
        "BRIDGE_MIN_LEVEL",
        "Alerts below it are ignored: `debug`, `info`, `warning`, `error` or `fatal`.",
    ),
    SettingDoc::with_default(
        "BRIDGE_PAGE_ON",
        "alert,metric",
        "What opens incidents, comma separated: `alert`, `metric`, `issue.created`, `issue.unresolved`, `error`.",
    ),
    SettingDoc::with_default(
        "BRIDGE_RESOLVE",
        "opened",
        "What resolved webhooks close: incidents the bridge `opened`, `all` (unknown ones on the default key), or `off`.",
    ),
    SettingDoc::with_default(
        "BRIDGE_ACKNOWLEDGE",
        "off",
        "`on` lets an issue that is assigned to somebody acknowledge its incident.",
    ),
    SettingDoc::optional(
        "BRIDGE_REDACT",
        "Names of tags and detail fields that are never kept nor sent, comma separated, such as `user,customer_id`.",
    ),
    SettingDoc::with_default(
        "BRIDGE_GIVE_UP_AFTER",
        "1h",
        "An event that meets trouble for so long, while others of its key pass, is a dead letter.",
    ),
    SettingDoc::with_default(
        "BRIDGE_KEEP_DELIVERED",
        "7d",
        "For how long delivered events are kept to look at, 10m or more; at most a million of them.",
    ),
    SettingDoc::with_default("BRIDGE_ALARMS", "on", "`off`: nobody is paged for troubles of the bridge itself."),
    SettingDoc::optional(
        "BRIDGE_SILENCE_ALARM",
        "Pages when no webhook came for so long, such as `12h`; unset: never.",
    ),
    SettingDoc::with_default("BRIDGE_WAITING_ALARM", "15m", "Pages when an event waits for so long."),
    SettingDoc::optional(
        "BRIDGE_ALARM_SERVICE_KEY",
        "Integration key for the bridge's own alarms, best of another service; unset: the default one.",
    )
    .secret(),
    SettingDoc::optional(
        "BRIDGE_ADMIN_TOKEN",
        "Secret that opens the status page and `/api`, 16 characters or more; several, comma separated. Unset: no page.",
    )
    .secret(),
    SettingDoc::with_default("BRIDGE_MAX_BODY", "16MiB", "The largest webhook body that is read. All bodies together take at most 128 MiB, or 16 MiB and two of the largest."),
    SettingDoc::with_default(
        "BRIDGE_SHUTDOWN_DRAIN",
        "2s",
        "After a signal webhooks are still served for so long, while `/readyz` is 503 already.",
    ),
    SettingDoc::with_default(
        "BRIDGE_SHUTDOWN_GRACE",
        "20s",
        "Then requests and deliveries in flight get at most this.",
    ),
    SettingDoc::with_default("BRIDGE_LOG_FORMAT", "auto", "`text`, `json`, or `auto`: text on a terminal, else JSON."),
    SettingDoc::with_default(
        "RUST_LOG",
        "info",
        "What is logged, as in `warn` or `info,sentry_pagerduty_bridge=debug`.",
    ),
];

/// The table as text, for the end of `--help`.
#[must_use]
pub fn help() -> String {
    let mut text = String::from(
        "Settings, from the environment or a file `.env` in the working directory:\n\
         (empty means unset; any BRIDGE_X may be given as BRIDGE_X_FILE, a path to read it from)\n",
    );
    for setting in SETTINGS {
        let fallback = match setting.default {
            Some(default) => format!(" [default: {default}]"),
            None if setting.required => " [required]".to_owned(),
            None => String::new(),
        };
        // Writing to a String cannot fail.
        let _ = write!(text, "\n  {}{fallback}\n      {}\n", setting.name, setting.help);
    }
    text
}
