//! A short digest of the whole configuration, to see whether two bridges, or one bridge before and after a change, have
//! the same configuration.

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::time::Duration;

use sha2::{Digest, Sha256};
use url::Url;

use super::{
    AccessToken, ApiToken, CatchUpMode, DatabaseUrl, Dsn, FallbackUrl, IncidentScope, LogFormat, PostgresUrl,
    ResolveScope, SigningSecret,
};
use crate::alert::{Level, TriggerKind};
use crate::pagerduty::{ApiVersion, ServiceKey, Template};
use crate::redaction::Redaction;
use crate::routing::{Route, SeverityRule};

/// The beginning of a SHA-256 over all settings; `Display` writes 12 hexadecimal digits.
///
/// It is the same for settings that mean the same, however they are spelt, ordered or given: `60s` and `1m`, a token
/// and its file, the order of names in a list. The order of routes counts, since the first that matches wins. For a
/// file that is read later, such as `BRIDGE_PAGERDUTY_CA_FILE`, the name counts and not the content.
///
/// It may be shown to anybody: without the service keys, which are random, no guess at another secret can be tried
/// against it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Fingerprint([u8; 6]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// Hashes settings in an unambiguous form: every part is preceded by its length, every setting by its name, and the
/// parts of a setting end with a marker that cannot be a length.
#[derive(Default)]
pub(super) struct Sum(Sha256);

impl Sum {
    pub(super) fn add(&mut self, name: &str, value: &impl Canonical) {
        self.part(name.as_bytes());
        value.parts(&mut |part| self.part(part));
        self.0.update(u64::MAX.to_be_bytes());
    }

    fn part(&mut self, part: &[u8]) {
        self.0.update((part.len() as u64).to_be_bytes());
        self.0.update(part);
    }

    pub(super) fn finish(self) -> Fingerprint {
        let digest: [u8; 32] = self.0.finalize().into();
        let mut mark = [0; 6];
        mark.copy_from_slice(&digest[..6]);
        Fingerprint(mark)
    }
}

/// The type of a setting, which is part of the fingerprint.
pub(super) trait Canonical {
    /// Passes parts to `add` that are equal exactly for values that mean the same.
    fn parts(&self, add: &mut dyn FnMut(&[u8]));
}

/// Types whose value is one part.
macro_rules! one_part {
    ($($type:ty: |$value:ident| $part:expr;)+) => {
        $(impl Canonical for $type {
            fn parts(&self, add: &mut dyn FnMut(&[u8])) {
                let $value = self;
                add($part.as_ref());
            }
        })+
    };
}

one_part! {
    bool: |value| [u8::from(*value)];
    u32: |value| value.to_be_bytes();
    usize: |value| value.to_be_bytes();
    Duration: |value| value.as_nanos().to_be_bytes();
    String: |value| value;
    PathBuf: |value| value.as_os_str().as_bytes();
    SocketAddr: |value| value.to_string();
    Url: |value| value.as_str();
    ServiceKey: |value| value.expose();
    ApiToken: |value| value.digest();
    PostgresUrl: |value| value.expose().as_str();
    Dsn: |value| value.digest();
    FallbackUrl: |value| value.digest();
    Level: |value| value.name();
    IncidentScope: |value| format!("{value:?}");
    ResolveScope: |value| format!("{value:?}");
    CatchUpMode: |value| value.name();
    LogFormat: |value| format!("{value:?}");
    ApiVersion: |value| value.name();
    Template: |value| value.to_string();
}

impl<T: Canonical> Canonical for Option<T> {
    fn parts(&self, add: &mut dyn FnMut(&[u8])) {
        if let Some(value) = self {
            value.parts(add);
        }
    }
}

impl Canonical for DatabaseUrl {
    fn parts(&self, add: &mut dyn FnMut(&[u8])) {
        match self {
            Self::Sqlite(path) => path.parts(add),
            Self::Postgres(url) => url.parts(add),
        }
    }
}

impl Canonical for Redaction {
    fn parts(&self, add: &mut dyn FnMut(&[u8])) {
        self.names().for_each(|name| add(name.as_bytes()));
    }
}

impl Canonical for Vec<Route> {
    fn parts(&self, add: &mut dyn FnMut(&[u8])) {
        for route in self {
            let (condition, api) = (route.condition(), route.api().map_or("", ApiVersion::name));
            for part in [condition.name(), condition.value(), route.key().expose(), api] {
                add(part.as_bytes());
            }
        }
    }
}

impl Canonical for Vec<SeverityRule> {
    fn parts(&self, add: &mut dyn FnMut(&[u8])) {
        for rule in self {
            let condition = rule.condition();
            for part in [condition.name(), condition.value(), rule.severity().name()] {
                add(part.as_bytes());
            }
        }
    }
}

impl Canonical for Vec<(ServiceKey, String)> {
    fn parts(&self, add: &mut dyn FnMut(&[u8])) {
        for (key, name) in self {
            add(key.expose().as_bytes());
            add(name.as_bytes());
        }
    }
}

/// Lists in which neither order nor repetition means anything.
macro_rules! set {
    ($($type:ty: $part:expr;)+) => {
        $(impl Canonical for Vec<$type> {
            fn parts(&self, add: &mut dyn FnMut(&[u8])) {
                for part in self.iter().map($part).collect::<BTreeSet<_>>() {
                    add(part.as_ref());
                }
            }
        })+
    };
}

set! {
    TriggerKind: |opening| opening.name();
    AccessToken: AccessToken::digest;
    SigningSecret: SigningSecret::digest;
}

#[cfg(test)]
mod tests {
    use crate::config::{Config, ConfigError, SETTINGS};

