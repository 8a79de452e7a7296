//! The tasks of a running bridge that call Sentry's API.

use log::info;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::StartupError;
use crate::catch_up::{CatchUpStatus, CatchUpTask, Ours};
use crate::cluster::Cluster;
use crate::config::{CatchUpMode, Config, ResolveScope};
use crate::ingest::Ingest;
use crate::issue_status::IssueStatusTask;
use crate::metrics::Metrics;
use crate::queue::Queue;
use crate::reload::LiveConfig;
use crate::sentry_api::SentryClient;
use crate::sentry_api::address::BridgeAddress;
use crate::supervision::Tasks;
use crate::tls::TlsError;
use crate::two_way::TwoWayTask;

/// Whether this bridge is the leader: of the bridges that share a queue, only the leader calls Sentry's API.
type Leads = Box<dyn Fn() -> bool>;

/// Returns a client for Sentry's API that always uses the newest token; `None` if the API is not configured.
pub(super) fn client(config: &Config, live: &mut LiveConfig) -> Result<Option<SentryClient>, TlsError> {
    let (Some(url), Some(organization)) = (&config.sentry_url, &config.sentry_org) else { return Ok(None) };
    let Some(tokens) = live.follow_set(|config| config.sentry_api_token.clone()) else { return Ok(None) };
    let token = tokens.borrow().clone();
    let client = SentryClient::new(url, organization, token, config.sentry_ca_file.as_deref())?;
    Ok(Some(client.with_tokens(tokens)))
}

/// The tasks that call Sentry's API; none of them if the API is not configured.
#[derive(Default)]
pub(super) struct SentryTasks {
    catch_up: Option<CatchUpTask<SentryClient, Leads>>,
    issue_status: Option<IssueStatusTask<SentryClient, Leads>>,
    two_way: Option<TwoWayTask<SentryClient, Leads>>,
    /// The status of catch-up; `None` if it does not run.
    pub(super) catch_up_status: Option<watch::Receiver<CatchUpStatus>>,
}

impl SentryTasks {
    pub(super) fn new(
        config: &Config,
        live: &mut LiveConfig,
        ingest: &Ingest,
        queue: &Queue,
        metrics: &Metrics,
        cluster: &Cluster,
    ) -> Result<Self, StartupError> {
        let leads = || -> Leads {
            let cluster = cluster.clone();
            Box::new(move || cluster.is_leader())
        };
        let mut tasks = Self::default();
        if client(config, live)?.is_none() {
            info!(
                "Sentry is not asked for alerts and resolves that never came: BRIDGE_SENTRY_URL, BRIDGE_SENTRY_ORG and \
                 BRIDGE_SENTRY_API_TOKEN are not all set"
            );
            return Ok(tasks);
        }
        if config.catch_up != CatchUpMode::Off
            && let Some(client) = client(config, live)?
        {
            let (status, receiver) = watch::channel(CatchUpStatus::new(config.catch_up));
            tasks.catch_up_status = Some(receiver);
            let ours = live.follow(|config| Ours {
                bridge: BridgeAddress { root: None, tokens: config.webhook_token.clone() },
                summary_key: config.alarm_key().clone(),
            });
            let (ingest, metrics) = (ingest.clone(), metrics.clone());
            tasks.catch_up = Some(CatchUpTask::new(client, ingest, queue.clone(), metrics, ours, status, leads()));
        }
        if config.resolve != ResolveScope::Off
            && let Some(client) = client(config, live)?
        {
            let (ingest, metrics) = (ingest.clone(), metrics.clone());
            tasks.issue_status = Some(IssueStatusTask::new(client, ingest, queue.clone(), metrics, leads()));
        }
        if !config.pagerduty_webhook_secret.is_empty()
            && let Some(client) = client(config, live)?
        {
            let prefix = config.incident_key_prefix.clone();
            tasks.two_way = Some(TwoWayTask::new(client, queue.clone(), metrics.clone(), prefix, leads()));
        }
        Ok(tasks)
    }

    /// Starts the tasks, and returns the handles that abort them at a shutdown.
    pub(super) fn spawn(self, tasks: &mut Tasks) -> Vec<AbortHandle> {
        let catch_up = self.catch_up.map(|task| tasks.spawn("catch-up", task.run()));
        let issue_status = self.issue_status.map(|task| tasks.spawn("the polling of issues", task.run()));
        let two_way = self.two_way.map(|task| tasks.spawn("the updates of issues", task.run()));
        catch_up.into_iter().chain(issue_status).chain(two_way).collect()
    }
}
