//! Asks Sentry about the issues whose incidents are open, and resolves those whose resolve never came.
//!
//! Sentry sends no webhook when it closes the issue of a cron monitor, an uptime check or a metric by itself, nor when an
//! issue is deleted or merged. The webhook of a resolve may also be lost, like any other.
//!
//! - [`decide`](mod@decide): what to do, given what Sentry says, and when it is asked again; pure
//! - this file: the task that asks, two issues a second at most

pub mod decide;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::convert::Infallible;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use log::{Level, info};
use serde_json::json;
use tokio::time::sleep;

use crate::alert::{Alert, SentryId, Subject};
use crate::backoff::Backoff;
use crate::cluster::IsLeader;
use crate::ingest::{Decision, Ingest};
use crate::logging::log_throttled;
use crate::metrics::{IssueCheck, Metrics};
use crate::pagerduty::IncidentKey;
use crate::queue::external::{IssueNote, SentryNotes};
use crate::queue::{Enqueued, Queue};
use crate::sentry::resolved_alert;
use crate::sentry_api::types::IssueRoute;
use crate::sentry_api::{SentryApiError, SentryClient, SentryTaskError, issue_route, optional};
use decide::{IncidentContext, IncidentSubject, decide, pause, subject};

/// How often the task looks for due incidents.
const TICK: Duration = Duration::from_secs(2);

/// How often the open incidents are read.
const REFRESH: Duration = Duration::from_secs(20);

/// The most incidents that are watched: the ones that changed last.
const MOST: u32 = 5_000;

/// The most incidents that are checked in one tick, and the pause between two of them: Sentry allows five a second.
const BATCH: usize = 4;
const BETWEEN: Duration = Duration::from_millis(450);

/// The pause after a failure.
const RETRY: Backoff = Backoff { first: Duration::from_secs(15), ceiling: Duration::from_mins(10) };

/// After this time the note that Sentry has shown an issue is written again, so that it does not expire.
const NOTE_AGAIN: TimeDelta = TimeDelta::days(30);

/// The most metric detectors whose open periods are fetched.
const MOST_DETECTORS: usize = 100;

/// An open incident.
#[derive(Clone, Copy, Debug)]
struct WatchedIncident {
    since: DateTime<Utc>,
    /// When it is checked next, on the task's own clock.
    due: Duration,
    /// When it was last noted that Sentry has shown its issue.
    seen_at: Option<DateTime<Utc>>,
}

/// The task that asks Sentry about the issues of open incidents.
pub struct IssueStatusTask {
    api: SentryClient,
    ingest: Ingest,
    queue: Queue,
    metrics: Metrics,
    is_leader: IsLeader,
    began: Instant,
    route: Option<IssueRoute>,
    watched: BTreeMap<IncidentKey, WatchedIncident>,
    is_first: bool,
}

impl IssueStatusTask {
    /// A task that asks `api` and enqueues in `queue`. If several bridges share a queue, only the leader does anything.
    #[must_use]
    pub fn new(api: SentryClient, ingest: Ingest, queue: Queue, metrics: Metrics, is_leader: IsLeader) -> Self {
        let (began, watched) = (Instant::now(), BTreeMap::new());
        Self { api, ingest, queue, metrics, is_leader, began, route: None, watched, is_first: true }
    }

    /// Asks Sentry until the future is dropped.
    pub async fn run(mut self) -> Infallible {
        let (mut refreshed, mut failures) = (None, 0_u32);
        loop {
            let now = self.began.elapsed();
            let is_stale = refreshed.is_none_or(|at: Duration| now.saturating_sub(at) >= REFRESH);
            let mut done = Ok(());
            if (self.is_leader)() && self.queue.can_commit() {
                if is_stale {
                    done = self.refresh(now, Utc::now()).await;
                    refreshed = Some(now);
                }
                if done.is_ok() {
                    done = self.check_due(now).await;
                }
            }
            match done {
                Ok(()) => {
                    failures = 0;
                    sleep(TICK).await;
                }
                Err(error) => {
                    self.failed(&error);
                    failures += 1;
                    sleep(RETRY.pause(failures)).await;
                }
            }
        }
    }