    const KEY: &str = "0123456789abcdef0123456789abcdef";
    const OTHER_KEY: &str = "fedcba9876543210fedcba9876543210";
    const TOKEN: &str = "a-token-of-some-length";
    const OTHER_TOKEN: &str = "another-token-of-some-length";

    /// The fingerprint of the required settings, with `more` replacing them or added to them.
    fn mark(more: &[(&str, &str)]) -> String {
        try_mark(more).unwrap()
    }

    fn try_mark(more: &[(&str, &str)]) -> Result<String, ConfigError> {
        let required = [("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY), ("BRIDGE_WEBHOOK_TOKEN", TOKEN)];
        let required = required.into_iter().filter(|(name, _)| !more.iter().any(|(other, _)| other == name));
        Ok(Config::from_vars(required.chain(more.iter().copied()))?.fingerprint().to_string())
    }

    #[test]
    fn it_has_twelve_hexadecimal_digits() {
        let mark = mark(&[]);
        assert!(mark.len() == 12 && mark.bytes().all(|byte| byte.is_ascii_hexdigit()), "{mark}");
    }

    #[test]
    fn every_setting_changes_it() {
        let route = format!("level,fatal,{OTHER_KEY}");
        let values = [
            OTHER_KEY,
            OTHER_TOKEN,
            &route,
            "https://events.eu.pagerduty.com",
            "11s",
            "121",
            "2h",
            "127.0.0.1:8080",
            "sqlite:other.db",
            "debug",
            "alert",
            "all",
            "1MiB",
            "json",
            "on",
            "off",
            "/etc/other",
            "postgres://db/bridge",
            "7",
            "https://0123abcd@sentry.example.com/1",
            "v2",
            "level,fatal,critical",
            "{project}: {title}",
            "rule",
            "0123456789abcdef0123456789abcdef,Payments",
        ];
        for setting in SETTINGS {
            // Some settings are only accepted together with PostgreSQL or with Sentry's API.
            let beside = |value| {
                [
                    ("BRIDGE_DATABASE_URL", "postgres://db/other"),
                    ("BRIDGE_SENTRY_URL", "https://sentry.io"),
                    ("BRIDGE_SENTRY_ORG", "acme"),
                    ("BRIDGE_SENTRY_API_TOKEN", OTHER_TOKEN),
                    (setting.name, value),
                ]
            };
            let alone = values.map(|value| try_mark(&[(setting.name, value)]).ok());
            if alone.iter().all(Option::is_none) {
                let marks = values.map(|value| try_mark(&beside(value)).ok());
                let without = mark(&beside("")[..4]);
                assert!(marks.iter().flatten().any(|other| *other != without), "{}", setting.name);
                continue;
            }
            let marks = alone;
            assert!(marks.iter().flatten().any(|other| *other != mark(&[])), "{}", setting.name);
        }
    }

    #[test]
    fn spelling_and_order_do_not_change_it_where_they_mean_nothing() {
        let same: [(&str, &str, &str); 8] = [
            ("BRIDGE_WEBHOOK_TOKEN", &format!("{TOKEN},{OTHER_TOKEN}"), &format!("{OTHER_TOKEN}, {TOKEN},{TOKEN}")),
            ("BRIDGE_SENTRY_CLIENT_SECRET", &format!("{TOKEN},{OTHER_TOKEN}"), &format!("{OTHER_TOKEN} ,{TOKEN}")),
            ("BRIDGE_PAGE_ON", "alert,error", "Error,alert,alert"),
            ("BRIDGE_REDACT", "user,customer_id", "Customer_ID, user"),
            ("BRIDGE_PAGERDUTY_TIMEOUT", "1m", "60s"),
            ("BRIDGE_MAX_BODY", "1MiB", "1024 KiB"),
            ("BRIDGE_PAGERDUTY_URL", "https://events.pagerduty.com", "https://EVENTS.pagerduty.com/"),
            (
                "BRIDGE_PAGERDUTY_ROUTES",
                &format!("level,fatal,{KEY};team,web,{OTHER_KEY}"),
                &format!("# ours\n\n level,\"fatal\",{KEY}\nteam,web,{OTHER_KEY}"),
            ),
        ];
        for (name, one, other) in same {
            assert_eq!(mark(&[(name, one)]), mark(&[(name, other)]), "{name}");
        }
        // Writing out a default changes nothing.
        for setting in SETTINGS {
            if let Some(default) = setting.default {
                assert_eq!(mark(&[(setting.name, default)]), mark(&[]), "{}", setting.name);
            }
        }
    }

    #[test]
    fn the_order_of_routes_changes_it_for_the_first_that_matches_wins() {
        let (one, other) = (format!("level,fatal,{KEY}"), format!("team,web,{OTHER_KEY}"));
        let in_order = |first: &str, second: &str| mark(&[("BRIDGE_PAGERDUTY_ROUTES", &format!("{first};{second}"))]);
        assert_ne!(in_order(&one, &other), in_order(&other, &one));
    }

    #[test]
    fn what_stands_at_a_border_changes_it() {
        let route = |text: &str| mark(&[("BRIDGE_PAGERDUTY_ROUTES", text)]);
        assert_ne!(route(&format!("ab,c,{KEY}")), route(&format!("a,bc,{KEY}")));
        assert_ne!(mark(&[("BRIDGE_REDACT", "ab,c")]), mark(&[("BRIDGE_REDACT", "a,bc")]));
        // The same text as a token and as a secret.
        let both = |token, secret| mark(&[("BRIDGE_WEBHOOK_TOKEN", token), ("BRIDGE_SENTRY_CLIENT_SECRET", secret)]);
        assert_ne!(both(TOKEN, OTHER_TOKEN), both(OTHER_TOKEN, TOKEN));
    }
}
