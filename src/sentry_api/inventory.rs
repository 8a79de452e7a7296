//! Reads the projects, alerts and webhooks of a Sentry, and determines its generation.

use std::fmt;
use std::pin::pin;

use futures_util::{StreamExt, stream};

use super::types::{
    App, Detector, HookRoute, Identity, Installation, IssueRoute, LegacyHook, Organization, Project, Rule, Workflow,
};
use super::{Absent, ApiError, SentryApi};

/// The feature flag with which Sentry builds its list of rules from workflows, so that rules that were never migrated are
/// in no list at all.
const RULES_FROM_WORKFLOWS: &str = "workflow-engine-rule-serializers";

/// The first self-hosted release in which only workflows fire alerts, as year and month.
const WORKFLOWS_FIRE_SINCE: (u32, u32) = (26, 7);

/// How many projects are queried at once: an organization may have hundreds, and Sentry limits concurrent calls.
const AT_ONCE: usize = 4;

/// What decides whom Sentry notifies.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Alerts {
    /// Alert rules of each project, up to about 2025.
    Rules,
    /// Workflows of the organization, on sentry.io since 2026 and on self-hosted Sentry from 26.7 on.
    Workflows,
}

/// The generation of a Sentry, determined from its responses; `Display` describes it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Generation {
    /// What decides whom it notifies.
    pub alerts: Alerts,
    /// Whether it has integrations ("Sentry apps"); 9.1 has them switched off.
    pub apps: bool,
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match (self.alerts, self.apps) {
            (Alerts::Rules, false) => "alert rules and the WebHooks plugin, as Sentry 9.1",
            (Alerts::Rules, true) => "alert rules and integrations, as Sentry 10.0 to 2025",
            (Alerts::Workflows, _) => "workflows, as Sentry since 2026",
        })
    }
}

/// A project, with the parts of the inventory that are read per project.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProjectInventory {
    /// The project itself.
    pub project: Project,
    /// Its rules; `None` where this Sentry has none, or does not show them.
    pub rules: Option<Vec<Rule>>,
    /// Its legacy webhooks; `None` where this Sentry has none, or does not show them.
    pub hook: Option<LegacyHook>,
    /// Whether it has issues of the last two weeks; `None` if this was not read.
    pub has_new_issues: Option<bool>,
}

/// Everything that is read from Sentry, at one point in time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inventory {
    /// Which generation it is.
    pub generation: Generation,
    /// The owner and scopes of the token that was used.
    pub identity: Identity,
    /// The organization.
    pub organization: Organization,
    /// Every project, by slug.
    pub projects: Vec<ProjectInventory>,
    /// Workflows; empty where rules decide.
    pub workflows: Vec<Workflow>,
    /// Detectors; empty where rules decide.
    pub detectors: Vec<Detector>,
    /// The organization's own integrations.
    pub apps: Vec<App>,
    /// The installations of integrations.
    pub installations: Vec<Installation>,
    /// Rules that were never migrated to a workflow, on a Sentry where workflows decide, as project and name.
    pub unmigrated: Vec<(String, String)>,
    /// What the token was not allowed to see, as sentences.
    pub unseen: Vec<String>,
}

impl Inventory {
    /// Whether rules that were never migrated to workflows are in no list of this Sentry.
    #[must_use]
    pub fn hides_unmigrated_rules(&self) -> bool {
        self.generation.alerts == Alerts::Workflows
            && self.organization.features.iter().any(|f| f == RULES_FROM_WORKFLOWS)
    }

    /// Returns the detector that covers all issues of a project, or else the one that covers its errors.
    #[must_use]
    pub fn detector_of(&self, project: &str) -> Option<String> {
        let of_kind = |kind: &str| {
            let mut detectors = self.detectors.iter();
            detectors.find(|detector| detector.project_id.as_deref() == Some(project) && detector.kind == kind)
        };
        of_kind("issue_stream").or_else(|| of_kind("error")).map(|detector| detector.id.clone())
    }

    /// Returns the number by which actions of workflows refer to an integration.
    #[must_use]
    pub fn app_id(&self, slug: &str) -> Option<&str> {
        self.installations.iter().find(|installation| installation.app_slug == slug)?.app_id.as_deref()
    }
}

