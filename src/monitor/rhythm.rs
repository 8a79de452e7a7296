//! How often the bridge looks whether it is well, and how long it waits until a trouble is over.

use std::time::Duration;

use super::judge::UNVERIFIED;

/// How often the bridge looks whether it is well, and how long it waits until a trouble is over.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Rhythm {
    /// The pause between two looks.
    pub look: Duration,
    /// How long a trouble has to be gone before it is over; doubled for each time it came back lately.
    pub hold: Duration,
    /// For how long wrong signatures have to come, none of them right, before somebody is paged for them.
    pub unverified: Duration,
}

impl Default for Rhythm {
    fn default() -> Self {
        Self { look: Duration::from_secs(2), hold: Duration::from_secs(15), unverified: UNVERIFIED }
    }
}
