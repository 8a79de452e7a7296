//! Any settings are read without a panic, and neither an error nor `Debug` shows a secret. The input is a `.env` file. A
//! `BRIDGE_X_FILE` in it names a file whose content is its own path, so that values are read from files as well.

#![no_main]

use std::io;
use std::path::Path;

use libfuzzer_sys::fuzz_target;
use sentry_pagerduty_bridge::config::{Config, SETTINGS, Source};

const DOTENV: &str = ".env";

/// Secrets of which `Debug` shows a part: names of tags and services, and hosts.
const SHOWN_IN_PART: [&str; 6] = [
    "BRIDGE_PAGERDUTY_ROUTES",
    "BRIDGE_PAGERDUTY_NAMES",
    "BRIDGE_DATABASE_URL",
    "BRIDGE_DATABASE_DIRECT_URL",
    "BRIDGE_CANARY_DSN",
    "BRIDGE_FALLBACK_URL",
];

/// The words in the values of secret settings that can be nothing but secrets: long, with letters and digits, and only once
/// in the file. `but`: settings to leave out.
fn secrets<'a>(text: &'a str, but: &[&str]) -> Vec<&'a str> {
    let names = SETTINGS.iter().filter(|setting| setting.secret).map(|setting| setting.name);
    let names = names.filter(|name| !but.contains(name));
    let lines = names.flat_map(|name| text.lines().filter_map(move |line| line.strip_prefix(name)?.strip_prefix('=')));
    let words = lines.flat_map(|value| value.split(|letter: char| !letter.is_ascii_alphanumeric()));
    let is_mixed = |word: &str| {
        word.bytes().any(|byte| byte.is_ascii_digit()) && word.bytes().any(|byte| byte.is_ascii_alphabetic())
    };
    words.filter(|word| word.len() >= 20 && is_mixed(word) && text.matches(word).count() == 1).collect()
}

fuzz_target!(|input: &[u8]| {
    let text = String::from_utf8_lossy(input);
    let read = |path: &Path| {
        if path == Path::new(DOTENV) {
            return Ok(text.clone().into_owned());
        }
        path.to_str().map(str::to_owned).ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))
    };
    let source = Source { variables: Vec::new(), dotenv: Some(DOTENV.into()), read: &read };
    let (shown, secrets) = match Config::load(&source) {
        Ok(config) => {
            assert_eq!(Some(config.fingerprint()), Config::load(&source).ok().map(|again| again.fingerprint()));
            assert!(!config.routes().keys().is_empty() && !config.service_keys().is_empty());
            (format!("{config:?} {}", config.fingerprint()), secrets(&text, &SHOWN_IN_PART))
        }
        Err(error) => {
            assert!(!error.problems().is_empty());
            (format!("{error} {error:?}"), secrets(&text, &[]))
        }
    };
    for secret in secrets {
        assert!(!shown.contains(secret), "{secret} is shown: {shown}");
    }
    let _ = (Config::log_format_of(&source), Config::webhook_token_text(&source));
});