/// Returns the endpoint at which this Sentry serves a single issue: a Sentry without integrations behaves like 9.1. It
/// counts as one without integrations only if it shows the organization: a proxy may answer 404 for everything.
///
/// # Errors
///
/// When Sentry does not answer.
pub async fn issue_route(api: &impl SentryApi) -> Result<IssueRoute, ApiError> {
    match api.apps().await {
        Ok(_) | Err(ApiError::Forbidden { .. }) => Ok(IssueRoute::Organization),
        Err(ApiError::Gone { .. }) => api.organization().await.map(|_| IssueRoute::Global),
        Err(error) => Err(error),
    }
}

/// What is read besides the alerts themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct Wanted {
    /// Whether rules or workflows decide, on a Sentry that answers for both; `None`: its version decides.
    pub alerts: Option<Alerts>,
    /// Whether to read legacy webhooks even if no alert uses them.
    pub hooks: bool,
    /// Whether to check for new issues in projects with a workflow that never fired.
    pub new_issues: bool,
}

/// Reads the inventory. What the token may not see is left out and listed in [`Inventory::unseen`], except for the
/// projects, which it must be allowed to list.
///
/// # Errors
///
/// When Sentry cannot be reached, does not know the token or the organization, does not let the token list the projects,
/// or sends an unusable response.
pub async fn read(api: &impl SentryApi, wanted: Wanted) -> Result<Inventory, ApiError> {
    let mut unseen = Unseen(Vec::new());
    let identity = api.identity().await.absent()?.unwrap_or_default();
    let projects = api.projects().await?;
    let organization = unseen.allow(api.organization().await)?.unwrap_or_default();

    let workflows = api.workflows().await;
    let answers_workflows = !matches!(workflows, Err(ApiError::Gone { .. }));
    let workflows = unseen.allow(workflows)?;
    let mut projects: Vec<_> = projects
        .into_iter()
        .map(|project| ProjectInventory { project, rules: None, hook: None, has_new_issues: None })
        .collect();
    projects.sort_by(|one, other| one.project.slug.cmp(&other.project.slug));
    read_rules(api, &mut projects, answers_workflows, &mut unseen).await?;
    let answers_rules = projects.iter().any(|entry| entry.rules.is_some());
    let alerts = match (answers_workflows, answers_rules) {
        (false, _) => Alerts::Rules,
        (true, false) => Alerts::Workflows,
        (true, true) => match wanted.alerts {
            Some(alerts) => alerts,
            None => by_version(api, &organization).await?,
        },
    };

    let apps = api.apps().await;
    let has_apps = !matches!(apps, Err(ApiError::Gone { .. }));
    let apps = unseen.allow(apps)?;
    let mut inventory = Inventory {
        generation: Generation { alerts, apps: has_apps },
        identity,
        organization,
        projects,
        workflows: workflows.filter(|_| alerts == Alerts::Workflows).unwrap_or_default(),
        detectors: Vec::new(),
        installations: if apps.is_some() {
            unseen.allow(api.installations().await)?.unwrap_or_default()
        } else {
            Vec::new()
        },
        apps: apps.unwrap_or_default(),
        unmigrated: Vec::new(),
        unseen: Vec::new(),
    };
    if alerts == Alerts::Workflows {
        inventory.detectors = unseen.allow(api.detectors().await)?.unwrap_or_default();
        read_unmigrated(api, &mut inventory, &mut unseen).await?;
    }
    read_hooks(api, &mut inventory, wanted, &mut unseen).await?;
    if wanted.new_issues {
        read_new_issues(api, &mut inventory, &mut unseen).await?;
    }
    inventory.unseen = unseen.0;
    Ok(inventory)
}

async fn read_rules(
    api: &impl SentryApi,
    projects: &mut [ProjectInventory],
    answers_workflows: bool,
    unseen: &mut Unseen,
) -> Result<(), ApiError> {
    let Some((first, rest)) = projects.split_first_mut() else { return Ok(()) };
    match api.rules(&first.project.slug).await {
        // If this endpoint does not exist for the first project, it exists for none.
        Err(ApiError::Gone { .. }) if answers_workflows => return Ok(()),
        rules => first.rules = unseen.allow(rules)?,
    }
    let asked = stream::iter(rest).map(async |entry| (api.rules(&entry.project.slug).await, entry));
    let mut answers = pin!(asked.buffered(AT_ONCE));
    while let Some((rules, entry)) = answers.next().await {
        entry.rules = unseen.allow(rules)?;
    }
    Ok(())
}

