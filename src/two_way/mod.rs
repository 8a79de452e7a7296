//! Two-way updates: what people do to an incident in PagerDuty, the bridge does to its issue in Sentry.
//!
//! ```text
//!  PagerDuty ──POST /pagerduty──▶ web ──▶ webhook ──▶ queue ──▶ TwoWayTask ──▶ Sentry's API
//!                                         pure        committed, then answered
//! ```
//!
//! - [`webhook`]: whether a webhook asks for an update; pure
//! - this file: which of Sentry's webhooks is an echo of such an update; the task that makes the update, and retries it
//!   until Sentry has answered
//!
//! There are no loops. A change that the bridge or an automation made in PagerDuty names no person and is not passed on. A
//! change that the bridge made in Sentry comes back as `issue.resolved`, whose incident is closed already, or as
//! `issue.unresolved`, which is [recognised](TwoWaySettings::is_echo). An issue that already has the wanted status is not
//! changed.

pub mod webhook;

use std::collections::HashMap;
use std::convert::Infallible;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use log::{Level, error, info, warn};
use tokio::time::sleep;

use crate::backoff::Backoff;
use crate::cluster::IsLeader;
use crate::logging::log_throttled;
use crate::metrics::{Metrics, UpdateOutcome};
use crate::pagerduty::EventType;
use crate::queue::{EnqueueRequest, IssueUpdate, IssueUpdateChange, Queue, QueueError, StatusChange, UpdateEnd};
use crate::sentry_api::types::IssueRoute;
use crate::sentry_api::{SentryApiError, SentryClient, issue_route};
use webhook::TwoWaySettings;

/// A webhook `issue.unresolved` that arrives within this time after the bridge unresolved the issue is an echo of that
/// update.
const UNRESOLVE_ECHO: TimeDelta = TimeDelta::minutes(10);

impl TwoWaySettings {
    /// Whether a webhook about an unresolved issue is an echo: the bridge itself unresolved the issue, because its incident
    /// was reopened in PagerDuty, where it is already open.
    pub async fn is_echo(&self, queue: &Queue, request: &EnqueueRequest) -> bool {
        let EnqueueRequest::FollowUp(follow_up) = request else { return false };
        if follow_up.event_type() != EventType::Trigger || !self.reopens {
            return false;
        }
        let since = follow_up.received_at - UNRESOLVE_ECHO;
        // If the queue cannot be read, one extra event does no harm.
        queue.reader().was_updated(&follow_up.incident_key, StatusChange::Unresolve, since).await.unwrap_or(false)
    }
}

/// How often the task looks for updates.
const TICK: Duration = Duration::from_secs(1);

/// The pause after a failed attempt.
const RETRY: Backoff = Backoff { first: Duration::from_secs(5), ceiling: Duration::from_mins(10) };

/// The most attempts for an update, which take about four hours.
const ATTEMPTS: u32 = 30;

/// If an update is older than this and the issue has had another event since the person resolved the incident, the issue is
/// not resolved: the person did not know of that event.
const LATE: TimeDelta = TimeDelta::minutes(5);

/// The task that does in Sentry what people did in PagerDuty.
pub struct TwoWayTask {
    api: SentryClient,
    queue: Queue,
    metrics: Metrics,
    /// The prefix of the issue's number in incident keys.
    prefix: String,
    is_leader: IsLeader,
    route: Option<IssueRoute>,
}

impl TwoWayTask {
    /// A task that makes the updates that wait in `queue`, through `api`. If several bridges share a queue, only the
    /// leader does anything.
    #[must_use]
    pub fn new(api: SentryClient, queue: Queue, metrics: Metrics, prefix: String, is_leader: IsLeader) -> Self {
        Self { api, queue, metrics, prefix, is_leader, route: None }
    }

    /// Makes updates until the future is dropped.
    pub async fn run(mut self) -> Infallible {
        loop {
            if (self.is_leader)()
                && let Err(error) = self.run_once(Utc::now()).await
            {
                log_throttled!(
                    Level::Warn, "updates of issues were not read or written";
                    "what people did in PagerDuty is not passed on to Sentry for now: {error}"
                );
            }
            sleep(TICK).await;
        }
    }

