//! What is remembered over a restart.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use super::Bucket;
use crate::pagerduty::ServiceKey;

/// What is remembered over a restart: without it, a bridge that is restarted every hour would never notice silence.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Memory {
    /// When a webhook that proved where it comes from was received last.
    pub last_webhook_at: Option<DateTime<Utc>>,
    /// When PagerDuty took an event last.
    pub last_delivered_at: Option<DateTime<Utc>>,
    /// When PagerDuty took an event of each service key last: of all of them where it is read, of those for which that
    /// changed where it is written.
    pub delivered: BTreeMap<ServiceKey, DateTime<Utc>>,
    /// Why PagerDuty cannot be trusted, as TLS says it, while that is so.
    pub untrusted: Option<String>,
    /// Steps of the last 24 hours, oldest first: all of them where it is read, those that changed where it is written.
    pub buckets: Vec<Bucket>,
}