    /// Loads the open incidents. Those that were open when the bridge started are due at once.
    async fn refresh(&mut self, now: Duration, at: DateTime<Utc>) -> Result<(), SentryTaskError> {
        let prefix = self.ingest.incident_key_prefix().to_owned();
        let open = self.queue.reader().open_incidents(MOST).await?;
        let open: HashMap<_, _> = open
            .into_iter()
            .filter(|incident| subject(incident.incident_key.as_str(), &prefix).is_some())
            .map(|incident| (incident.incident_key, incident.since))
            .collect();
        self.watched.retain(|key, _| open.contains_key(key));
        let new: Vec<_> = open.keys().filter(|key| !self.watched.contains_key(*key)).cloned().collect();
        let notes = self.queue.reader().sentry_issues(&new).await?.into_iter();
        let notes: HashMap<_, _> = notes.map(|note| (note.incident_key, note.seen_at)).collect();
        for key in new {
            let since = open[&key];
            let due = if self.is_first { now } else { now + pause(at - since) };
            let seen_at = notes.get(&key).copied().flatten();
            self.watched.insert(key, WatchedIncident { since, due, seen_at });
        }
        self.is_first = false;
        Ok(())
    }

    /// Checks the due incidents, the most overdue first.
    async fn check_due(&mut self, now: Duration) -> Result<(), SentryTaskError> {
        let mut due: Vec<_> = self.watched.iter().filter(|(_, watched)| watched.due <= now).collect();
        due.sort_by_key(|(_, watched)| watched.due);
        let due: Vec<IncidentKey> = due.into_iter().take(BATCH).map(|(key, _)| key.clone()).collect();
        let (mut notes, mut periods) = (Vec::new(), None);
        let mut done = Ok(());
        for (number, key) in due.into_iter().enumerate() {
            if number > 0 {
                sleep(BETWEEN).await;
            }
            let at = Utc::now();
            let checked = self.check(&key, at, &mut notes, &mut periods).await;
            let is_checked = checked.is_ok();
            match checked {
                // One issue that Sentry does not show must not keep the others from being checked.
                Err(SentryTaskError::Sentry(error)) if error.is_about_one_thing() => self.failed(&error),
                checked => done = checked,
            }
            // Also after an error that ends this round: if it comes back for this issue alone, the others are checked first.
            if let Some(watched) = self.watched.get_mut(&key) {
                let pause = if is_checked { pause(at - watched.since) } else { RETRY.first };
                watched.due = self.began.elapsed() + pause;
            }
            if done.is_err() {
                break;
            }
        }
        if !notes.is_empty() {
            self.queue.write_sentry_notes(SentryNotes { at: Utc::now(), run: None, issues: notes }).await?;
        }
        done
    }

    fn failed(&self, error: &dyn std::error::Error) {
        self.metrics.count_issue_check(IssueCheck::Failed);
        log_throttled!(
            Level::Warn, "issues could not be asked for";
            "whether open incidents are resolved in Sentry is not known: {error}"
        );
    }

    async fn check(
        &mut self,
        key: &IncidentKey,
        at: DateTime<Utc>,
        notes: &mut Vec<IssueNote>,
        periods: &mut Option<HashSet<u64>>,
    ) -> Result<(), SentryTaskError> {
        let prefix = self.ingest.incident_key_prefix().to_owned();
        let Some(name) = key.as_str().strip_prefix(&prefix) else { return Ok(()) };
        let is_over = match subject(key.as_str(), &prefix) {
            None => return Ok(()),
            Some(IncidentSubject::Issue(id)) => return self.check_issue(key, id, at, notes).await,
            Some(IncidentSubject::Metric(identifier)) => {
                optional(self.api.is_metric_incident_closed(identifier).await)?.unwrap_or(false)
            }
            Some(IncidentSubject::Period(period)) => {
                let ended = match periods {
                    Some(ended) => ended,
                    None => periods.insert(self.ended_periods().await?),
                };
                ended.contains(&period)
            }
        };
        if is_over {
            let alert = alert_of("0", "the metric alert ended", at);
            let alert = alert.map(|alert| Alert { subject: Subject::Metric(name.to_owned()), ..alert });
            return self.resolve(key, alert, None, IssueCheck::Resolved).await;
        }
        self.metrics.count_issue_check(IssueCheck::Open);
        Ok(())
    }

