//! Reads the projects, alerts and webhooks of a Sentry, and determines its generation.

use std::pin::pin;

use futures_util::{StreamExt, stream};

use super::types::{
    AlertSystem, Detector, Identity, Installation, IssueRoute, Organization, SentryApp, SentryProject, Workflow,
};
use super::{SentryApiError, SentryClient, optional};

/// The feature flag with which Sentry builds its list of rules from workflows, so that rules that were never migrated are
/// in no list at all.
const RULES_FROM_WORKFLOWS: &str = "workflow-engine-rule-serializers";

/// The first self-hosted release in which only workflows fire alerts, as year and month.
const WORKFLOWS_FIRE_SINCE: (u32, u32) = (26, 7);

/// How many projects are queried at once: an organization may have hundreds, and Sentry limits concurrent calls.
const AT_ONCE: usize = 4;

/// Everything that is read from Sentry, at one point in time.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inventory {
    /// What decides whom it notifies.
    pub alerts: AlertSystem,
    /// Whether it has integrations ("Sentry apps"); 9.1 has them switched off.
    pub has_apps: bool,
    /// The owner and scopes of the token that was used.
    pub identity: Identity,
    /// The organization.
    pub organization: Organization,
    /// Every project, by slug.
    pub projects: Vec<SentryProject>,
    /// Workflows; empty where rules decide.
    pub workflows: Vec<Workflow>,
    /// Detectors; empty where rules decide.
    pub detectors: Vec<Detector>,
    /// The organization's own integrations.
    pub apps: Vec<SentryApp>,
    /// The installations of integrations.
    pub installations: Vec<Installation>,
    /// Rules that were never migrated to a workflow, on a Sentry where workflows decide, as project and name.
    pub unmigrated: Vec<(String, String)>,
    /// What the token was not allowed to see, as sentences.
    pub unseen: Vec<String>,
}

impl Inventory {
    /// Describes the generation of the Sentry, as far as its responses show it.
    #[must_use]
    pub fn generation(&self) -> &'static str {
        match (self.alerts, self.has_apps) {
            (AlertSystem::Rules, false) => "alert rules and the WebHooks plugin, as Sentry 9.1",
            (AlertSystem::Rules, true) => "alert rules and integrations, as Sentry 10.0 to 2025",
            (AlertSystem::Workflows, _) => "workflows, as Sentry since 2026",
        }
    }

    /// Whether rules that were never migrated to workflows are in no list of this Sentry.
    #[must_use]
    pub fn hides_unmigrated_rules(&self) -> bool {
        self.alerts == AlertSystem::Workflows && self.organization.features.iter().any(|f| f == RULES_FROM_WORKFLOWS)
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
        self.installations.iter().find(|installation| installation.app.slug == slug)?.app.id.as_deref()
    }
}

/// Returns the endpoint at which this Sentry serves a single issue: a Sentry without integrations behaves like 9.1. It
/// counts as one without integrations only if it shows the organization: a proxy may answer 404 for everything.
///
/// # Errors
///
/// When Sentry does not answer.
pub async fn issue_route(api: &SentryClient) -> Result<IssueRoute, SentryApiError> {
    match api.apps().await {
        Ok(_) | Err(SentryApiError::Forbidden { .. }) => Ok(IssueRoute::Organization),
        Err(SentryApiError::Gone { .. }) => api.organization().await.map(|_| IssueRoute::Global),
        Err(error) => Err(error),
    }
}