/// Decides between rules and workflows where a Sentry answers for both: from 26.7 on workflows, whatever its rules say.
async fn by_version(api: &impl SentryApi, organization: &Organization) -> Result<Alerts, ApiError> {
    let version = match api.version().await {
        Err(ApiError::Forbidden { .. } | ApiError::Unauthorized { .. } | ApiError::Shape { .. }) => None,
        version => version.absent()?.flatten(),
    };
    let parsed = version.as_deref().and_then(|version| {
        let mut parts = version.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    let from_workflows = organization.features.iter().any(|feature| feature == RULES_FROM_WORKFLOWS);
    let workflows = parsed.map_or(from_workflows, |version: (u32, u32)| version >= WORKFLOWS_FIRE_SINCE);
    Ok(if workflows { Alerts::Workflows } else { Alerts::Rules })
}

/// Finds rules that were never migrated to a workflow, unless this Sentry builds its list of rules from workflows.
async fn read_unmigrated(api: &impl SentryApi, inventory: &mut Inventory, unseen: &mut Unseen) -> Result<(), ApiError> {
    if inventory.hides_unmigrated_rules() {
        return Ok(());
    }
    for entry in &inventory.projects {
        for rule in entry.rules.iter().flatten() {
            let migrated = match api.is_migrated(&rule.id).await {
                Err(ApiError::Gone { .. }) => Some(false),
                migrated => unseen.allow(migrated)?,
            };
            if migrated == Some(false) {
                inventory.unmigrated.push((entry.project.slug.clone(), rule.name.clone()));
            }
        }
    }
    Ok(())
}

async fn read_hooks(
    api: &impl SentryApi,
    inventory: &mut Inventory,
    wanted: Wanted,
    unseen: &mut Unseen,
) -> Result<(), ApiError> {
    let route = match inventory.generation.alerts {
        Alerts::Rules => HookRoute::Plugin,
        Alerts::Workflows => HookRoute::LegacyWebhooks,
    };
    let is_used =
        inventory.workflows.iter().flat_map(|workflow| &workflow.actions).any(|action| action.kind == "webhook");
    if route == HookRoute::LegacyWebhooks && !is_used && !wanted.hooks {
        return Ok(());
    }
    let projects = stream::iter(&mut inventory.projects);
    let asked = projects.map(async |entry| (api.legacy_hook(&entry.project.slug, route).await, entry));
    let mut answers = pin!(asked.buffered(AT_ONCE));
    while let Some((hook, entry)) = answers.next().await {
        entry.hook = unseen.allow(hook)?;
    }
    Ok(())
}

async fn read_new_issues(api: &impl SentryApi, inventory: &mut Inventory, unseen: &mut Unseen) -> Result<(), ApiError> {
    let silent: Vec<&str> = inventory
        .workflows
        .iter()
        .filter(|workflow| workflow.enabled && workflow.last_triggered.is_none())
        .flat_map(|workflow| &workflow.detector_ids)
        .filter_map(|id| inventory.detectors.iter().find(|detector| detector.id == *id)?.project_id.as_deref())
        .collect();
    for entry in &mut inventory.projects {
        if silent.contains(&entry.project.id.as_str()) {
            entry.has_new_issues = unseen.allow(api.has_new_issues(&entry.project.id).await)?;
        }
    }
    Ok(())
}

/// What the token was not allowed to see.
struct Unseen(Vec<String>);

impl Unseen {
    /// Returns `None` if the resource does not exist or the token may not see it, and records the latter.
    fn allow<T>(&mut self, answer: Result<T, ApiError>) -> Result<Option<T>, ApiError> {
        match answer {
            Err(error @ ApiError::Forbidden { .. }) => {
                self.0.push(error.to_string());
                Ok(None)
            }
            answer => answer.absent(),
        }
    }
}
