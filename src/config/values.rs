//! Parsers for the values of settings that are neither addresses nor secrets.

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::time::Duration;

use bytesize::ByteSize;
use log::LevelFilter;

use super::ValueError;
use crate::alert::{Level, TriggerKind};
use crate::logging::LogFormat;
use crate::pagerduty::{ApiVersion, ServiceKey};

/// Which incidents are resolved by `issue.resolved` and `metric_alert.resolved`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum ResolveScope {
    /// Incidents that the bridge opened, at every integration where it opened them.
    Opened,
    /// As [`Opened`](ResolveScope::Opened), and at the default integration also incidents that the bridge does not know.
    All,
    /// None.
    Off,
}

/// What one incident stands for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum IncidentScope {
    /// One issue.
    Issue,
    /// All issues that one alert rule fired for.
    Rule,
    /// All issues of one project.
    Project,
}

/// What is done about alerts that Sentry fired and whose webhooks never came.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum CatchUpMode {
    /// Alerts that Sentry recorded as fired page as their webhooks would have; guesses are only reported.
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

/// The longest prefix of incident keys, in characters; a key has at most 255.
const MAX_PREFIX: usize = 100;

/// The maximum length of a service key's name, in characters.
const MAX_NAME: usize = 100;

/// The error for a value that may be shown. `remedy` follows it.
fn wrong(text: &str, remedy: &str) -> ValueError {
    ValueError::new(format!("is `{text}`{remedy}"))
}

/// Parses a duration within `range`.
pub(super) fn duration(text: &str, range: RangeInclusive<Duration>) -> Result<Duration, ValueError> {
    let duration = humantime::parse_duration(text)
        .map_err(|_| wrong(text, ", which is not a valid duration: write it like `10s`, `2m` or `1h30m`"))?;
    within(text, duration, &range, |limit| in_one_unit(*limit))
}

/// Formats a limit in the largest unit that leaves no remainder: 365 days are `365d`, not months and hours.
fn in_one_unit(limit: Duration) -> String {
    let millis = limit.as_millis();
    let units = [("d", 86_400_000_u128), ("h", 3_600_000), ("m", 60_000), ("s", 1000), ("ms", 1)];
    match units.iter().find(|(_, unit)| millis > 0 && millis.is_multiple_of(*unit)) {
        Some((name, unit)) => format!("{}{name}", millis / unit),
        None => "0s".to_owned(),
    }
}

/// Parses a number of bytes within `range`.
pub(super) fn size(text: &str, range: RangeInclusive<ByteSize>) -> Result<usize, ValueError> {
    let no_size = || wrong(text, ", which is not a valid size: write it like `512KiB` or `16MiB`");
    let size: ByteSize = text.parse().map_err(|_| no_size())?;
    // Limits are whole units, so they are shown as `1KiB`, not `1.0 KiB`.
    let size = within(text, size, &range, |limit| limit.to_string().replace(".0 ", ""))?;
    usize::try_from(size.as_u64()).map_err(|_| no_size())
}

/// Parses a whole number within `range`.
pub(super) fn number(text: &str, range: RangeInclusive<u32>) -> Result<u32, ValueError> {
    // A number that is too large for the type is reported as out of range, not as "no number".
    let number: u64 = text.parse().map_err(|_| wrong(text, ", which is not a whole number"))?;
    within(text, u32::try_from(number).unwrap_or(u32::MAX), &range, |limit| grouped(*limit))
}

/// Formats a number with a comma between groups of three digits.
fn grouped(number: u32) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", grouped(number / 1000), number % 1000) }
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
    let (least, most) = (write(range.start()), write(range.end()));
    Err(wrong(text, &format!(", but must be between {least} and {most}")))
}

/// Parses a switch, in the spellings that people try.
pub(super) fn switch(text: &str) -> Result<bool, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "on" | "true" | "yes" | "1" => Ok(true),
        "off" | "false" | "no" | "0" => Ok(false),
        _ => Err(wrong(text, ": write `on` or `off`")),
    }
}

/// Parses one of Sentry's levels.
pub(super) fn level(text: &str) -> Result<Level, ValueError> {
    Level::parse(text).ok_or_else(|| {
        wrong(text, &format!(", which is not a level of Sentry: write one of {}", Level::NAMES.join(", ")))
    })
}