/// What is read besides the alerts themselves.
#[derive(Clone, Copy, Debug, Default)]
pub struct InventoryOptions {
    /// Whether rules or workflows decide, on a Sentry that answers for both; `None`: its version decides.
    pub alerts: Option<AlertSystem>,
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
pub async fn read(api: &SentryClient, options: InventoryOptions) -> Result<Inventory, SentryApiError> {
    let mut unseen = Vec::new();
    let identity = optional(api.identity().await)?.unwrap_or_default();
    let mut projects = api.projects().await?;
    let organization = permitted(api.organization().await, &mut unseen)?.unwrap_or_default();

    let workflows = api.workflows().await;
    let answers_workflows = !matches!(workflows, Err(SentryApiError::Gone { .. }));
    let workflows = permitted(workflows, &mut unseen)?;
    projects.sort_by(|one, other| one.slug.cmp(&other.slug));
    read_rules(api, &mut projects, answers_workflows, &mut unseen).await?;
    let answers_rules = projects.iter().any(|project| project.rules.is_some());
    let alerts = match (answers_workflows, answers_rules) {
        (false, _) => AlertSystem::Rules,
        (true, false) => AlertSystem::Workflows,
        (true, true) => match options.alerts {
            Some(alerts) => alerts,
            None => by_version(api, &organization).await?,
        },
    };

    let apps = api.apps().await;
    let has_apps = !matches!(apps, Err(SentryApiError::Gone { .. }));
    let apps = permitted(apps, &mut unseen)?;
    let mut inventory = Inventory {
        alerts,
        has_apps,
        identity,
        organization,
        projects,
        workflows: workflows.filter(|_| alerts == AlertSystem::Workflows).unwrap_or_default(),
        detectors: Vec::new(),
        installations: if apps.is_some() {
            permitted(api.installations().await, &mut unseen)?.unwrap_or_default()
        } else {
            Vec::new()
        },
        apps: apps.unwrap_or_default(),
        unmigrated: Vec::new(),
        unseen: Vec::new(),
    };
    if alerts == AlertSystem::Workflows {
        inventory.detectors = permitted(api.detectors().await, &mut unseen)?.unwrap_or_default();
        read_unmigrated(api, &mut inventory, &mut unseen).await?;
    }
    read_hooks(api, &mut inventory, options, &mut unseen).await?;
    if options.new_issues {
        read_new_issues(api, &mut inventory, &mut unseen).await?;
    }
    inventory.unseen = unseen;
    Ok(inventory)
}

async fn read_rules(
    api: &SentryClient,
    projects: &mut [SentryProject],
    answers_workflows: bool,
    unseen: &mut Vec<String>,
) -> Result<(), SentryApiError> {
    let Some((first, rest)) = projects.split_first_mut() else { return Ok(()) };
    match api.rules(&first.slug).await {
        // If this endpoint does not exist for the first project, it exists for none.
        Err(SentryApiError::Gone { .. }) if answers_workflows => return Ok(()),
        rules => first.rules = permitted(rules, unseen)?,
    }
    let asked = stream::iter(rest).map(async |project| (api.rules(&project.slug).await, project));
    let mut answers = pin!(asked.buffered(AT_ONCE));
    while let Some((rules, project)) = answers.next().await {
        project.rules = permitted(rules, unseen)?;
    }
    Ok(())
}

/// Decides between rules and workflows where a Sentry answers for both: from 26.7 on workflows, whatever its rules say.
async fn by_version(api: &SentryClient, organization: &Organization) -> Result<AlertSystem, SentryApiError> {
    let version = match api.version().await {
        Err(SentryApiError::Forbidden { .. } | SentryApiError::Unauthorized { .. } | SentryApiError::Shape { .. }) => {
            None
        }
        version => optional(version)?.flatten(),
    };
    let parsed = version.as_deref().and_then(|version| {
        let mut parts = version.split('.');
        Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
    });
    let from_workflows = organization.features.iter().any(|feature| feature == RULES_FROM_WORKFLOWS);
    let workflows = parsed.map_or(from_workflows, |version: (u32, u32)| version >= WORKFLOWS_FIRE_SINCE);
    Ok(if workflows { AlertSystem::Workflows } else { AlertSystem::Rules })
}

/// Finds rules that were never migrated to a workflow, unless this Sentry builds its list of rules from workflows.
async fn read_unmigrated(
    api: &SentryClient,
    inventory: &mut Inventory,
    unseen: &mut Vec<String>,
) -> Result<(), SentryApiError> {
    if inventory.hides_unmigrated_rules() {
        return Ok(());
    }
    for project in &inventory.projects {
        for rule in project.rules.iter().flatten() {
            let migrated = match api.is_migrated(&rule.id).await {
                Err(SentryApiError::Gone { .. }) => Some(false),
                migrated => permitted(migrated, unseen)?,
            };
            if migrated == Some(false) {
                inventory.unmigrated.push((project.slug.clone(), rule.name.clone()));
            }
        }
    }
    Ok(())
}

async fn read_hooks(
    api: &SentryClient,
    inventory: &mut Inventory,
    options: InventoryOptions,
    unseen: &mut Vec<String>,
) -> Result<(), SentryApiError> {
    let is_used =
        inventory.workflows.iter().flat_map(|workflow| &workflow.actions).any(|action| action.kind == "webhook");
    if inventory.alerts == AlertSystem::Workflows && !is_used && !options.hooks {
        return Ok(());
    }
    let alerts = inventory.alerts;
    let projects = stream::iter(&mut inventory.projects);
    let asked = projects.map(async |project| (api.legacy_hook(&project.slug, alerts).await, project));
    let mut answers = pin!(asked.buffered(AT_ONCE));
    while let Some((hook, project)) = answers.next().await {
        project.hook = permitted(hook, unseen)?;
    }
    Ok(())
}

async fn read_new_issues(
    api: &SentryClient,
    inventory: &mut Inventory,
    unseen: &mut Vec<String>,
) -> Result<(), SentryApiError> {
    let silent: Vec<&str> = inventory
        .workflows
        .iter()
        .filter(|workflow| workflow.enabled && workflow.last_triggered.is_none())
        .flat_map(|workflow| &workflow.detector_ids)
        .filter_map(|id| inventory.detectors.iter().find(|detector| detector.id == *id)?.project_id.as_deref())
        .collect();
    for project in &mut inventory.projects {
        if silent.contains(&project.id.as_str()) {
            project.has_new_issues = permitted(api.has_new_issues(&project.id).await, unseen)?;
        }
    }
    Ok(())
}

/// Returns `None` if the resource does not exist or the token may not see it, and notes the latter in `unseen`.
pub(crate) fn permitted<T>(
    answer: Result<T, SentryApiError>,
    unseen: &mut Vec<String>,
) -> Result<Option<T>, SentryApiError> {
    match answer {
        Err(error @ SentryApiError::Forbidden { .. }) => {
            unseen.push(error.to_string());
            Ok(None)
        }
        answer => optional(answer),
    }
}
