//! What the log is told of an attempt, once what came of it is committed: whoever reads that an event is a dead letter
//! finds it among them.

use chrono::{DateTime, Utc};
use log::{Level, error, info, log, warn};

use super::Moment;
use super::fate::Fate;
use crate::logging::throttle;
use crate::pagerduty::{OutcomeKind, ServiceKey};
use crate::queue::EventId;

/// What came of an attempt.
#[derive(Debug)]
pub(super) struct News {
    pub(super) key: ServiceKey,
    pub(super) id: EventId,
    /// When the newest alert came that the event stands for.
    pub(super) received_at: DateTime<Utc>,
    /// How the attempt ended.
    pub(super) kind: OutcomeKind,
    pub(super) fate: Fate,
    /// When it ended.
    pub(super) at: Moment,
}

impl News {
    /// Writes it into the log.
    pub(super) fn tell(&self, now: DateTime<Utc>) {
        let Self { key, id, received_at, kind, fate, at: answered } = self;
        let event = id.get();
        match fate {
            Fate::Delivered { oddity } => {
                let after_ms = (now - *received_at).num_milliseconds();
                match oddity {
                    None => info!(event, service_key:% = key, after_ms; "delivered"),
                    Some(oddity) => warn!(event, service_key:% = key, after_ms; "delivered, but PagerDuty {oddity}"),
                }
            }
            Fate::Dead { reason } => error!(event, service_key:% = key; "dead letter: PagerDuty {reason}"),
            Fate::Again { reason } => {
                let line = throttle::line("attempts were repeated at once", Level::Info);
                log!(line.level, event, service_key:% = key; "sent again at once: {reason}{line}");
            }
            Fate::Retry { reason, at, .. } => {
                let seconds = at.saturating_sub(*answered).as_secs_f32();
                let line = match kind {
                    OutcomeKind::Untrusted => {
                        let line = throttle::line("attempts found no trusted PagerDuty", Level::Error);
                        log!(line.level, event, service_key:% = key; "nothing is sent, PagerDuty cannot be trusted: {reason}; next attempt in {seconds:.1} s{line}");
                        return;
                    }
                    OutcomeKind::Unreachable | OutcomeKind::Dropped => {
                        throttle::line("attempts did not reach PagerDuty", Level::Warn)
                    }
                    OutcomeKind::Throttled => {
                        throttle::line(format!("attempts were throttled on the key {key}"), Level::Warn)
                    }
                    _ => throttle::line(format!("attempts failed on the key {key}"), Level::Warn),
                };
                log!(line.level, event, service_key:% = key; "not delivered yet: {reason}; next attempt in {seconds:.1} s{line}");
            }
        }
    }
}