/// Parses a comma-separated list of the webhooks that open incidents.
pub(super) fn openings(text: &str) -> Result<Vec<TriggerKind>, ValueError> {
    let refused = |name: &str| {
        let names = TriggerKind::NAMES.join(", ");
        ValueError::new(format!("names `{name}`, which cannot open incidents: write some of {names}"))
    };
    let names = text.split(',').map(str::trim).filter(|name| !name.is_empty());
    let openings: Vec<_> =
        names.map(|name| TriggerKind::parse(name).ok_or_else(|| refused(name))).collect::<Result<_, _>>()?;
    // Only commas: more likely a mistake than a request to open no incidents, so it is rejected.
    if openings.is_empty() { Err(refused(text)) } else { Ok(openings) }
}

/// Parses which incidents resolved webhooks close.
pub(super) fn resolve_scope(text: &str) -> Result<ResolveScope, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "opened" => Ok(ResolveScope::Opened),
        "all" => Ok(ResolveScope::All),
        "off" => Ok(ResolveScope::Off),
        _ => Err(wrong(text, ": write `opened`, `all` or `off`")),
    }
}

/// What one incident stands for.
pub(super) fn incident_scope(text: &str) -> Result<IncidentScope, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "issue" => Ok(IncidentScope::Issue),
        "rule" => Ok(IncidentScope::Rule),
        "project" => Ok(IncidentScope::Project),
        _ => Err(wrong(text, ": write `issue`, `rule` or `project`")),
    }
}

/// Parses what is done about alerts whose webhooks never came.
pub(super) fn catch_up(text: &str) -> Result<CatchUpMode, ValueError> {
    let all = [CatchUpMode::Page, CatchUpMode::Report, CatchUpMode::Off];
    let found = all.into_iter().find(|mode| mode.name() == text.to_ascii_lowercase());
    found.ok_or_else(|| wrong(text, ": write `page`, `report` or `off`"))
}

/// Parses a version of PagerDuty's Events API.
pub(super) fn events_api(text: &str) -> Result<ApiVersion, ValueError> {
    ApiVersion::parse(text).ok_or_else(|| wrong(text, ": write `v1` or `v2`"))
}

/// Parses a log format.
pub(super) fn log_format(text: &str) -> Result<LogFormat, ValueError> {
    match text.to_ascii_lowercase().as_str() {
        "auto" => Ok(LogFormat::Auto),
        "text" => Ok(LogFormat::Text),
        "json" => Ok(LogFormat::Json),
        _ => Err(wrong(text, ": write `auto`, `text` or `json`")),
    }
}

const NO_SOCKET_ADDRESS: &str = ", which is not an IP address with a port: write `0.0.0.0:8080` for all of IPv4, \
     `[::]:8080` for IPv6 too, or `localhost:8080` for this machine only";

/// Parses an address to listen on: an IP address, or `localhost` for 127.0.0.1, and a port. Port 0 asks the system for
/// a free one.
///
/// # Errors
///
/// When it is neither, or has no port.
pub fn socket_address(text: &str) -> Result<SocketAddr, ValueError> {
    let port = text.strip_prefix("localhost:");
    let address = port.and_then(|port| Some(SocketAddr::from(([127, 0, 0, 1], port.parse().ok()?))));
    address.or_else(|| text.parse().ok()).ok_or_else(|| wrong(text, NO_SOCKET_ADDRESS))
}

/// Checks a value of `RUST_LOG`: levels, and modules, with or without a level. `env_logger` would take a misspelt level
/// for the name of a module, and then log nothing.
pub(super) fn log_filter(text: &str) -> Result<String, ValueError> {
    let wrong = |part: &str| {
        Err(ValueError::new(format!(
            "has `{part}`, which is not a level: write off, error, warn, info, debug or trace, or a module with one, such as \
             `info,sentry_pagerduty_bridge=debug`"
        )))
    };
    // The part after the slash filters by the text of messages.
    let (filters, _) = text.split_once('/').unwrap_or((text, ""));
    for filter in filters.split(',').map(str::trim).filter(|filter| !filter.is_empty()) {
        let level = filter.split_once('=').map_or(filter, |(_, level)| level).trim();
        // A module alone means all of its levels. Names with `_` or `:`, such as those of this program's modules, are
        // not misspelt levels.
        let is_module = !filter.contains('=') && filter.contains(['_', ':']);
        if level.parse::<LevelFilter>().is_err() && !is_module {
            return wrong(filter);
        }
    }
    Ok(text.to_owned())
}