    async fn check_issue(
        &mut self,
        key: &IncidentKey,
        id: &str,
        at: DateTime<Utc>,
        notes: &mut Vec<IssueNote>,
    ) -> Result<(), SentryTaskError> {
        let route = match self.route {
            Some(route) => route,
            None => *self.route.insert(issue_route(&self.api).await?),
        };
        let issue = match self.api.issue(id, route).await {
            Ok(issue) => Some(issue),
            Err(SentryApiError::Gone { status: 404, .. }) => {
                // If the organization is gone, or the token can no longer see it, Sentry answers 404 for everything.
                self.api.organization().await?;
                None
            }
            Err(error) => return Err(error.into()),
        };
        let mut context = IncidentContext::default();
        if let Some(watched) = self.watched.get_mut(key) {
            context.was_seen = watched.seen_at.is_some();
            let is_noted = watched.seen_at.is_some_and(|seen| at - seen < NOTE_AGAIN);
            if issue.is_some() && !is_noted {
                watched.seen_at = Some(at);
                notes.push(IssueNote { incident_key: key.clone(), fired_at: None, seen_at: Some(at) });
            }
        }
        if let Some(issue) = &issue
            && let Some(parent) = SentryId::new(&issue.id).filter(|parent| parent.as_str() != id)
        {
            let parent = IncidentKey::of_issue(self.ingest.incident_key_prefix(), &parent);
            context.parent_is_open = self.watched.contains_key(&parent);
        }
        let check = decide(id, issue.as_ref(), context);
        let (alert, resolved_at) = match (check, &issue) {
            (IssueCheck::Resolved, Some(issue)) => (resolved_alert(&issue.raw, at), issue.resolved_at),
            (IssueCheck::Merged, Some(issue)) => (alert_of(id, &format!("merged into issue {}", issue.id), at), None),
            (IssueCheck::Deleted, _) => (alert_of(id, "the issue was deleted", at), None),
            _ => {
                self.metrics.count_issue_check(IssueCheck::Open);
                return Ok(());
            }
        };
        // The subject is the incident's own issue, whichever issue it was merged into.
        let alert = alert.and_then(|alert| Some(Alert { subject: Subject::Issue(SentryId::new(id)?), ..alert }));
        self.resolve(key, alert, resolved_at, check).await
    }

    /// Enqueues the resolve that the webhook would have become.
    async fn resolve(
        &self,
        key: &IncidentKey,
        alert: Option<Alert>,
        resolved_at: Option<DateTime<Utc>>,
        kind: IssueCheck,
    ) -> Result<(), SentryTaskError> {
        self.metrics.count_issue_check(kind);
        let Some(alert) = alert else { return Ok(()) };
        let decision = self.ingest.decide_on_fetched(alert, resolved_at, Utc::now());
        let Decision::Enqueue(enqueue) = decision else { return Ok(()) };
        let incident = key.as_str();
        match self.queue.enqueue(enqueue).await? {
            Enqueued::Queued(events) => {
                let event = events.first().map_or(0, |event| event.id.get());
                info!(event, incident; "an issue is {} in Sentry and no webhook said so: its resolve is enqueued", kind.name());
            }
            Enqueued::Ignored(_) => {}
        }
        Ok(())
    }

    /// The numbers of the open periods of metric issues that have ended.
    async fn ended_periods(&self) -> Result<HashSet<u64>, SentryTaskError> {
        let detectors = optional(self.api.detectors().await)?.unwrap_or_default();
        let metrics: Vec<_> = detectors.into_iter().filter(|detector| detector.kind == "metric_issue").collect();
        if metrics.len() > MOST_DETECTORS {
            log_throttled!(
                Level::Warn, "metric monitors were not asked for";
                "only {MOST_DETECTORS} of {} metric monitors are asked whether they are resolved",
                metrics.len()
            );
        }
        let mut ended = HashSet::new();
        for detector in metrics.into_iter().take(MOST_DETECTORS) {
            ended.extend(optional(self.api.ended_periods(&detector.id).await)?.unwrap_or_default());
        }
        Ok(ended)
    }
}

/// Makes the alert of a resolve for which there is no issue from Sentry; `what` becomes its title.
fn alert_of(id: &str, what: &str, at: DateTime<Utc>) -> Option<Alert> {
    resolved_alert(&json!({"id": id, "title": what}), at)
}