    async fn run_once(&mut self, now: DateTime<Utc>) -> Result<(), QueueError> {
        let waiting = self.queue.reader().issue_updates().await?;
        let (newest, superseded) = newest_of_each(waiting);
        for update in superseded {
            let reason = Some("the incident was changed again in PagerDuty".to_owned());
            self.end(&update, UpdateEnd::Done, reason).await?;
            self.metrics.count_issue_update(UpdateOutcome::Superseded);
        }
        for update in newest.into_iter().filter(|update| update.next_attempt_at <= now) {
            self.attempt(&update).await?;
        }
        Ok(())
    }

    async fn attempt(&mut self, update: &IssueUpdate) -> Result<(), QueueError> {
        let incident = update.incident_key.as_str();
        let Some(issue) = incident.strip_prefix(&self.prefix) else {
            let reason = Some("BRIDGE_INCIDENT_KEY_PREFIX was changed".to_owned());
            return self.end(update, UpdateEnd::Dead, reason).await;
        };
        let (in_pagerduty, in_sentry) = (update.change.in_pagerduty(), update.change.in_sentry());
        let failure = match self.change(issue, update).await {
            Ok(None) => {
                info!(incident; "the issue is {in_sentry} in Sentry, because a person {in_pagerduty} its incident in PagerDuty");
                self.metrics.count_issue_update(UpdateOutcome::Done);
                return self.end(update, UpdateEnd::Done, None).await;
            }
            Ok(Some(why)) => {
                info!(incident; "a person {in_pagerduty} the incident in PagerDuty, and nothing is changed in Sentry: {why}");
                self.metrics.count_issue_update(UpdateOutcome::NotNeeded);
                return self.end(update, UpdateEnd::Done, Some(why.to_owned())).await;
            }
            Err(error) => error,
        };
        let attempts = update.attempts + 1;
        if attempts >= ATTEMPTS {
            error!(
                incident, attempts;
                "a person {in_pagerduty} the incident in PagerDuty, and its issue could not be changed in Sentry: {failure}; do it there \
                 by hand"
            );
            self.metrics.count_issue_update(UpdateOutcome::Dead);
            return self.end(update, UpdateEnd::Dead, Some(failure.to_string())).await;
        }
        self.metrics.count_issue_update(UpdateOutcome::Failed);
        log_throttled!(
            Level::Warn, "issues could not be changed in Sentry", incident, attempts;
            "the issue could not be {in_sentry} in Sentry, which is retried: {failure}"
        );
        let (webhook_id, reason) = (update.webhook_id.clone(), failure.to_string());
        let next_attempt_at = Utc::now() + RETRY.pause(attempts);
        self.queue
            .record_issue_update(IssueUpdateChange::Failed { webhook_id, next_attempt_at, reason })
            .await
            .map(drop)
    }