/// Checks the text that is put before the issue's id in an incident key.
pub(super) fn incident_key_prefix(text: &str) -> Result<String, ValueError> {
    let length = text.chars().count();
    if length > MAX_PREFIX {
        return Err(ValueError::new(format!("has {length} characters, but may have {MAX_PREFIX}")));
    }
    if text.chars().any(char::is_control) {
        return Err(ValueError::new("contains a control character, such as a line end or a tab"));
    }
    Ok(text.to_owned())
}

/// Parses the slug of an organization in Sentry.
pub(super) fn organization(text: &str) -> Result<String, ValueError> {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
    if !text.bytes().all(fits) {
        return Err(ValueError::new(NO_SLUG));
    }
    Ok(text.to_owned())
}

const NO_SLUG: &str = "is not a slug: write it as in the addresses of the organization's pages, such as `acme`";

/// Parses names of service keys: lines of `KEY,name`, which may also be separated by `;`. Blank lines and lines that begin
/// with `#` are skipped. A name has one line of at most 100 characters.
///
/// # Errors
///
/// For the first line that cannot be parsed. The error contains the number of the line and never the key.
pub fn key_names(text: &str) -> Result<Vec<(ServiceKey, String)>, ValueError> {
    let lines = (1..).zip(text.split(['\n', ';'])).map(|(number, line)| (number, line.trim()));
    let lines = lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    lines.map(|(number, line)| key_name(number, line)).collect()
}

