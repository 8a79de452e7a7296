//! Limits the log lines of repeated causes, such as failed attempts while PagerDuty is down.
//!
//! A suppressed line is written at `debug`, so that all lines can be seen at that level. Lines that say what became of one
//! alert (enqueued, delivered, dead letter) are never limited here.
//!
//! The counts are global to the process, like the logger.

use std::borrow::Cow;
use std::collections::HashMap;
use std::convert::Infallible;
use std::fmt;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, warn};
use tokio::time::sleep;

/// How many lines of one key are written at once. Afterwards one is written in each [`PAUSE`].
const BURST: u32 = 5;

/// A key that was quiet for this long may write a whole [`BURST`] again.
const PAUSE: Duration = Duration::from_mins(1);

/// How many keys are counted separately; further keys share the key [`OTHERS`].
const MAX_KEYS: usize = 1000;

const OTHERS: &str = "lines of many kinds were suppressed";

/// How often the keys that became quiet are reported.
const REPORT_INTERVAL: Duration = Duration::from_secs(10);

/// How to write a log line: at this level, and with this value at the end of its text.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) struct ThrottledLine {
    /// The requested level, or `debug` if the line is suppressed.
    pub(crate) level: Level,
    suppressed: Suppressed,
}

/// Says how many lines of the same key were suppressed before this one, if any.
impl fmt::Display for ThrottledLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.suppressed {
            Suppressed { lines: 0, .. } => Ok(()),
            Suppressed { lines, since } => write!(f, " ({lines} more like this in the last {} s)", since.as_secs()),
        }
    }
}

/// Logs a line of a cause that may repeat, unless too many lines of the same key were written lately: then the line is only a
/// `debug` line, and a later one says how many were suppressed.
///
/// `log_throttled!(level, key; "text {argument}")` or, with fields as in `log!`, `log_throttled!(level, key, field, other = 1;
/// "text")`. The key describes in the plural what is suppressed, such as `webhooks were not read`.
macro_rules! log_throttled {
    ($level:expr, $key:expr; $($text:tt)+) => {{
        let line = $crate::logging::throttle::line($key, $level);
        ::log::log!(line.level, "{}{line}", ::std::format_args!($($text)+));
    }};
    ($level:expr, $key:expr, $($name:tt $(:$capture:tt)? $(= $value:expr)?),+; $($text:tt)+) => {{
        let line = $crate::logging::throttle::line($key, $level);
        ::log::log!(
            line.level, $($name $(:$capture)? $(= $value)?),+;
            "{}{line}", ::std::format_args!($($text)+)
        );
    }};
}

pub(crate) use log_throttled;

/// Returns how to write a line of `level`, for [`log_throttled!`].
pub(crate) fn line(key: impl Into<Cow<'static, str>>, level: Level) -> ThrottledLine {
    match throttle().admit(key.into(), now()) {
        Some(suppressed) => ThrottledLine { level, suppressed },
        None => ThrottledLine { level: Level::Debug, suppressed: Suppressed::default() },
    }
}

/// Reports the suppressed lines of keys that became quiet, while it is polled.
pub async fn keep_reporting() -> Infallible {
    loop {
        sleep(REPORT_INTERVAL).await;
        report(false);
    }
}

/// Reports all suppressed lines, when the program ends.
pub fn report_all() {
    report(true);
}

fn report(all: bool) {
    let suppressed = throttle().take(all, now());
    for (key, Suppressed { lines, since }) in suppressed {
        warn!(left_out = lines; "{lines} more {key} in the last {} s", since.as_secs());
    }
}

fn throttle() -> MutexGuard<'static, Throttle> {
    static THROTTLE: LazyLock<Mutex<Throttle>> = LazyLock::new(Mutex::default);
    THROTTLE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The time since the first line.
fn now() -> Duration {
    static STARTED: LazyLock<Instant> = LazyLock::new(Instant::now);
    STARTED.elapsed()
}

/// How many lines were suppressed, and how long ago the last line was written.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Suppressed {
    lines: u64,
    since: Duration,
}

