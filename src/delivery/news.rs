//! What the log is told of an attempt, once what came of it is committed: whoever reads that an event is a dead letter
//! finds it among them.

use chrono::{DateTime, Utc};
use log::{Level, error, info, log, warn};

use super::Moment;
use super::fate::Fate;
use crate::logging::repeats::{self, Cause, Hindrance};
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
                let line = repeats::line(Cause::Dropped, Level::Info);
                log!(line.level, event, service_key:% = key; "sent again at once: {reason}{line}");
            }
            Fate::Retry { reason, at, .. } => {
                let seconds = at.saturating_sub(*answered).as_secs_f32();
                let cause = match kind {
                    OutcomeKind::Untrusted => {
                        let line = repeats::line(Cause::Untrusted, Level::Error);
                        log!(line.level, event, service_key:% = key; "nothing is sent, PagerDuty cannot be trusted: {reason}; next attempt in {seconds:.1} s{line}");
                        return;
                    }
                    OutcomeKind::Unreachable | OutcomeKind::Dropped => Cause::Unreachable,
                    OutcomeKind::Throttled => Cause::NotDelivered(key.clone(), Hindrance::Throttled),
                    _ => Cause::NotDelivered(key.clone(), Hindrance::Trouble),
                };
                let line = repeats::line(cause, Level::Warn);
                log!(line.level, event, service_key:% = key; "not delivered yet: {reason}; next attempt in {seconds:.1} s{line}");
            }
        }
    }
}
