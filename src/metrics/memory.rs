//! What is remembered over a restart.

use chrono::{DateTime, Utc};

use super::Bucket;

/// What is remembered over a restart: without it, a bridge that is restarted every hour would never notice silence.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Memory {
    /// When a webhook that proved where it comes from was received last.
    pub last_webhook_at: Option<DateTime<Utc>>,
    /// When PagerDuty took an event last.
    pub last_delivered_at: Option<DateTime<Utc>>,
    /// Steps of the last 24 hours, oldest first: all of them where it is read, those that changed where it is written.
    pub buckets: Vec<Bucket>,
}
