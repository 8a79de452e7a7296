//! Fewer lines where one cause speaks again and again, as all retries do while PagerDuty is down.
//!
//! A line is left out by writing it at `debug`, so that whoever asks for that sees all. What happens to one alert once,
//! such as that it is queued, delivered or given up, is no repetition and never left out.
//!
//! The counts are the process's, as the logger is.

use std::convert::Infallible;
use std::fmt;
use std::mem::Discriminant;
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use log::{Level, warn};
use tokio::time::sleep;

use super::limiter::{Budget, LeftOut, Limiter};
use crate::ingest::Ignored;
use crate::pagerduty::ServiceKey;

const BUDGET: Budget = Budget { burst: 5, pause: Duration::from_mins(1), causes: 1000 };

/// How often to look for causes that fell silent with lines left out.
const LOOK: Duration = Duration::from_secs(10);

/// Why a line may come again and again; lines of one cause share a budget. `Display` says what is left out, in the
/// plural.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub enum Cause {
    /// A webhook without one of the secrets.
    Unproven {
        /// Whether it was the signature that was missing or wrong, and not the token.
        signature: bool,
    },
    /// A request to an address under `/sentry` that does not exist.
    Elsewhere,
    /// A request to the webhook that was no POST.
    WrongMethod,
    /// A body that could not be read, answered with this status.
    NotRead(u16),
    /// A webhook that asks for nothing.
    Ignored(Discriminant<Ignored>),
    /// An alert that joined the event with this number, which waits.
    Folded(i64),
    /// An alert that could not be committed.
    NotAccepted,
    /// A rejected body that could not be committed.
    NotKept,
    /// An alarm of the bridge that could not be committed.
    NoAlarm,
    /// An attempt that PagerDuty answered with no, for now.
    NotDelivered(ServiceKey, Hindrance),
    /// An attempt that did not reach PagerDuty, which is no service key's own trouble.
    Unreachable,
    /// An attempt that was made again at once.
    Dropped,
    /// A PagerDuty that cannot prove to be it.
    Untrusted,
    /// The queue cannot be read.
    Unreadable,
    /// An event that cannot be read.
    SetAside,
    /// An attempt that could not begin.
    NotBegun,
    /// An attempt whose beginning could not be committed.
    NotMarked,
    /// An attempt whose end could not be committed.
    NotSettled,
}

/// What keeps an event from being delivered.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Hindrance {
    /// PagerDuty asks to slow down.
    Throttled,
    /// PagerDuty fails, or does not answer.
    Trouble,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unproven { signature: false } => "webhooks with a wrong or missing token were turned away",
            Self::Unproven { signature: true } => "webhooks with a wrong or missing signature were turned away",
            Self::Elsewhere => "requests to addresses under /sentry that do not exist were answered 404",
            Self::WrongMethod => "requests to the webhook were answered 405",
            Self::NotRead(_) => "webhooks were not read",
            Self::Ignored(_) => "webhooks were ignored",
            Self::Folded(event) => return write!(f, "alerts folded into event {event}"),
            Self::NotAccepted => "alerts were not accepted",
            Self::NotKept => "rejected webhooks were not kept",
            Self::NoAlarm => "alarms were not queued",
            Self::NotDelivered(key, _) => return write!(f, "attempts on the key {key} did not deliver"),
            Self::Unreachable => "attempts did not reach PagerDuty",
            Self::Dropped => "attempts were made again at once",
            Self::Untrusted => "attempts found nobody to trust",
            Self::Unreadable => "looks at the queue failed",
            Self::SetAside => "events cannot be read and were set aside",
            Self::NotBegun => "attempts could not begin",
            Self::NotMarked => "attempts were made without a mark",
            Self::NotSettled => "answers of PagerDuty could not be kept at once",
        })
    }
}

/// How to write a line: at this level, with this behind its text.
#[derive(Clone, Copy, Debug)]
pub struct Line {
    /// The level that was asked for, or `debug`.
    pub level: Level,
    left_out: LeftOut,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let LeftOut { lines, since } = self.left_out;
        if lines == 0 {
            return Ok(());
        }
        write!(f, " ({lines} more like this in the last {} s)", since.as_secs())
    }
}

static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
static LIMITER: LazyLock<Mutex<Limiter<Cause>>> = LazyLock::new(|| Mutex::new(Limiter::new(BUDGET)));

/// How to write a line of `cause` that belongs at `level`.
#[must_use]
pub fn line(cause: Cause, level: Level) -> Line {
    match limiter().admit(cause, BEGAN.elapsed()) {
        Some(left_out) => Line { level, left_out },
        None => Line { level: Level::Debug, left_out: LeftOut::default() },
    }
}

/// Tells what was left out of causes that fell silent, for as long as it is polled.
pub async fn keep_telling() -> Infallible {
    loop {
        sleep(LOOK).await;
        let told = limiter().quiet(BEGAN.elapsed());
        tell(told);
    }
}

/// Tells all that was left out, as the program ends.
pub fn tell_the_rest() {
    let told = limiter().finish(BEGAN.elapsed());
    tell(told);
}

fn tell(told: Vec<(Option<Cause>, LeftOut)>) {
    for (cause, LeftOut { lines, since }) in told {
        let what = cause.map_or_else(|| "lines of many causes were left out".to_owned(), |cause| cause.to_string());
        warn!(left_out = lines; "{lines} more {what} in the last {} s", since.as_secs());
    }
}

fn limiter() -> MutexGuard<'static, Limiter<Cause>> {
    LIMITER.lock().unwrap_or_else(PoisonError::into_inner)
}
