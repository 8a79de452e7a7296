//! Asks Sentry what fired for the bridge within a window.
//!
//! Where Sentry keeps a record of firings (workflows, and rules from 22.12 on), the result is exact: the record is written
//! when an action is fired, whether or not the webhook arrived. Elsewhere it is a guess: new issues count as firings.

use std::collections::BTreeMap;

use super::plan::{Firing, joined};
use crate::sentry_api::audit::reach::{CANARY, Reach, Target};
use crate::sentry_api::inventory::{Alerts, Inventory, ProjectInventory};
use crate::sentry_api::ours::Bridge;
use crate::sentry_api::types::{Fired, Rule, Window, Workflow};
use crate::sentry_api::{Absent, ApiError, SentryApi};

/// Conditions that make a rule fire for a new issue. Source: `rules/conditions/` of 9.1.2 and 23.7.1.
const ON_NEW_ISSUES: [&str; 3] = ["FirstSeenEventCondition", "EveryEventCondition", "NewHighPriorityIssueCondition"];

/// What fired, with one entry for each issue, and what could not be queried.
#[derive(Clone, Debug, Default)]
pub(super) struct Sightings {
    /// What fired, in the order of time.
    pub(super) firings: Vec<Firing>,
    /// Whether Sentry recorded all of these firings.
    pub(super) is_exact: bool,
    /// What the token may not see, as sentences.
    pub(super) unseen: Vec<String>,
}

/// Sentry's answer.
enum Answer<T> {
    Given(T),
    /// Sentry has no such endpoint or object.
    Absent,
    /// The token may not see it.
    Unseen,
}

/// How an alert's webhooks reach the bridge.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Way {
    Integration,
    Plugin,
}

/// Asks for what fired within `window` and was meant for `bridge`.
///
/// # Errors
///
/// When Sentry does not answer; what the token may not see is left out.
pub(super) async fn sightings(
    api: &impl SentryApi,
    inventory: &Inventory,
    bridge: &Bridge,
    window: Window,
) -> Result<Sightings, ApiError> {
    let mut asking = Asking {
        api,
        inventory,
        reach: Reach::new(inventory, bridge),
        window,
        found: Sightings { is_exact: true, ..Sightings::default() },
    };
    match inventory.generation.alerts {
        Alerts::Workflows => asking.workflows().await?,
        Alerts::Rules => asking.rules().await?,
    }
    let mut found = asking.found;
    found.firings = joined(found.firings);
    Ok(found)
}

struct Asking<'a, A> {
    api: &'a A,
    inventory: &'a Inventory,
    reach: Reach<'a>,
    window: Window,
    found: Sightings,
}

