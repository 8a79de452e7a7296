//! Values that are no secrets, from text into types.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use thiserror::Error;

use crate::alert::{Level, Opening};
use crate::logging::LogFormat;

/// Which incidents are resolved by `issue.resolved` and `metric_alert.resolved`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResolveScope {
    /// Those the bridge opened, at every integration where it opened them.
    Opened,
    /// Those, and at the default integration also ones the bridge knows nothing of.
    All,
    /// None.
    Off,
}

/// What is done about alerts that Sentry fired and whose webhooks never came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CatchUpMode {
    /// They page as their webhooks would have, where Sentry recorded that they fired; guesses are only reported.
    Page,
    /// They are reported: in the log, on the status page, in `/api` and in metrics.
    Report,
    /// Sentry is not asked for them.
    Off,
}

impl CatchUpMode {
    /// Its name in `BRIDGE_CATCH_UP`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Page => "page",
            Self::Report => "report",
            Self::Off => "off",
        }
    }
}

/// Why a value does not do; shows it.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum ValueError {
    /// No duration.
    #[error("is `{0}`, which is no duration: write it like `10s`, `2m` or `1h30m`")]
    NoDuration(String),
    /// No number of bytes.
    #[error("is `{0}`, which is no size: write it like `512KiB` or `16MiB`")]
    NoSize(String),
    /// No whole number.
    #[error("is `{0}`, which is no whole number")]
    NoNumber(String),
    /// Too little or too much.
    #[error("is `{text}`, but may be from {least} to {most}")]
    Range {
        /// What was written.
        text: String,
        /// The least that does.
        least: String,
        /// The most that does.
        most: String,
    },
    /// Neither on nor off.
    #[error("is `{0}`: write `on` or `off`")]
    NoSwitch(String),
    /// None of Sentry's levels.
    #[error("is `{0}`, which is none of Sentry's levels: {names}", names = Level::NAMES.join(", "))]
    NoLevel(String),
    /// None of the log formats.
    #[error("is `{0}`: write `auto`, `text` or `json`")]
    NoLogFormat(String),
    /// None of the webhooks that may open an incident.
    #[error("names `{0}`, which opens no incident: write some of {names}", names = Opening::NAMES.join(", "))]
    NoOpening(String),
    /// None of the ways of resolving.
    #[error("is `{0}`: write `opened`, `all` or `off`")]
    NoResolveScope(String),
    /// None of the ways of catching up.
    #[error("is `{0}`: write `page`, `report` or `off`")]
    NoCatchUpMode(String),
    /// No address with a port.
    #[error(
        "is `{0}`, which is no IP address with a port: write `0.0.0.0:8080` for all of IPv4, `[::]:8080` for IPv6 too, \
         or `127.0.0.1:8080` for this machine alone"
    )]
    NoAddress(String),
    /// A prefix that leaves too little room for the issue's id.
    #[error("has {0} characters, but may have {MAX_PREFIX}")]
    LongPrefix(usize),
    /// A prefix nobody could type again.
    #[error("holds a control character, such as a line end or a tab")]
    ControlCharacter,
}

/// The longest prefix of incident keys, in characters; a key has at most 255.
const MAX_PREFIX: usize = 100;

/// A duration within `range`.
pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, ValueError> {
    let duration = humantime::parse_duration(text).map_err(|_| ValueError::NoDuration(text.to_owned()))?;
    within(text, duration, &range, |limit| humantime::format_duration(*limit).to_string())
}

/// A number of bytes within `range`.
pub(super) fn size(text: &str, range: RangeInclusive<ByteSize>) -> Result<usize, ValueError> {
    let size: ByteSize = text.parse().map_err(|_| ValueError::NoSize(text.to_owned()))?;
    let size = within(text, size, &range, ByteSize::to_string)?;
    usize::try_from(size.as_u64()).map_err(|_| ValueError::NoSize(text.to_owned()))
}

/// A whole number within `range`.
pub(super) fn number(text: &str, range: RangeInclusive<u32>) -> Result<u32, ValueError> {
    // Digits that are too many for the type are out of any range, not "no number".
    let number: u64 = text.parse().map_err(|_| ValueError::NoNumber(text.to_owned()))?;
    within(text, u32::try_from(number).unwrap_or(u32::MAX), &range, u32::to_string)
}

