//! Compares the alerts that were answered 202 with the events that PagerDuty accepted.

use std::collections::{BTreeMap, HashSet};
use std::fmt;

use pagerduty_sandbox::{Effect, JournalEntry, Verdict};

use super::load::Post;

/// The posted alerts and the accepted events of each incident.
pub(crate) struct Accounting(BTreeMap<String, Incident>);

#[derive(Default)]
struct Incident {
    /// The alerts in order, and whether they were answered 202.
    posted: Vec<(String, bool)>,
    opened: usize,
    /// The descriptions of the accepted events, including retries.
    taken: Vec<String>,
    /// The number of alerts that those events stand for, not counting retries.
    stood_for: u64,
}

impl Accounting {
    pub(crate) fn of(journal: &[JournalEntry], posts: &[Vec<Post>]) -> Self {
        let mut incidents: BTreeMap<String, Incident> = BTreeMap::new();
        for post in posts.iter().flatten() {
            let incident = incidents.entry(post.issue.to_string()).or_default();
            incident.posted.push((post.message.clone(), post.taken));
        }
        let mut known = HashSet::new();
        for entry in journal {
            let Verdict::Accepted { effect } = entry.verdict else { continue };
            let incident = incidents.entry(entry.text("incident_key").unwrap().to_owned()).or_default();
            incident.opened += usize::from(effect == Effect::Opened);
            incident.taken.push(entry.text("description").unwrap().to_owned());
            if known.insert(&entry.request.body) {
                incident.stood_for += occurrences(entry);
            }
        }
        Self(incidents)
    }

    /// The number of alerts that were answered 202 and that no event stands for.
    fn lost(&self) -> u64 {
        let answered = |incident: &Incident| incident.posted.iter().filter(|(_, taken)| *taken).count() as u64;
        self.0.values().map(|incident| answered(incident).saturating_sub(incident.stood_for)).sum()
    }

    /// Asserts that each incident was opened once, and that its events stand for every alert that was answered 202.
    #[track_caller]
    pub(crate) fn assert_balanced(&self) {
        for (key, incident) in &self.0 {
            let answered: Vec<_> = incident.posted.iter().filter(|(_, taken)| *taken).collect();
            if answered.is_empty() && incident.opened == 0 {
                // The bridge was killed before it committed the alert, or between the commit and the response.
                continue;
            }
            assert_eq!(incident.opened, 1, "incident {key}: {incident}");
            let posted = incident.posted.len() as u64;
            let stood_for = answered.len() as u64..=posted;
            assert!(stood_for.contains(&incident.stood_for), "incident {key}: {incident}");
            let place = |message: &str| incident.posted.iter().position(|(posted, _)| posted == message).unwrap();
            let newest = incident.taken.iter().map(|taken| place(taken)).max();
            let last = answered.last().map(|(message, _)| place(message));
            assert!(newest >= last, "incident {key} does not tell of the last alert: {incident}");
            // Apart from retries, the alerts arrive in the order in which they were posted.
            let mut seen = HashSet::new();
            let first_told = incident.taken.iter().filter(|taken| seen.insert(taken.as_str()));
            let order: Vec<_> = first_told.map(|taken| place(taken)).collect();
            assert!(order.is_sorted(), "incident {key}: {incident}");
        }
    }
}

/// The number of alerts that an event stands for.
pub(crate) fn occurrences(entry: &JournalEntry) -> u64 {
    let details = entry.event.as_ref().and_then(|event| event.get("details"));
    details.and_then(|details| details.get("occurrences")).and_then(serde_json::Value::as_u64).unwrap_or(1)
}

impl fmt::Display for Incident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { posted, opened, taken, stood_for } = self;
        write!(f, "posted {posted:?}, opened {opened} times, taken {taken:?}, which stand for {stood_for}")
    }
}

impl fmt::Display for Accounting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let posts = self.0.values().flat_map(|incident| &incident.posted);
        let (all, answered) = posts.fold((0, 0), |(all, answered), (_, taken)| (all + 1, answered + u32::from(*taken)));
        let incidents = self.0.len();
        write!(f, "{answered} of {all} alerts were answered 202, for {incidents} incidents, and {} lost;", self.lost())
    }
}
