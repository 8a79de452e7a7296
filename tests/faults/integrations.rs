//! One bridge and one PagerDuty with an integration for each case. The bridge handles integrations independently, so all
//! cases together take the time of one.

use std::fmt::Write as _;

use pagerduty_sandbox::{FaultRule, Incident, JournalEntry};
use serde_json::{Value, json};

use super::support::{Bridge, PagerDuty, alert};

/// Integrations, numbered from 0, with their bridge and PagerDuty.
pub(crate) struct Integrations {
    pub(crate) bridge: Bridge,
    pub(crate) pagerduty: PagerDuty,
    number: usize,
}

impl Integrations {
    /// Starts them. Each of `rules` applies to an integration of its own.
    #[track_caller]
    pub(crate) fn start<R: Into<FaultRule>>(rules: impl IntoIterator<Item = R>, settings: &[(&str, &str)]) -> Self {
        let pagerduty = PagerDuty::start();
        let mut routes = String::new();
        let mut number = 0;
        for rule in rules {
            pagerduty.inject(FaultRule { service_key: Some(key(number)), ..rule.into() }).unwrap();
            writeln!(routes, "project,case-{number},{}", key(number)).unwrap();
            number += 1;
        }
        let settings = [settings, &[("BRIDGE_PAGERDUTY_ROUTES", routes.as_str())]].concat();
        let bridge = Bridge::start_with(&pagerduty.url(), &settings);
        Self { bridge, pagerduty, number }
    }

    /// The numbers of the integrations.
    pub(crate) fn cases(&self) -> std::ops::Range<usize> {
        0..self.number
    }

    /// Posts an alert for integration `case`.
    #[track_caller]
    pub(crate) fn queue(&self, case: usize, issue: u64, message: &str) {
        let mut alert: Value = serde_json::from_slice(&alert(issue, message)).unwrap();
        alert["project_slug"] = json!(format!("case-{case}"));
        self.bridge.queue(alert.to_string().as_bytes());
    }

    /// Posts the same alert for each of them.
    #[track_caller]
    pub(crate) fn queue_everywhere(&self, issue: u64, message: &str) {
        for case in self.cases() {
            self.queue(case, issue, message);
        }
    }

    /// Waits until every integration received `requests` requests.
    #[track_caller]
    pub(crate) fn wait_for_requests_everywhere(&self, requests: usize) {
        self.pagerduty.wait_for(&format!("request {requests} everywhere"), |records| {
            self.cases().all(|case| records.journal().filter(|entry| is_for(entry, case)).count() >= requests)
        });
    }

    /// The requests of integration `case`, in order.
    pub(crate) fn requests(&self, case: usize) -> Vec<JournalEntry> {
        self.pagerduty.journal().into_iter().filter(|entry| is_for(entry, case)).collect()
    }

    /// The incident of an issue at integration `case`.
    #[track_caller]
    pub(crate) fn incident(&self, case: usize, issue: u64) -> Incident {
        let incident = self.pagerduty.read(|records| records.incident(&key(case), &issue.to_string()).cloned());
        incident.unwrap_or_else(|| panic!("case {case} has no incident for issue {issue}"))
    }
}

/// The service key of integration `case`.
pub(crate) fn key(case: usize) -> String {
    format!("case{case:028}")
}

fn is_for(entry: &JournalEntry, case: usize) -> bool {
    entry.late_of.is_none() && entry.text("service_key") == Some(&key(case))
}

/// The descriptions of the events, in order.
pub(crate) fn descriptions(requests: &[JournalEntry]) -> Vec<&str> {
    requests.iter().map(|request| request.text("description").unwrap()).collect()
}

/// Asserts that all attempts sent the same bytes.
#[track_caller]
pub(crate) fn assert_same_bytes(attempts: &[JournalEntry]) {
    for attempt in attempts {
        assert_eq!(attempt.request.body, attempts[0].request.body);
    }
}
