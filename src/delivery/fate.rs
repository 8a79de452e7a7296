//! What becomes of an event whose attempt ended.

use std::time::Duration;

use super::moment::Moment;

/// What an attempt made of its event; to be committed, and then told to [`Schedule::settled`](super::Schedule::settled).
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Fate {
    /// PagerDuty has it.
    Delivered {
        /// What was odd about the answer.
        oddity: Option<String>,
    },
    /// It will never be taken and is kept for somebody to look at.
    Dead {
        /// PagerDuty's own reason.
        reason: String,
    },
    /// It is sent again at once, and nothing is wrong so far: a connection ended before an answer.
    Again {
        /// How the attempt ended.
        reason: String,
    },
    /// It is sent again.
    Retry {
        /// How the attempt ended.
        reason: String,
        /// Not before this moment.
        at: Moment,
        /// How long it has failed while others of its key passed.
        blamed: Duration,
    },
}
