//! The schedule's time.

use std::time::Duration;

/// A moment on a clock that never goes back, as the time since the schedule began.
pub type Moment = Duration;