fn within<T: PartialOrd>(
    text: &str,
    value: T,
    range: &RangeInclusive<T>,
    write: impl Fn(&T) -> String,
) -> Result<T, ValueError> {
    if range.contains(&value) {
        return Ok(value);
    }
    Err(ValueError::Range { text: text.to_owned(), least: write(range.start()), most: write(range.end()) })
}

/// A switch, in the spellings people try.
pub(super) fn switch(text: &str) -> Result<bool, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err(ValueError::NoSwitch(text.to_owned())),
    }
}

/// One of Sentry's levels.
pub(super) fn level(text: &str) -> Result<Level, ValueError> {
    Level::parse(text).ok_or_else(|| ValueError::NoLevel(text.to_owned()))
}

/// Names of webhooks that open incidents, with commas between.
pub(super) fn openings(text: &str) -> Result<Vec<Opening>, ValueError> {
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let openings: Vec<_> = names
        .map(|name| Opening::parse(name).ok_or_else(|| ValueError::NoOpening(name.to_owned())))
        .collect::<Result<_, _>>()?;
    // Only commas: whoever wants no incident at all has not thought of saying it that way.
    if openings.is_empty() { Err(ValueError::NoOpening(text.to_owned())) } else { Ok(openings) }
}

/// Which incidents resolved webhooks close.
pub(super) fn resolve_scope(text: &str) -> Result<ResolveScope, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "opened" => Ok(ResolveScope::Opened),
        "all" => Ok(ResolveScope::All),
        "off" => Ok(ResolveScope::Off),
        _ => Err(ValueError::NoResolveScope(text.to_owned())),
    }
}

/// What is done about alerts whose webhooks never came.
pub(super) fn catch_up(text: &str) -> Result<CatchUpMode, ValueError> {
    let all = [CatchUpMode::Page, CatchUpMode::Report, CatchUpMode::Off];
    let found = all.into_iter().find(|mode| mode.name() == text.to_ascii_lowercase());
    found.ok_or_else(|| ValueError::NoCatchUpMode(text.to_owned()))
}

/// A log format.
pub(super) fn log_format(text: &str) -> Result<LogFormat, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(ValueError::NoLogFormat(text.to_owned())),
    }
}

/// An address to listen on; port 0 asks the system for a free one.
pub(super) fn socket_address(text: &str) -> Result<SocketAddr, ValueError> {
    text.parse().map_err(|_| ValueError::NoAddress(text.to_owned()))
}

