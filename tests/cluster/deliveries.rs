//! Compares the alerts that were answered 202 with the events that PagerDuty received.

use std::collections::{BTreeMap, HashSet};

use pagerduty_sandbox::JournalEntry;

use super::support::{Bridge, alert_of_level};

/// The alerts of each incident that were answered 202, in order.
#[derive(Default)]
pub(crate) struct Posted(BTreeMap<String, Vec<String>>);

impl Posted {
    pub(crate) fn post(&mut self, bridge: &Bridge, level: &str, issue: u64) {
        let alerts = self.0.entry(issue.to_string()).or_default();
        let message = format!("alert {} of issue {issue}", alerts.len());
        let answer = bridge.post(&alert_of_level(level, issue, &message));
        assert_eq!(answer.status, 202);
        alerts.push(message);
    }

    /// Asserts that PagerDuty received the last alert of every incident, no alert that was not posted, and none for the
    /// first time after a later one of its incident. Earlier alerts may be folded into a later one.
    pub(crate) fn assert_delivered(&self, journal: &[JournalEntry]) {
        let mut told: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for entry in journal {
            told.entry(entry.text("incident_key").unwrap()).or_default().push(entry.text("description").unwrap());
        }
        for (incident, alerts) in &self.0 {
            let place = |message: &&str| alerts.iter().position(|alert| alert == message).unwrap();
            let told = told.get(incident.as_str()).unwrap_or_else(|| panic!("incident {incident} was never told"));
            let mut seen = HashSet::new();
            let first: Vec<_> = told.iter().filter(|message| seen.insert(**message)).map(place).collect();
            assert!(first.is_sorted(), "incident {incident} was told in the order {told:?}");
            assert_eq!(first.last(), Some(&(alerts.len() - 1)), "incident {incident}: {told:?}");
        }
    }
}

/// Asserts that there were never more requests of a service key within a minute than its rate.
pub(crate) fn assert_rate(journal: &[JournalEntry], rate: usize) {
    let mut times: BTreeMap<&str, Vec<_>> = BTreeMap::new();
    for entry in journal {
        times.entry(entry.text("service_key").unwrap()).or_default().push(entry.request.at);
    }
    for (key, times) in times {
        for (first, over) in times.iter().zip(times.iter().skip(rate)) {
            let apart = *over - *first;
            assert!(apart >= chrono::TimeDelta::seconds(60), "{key} saw more than {rate} within {apart}");
        }
    }
}
