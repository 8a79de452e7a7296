//! The tasks of a running bridge that ask Sentry's API.

use log::info;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::StartupError;
use crate::catch_up::{CatchUpStatus, CatchUpTask};
use crate::cluster::Cluster;
use crate::config::{CatchUpMode, Config, ResolveScope};
use crate::ingest::Ingest;
use crate::issue_status::IssueStatusTask;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::sentry_api::Client;
use crate::sentry_api::ours;
use crate::supervision::Tasks;

/// Whether this bridge is the one that asks, of those that share a queue.
type Leads = Box<dyn Fn() -> bool>;

/// What asks Sentry's API; nothing where that is not set.
#[derive(Default)]
pub(super) struct SentryTasks {
    catch_up: Option<CatchUpTask<Client, Leads>>,
    issue_status: Option<IssueStatusTask<Client, Leads>>,
    /// What catch-up shows.
    pub(super) catch_up_status: Option<watch::Receiver<CatchUpStatus>>,
}

impl SentryTasks {
    pub(super) fn new(
        config: &Config,
        queue: &Queue,
        metrics: &Metrics,
        cluster: &Cluster,
    ) -> Result<Self, StartupError> {
        let leads = || -> Leads {
            let cluster = cluster.clone();
            Box::new(move || cluster.is_leader())
        };
        let (Some(url), Some(organization), Some(token)) =
            (&config.sentry_url, &config.sentry_org, &config.sentry_api_token)
        else {
            info!(
                "Sentry is not asked for alerts and resolves that never came: BRIDGE_SENTRY_URL, BRIDGE_SENTRY_ORG and \
                 BRIDGE_SENTRY_API_TOKEN are not all set"
            );
            return Ok(Self::default());
        };
        let client = || Client::new(url, organization, token.clone(), config.sentry_ca_file.as_deref());
        let mut tasks = Self::default();
        if config.catch_up != CatchUpMode::Off {
            let (status, receiver) = watch::channel(CatchUpStatus::new(config.catch_up));
            tasks.catch_up_status = Some(receiver);
            tasks.catch_up = Some(CatchUpTask::new(
                client()?,
                Ingest::from(config),
                queue.clone(),
                metrics.clone(),
                ours::Bridge { root: None, tokens: config.webhook_token.clone() },
                config.alarm_key().clone(),
                status,
                leads(),
            ));
        }
        if config.resolve != ResolveScope::Off {
            let (ingest, metrics) = (Ingest::from(config), metrics.clone());
            tasks.issue_status = Some(IssueStatusTask::new(client()?, ingest, queue.clone(), metrics, leads()));
        }
        Ok(tasks)
    }

    /// Starts them, to be aborted at a shutdown.
    pub(super) fn spawn(self, tasks: &mut Tasks) -> Vec<AbortHandle> {
        let catch_up = self.catch_up.map(|task| tasks.spawn("catch-up", task.run()));
        let issue_status = self.issue_status.map(|task| tasks.spawn("the polling of issues", task.run()));
        catch_up.into_iter().chain(issue_status).collect()
    }
}
