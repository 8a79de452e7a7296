//! One run: asks Sentry what fired, subtracts what is known, and enqueues or reports the rest.

use std::future::Future;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, SubsecRound, TimeDelta, Utc};
use indexmap::IndexMap;
use log::warn;
use serde_json::Value;
use tokio::time::sleep;

use super::plan::{KnownIncidents, MissingAlerts, missing, sort};
use super::source::FiringSearch;
use crate::config::CatchUpMode;
use crate::ingest::{Decision, Ingest};
use crate::pagerduty::event::{BRIDGE_CLIENT, Detail, EventAction, HAPPENED_AT, Trigger};
use crate::pagerduty::{Description, Event, IncidentKey, ServiceKey};
use crate::queue::external::{CatchUpRun, IssueNote, SentryNotes};
use crate::queue::{Editor, EnqueueRequest, Enqueued, Envelope, Queue, QueueError, Reader};
use crate::sentry::fetched_alert;
use crate::sentry_api::address::BridgeAddress;
use crate::sentry_api::inventory::{InventoryOptions, read};
use crate::sentry_api::types::{AlertSystem, Firing, IssueRoute, SentryIssue, TimeWindow};
use crate::sentry_api::{SentryApiError, SentryClient, SentryTaskError};

/// How many missing alerts of one run get an event of their own; the rest share one event.
pub const MOST_EVENTS: usize = 100;

/// The pause between two issues that are requested from Sentry, which allows five a second.
const BETWEEN: Duration = Duration::from_millis(100);

/// How many issues the summarizing event names.
const MOST_NAMED: usize = 50;

/// The name in the incident key of the summarizing event.
const SUMMARY: &str = "catch-up";

/// Where a run enqueues what it finds: the queue of a running bridge, or the database itself, beside a running bridge.
pub trait Sink {
    /// Commits an event.
    fn enqueue(&mut self, enqueue: EnqueueRequest) -> impl Future<Output = Result<Enqueued, QueueError>>;

    /// Commits what was learned from Sentry.
    fn note(&mut self, notes: SentryNotes) -> impl Future<Output = Result<(), QueueError>>;
}

impl Sink for Queue {
    async fn enqueue(&mut self, enqueue: EnqueueRequest) -> Result<Enqueued, QueueError> {
        Self::enqueue(self, enqueue).await
    }

    async fn note(&mut self, notes: SentryNotes) -> Result<(), QueueError> {
        self.write_sentry_notes(notes).await
    }
}

impl Sink for Editor {
    async fn enqueue(&mut self, enqueue: EnqueueRequest) -> Result<Enqueued, QueueError> {
        self.admit(enqueue).await
    }

    async fn note(&mut self, notes: SentryNotes) -> Result<(), QueueError> {
        self.write_sentry_notes(notes).await
    }
}

/// What a run works with.
pub struct CatchUp<'a> {
    /// Sentry.
    pub api: &'a SentryClient,
    /// Decides on missing alerts as it does on webhooks.
    pub ingest: &'a Ingest,
    /// Reads what the bridge knows already.
    pub reader: &'a Reader,
    /// Which addresses in Sentry are the bridge's.
    pub bridge: &'a BridgeAddress,
    /// What is done about missing alerts.
    pub mode: CatchUpMode,
    /// Whether rules or workflows decide, on a Sentry that answers for both; `None`: its version decides.
    pub alerts: Option<AlertSystem>,
    /// The service key of the summarizing event.
    pub summary_key: &'a ServiceKey,
}

/// What became of one missing alert.
#[derive(Clone, Debug, PartialEq)]
pub enum CatchUpOutcome {
    /// The events that were enqueued, or the waiting events into which the alert was folded.
    Enqueued(Vec<crate::queue::EventId>),
    /// No event is needed, for this reason: its webhook has come meanwhile, its issue was resolved or deleted, or the
    /// settings do not let it page.
    NotNeeded(String),
}

