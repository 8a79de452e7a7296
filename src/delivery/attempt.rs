//! The steps of an attempt: it is marked and made, and what came of it is committed.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use log::{Level, log};
use tokio::time::sleep;

use super::backoff::Backoff;
use super::fate::Fate;
use super::news::News;
use crate::logging::repeats::{self, Cause};
use crate::pagerduty::ServiceKey;
use crate::pagerduty::client::Client;
use crate::pagerduty::outcome::Outcome;
use crate::queue::{Begun, Disposition, EventId, Queue, QueueError};

/// How long to wait before the database is asked again for what it could not do.
pub(super) const DATABASE_PAUSE: Duration = Duration::from_secs(1);

/// How long to wait before what damage kept from being committed is tried again.
const SETTLING: Backoff = Backoff { first: Duration::from_secs(15), ceiling: Duration::from_mins(10) };

/// How far an attempt came.
#[derive(Debug)]
pub(super) enum Step {
    /// It never left: the event could be neither marked as attempted nor read.
    NotBegun { key: ServiceKey, id: EventId, error: QueueError },
    /// PagerDuty answered, or did not in time. `received_at` is when the newest alert of the event came.
    Answered { key: ServiceKey, id: EventId, received_at: DateTime<Utc>, outcome: Outcome },
    /// What came of it is committed.
    Settled { news: News },
    /// It cannot be, for damage.
    NotSettled { news: News },
}

/// Marks an attempt and makes it, past earlier events of its incident that cannot be read.
pub(super) async fn attempt(queue: Queue, client: Client, key: ServiceKey, id: EventId, past: Vec<EventId>) -> Step {
    match queue.begin_past(id, Utc::now(), past).await {
        Ok(Begun { body, received_at }) => {
            let outcome = client.send(&key, body).await;
            Step::Answered { key, id, received_at, outcome }
        }
        Err(error) => Step::NotBegun { key, id, error },
    }
}

/// Commits what came of an attempt, however long the database takes to be able to, unless damage keeps it from that.
pub(super) async fn settle(queue: Queue, news: News) -> Step {
    loop {
        match queue.settle(news.id, settlement(&news), Utc::now()).await {
            Ok(()) | Err(QueueError::NotWaiting { .. }) => return Step::Settled { news },
            Err(error) => {
                let line = repeats::line(Cause::NotSettled, Level::Error);
                log!(line.level, event = news.id.get(); "what PagerDuty answered cannot be kept yet: {error}{line}");
                if error.is_damage() {
                    return Step::NotSettled { news };
                }
                sleep(DATABASE_PAUSE).await;
            }
        }
    }
}

/// Commits what came of an attempt once it can be.
pub(super) async fn settle_again(queue: Queue, news: News) -> EventId {
    let mut failures = 1;
    loop {
        sleep(SETTLING.wait(failures, rand::random())).await;
        match queue.settle(news.id, settlement(&news), Utc::now()).await {
            Ok(()) | Err(QueueError::NotWaiting { .. }) => return news.id,
            Err(_) => failures += 1,
        }
    }
}

fn settlement(news: &News) -> Disposition {
    match &news.fate {
        Fate::Delivered { oddity } => Disposition::Delivered { note: oddity.clone() },
        Fate::Dead { reason } => Disposition::Dead { reason: reason.clone() },
        // What failed so for the first time was not blamed for anything.
        Fate::Again { reason } => {
            Disposition::Retry { reason: reason.clone(), next_attempt_at: Utc::now(), blamed: Duration::ZERO }
        }
        Fate::Retry { reason, at, blamed } => Disposition::Retry {
            reason: reason.clone(),
            next_attempt_at: Utc::now() + TimeDelta::from_std(at.saturating_sub(news.at)).unwrap_or_default(),
            blamed: *blamed,
        },
    }
}