/// Counts the lines of each key. Pure: the time is an argument, on a clock that never goes back.
#[derive(Debug, Default)]
struct Throttle(HashMap<Cow<'static, str>, Count>);

#[derive(Clone, Copy, Debug, Default)]
struct Count {
    /// Lines written since the key was quiet last.
    written: u32,
    suppressed: u64,
    last_written: Duration,
    last_seen: Duration,
}

impl Throttle {
    /// Returns what was suppressed before this line, which the line has to report; `None` if the line itself is
    /// suppressed.
    fn admit(&mut self, key: Cow<'static, str>, now: Duration) -> Option<Suppressed> {
        let has_room = self.0.len() < MAX_KEYS || self.0.contains_key(&key);
        let count = self.0.entry(if has_room { key } else { OTHERS.into() }).or_default();
        if count.is_quiet(now) {
            count.written = 0;
        }
        count.last_seen = now;
        if count.written >= BURST && now.saturating_sub(count.last_written) < PAUSE {
            count.suppressed += 1;
            return None;
        }
        let suppressed = count.suppressed(now);
        *count = Count { written: count.written.saturating_add(1), suppressed: 0, last_written: now, last_seen: now };
        Some(suppressed)
    }

    /// Forgets the keys that are quiet, or all of them, and returns their suppressed lines that were never reported.
    fn take(&mut self, all: bool, now: Duration) -> Vec<(Cow<'static, str>, Suppressed)> {
        let taken = self.0.extract_if(|_, count| all || count.is_quiet(now));
        taken.filter(|(_, count)| count.suppressed > 0).map(|(key, count)| (key, count.suppressed(now))).collect()
    }
}

impl Count {
    fn is_quiet(&self, now: Duration) -> bool {
        now.saturating_sub(self.last_seen) >= PAUSE
    }

    fn suppressed(&self, now: Duration) -> Suppressed {
        Suppressed { lines: self.suppressed, since: now.saturating_sub(self.last_written) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns the seconds at which lines are written, each with the number of lines suppressed before it, when a line of
    /// `key` comes at each of `seconds`.
    fn written(throttle: &mut Throttle, key: &'static str, seconds: impl IntoIterator<Item = u64>) -> Vec<(u64, u64)> {
        let admit = |second| Some((second, throttle.admit(key.into(), Duration::from_secs(second))?.lines));
        seconds.into_iter().filter_map(admit).collect()
    }

    #[test]
    fn the_first_lines_are_written_and_then_one_a_minute_that_counts_the_others() {
        let throttle = &mut Throttle::default();
        let lines = written(throttle, "a", 100..300);
        let burst = [(100, 0), (101, 0), (102, 0), (103, 0), (104, 0)];
        assert_eq!(lines, [&burst[..], &[(164, 59), (224, 59), (284, 59)]].concat());
        let suppressed = Suppressed { lines: 15, since: PAUSE };
        assert_eq!(throttle.admit("a".into(), Duration::from_secs(344)), Some(suppressed));
    }

    #[test]
    fn what_comes_less_often_than_the_pause_is_never_left_out() {
        let throttle = &mut Throttle::default();
        assert_eq!(written(throttle, "a", (0..600).step_by(60)).len(), 10);
    }

    #[test]
    fn after_a_quiet_minute_a_cause_has_its_whole_budget_and_still_tells_what_it_left_out() {
        let throttle = &mut Throttle::default();
        assert_eq!(written(throttle, "a", [0; 12]).len(), 5);
        assert_eq!(written(throttle, "a", [60; 12]), [(60, 7), (60, 0), (60, 0), (60, 0), (60, 0)]);
    }

    #[test]
    fn one_cause_does_not_take_anothers_lines_unless_there_is_no_room_for_more() {
        let throttle = &mut Throttle::default();
        let numbered = |number: usize| Cow::from(format!("alerts folded into event {number}"));
        for number in 0..MAX_KEYS {
            assert!((0..9).filter(|_| throttle.admit(numbered(number), Duration::ZERO).is_some()).count() == 5);
        }
        let further =
            (MAX_KEYS..MAX_KEYS + 24).filter(|number| throttle.admit(numbered(*number), Duration::ZERO).is_some());
        assert_eq!(further.count(), 5);
        assert_eq!(throttle.0.len(), MAX_KEYS + 1);
        let later: HashMap<_, _> = throttle.take(true, Duration::ZERO).into_iter().collect();
        assert_eq!(later.len(), MAX_KEYS + 1);
        assert!((0..MAX_KEYS).all(|number| later[&numbered(number)].lines == 4));
        assert_eq!(later[OTHERS].lines, 19);
    }

    #[test]
    fn what_is_quiet_is_told_once_and_forgotten() {
        let throttle = &mut Throttle::default();
        assert_eq!(written(throttle, "a", [0; 7]).len(), 5);
        assert_eq!(written(throttle, "b", [30]).len(), 1);
        assert_eq!(throttle.take(false, Duration::from_secs(59)), []);
        let suppressed = Suppressed { lines: 2, since: Duration::from_secs(90) };
        assert_eq!(throttle.take(false, Duration::from_secs(90)), [("a".into(), suppressed)]);
        assert_eq!(throttle.take(false, Duration::from_hours(1)), []);
        assert_eq!(throttle.0.len(), 0, "what suppressed nothing is forgotten as well");
    }

    #[test]
    fn a_line_says_how_many_were_left_out_before_it() {
        let line = ThrottledLine { level: Level::Warn, suppressed: Suppressed { lines: 3, since: PAUSE } };
        assert_eq!(line.to_string(), " (3 more like this in the last 60 s)");
        assert_eq!(ThrottledLine { suppressed: Suppressed::default(), ..line }.to_string(), "");
    }
}
