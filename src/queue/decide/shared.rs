//! Incidents that several issues share: each issue keeps the incident open until the issue is resolved.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};

use super::{QueueRef, owned};
use crate::pagerduty::IncidentKey;
use crate::queue::store::{Known, QueueKey, SharedIssue};

/// An issue of a shared incident.
type MemberRef<'b> = (&'b IncidentKey, QueueRef<'b>);

/// The issues of shared incidents while a batch is decided.
pub(super) struct SharedIssues<'b> {
    states: BTreeMap<MemberRef<'b>, SharedIssue>,
    /// The issues that this batch changes.
    changed: BTreeSet<MemberRef<'b>>,
    /// The shared incidents in which other issues than those in `states` are open.
    open_otherwise: &'b BTreeSet<QueueKey>,
}

impl<'b> SharedIssues<'b> {
    pub(super) fn new(known: &'b Known) -> Self {
        let states = known
            .members
            .iter()
            .map(|((issue_key, queue), member)| ((issue_key, (&queue.incident_key, &queue.service_key)), *member));
        Self { states: states.collect(), changed: BTreeSet::new(), open_otherwise: &known.open_otherwise }
    }

    /// The shared incidents that an issue is or was open in.
    pub(super) fn of(&self, issue_key: &IncidentKey) -> Vec<(QueueRef<'b>, SharedIssue)> {
        let of_issue = self.states.iter().filter(|((key, _), _)| *key == issue_key);
        of_issue.map(|((_, queue), member)| (*queue, *member)).collect()
    }

    /// Marks an issue as open, because an alert of it was received.
    pub(super) fn open(
        &mut self,
        issue_key: &'b IncidentKey,
        queue: QueueRef<'b>,
        received_at: DateTime<Utc>,
        sentry_at: Option<DateTime<Utc>>,
    ) {
        let member = (issue_key, queue);
        let before = self.states.get(&member);
        let received_at = before.map_or(received_at, |before| before.received_at.max(received_at));
        let sentry_at = before.and_then(|before| before.sentry_at).max(sentry_at);
        self.states.insert(member, SharedIssue { is_open: true, received_at, sentry_at });
        self.changed.insert(member);
    }

    /// Marks an issue as resolved.
    pub(super) fn close(&mut self, issue_key: &'b IncidentKey, queue: QueueRef<'b>) {
        let member = (issue_key, queue);
        if let Some(state) = self.states.get_mut(&member)
            && state.is_open
        {
            state.is_open = false;
            self.changed.insert(member);
        }
    }

    /// Whether any issue is open in an incident.
    pub(super) fn keep_open(&self, queue: QueueRef<'b>) -> bool {
        self.states.iter().any(|((_, other), member)| *other == queue && member.is_open)
            || self.open_otherwise.contains(&owned(queue))
    }

    pub(super) fn into_changes(self) -> Vec<(&'b IncidentKey, QueueKey, SharedIssue)> {
        let states = &self.states;
        let changes = self.changed.iter().filter_map(|member| Some((member.0, owned(member.1), *states.get(member)?)));
        changes.collect()
    }
}