/// What is written before the issue's id in an incident key.
pub(super) fn incident_key_prefix(text: &str) -> Result<String, ValueError> {
    let length = text.chars().count();
    if length > MAX_PREFIX {
        return Err(ValueError::LongPrefix(length));
    }
    if text.chars().any(char::is_control) {
        return Err(ValueError::ControlCharacter);
    }
    Ok(text.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn durations_are_written_for_people() {
        let read = |text: &str| duration(text, SECOND..=SECOND * 86_400).map_err(|error| error.to_string());
        assert_eq!(read("1h30m"), Ok(Duration::from_mins(90)));
        assert_eq!(read("1s"), Ok(SECOND));
        assert_eq!(read("1day"), Ok(SECOND * 86_400));
        for text in ["10x", "10", "soon", "-1s"] {
            let sentence = format!("is `{text}`, which is no duration: write it like `10s`, `2m` or `1h30m`");
            assert_eq!(read(text), Err(sentence));
        }
        assert_eq!(read("999ms").unwrap_err(), "is `999ms`, but may be from 1s to 1day");
        assert_eq!(read("25h").unwrap_err(), "is `25h`, but may be from 1s to 1day");
    }

    #[test]
    fn sizes_are_written_for_people() {
        let read = |text: &str| size(text, ByteSize::kib(1)..=ByteSize::mib(256)).map_err(|error| error.to_string());
        assert_eq!(read("16MiB"), Ok(16 * 1024 * 1024));
        assert_eq!(read("1.5 MB"), Ok(1_500_000));
        assert_eq!(read("1024"), Ok(1024));
        assert_eq!(read("big").unwrap_err(), "is `big`, which is no size: write it like `512KiB` or `16MiB`");
        assert_eq!(read("1023").unwrap_err(), "is `1023`, but may be from 1.0 KiB to 256.0 MiB");
        assert!(read("257MiB").is_err());
    }

    #[test]
    fn numbers_stay_within_their_range() {
        let read = |text: &str| number(text, 1..=10_000).map_err(|error| error.to_string());
        assert_eq!(read("1"), Ok(1));
        assert_eq!(read("10000"), Ok(10_000));
        assert_eq!(read("0").unwrap_err(), "is `0`, but may be from 1 to 10000");
        assert_eq!(read("5000000000").unwrap_err(), "is `5000000000`, but may be from 1 to 10000");
        assert_eq!(read("2/s").unwrap_err(), "is `2/s`, which is no whole number");
        assert!(read("-1").is_err());
    }

    #[test]
    fn switches_take_what_people_write() {
        for (text, meaning) in [("on", true), ("Yes", true), ("1", true), ("TRUE", true)].into_iter().chain([
            ("off", false),
            ("No", false),
            ("0", false),
            ("false", false),
        ]) {
            assert_eq!(switch(text), Ok(meaning), "{text}");
        }
        assert_eq!(switch("maybe").unwrap_err().to_string(), "is `maybe`: write `on` or `off`");
    }

    #[test]
    fn words_are_read_in_any_case_and_others_are_told() {
        assert_eq!(level("Error"), Ok(Level::Error));
        assert_eq!(
            level("critical").unwrap_err().to_string(),
            "is `critical`, which is none of Sentry's levels: debug, info, warning, error, fatal"
        );
        assert_eq!(log_format("JSON"), Ok(LogFormat::Json));
        assert_eq!(log_format("pretty").unwrap_err().to_string(), "is `pretty`: write `auto`, `text` or `json`");
    }

    #[test]
    fn what_opens_incidents_is_a_list_of_names() {
        assert_eq!(openings("alert, Issue.Created,"), Ok(vec![Opening::Alert, Opening::IssueCreated]));
        assert_eq!(
            openings("alert,issue.resolved").unwrap_err().to_string(),
            "names `issue.resolved`, which opens no incident: write some of alert, metric, issue.created, \
             issue.unresolved, error"
        );
        assert_eq!(openings(","), Err(ValueError::NoOpening(",".to_owned())));
    }

    #[test]
    fn what_is_resolved_is_one_of_three() {
        assert_eq!(resolve_scope("Opened"), Ok(ResolveScope::Opened));
        assert_eq!(resolve_scope("all"), Ok(ResolveScope::All));
        assert_eq!(resolve_scope("off"), Ok(ResolveScope::Off));
        assert_eq!(resolve_scope("on").unwrap_err().to_string(), "is `on`: write `opened`, `all` or `off`");
    }

    #[test]
    fn catching_up_is_one_of_three() {
        assert_eq!(catch_up("Page"), Ok(CatchUpMode::Page));
        assert_eq!(catch_up("report"), Ok(CatchUpMode::Report));
        assert_eq!(catch_up("off"), Ok(CatchUpMode::Off));
        assert_eq!(catch_up("on").unwrap_err().to_string(), "is `on`: write `page`, `report` or `off`");
    }

    #[test]
    fn an_address_has_an_ip_and_a_port() {
        assert_eq!(socket_address("[::]:8080").unwrap().to_string(), "[::]:8080");
        assert_eq!(socket_address("127.0.0.1:0").unwrap().port(), 0);
        for text in [":8080", "8080", "localhost:8080", "0.0.0.0", "http://0.0.0.0:8080"] {
            assert_eq!(socket_address(text), Err(ValueError::NoAddress(text.to_owned())));
        }
    }

    #[test]
    fn a_prefix_is_short_and_printable() {
        assert_eq!(incident_key_prefix(&"é".repeat(100)), Ok("é".repeat(100)));
        assert_eq!(incident_key_prefix(&"e".repeat(101)), Err(ValueError::LongPrefix(101)));
        assert_eq!(incident_key_prefix("eu\tde"), Err(ValueError::ControlCharacter));
    }
}
