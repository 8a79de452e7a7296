//! Determines which alerts are missing, and what is done about them. Pure.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, TimeDelta, Utc};

use crate::alert::SentryId;
use crate::config::CatchUpMode;
use crate::pagerduty::IncidentKey;
use crate::queue::external::{CLOCK_TOLERANCE, CatchUpRun};
use crate::sentry_api::types::{Firing, IssueRoute, TimeWindow};

/// How far a window reaches back before the end of the last one: Sentry may record a firing late, and clocks differ.
const OVERLAP: TimeDelta = TimeDelta::minutes(10);

/// The webhooks of alerts that fired less than this time ago may still be on their way.
pub(super) const DELAY: TimeDelta = TimeDelta::minutes(2);

/// The longest window: nobody wants to be paged for alerts that fired earlier.
pub(super) const LONGEST: TimeDelta = TimeDelta::days(7);

impl Firing {
    /// The key of the incident that its webhook would have opened; `None` for an issue without an id.
    #[must_use]
    pub fn incident_key(&self, prefix: &str) -> Option<IncidentKey> {
        Some(IncidentKey::of_issue(prefix, &SentryId::new(&self.issue.id)?))
    }
}

/// What the bridge knows about incidents.
#[derive(Clone, Debug, Default)]
pub struct KnownIncidents {
    /// When the newest alert of each incident was received.
    pub triggers: HashMap<IncidentKey, DateTime<Utc>>,
    /// The latest firing of each incident that an earlier run has dealt with.
    pub dealt: HashMap<IncidentKey, DateTime<Utc>>,
}

/// The alerts that are missing, and what would be done about them.
#[derive(Clone, Debug, Default)]
pub struct MissingAlerts {
    /// Alerts that each become an event.
    pub page: Vec<Firing>,
    /// Alerts that are only reported; nobody is paged.
    pub report: Vec<Firing>,
    /// Alerts that share one event.
    pub summarize: Vec<Firing>,
    /// The number of issues for which alerts fired, missing or not.
    pub fired: usize,
    /// Whether Sentry recorded the firings, or they were guessed from new issues.
    pub is_exact: bool,
    /// What the token may not see, as sentences.
    pub unseen: Vec<String>,
    /// The endpoint of single issues; `None` before Sentry was asked.
    pub(super) route: Option<IssueRoute>,
}

impl MissingAlerts {
    /// How many alerts are missing.
    #[must_use]
    pub fn number(&self) -> usize {
        self.page.len() + self.report.len() + self.summarize.len()
    }
}

/// Returns the window to ask Sentry for at `now`: from the end of the last run or, without one, from the last webhook.
/// `None` if neither is known or the window is empty.
#[must_use]
pub fn window(
    last: Option<&CatchUpRun>,
    last_webhook_at: Option<DateTime<Utc>>,
    now: DateTime<Utc>,
) -> Option<TimeWindow> {
    let since = last.map(|run| run.until).or(last_webhook_at)?;
    // If the clock was ahead, it is not known until when Sentry was asked.
    let from = if since > now { now - LONGEST } else { (since - OVERLAP).max(now - LONGEST) };
    let window = TimeWindow { from, until: now - DELAY };
    (window.from < window.until).then_some(window)
}

/// Joins the firings of each issue into its latest one, with the names of all alerts, and sorts them by time.
#[must_use]
pub fn joined(firings: Vec<Firing>) -> Vec<Firing> {
    let mut by_issue: BTreeMap<String, Firing> = BTreeMap::new();
    for firing in firings {
        let Some(known) = by_issue.get_mut(&firing.issue.id) else {
            by_issue.insert(firing.issue.id.clone(), firing);
            continue;
        };
        let mut alerts = std::mem::take(&mut known.alerts);
        alerts.extend(firing.alerts.iter().filter(|name| !alerts.contains(name)).cloned().collect::<Vec<_>>());
        // A recorded firing takes precedence over a guess.
        let is_better = (firing.is_exact, firing.at) > (known.is_exact, known.at);
        let by_plugin = firing.by_plugin && known.by_plugin;
        if is_better {
            *known = firing;
        }
        (known.alerts, known.by_plugin) = (alerts, by_plugin);
    }
    let mut joined: Vec<_> = by_issue.into_values().collect();
    joined.sort_by(|one, other| (one.at, &one.issue.id).cmp(&(other.at, &other.issue.id)));
    joined
}

/// Returns those of `firings` that no webhook reported, that no earlier run has dealt with, and whose issues are still open.
#[must_use]
pub fn missing(firings: Vec<Firing>, prefix: &str, known: &KnownIncidents) -> Vec<Firing> {
    let is_missing = |firing: &Firing| {
        let Some(key) = firing.incident_key(prefix) else { return false };
        let came = known.triggers.get(&key).is_some_and(|at| *at >= firing.at - CLOCK_TOLERANCE);
        let is_dealt_with = known.dealt.get(&key).is_some_and(|at| *at >= firing.at);
        firing.issue.is_unresolved() && !came && !is_dealt_with
    };
    firings.into_iter().filter(is_missing).collect()
}

