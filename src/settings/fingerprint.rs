//! A short mark of all settings together, to see whether two bridges, or one before and after, are told the same.

use std::collections::BTreeSet;
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::time::Duration;

use sha2::{Digest, Sha256};

use super::{AdminToken, AlarmSettings, ClientSecret, PagerDutySettings, Settings, WebhookToken};
use crate::alert::Level;

#[cfg(test)]
mod tests;

/// The beginning of a SHA-256 over all settings; `Display` writes 12 hexadecimal digits.
///
/// It is the same for settings that mean the same, however they are spelt, ordered or given: `60s` and `1m`, a token
/// and its file, the order of names in a list. The order of routes counts, since the first that matches wins. Of a file
/// that is read later, `BRIDGE_PAGERDUTY_CA_FILE`, the name counts and not what it holds.
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

impl Settings {
    /// The mark of these settings.
    #[must_use]
    pub fn fingerprint(&self) -> Fingerprint {
        // Taken apart, so that a new setting cannot be forgotten here.
        let Self {
            routes,
            pagerduty: PagerDutySettings { url, timeout, rate, ca_file, give_up_after },
            webhook_tokens,
            client_secrets,
            admin_tokens,
            listen,
            database,
            incident_key_prefix,
            min_level,
            keep_delivered,
            page_on,
            resolve,
            acknowledge,
            redaction,
            max_body,
            shutdown_drain,
            shutdown_grace,
            log_format,
            log_filter,
            alarms: AlarmSettings { page, silence, waiting, service_key: alarm_key },
        } = self;
        let mut sum = Sum(Sha256::new());
        sum.add("service key", [routes.default_key().expose()]);
        sum.add("routes", routes.lines().iter().flat_map(|line| [line.name(), line.value(), line.key().expose()]));
        sum.add("url", [url.as_str()]);
        sum.add("timeout", [nanoseconds(*timeout)]);
        sum.add("rate", [rate.to_be_bytes()]);
        sum.add("ca file", ca_file.iter().map(|path| path.as_os_str().as_bytes()));
        sum.add("give up after", [nanoseconds(*give_up_after)]);
        sum.add("tokens", webhook_tokens.iter().map(WebhookToken::fingerprint).collect::<BTreeSet<_>>());
        sum.add("secrets", client_secrets.iter().map(ClientSecret::fingerprint).collect::<BTreeSet<_>>());
        sum.add("admin tokens", admin_tokens.iter().map(AdminToken::fingerprint).collect::<BTreeSet<_>>());
        sum.add("listen", [listen.to_string()]);
        sum.add("database", [database.sqlite_path().as_os_str().as_bytes()]);
        sum.add("prefix", [incident_key_prefix]);
        sum.add("min level", min_level.map(Level::name));
        sum.add("keep delivered", [nanoseconds(*keep_delivered)]);
        sum.add("page on", page_on.iter().map(|opening| opening.name()).collect::<BTreeSet<_>>());
        sum.add("resolve", [format!("{resolve:?}")]);
        sum.add("acknowledge", [[u8::from(*acknowledge)]]);
        sum.add("redact", redaction.names());
        sum.add("max body", [max_body.to_be_bytes()]);
        sum.add("drain", [nanoseconds(*shutdown_drain)]);
        sum.add("grace", [nanoseconds(*shutdown_grace)]);
        sum.add("log format", [format!("{log_format:?}")]);
        sum.add("log filter", [log_filter]);
        sum.add("alarm page", [[u8::from(*page)]]);
        sum.add("alarm silence", silence.map(nanoseconds));
        sum.add("alarm waiting", [nanoseconds(*waiting)]);
        sum.add("alarm key", [alarm_key.expose()]);
        let digest: [u8; 32] = sum.0.finalize().into();
        let mut mark = [0; 6];
        mark.copy_from_slice(&digest[..6]);
        Fingerprint(mark)
    }
}

fn nanoseconds(duration: Duration) -> [u8; 16] {
    duration.as_nanos().to_be_bytes()
}

/// Adds settings in a form that only the same settings have: every text stands behind its length, every list behind
/// its name and ends with a mark that is no length.
struct Sum(Sha256);

impl Sum {
    fn add<T: AsRef<[u8]>>(&mut self, name: &str, values: impl IntoIterator<Item = T>) {
        self.text(name.as_bytes());
        for value in values {
            self.text(value.as_ref());
        }
        self.0.update(u64::MAX.to_be_bytes());
    }

    fn text(&mut self, text: &[u8]) {
        self.0.update((text.len() as u64).to_be_bytes());
        self.0.update(text);
    }
}