impl CatchUp<'_> {
    /// Finds the alerts that fired within `window` and are missing.
    ///
    /// # Errors
    ///
    /// When Sentry does not answer or the queue cannot be read.
    pub async fn find(&self, window: TimeWindow) -> Result<MissingAlerts, SentryTaskError> {
        let inventory =
            read(self.api, InventoryOptions { alerts: self.alerts, hooks: false, new_issues: false }).await?;
        let mut search = FiringSearch::new(self.api, &inventory, self.bridge, window);
        search.run().await?;
        let FiringSearch { firings, is_exact, unseen, .. } = search;
        let prefix = self.ingest.incident_key_prefix();
        let keys: Vec<IncidentKey> = firings.iter().filter_map(|firing| firing.incident_key(prefix)).collect();
        let since = window.from - TimeDelta::minutes(1);
        let notes = self.reader.sentry_issues(&keys).await?.into_iter();
        let known = KnownIncidents {
            triggers: self.reader.last_triggers(&keys, since).await?,
            dealt: notes.filter_map(|note| Some((note.incident_key, note.fired_at?))).collect(),
        };
        let fired = firings.len();
        let missing = missing(firings, prefix, &known);
        // Alerts that the settings ignore are not missing.
        let missing = missing.into_iter().filter(|firing| self.may_page(firing)).collect();
        let route = if inventory.has_apps { IssueRoute::Organization } else { IssueRoute::Global };
        Ok(MissingAlerts { fired, is_exact, unseen, route: Some(route), ..sort(missing, self.mode, MOST_EVENTS) })
    }

    /// Whether the issue's webhook would have paged, as far as the issue alone shows.
    fn may_page(&self, firing: &Firing) -> bool {
        let alert = fetched_alert(&firing.issue.raw, None, firing.alerts.clone(), firing.by_plugin, firing.at);
        alert
            .is_some_and(|alert| matches!(self.ingest.decide_on_fetched(alert, None, Utc::now()), Decision::Enqueue(_)))
    }

    /// Carries out what was found, calls `tell` with the outcome of each alert of `MissingAlerts::page`, and returns the counts
    /// of the run. `until` is the end of the window.
    ///
    /// # Errors
    ///
    /// When Sentry does not answer or nothing can be committed. What was done until then stays, and is not done again.
    pub async fn carry_out(
        &self,
        found: &MissingAlerts,
        until: DateTime<Utc>,
        sink: &mut impl Sink,
        mut tell: impl FnMut(&Firing, &CatchUpOutcome),
    ) -> Result<CatchUpRun, SentryTaskError> {
        let mut run = CatchUpRun { until, ..CatchUpRun::default() };
        for (number, firing) in found.page.iter().enumerate() {
            if number > 0 {
                sleep(BETWEEN).await;
            }
            let outcome = self.enqueue(firing, found.route.unwrap_or(IssueRoute::Organization), sink).await?;
            if matches!(outcome, CatchUpOutcome::Enqueued(_)) {
                run.enqueued += 1;
            }
            self.note(std::slice::from_ref(firing), sink).await?;
            tell(firing, &outcome);
        }
        if !found.summarize.is_empty() {
            self.summarize(&found.summarize, sink).await?;
            run.summarized = found.summarize.len() as u64;
            self.note(&found.summarize, sink).await?;
        }
        self.note(&found.report, sink).await?;
        run.reported = found.report.len() as u64;
        run.found = run.enqueued + run.summarized + run.reported;
        run.ran_at = Utc::now();
        Ok(run)
    }

    async fn note(&self, firings: &[Firing], sink: &mut impl Sink) -> Result<(), SentryTaskError> {
        if firings.is_empty() {
            return Ok(());
        }
        let (prefix, at) = (self.ingest.incident_key_prefix(), Utc::now());
        let note = |firing: &Firing| {
            let incident_key = firing.incident_key(prefix)?;
            Some(IssueNote { incident_key, fired_at: Some(firing.at), seen_at: Some(at) })
        };
        let issues = firings.iter().filter_map(note).collect();
        Ok(sink.note(SentryNotes { at, run: None, issues }).await?)
    }

    /// Enqueues the event that the webhook would have become, unless the issue is no longer open.
    async fn enqueue(
        &self,
        firing: &Firing,
        route: IssueRoute,
        sink: &mut impl Sink,
    ) -> Result<CatchUpOutcome, SentryTaskError> {
        let not_needed = |why: &str| Ok(CatchUpOutcome::NotNeeded(why.to_owned()));
        let issue = match self.api.issue(&firing.issue.id, route).await {
            Ok(issue) => issue,
            Err(SentryApiError::Gone { status: 404, .. }) => {
                // A renamed organization and a proxy while Sentry restarts are answered 404 for everything.
                self.api.organization().await?;
                return not_needed("Sentry has deleted the issue");
            }
            // One issue that Sentry does not show must not keep the others from being enqueued.
            Err(error) if self.is_about_one_thing(&error).await => firing.issue.clone(),
            Err(error) => return Err(error.into()),
        };
        if !issue.is_unresolved() {
            return not_needed("the issue is not open any more");
        }
        let event = self.event(firing, &issue, route).await?;
        let now = Utc::now();
        // The plugin sends one webhook for an event, whichever alerts fired; the platform sends one for each alert.
        let alerts = if firing.by_plugin {
            vec![firing.alerts.clone()]
        } else {
            firing.alerts.iter().map(|name| vec![name.clone()]).collect()
        };
        let (mut events, mut why) = (Vec::new(), "its webhook has come meanwhile".to_owned());
        for names in alerts {
            let alert = fetched_alert(&issue.raw, event.as_ref(), names, firing.by_plugin, firing.at);
            let Some(mut alert) = alert else { return not_needed("Sentry does not say which issue it is") };
            alert.facts.push(("caught_up", late(firing.at, now)));
            let sentry_at = alert.received_by_sentry_at.filter(|at| *at <= now);
            match self.ingest.decide_on_fetched(alert, sentry_at, now) {
                Decision::Enqueue(enqueue) => {
                    if let Enqueued::Queued(accepted) = sink.enqueue(*enqueue).await? {
                        events.extend(accepted.into_iter().map(|accepted| accepted.id));
                    }
                }
                Decision::Ignored(reason) => why = reason.to_string(),
                // An alert that has been parsed is not rejected.
                Decision::Rejected(_) => {}
            }
        }
        Ok(if events.is_empty() { CatchUpOutcome::NotNeeded(why) } else { CatchUpOutcome::Enqueued(events) })
    }

    /// Returns the event of the firing, or else the newest event of the issue; `None` if Sentry shows neither.
    async fn event(
        &self,
        firing: &Firing,
        issue: &SentryIssue,
        route: IssueRoute,
    ) -> Result<Option<Value>, SentryTaskError> {
        let id = firing.event_id.as_deref().filter(|id| id.len() == 32);
        if let (Some(id), Some(project)) = (id, &issue.project)
            && let Some(event) = self.shown(self.api.event(project, id).await).await?
        {
            return Ok(Some(event));
        }
        Ok(self.shown(self.api.latest_event(&issue.id, route).await).await?)
    }

    /// Returns `None` if Sentry does not show the event, for whatever reason: the issue alone is worth a page.
    async fn shown<T>(&self, answer: Result<T, SentryApiError>) -> Result<Option<T>, SentryApiError> {
        match answer {
            Ok(value) => Ok(Some(value)),
            Err(error) if self.is_about_one_thing(&error).await => {
                warn!("a missing alert is enqueued without its event: {error}");
                Ok(None)
            }
            Err(error) => Err(error),
        }
    }

    /// Whether the next call may succeed all the same. A call without an answer may be about one thing as well, such as an
    /// event that Sentry takes too long to load; then Sentry shows the organization.
    async fn is_about_one_thing(&self, error: &SentryApiError) -> bool {
        let is_unanswered = matches!(error, SentryApiError::Timeout { .. } | SentryApiError::Unreachable { .. });
        error.is_about_one_thing() || is_unanswered && self.api.organization().await.is_ok()
    }

    /// Enqueues one event for all of `rest`.
    async fn summarize(&self, rest: &[Firing], sink: &mut impl Sink) -> Result<(), SentryTaskError> {
        let now = Utc::now();
        let line = format!(
            "{BRIDGE_CLIENT}: Sentry fired alerts for {} more issues that never reached the bridge; look at them in Sentry",
            rest.len()
        );
        let Some(description) = Description::new(&line) else { return Ok(()) };
        let named = rest.iter().take(MOST_NAMED).map(|firing| {
            let page = firing.issue.permalink.as_deref().unwrap_or(&firing.issue.id);
            format!("{} {page}", firing.issue.title)
        });
        let details = IndexMap::from([
            ("issues", Detail::Number(rest.len() as u64)),
            (HAPPENED_AT, Detail::Text(now.to_rfc3339_opts(SecondsFormat::Secs, true))),
            ("first_of_them", Detail::List(named.collect())),
        ]);
        let event = Event {
            destination: self.ingest.destination(self.summary_key),
            incident_key: IncidentKey::of_alarm(self.ingest.incident_key_prefix(), SUMMARY),
            action: EventAction::Trigger(Trigger::of_bridge(description, details)),
        };
        sink.enqueue(EnqueueRequest::event(Envelope::new(&event, now))).await?;
        warn!("{line}");
        Ok(())
    }
}

/// How late an alert is, for its details.
fn late(fired_at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let seconds = (now - fired_at).num_seconds().max(0).unsigned_abs();
    let late = humantime::format_duration(Duration::from_secs(seconds));
    let at = fired_at.trunc_subsecs(0).to_rfc3339_opts(SecondsFormat::Secs, true);
    format!("its webhook did not come; found in Sentry {late} after it fired at {at}")
}