fn key_name(line: usize, text: &str) -> Result<(ServiceKey, String), ValueError> {
    let refused = |what: &str| ValueError::new(format!("line {line} {what}"));
    let (key, name) = text.split_once(',').ok_or_else(|| refused("is not `KEY,name`"))?;
    let key = ServiceKey::parse(key).map_err(|error| refused(&format!("begins with a key that {error}")))?;
    let name = name.trim();
    if name.is_empty() {
        return Err(refused("is not `KEY,name`"));
    }
    if name.chars().any(char::is_control) || name.chars().count() > MAX_NAME {
        return Err(refused(&format!(
            "has a name of more than {MAX_NAME} characters, or with control characters: shorten it"
        )));
    }
    Ok((key, name.to_owned()))
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
            let sentence = format!("is `{text}`, which is not a valid duration: write it like `10s`, `2m` or `1h30m`");
            assert_eq!(read(text), Err(sentence));
        }
        assert_eq!(read("999ms").unwrap_err(), "is `999ms`, but must be between 1s and 1d");
        assert_eq!(read("25h").unwrap_err(), "is `25h`, but must be between 1s and 1d");
    }

    #[test]
    fn sizes_are_written_for_people() {
        let read = |text: &str| size(text, ByteSize::kib(1)..=ByteSize::mib(256)).map_err(|error| error.to_string());
        assert_eq!(read("16MiB"), Ok(16 * 1024 * 1024));
        assert_eq!(read("1.5 MB"), Ok(1_500_000));
        assert_eq!(read("1024"), Ok(1024));
        assert_eq!(read("big").unwrap_err(), "is `big`, which is not a valid size: write it like `512KiB` or `16MiB`");
        assert_eq!(read("1023").unwrap_err(), "is `1023`, but must be between 1KiB and 256MiB");
        assert!(read("257MiB").is_err());
    }

    #[test]
    fn numbers_stay_within_their_range() {
        let read = |text: &str| number(text, 1..=10_000).map_err(|error| error.to_string());
        assert_eq!(read("1"), Ok(1));
        assert_eq!(read("10000"), Ok(10_000));
        assert_eq!(read("0").unwrap_err(), "is `0`, but must be between 1 and 10,000");
        assert_eq!(read("5000000000").unwrap_err(), "is `5000000000`, but must be between 1 and 10,000");
        assert_eq!(read("2/s").unwrap_err(), "is `2/s`, which is not a whole number");
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
            "is `critical`, which is not a level of Sentry: write one of debug, info, warning, error, fatal"
        );
        assert_eq!(events_api("V2"), Ok(ApiVersion::V2));
        assert_eq!(events_api("2").unwrap_err().to_string(), "is `2`: write `v1` or `v2`");
        assert_eq!(log_format("JSON"), Ok(LogFormat::Json));
        assert_eq!(log_format("pretty").unwrap_err().to_string(), "is `pretty`: write `auto`, `text` or `json`");
    }

    #[test]
    fn what_opens_incidents_is_a_list_of_names() {
        assert_eq!(openings("alert, Issue.Created,"), Ok(vec![TriggerKind::Alert, TriggerKind::IssueCreated]));
        assert_eq!(
            openings("alert,issue.resolved").unwrap_err().to_string(),
            "names `issue.resolved`, which cannot open incidents: write some of alert, metric, issue.created, \
             issue.unresolved, error"
        );
        assert!(openings(",").unwrap_err().to_string().starts_with("names `,`, which cannot open incidents: "));
    }

    #[test]
    fn what_is_resolved_is_one_of_three() {
        assert_eq!(resolve_scope("Opened"), Ok(ResolveScope::Opened));
        assert_eq!(resolve_scope("all"), Ok(ResolveScope::All));
        assert_eq!(resolve_scope("off"), Ok(ResolveScope::Off));
        assert_eq!(resolve_scope("on").unwrap_err().to_string(), "is `on`: write `opened`, `all` or `off`");
    }

    #[test]
    fn what_an_incident_stands_for_is_one_of_three() {
        assert_eq!(incident_scope("Rule"), Ok(IncidentScope::Rule));
        assert_eq!(incident_scope("project"), Ok(IncidentScope::Project));
        assert_eq!(incident_scope("team").unwrap_err().to_string(), "is `team`: write `issue`, `rule` or `project`");
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
        assert_eq!(socket_address("localhost:8080").unwrap().to_string(), "127.0.0.1:8080");
        for text in [":8080", "8080", "localhost", "localhost:", "example.com:8080", "0.0.0.0", "http://0.0.0.0:8080"] {
            assert_eq!(socket_address(text), Err(wrong(text, NO_SOCKET_ADDRESS)));
        }
    }

    #[test]
    fn limits_are_told_in_the_unit_that_people_write() {
        let read = |text: &str, least, most| duration(text, least..=most).unwrap_err().to_string();
        let years = SECOND * 86_400 * 3650;
        assert_eq!(read("0s", SECOND * 600, years), "is `0s`, but must be between 10m and 3650d");
        let millis = Duration::from_millis(100);
        assert_eq!(read("1ms", millis, SECOND * 90), "is `1ms`, but must be between 100ms and 90s");
        assert_eq!(read("1d", Duration::ZERO, SECOND * 3600), "is `1d`, but must be between 0s and 1h");
        assert_eq!([0, 999, 1000, 10_000, 1_002_003].map(grouped), ["0", "999", "1,000", "10,000", "1,002,003"]);
    }

    #[test]
    fn a_misspelt_level_is_not_taken_for_the_name_of_a_module() {
        for text in
            ["info", "WARN", "off", "", "info,sentry_pagerduty_bridge=debug", "actix_server", "a::b", "awc=trace/x=y"]
        {
            assert_eq!(log_filter(text), Ok(text.to_owned()));
        }
        for (text, part) in [("inf", "inf"), ("info,verbose", "verbose"), ("awc=loud", "awc=loud"), ("info,=", "=")] {
            let error = log_filter(text).unwrap_err().to_string();
            assert!(error.starts_with(&format!("has `{part}`, which is not a level: ")), "{error}");
        }
    }

    #[test]
    fn a_prefix_is_short_and_printable() {
        assert_eq!(incident_key_prefix(&"é".repeat(100)), Ok("é".repeat(100)));
        assert_eq!(incident_key_prefix(&"e".repeat(101)), Err(ValueError::new("has 101 characters, but may have 100")));
        let error = incident_key_prefix("eu\tde").unwrap_err().to_string();
        assert_eq!(error, "contains a control character, such as a line end or a tab");
    }

    #[test]
    fn names_stand_behind_their_keys_and_may_hold_commas() {
        let text = "# ours\n0123456789abcdef0123456789abcdef, Payments, EU ;\nNN2EZIJQPVVQF3KIKN2MDMSUV7E6GLFN,Web\n";
        let names = key_names(text).unwrap();
        let names: Vec<_> = names.iter().map(|(key, name)| (key.to_string(), name.as_str())).collect();
        assert_eq!(names, [("…cdef".to_owned(), "Payments, EU"), ("…GLFN".to_owned(), "Web")]);
        let error = |text: &str| key_names(text).unwrap_err().to_string();
        assert_eq!(error("\nweb"), "line 2 is not `KEY,name`");
        assert_eq!(error("0123456789abcdef0123456789abcdef, "), "line 1 is not `KEY,name`");
        assert!(error("SECRET,web").starts_with("line 1 begins with a key that has 6 characters"));
        assert!(!error("SECRET,web").contains("SECRET"));
    }

    #[test]
    fn an_organization_is_given_by_its_slug() {
        assert_eq!(organization("acme").as_deref(), Ok("acme"));
        assert_eq!(organization("acme/x"), Err(ValueError::new(NO_SLUG)));
    }
}