impl<A: SentryApi> Asking<'_, A> {
    async fn workflows(&mut self) -> Result<(), ApiError> {
        let inventory = self.inventory;
        for workflow in &inventory.workflows {
            if !self.reach.names_bridge(workflow) {
                continue;
            }
            let Answer::Given(rows) = self.allow(self.api.workflow_history(&workflow.id, self.window).await)? else {
                continue;
            };
            let rows = rows.into_iter().filter(|fired| !is_of_activity(fired));
            let firings: Vec<_> = rows
                .filter_map(|fired| Some((self.way_of_workflow(workflow, &fired)?, fired)))
                .map(|(way, fired)| recorded(fired, &workflow.name, way))
                .collect();
            self.found.firings.extend(firings);
        }
        Ok(())
    }

    async fn rules(&mut self) -> Result<(), ApiError> {
        let mut keeps_history = true;
        for entry in &self.inventory.projects {
            let rules: Vec<_> = entry
                .rules
                .iter()
                .flatten()
                // The canary's rule pages nobody. Because of its condition for every event, it would be mistaken for a
                // rule that fires for all new issues.
                .filter(|rule| rule.name != CANARY)
                .filter_map(|rule| {
                    Some((rule, self.way(entry, rule.actions.iter().map(|a| self.reach.of_rule_action(a)))?))
                })
                .collect();
            let mut guessed: BTreeMap<&str, Way> = BTreeMap::new();
            for (rule, way) in &rules {
                let project = &entry.project.slug;
                let history = if keeps_history {
                    self.allow(self.api.rule_history(project, &rule.id, self.window).await)?
                } else {
                    Answer::Absent
                };
                match history {
                    Answer::Given(rows) => {
                        self.found.firings.extend(rows.into_iter().map(|fired| recorded(fired, &rule.name, *way)));
                    }
                    // If this endpoint does not exist for one rule, it exists for none.
                    Answer::Absent => {
                        keeps_history = false;
                        if fires_for_new_issues(rule) {
                            guessed.insert(&rule.name, *way);
                        }
                    }
                    Answer::Unseen => {}
                }
            }
            if !guessed.is_empty() {
                self.guess(entry, &guessed).await?;
            }
        }
        self.found.is_exact = keeps_history;
        Ok(())
    }

    /// Counts new issues of a project as firings of these rules.
    async fn guess(&mut self, entry: &ProjectInventory, rules: &BTreeMap<&str, Way>) -> Result<(), ApiError> {
        let answer = self.allow(self.api.issues_since(&entry.project.slug, self.window.from).await)?;
        let Answer::Given(issues) = answer else { return Ok(()) };
        for issue in issues {
            // Sentry compares whole seconds only.
            let Some(at) = issue.first_seen.filter(|at| (self.window.from..self.window.until).contains(at)) else {
                continue;
            };
            self.found.firings.push(Firing {
                issue,
                at,
                event_id: None,
                alerts: rules.keys().map(|name| (*name).to_owned()).collect(),
                is_exact: false,
                by_plugin: rules.values().all(|way| *way == Way::Plugin),
            });
        }
        Ok(())
    }

    fn allow<T>(&mut self, answer: Result<T, ApiError>) -> Result<Answer<T>, ApiError> {
        match answer {
            Err(error @ ApiError::Forbidden { .. }) => {
                self.found.unseen.push(error.to_string());
                Ok(Answer::Unseen)
            }
            answer => Ok(answer.absent()?.map_or(Answer::Absent, Answer::Given)),
        }
    }

    fn way_of_workflow(&self, workflow: &Workflow, fired: &Fired) -> Option<Way> {
        let slug = fired.issue.project.as_ref()?;
        let entry = self.inventory.projects.iter().find(|entry| entry.project.slug == *slug)?;
        self.way(entry, workflow.actions.iter().map(|action| self.reach.of_workflow_action(action)))
    }

    /// Returns how an alert with these actions reaches the bridge, if it was meant to.
    fn way<'t>(&self, entry: &ProjectInventory, targets: impl Iterator<Item = Target<'t>>) -> Option<Way> {
        let ways = targets.filter_map(|target| match target {
            Target::App(app) if self.reach.is_ours(app) => Some(Way::Integration),
            Target::Legacy if self.reach.legacy_obstacle(entry.hook.as_ref()).is_none() => Some(Way::Plugin),
            Target::App(_) | Target::Legacy | Target::Other => None,
        });
        ways.min_by_key(|way| *way == Way::Plugin)
    }
}

fn recorded(fired: Fired, alert: &str, way: Way) -> Firing {
    Firing {
        issue: fired.issue,
        at: fired.at,
        event_id: fired.event_id,
        alerts: vec![alert.to_owned()],
        is_exact: true,
        by_plugin: way == Way::Plugin,
    }
}

/// Whether an alert fired for an activity of the issue, such as resolving it, and not for an event. Such a firing pages
/// nobody.
fn is_of_activity(fired: &Fired) -> bool {
    fired.event_id.as_ref().is_some_and(|id| id.len() != 32)
}

/// Whether a rule fires for every new issue, as far as its conditions tell.
fn fires_for_new_issues(rule: &Rule) -> bool {
    let conditions = rule.raw.get("conditions").and_then(|conditions| conditions.as_array());
    let Some(conditions) = conditions.filter(|conditions| !conditions.is_empty()) else { return true };
    let mut kinds = conditions.iter().filter_map(|condition| condition["id"].as_str());
    kinds.any(|kind| ON_NEW_ISSUES.iter().any(|known| kind.ends_with(known)))
}
