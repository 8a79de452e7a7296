//! The background tasks of a bridge that run only where the settings ask for them.

use log::info;
use tokio::task::AbortHandle;

use crate::canary::{CanarySchedule, CanaryTask};
use crate::catch_up::{CatchUpSecrets, CatchUpTask};
use crate::cluster::Cluster;
use crate::config::{CatchUpMode, Config, ResolveScope};
use crate::ingest::Ingest;
use crate::issue_status::IssueStatusTask;
use crate::metrics::Metrics;
use crate::pagerduty::KeyNames;
use crate::pagerduty_rest::PagerDutyRestClient;
use crate::proof::ProofTask;
use crate::queue::Queue;
use crate::reload::LiveConfig;
use crate::sentry_api::SentryClient;
use crate::sentry_api::address::BridgeAddress;
use crate::sentry_api::audit::{AuditSettings, AuditTask};
use crate::supervision::Tasks;
use crate::tls::TlsError;
use crate::two_way::TwoWayTask;

/// What tasks are made of.
pub(super) struct TaskParts<'a> {
    pub(super) config: &'a Config,
    pub(super) live: &'a mut LiveConfig,
    pub(super) ingest: &'a Ingest,
    pub(super) queue: &'a Queue,
    pub(super) metrics: &'a Metrics,
    pub(super) cluster: &'a Cluster,
}

/// The tasks; each is `None` unless it is configured.
pub(super) struct OptionalTasks {
    pub(super) canary: Option<CanaryTask>,
    pub(super) audit: Option<AuditTask>,
    pub(super) catch_up: Option<CatchUpTask>,
    issue_status: Option<IssueStatusTask>,
    two_way: Option<TwoWayTask>,
    pub(super) proof: Option<ProofTask>,
}

impl OptionalTasks {
    /// Prepares the tasks that are configured. `names` are those of the service keys.
    ///
    /// # Errors
    ///
    /// When the certificate authorities of a client cannot be used.
    pub(super) fn new(mut parts: TaskParts<'_>, names: &KeyNames) -> Result<Self, TlsError> {
        let audit = parts.audit()?;
        let canary = parts.canary()?;
        if parts.sentry_client()?.is_none() {
            info!(
                "Sentry is not asked for alerts and resolves that never came: BRIDGE_SENTRY_URL, BRIDGE_SENTRY_ORG and \
                 BRIDGE_SENTRY_API_TOKEN are not all set"
            );
        }
        Ok(Self {
            canary,
            audit,
            catch_up: parts.catch_up()?,
            issue_status: parts.issue_status()?,
            two_way: parts.two_way()?,
            proof: parts.proof(names)?,
        })
    }

    /// Starts the tasks, and returns the handles that abort them at a shutdown.
    pub(super) fn spawn(self, tasks: &mut Tasks) -> Vec<AbortHandle> {
        let handles = [
            self.canary.map(|task| tasks.spawn("the canary", task.run())),
            self.audit.map(|task| tasks.spawn("the audit", task.run())),
            self.catch_up.map(|task| tasks.spawn("catch-up", task.run())),
            self.issue_status.map(|task| tasks.spawn("the polling of issues", task.run())),
            self.two_way.map(|task| tasks.spawn("the updates of issues", task.run())),
            self.proof.map(|task| tasks.spawn("the look-ups in PagerDuty", task.run())),
        ];
        handles.into_iter().flatten().collect()
    }
}

impl TaskParts<'_> {
    /// Returns a client for Sentry's API that always uses the newest token; `None` if the API is not configured.
    fn sentry_client(&mut self) -> Result<Option<SentryClient>, TlsError> {
        let (Some(url), Some(organization)) = (&self.config.sentry_url, &self.config.sentry_org) else {
            return Ok(None);
        };
        let Some(tokens) = self.live.follow_set(|config| config.sentry_api_token.clone()) else { return Ok(None) };
        let token = tokens.borrow().clone();
        let client = SentryClient::new(url, organization, token, self.config.sentry_ca_file.as_deref())?;
        Ok(Some(client.with_tokens(tokens)))
    }

    fn canary(&mut self) -> Result<Option<CanaryTask>, TlsError> {
        let Some(dsn) = self.live.follow_set(|config| config.canary_dsn.clone()) else { return Ok(None) };
        let (schedule, ca_file) =
            (CanarySchedule::new(self.config.canary_every), self.config.sentry_ca_file.as_deref());
        let (ingest, queue, metrics) = (self.ingest.clone(), self.queue.clone(), self.metrics.clone());
        CanaryTask::new(dsn, ca_file, ingest, queue, metrics, schedule, self.cluster.leadership()).map(Some)
    }

    fn audit(&mut self) -> Result<Option<AuditTask>, TlsError> {
        let Some(client) = self.sentry_client()? else { return Ok(None) };
        let settings = self.live.follow(AuditSettings::of);
        Ok(Some(AuditTask::new(client, settings, self.cluster.leadership())))
    }

    fn catch_up(&mut self) -> Result<Option<CatchUpTask>, TlsError> {
        let mode = self.config.catch_up;
        if mode == CatchUpMode::Off {
            return Ok(None);
        }
        let Some(client) = self.sentry_client()? else { return Ok(None) };
        let secrets = self.live.follow(|config| CatchUpSecrets {
            bridge: BridgeAddress { root: None, tokens: config.webhook_token.clone() },
            summary_key: config.alarm_key().clone(),
        });
        let (ingest, queue, metrics) = (self.ingest.clone(), self.queue.clone(), self.metrics.clone());
        Ok(Some(CatchUpTask::new(client, ingest, queue, metrics, secrets, mode, self.cluster.leadership())))
    }

    fn issue_status(&mut self) -> Result<Option<IssueStatusTask>, TlsError> {
        if self.config.resolve == ResolveScope::Off {
            return Ok(None);
        }
        let Some(client) = self.sentry_client()? else { return Ok(None) };
        let (ingest, queue, metrics) = (self.ingest.clone(), self.queue.clone(), self.metrics.clone());
        Ok(Some(IssueStatusTask::new(client, ingest, queue, metrics, self.cluster.leadership())))
    }

    fn two_way(&mut self) -> Result<Option<TwoWayTask>, TlsError> {
        if self.config.pagerduty_webhook_secret.is_empty() {
            return Ok(None);
        }
        let Some(client) = self.sentry_client()? else { return Ok(None) };
        let (queue, metrics, prefix) =
            (self.queue.clone(), self.metrics.clone(), self.config.incident_key_prefix.clone());
        Ok(Some(TwoWayTask::new(client, queue, metrics, prefix, self.cluster.leadership())))
    }

    fn proof(&mut self, names: &KeyNames) -> Result<Option<ProofTask>, TlsError> {
        // One place says which of the tokens of APIs this is, now and after each change.
        let api = |config: &Config| config.pagerduty_api().map(|(root, token)| (root, token.clone()));
        let Some((root, token)) = api(self.config) else {
            info!("whether events open incidents in PagerDuty is not looked up: BRIDGE_PAGERDUTY_API_TOKEN is not set");
            return Ok(None);
        };
        let mut client = PagerDutyRestClient::new(&root, token, self.config.pagerduty_ca_file.as_deref())?;
        if let Some(tokens) = self.live.follow_set(move |config| api(config).map(|(_, token)| token)) {
            client = client.with_tokens(tokens);
        }
        let (queue, metrics) = (self.queue.clone(), self.metrics.clone());
        Ok(Some(ProofTask::new(client, queue, metrics, names.clone(), self.cluster.leadership())))
    }
}