/// Sorts missing alerts by what is done about them: guesses page nobody, and at most `most` of the others get an event of
/// their own.
#[must_use]
pub fn sort(missing: Vec<Firing>, mode: CatchUpMode, most: usize) -> MissingAlerts {
    let (mut page, mut report): (Vec<_>, Vec<_>) =
        missing.into_iter().partition(|firing| firing.is_exact && mode == CatchUpMode::Page);
    let summarize = if page.len() > most { page.split_off(most) } else { Vec::new() };
    if mode == CatchUpMode::Off {
        report.clear();
    }
    MissingAlerts { page, report, summarize, ..MissingAlerts::default() }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn at(minutes: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::minutes(minutes)
    }

    fn firing(issue: u64, minutes: i64) -> Firing {
        firing_of(&json!({"id": issue, "status": "unresolved"}), minutes)
    }

    fn firing_of(issue: &Value, minutes: i64) -> Firing {
        Firing {
            issue: serde_json::from_value(issue.clone()).unwrap(),
            at: at(minutes),
            event_id: None,
            alerts: vec!["Page".to_owned()],
            is_exact: true,
            by_plugin: false,
        }
    }

    fn ids(firings: &[Firing]) -> Vec<&str> {
        firings.iter().map(|firing| firing.issue.id.as_str()).collect()
    }

    fn key(issue: &str) -> IncidentKey {
        IncidentKey::parse(issue).unwrap()
    }

    #[test]
    fn a_window_begins_before_the_end_of_the_last_one_and_leaves_out_what_is_under_way() {
        let run = CatchUpRun { until: at(100), ..CatchUpRun::default() };
        let expected = Some(TimeWindow { from: at(90), until: at(158) });
        assert_eq!(window(Some(&run), Some(at(150)), at(160)), expected);
        assert_eq!(window(None, Some(at(100)), at(160)), expected);
        assert_eq!(window(None, None, at(160)), None);
        assert_eq!(window(Some(&run), None, at(20_000)).unwrap().from, at(20_000) - LONGEST);
        // The clock was ahead when the end of the last window was stored, so what was asked for is not known.
        assert_eq!(window(Some(&run), None, at(50)), Some(TimeWindow { from: at(50) - LONGEST, until: at(48) }));
        assert_eq!(window(None, Some(at(100)), at(50)).unwrap().from, at(50) - LONGEST);
    }

    #[test]
    fn an_issue_that_several_alerts_fired_for_is_one_firing() {
        let other = Firing { alerts: vec!["Other".to_owned()], event_id: Some("e".to_owned()), ..firing(7, 5) };
        let guess = Firing { is_exact: false, ..firing(7, 9) };
        let joined = joined(vec![firing(8, 6), firing(7, 3), other, guess]);
        assert_eq!(ids(&joined), ["7", "8"]);
        assert_eq!((joined[0].at, joined[0].event_id.as_deref(), joined[0].is_exact), (at(5), Some("e"), true));
        assert_eq!(joined[0].alerts, ["Page", "Other"]);
    }

    #[test]
    fn what_came_or_was_dealt_with_or_is_not_open_is_not_missing() {
        let known = KnownIncidents {
            triggers: [(key("p-1"), at(10)), (key("p-2"), at(8)), (key("p-3"), at(9))].into(),
            dealt: [(key("p-4"), at(10)), (key("p-5"), at(9))].into(),
        };
        let closed = |id: u64, status: &str| firing_of(&json!({"id": id, "status": status}), 10);
        let firings = (1..=6).map(|issue| firing(issue, 10));
        let firings = firings.chain([closed(7, "resolved"), closed(8, "ignored"), closed(9, "pending_deletion")]);
        let missing = missing(firings.collect(), "p-", &known);
        assert_eq!(ids(&missing), ["2", "5", "6"]);
    }

    #[test]
    fn guesses_page_nobody_and_a_bounded_number_has_events_of_their_own() {
        let guess = Firing { is_exact: false, ..firing(9, 1) };
        let missing = || vec![firing(1, 1), firing(2, 2), firing(3, 3), guess.clone()];
        let sorted = |mode| {
            let MissingAlerts { page, report, summarize, .. } = sort(missing(), mode, 2);
            [page, report, summarize].map(|firings| ids(&firings).join(" "))
        };
        assert_eq!(sorted(CatchUpMode::Page), ["1 2", "9", "3"]);
        assert_eq!(sorted(CatchUpMode::Report), ["", "1 2 3 9", ""]);
        assert_eq!(sorted(CatchUpMode::Off), ["", "", ""]);
    }
}
