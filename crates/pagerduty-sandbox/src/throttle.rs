//! PagerDuty's rate limit: a sliding window per integration key.

use std::collections::{HashMap, VecDeque};

use chrono::{DateTime, TimeDelta, Utc};

use crate::options::ThrottleOptions;

/// The times of the events in each integration key's window, oldest first.
#[derive(Debug, Default)]
pub(crate) struct Throttle(HashMap<String, VecDeque<DateTime<Utc>>>);

impl Throttle {
    /// Whether the limit allows an event of `service_key` at `now`. If so it counts; see also
    /// [`ThrottleOptions::count_rejected`].
    pub(crate) fn admit(&mut self, service_key: &str, now: DateTime<Utc>, options: &ThrottleOptions) -> bool {
        let window = TimeDelta::from_std(options.window).unwrap_or(TimeDelta::MAX);
        let times = self.0.entry(service_key.to_owned()).or_default();
        while times.front().is_some_and(|&time| now.signed_duration_since(time) >= window) {
            times.pop_front();
        }
        let admitted = times.len() < options.limit;
        if admitted || options.count_rejected {
            times.push_back(now);
        }
        admitted
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(second, 0).unwrap()
    }

    #[test]
    fn the_limit_holds_in_every_window_and_for_each_key_alone() {
        let options = ThrottleOptions { limit: 2, ..ThrottleOptions::default() };
        let mut throttle = Throttle::default();
        let times = [(0, true), (30, true), (59, false), (60, true), (61, false), (90, true)];
        for (second, admitted) in times {
            assert_eq!(throttle.admit("K", at(second), &options), admitted, "second {second}");
        }
        assert!(throttle.admit("L", at(90), &options));
    }

    #[test]
    fn a_client_that_hammers_never_recovers_where_refusals_count() {
        let options = ThrottleOptions { limit: 1, count_rejected: true, ..ThrottleOptions::default() };
        let mut throttle = Throttle::default();
        assert!(throttle.admit("K", at(0), &options));
        assert!((1..10).all(|step| !throttle.admit("K", at(step * 30), &options)));
    }

    #[test]
    fn a_limit_lowered_mid_run_counts_what_was_already_taken() {
        let mut options = ThrottleOptions { limit: 3, ..ThrottleOptions::default() };
        let mut throttle = Throttle::default();
        assert!(throttle.admit("K", at(0), &options) && throttle.admit("K", at(1), &options));
        options.limit = 1;
        assert!(!throttle.admit("K", at(2), &options));
    }
}