    /// Changes the issue. Returns the reason if there is nothing to change.
    async fn change(&mut self, issue: &str, update: &IssueUpdate) -> Result<Option<&'static str>, SentryApiError> {
        let route = match self.route {
            Some(route) => route,
            None => *self.route.insert(issue_route(&self.api).await?),
        };
        match self.set_status(issue, route, update).await {
            Err(SentryApiError::Gone { status: 404, .. }) => {
                // A renamed organization and a proxy while Sentry restarts are answered 404 for everything.
                self.api.organization().await?;
                Ok(Some("Sentry has no such issue (any more)"))
            }
            done => done,
        }
    }

    async fn set_status(
        &self,
        issue: &str,
        route: IssueRoute,
        update: &IssueUpdate,
    ) -> Result<Option<&'static str>, SentryApiError> {
        let found = self.api.issue(issue, route).await?;
        let status = match update.change {
            StatusChange::Resolve if found.is_resolved() => return Ok(Some("it is resolved already")),
            StatusChange::Unresolve if found.is_unresolved() => return Ok(Some("it is unresolved already")),
            StatusChange::Resolve
                if Utc::now() - update.happened_at > LATE && found.last_seen > Some(update.happened_at) =>
            {
                return Ok(Some("it had another event since"));
            }
            change => change.in_sentry(),
        };
        // `found` is the issue into which this one was merged, if it was.
        self.api.set_issue_status(&found.id, route, status).await.map(|()| None)
    }

    async fn end(&self, update: &IssueUpdate, end: UpdateEnd, reason: Option<String>) -> Result<(), QueueError> {
        let (webhook_id, at) = (update.webhook_id.clone(), Utc::now());
        let is_news = self.queue.record_issue_update(IssueUpdateChange::Ended { webhook_id, at, end, reason }).await?;
        if !is_news {
            warn!(incident = update.incident_key.as_str(); "this issue update had ended meanwhile: by another bridge, or because the incident was reopened");
        }
        Ok(())
    }
}

/// Splits the updates into the newest of each incident, in the order in which they came, and those that it replaces. The
/// newest is what happened last, or came last of what happened at the same time.
fn newest_of_each(waiting: Vec<IssueUpdate>) -> (Vec<IssueUpdate>, Vec<IssueUpdate>) {
    let mut in_order: Vec<_> = waiting.iter().enumerate().collect();
    in_order.sort_by_key(|(_, update)| update.happened_at);
    let last: HashMap<_, _> =
        in_order.into_iter().map(|(place, update)| (update.incident_key.clone(), place)).collect();
    let (newest, superseded): (Vec<_>, Vec<_>) =
        waiting.into_iter().enumerate().partition(|(place, update)| last.get(&update.incident_key) == Some(place));
    let updates = |pairs: Vec<(usize, IssueUpdate)>| pairs.into_iter().map(|(_, update)| update).collect();
    (updates(newest), updates(superseded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pagerduty::IncidentKey;

    #[test]
    fn only_the_newest_change_of_an_incident_counts() {
        let update = |id: &str, key: &str, change| IssueUpdate {
            webhook_id: id.to_owned(),
            incident_key: IncidentKey::parse(key).unwrap(),
            change,
            happened_at: DateTime::UNIX_EPOCH,
            received_at: DateTime::UNIX_EPOCH,
            attempts: 0,
            next_attempt_at: DateTime::UNIX_EPOCH,
        };
        let waiting = vec![
            update("a", "1", StatusChange::Resolve),
            update("b", "2", StatusChange::Resolve),
            update("c", "1", StatusChange::Unresolve),
        ];
        let (newest, superseded) = newest_of_each(waiting);
        let ids = |updates: Vec<IssueUpdate>| updates.into_iter().map(|update| update.webhook_id).collect::<Vec<_>>();
        assert_eq!((ids(newest), ids(superseded)), (vec!["b".to_owned(), "c".to_owned()], vec!["a".to_owned()]));
        // PagerDuty sends a webhook that was not accepted again later, after those that came meanwhile.
        let late = update("late", "1", StatusChange::Resolve);
        let reopened = IssueUpdate {
            happened_at: late.happened_at + TimeDelta::seconds(1),
            ..update("reopened", "1", StatusChange::Unresolve)
        };
        let (newest, superseded) = newest_of_each(vec![reopened, late]);
        assert_eq!((ids(newest), ids(superseded)), (vec!["reopened".to_owned()], vec!["late".to_owned()]));
    }

    #[test]
    fn pauses_grow_to_ten_minutes_and_all_of_them_take_hours() {
        let pauses: Vec<_> = (1..ATTEMPTS).map(|attempts| RETRY.pause(attempts).as_secs()).collect();
        assert_eq!(&pauses[..9], [5, 10, 20, 40, 80, 160, 320, 600, 600]);
        let hours = pauses.iter().sum::<u64>() / 3600;
        assert_eq!(hours, 3, "and a bit");
    }
}
