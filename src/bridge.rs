//! The running application: [`Bridge::build`] puts the parts together, [`Bridge::run_until_stopped`] runs them.

mod server;
mod tasks;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix_web::dev::Server;
use actix_web::rt;
use actix_web::web::Data;
use chrono::Utc;
use futures_util::future::{join_all, select_all};
use log::{info, warn};
use thiserror::Error;
use tokio::signal::unix::Signal;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinError};
use tokio::time::{sleep, timeout};

use crate::build_info::BuildInfo;
use crate::canary::CanarySchedule;
use crate::catch_up::CatchUpTask;
use crate::cluster::Cluster;
use crate::config::{Config, SecretFiles};
use crate::delivery::{DeliveryLimits, Worker};
use crate::ingest::Ingest;
use crate::logging::{self, throttle};
use crate::metrics::Metrics;
use crate::monitor::fallback::{FallbackTask, FallbackWebhook};
use crate::monitor::snapshot::FallbackView;
use crate::monitor::{AlarmTask, CommitTimes, Intervals, Monitor, Paging, TroubleLimits};
use crate::pagerduty::{EventsClient, KeyNames, ServiceKey};
use crate::proof::{ProofTask, sample};
use crate::queue::retention::KEEP_ROWS;
use crate::queue::{CommitOutcome, Queue, QueueError, Retention};
use crate::reload::{LiveConfig, Reload};
use crate::sentry_api::audit::{AuditSchedule, AuditTask};
use crate::supervision::{TaskEnded, Tasks};
use crate::tls::TlsError;
use crate::two_way::webhook::TwoWaySettings;
use crate::web::auth::admin::AdminAuth;
use crate::web::auth::webhook::Authentication;
use crate::web::{AppState, Endpoints, TwoWay};
pub use server::cannot_listen;
use tasks::{OptionalTasks, TaskParts};

/// How often delivered events beyond their retention are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);

/// How often metrics are stored; a crash loses at most the counts of this time.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a stopping bridge waits for the database to record that it has stopped and that its service keys are free.
const HANDOVER: Duration = Duration::from_secs(2);

/// Why the bridge cannot start, as a sentence for the operator.
#[derive(Debug, Error)]
pub enum StartupError {
    /// The address is in use or not this machine's.
    #[error("{setting}: {}", cannot_listen(*.address, .error))]
    Listen {
        /// The setting.
        setting: &'static str,
        /// The address.
        address: SocketAddr,
        /// The error of the operating system.
        error: io::Error,
    },
    /// The queue cannot be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// A client cannot be set up.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The HTTP server cannot be set up.
    #[error("the web server cannot start: {0}")]
    Server(io::Error),
}

/// Binds the address of `BRIDGE_LISTEN`.
///
/// # Errors
///
/// When the address is in use or not this machine's.
pub fn listen(address: SocketAddr) -> Result<TcpListener, StartupError> {
    bind("BRIDGE_LISTEN", address)
}

fn bind(setting: &'static str, address: SocketAddr) -> Result<TcpListener, StartupError> {
    TcpListener::bind(address).map_err(|error| StartupError::Listen { setting, address, error })
}

/// A bridge that is ready to run.
pub struct Bridge {
    address: SocketAddr,
    admin_address: Option<SocketAddr>,
    servers: Vec<Server>,
    worker: Worker,
    queue: Queue,
    cluster: Cluster,
    shared: Data<AppState>,
    alarms: AlarmTask,
    fallback: Option<FallbackTask>,
    reload: Reload,
    optional: OptionalTasks,
    retention: Retention,
    drain: Duration,
    grace: Duration,
}

impl Bridge {
    /// Opens the queue and prepares the server on `listener`, which may have any port, and a second one on
    /// `BRIDGE_ADMIN_LISTEN` if that is set. Must be called within an actix system.
    ///
    /// # Errors
    ///
    /// When the queue, the certificate authorities or a listener cannot be used.
    pub async fn build(config: Config, listener: TcpListener) -> Result<Self, StartupError> {
        let address = listener.local_addr().map_err(StartupError::Server)?;
        let admin = config.admin_listen.map(|address| bind("BRIDGE_ADMIN_LISTEN", address)).transpose()?;
        let admin_address = admin.as_ref().map(TcpListener::local_addr).transpose().map_err(StartupError::Server)?;
        let client =
            EventsClient::new(&config.pagerduty_url, config.pagerduty_timeout, config.pagerduty_ca_file.as_deref())?;
        let mut live = LiveConfig::new(config.clone());
        let ingest = Ingest::from(&config);
        let webhook = fallback_webhook(&config, &mut live)?;

        let queue = Queue::open(config.database()).await?;
        let cluster = join_cluster(&config, &queue);
        let metrics = Metrics::new();
        let commits = count_commits(&queue, &metrics);
        let untrusted = restore(&queue, &metrics).await;
        let delivery_limits = DeliveryLimits::new(config.pagerduty_rate, config.give_up_after);
        let worker = Worker::new(queue.clone(), client.clone(), delivery_limits)
            .with_cluster(cluster.clone())
            .with_metrics(metrics.clone())
            .with_earlier_failures(last_failures(&queue).await, untrusted);

        let names = key_names(&config, &mut live);
        let parts = TaskParts {
            config: &config,
            live: &mut live,
            ingest: &ingest,
            queue: &queue,
            metrics: &metrics,
            cluster: &cluster,
        };
        let optional = OptionalTasks::new(parts, &names)?;
        let (fallback_sender, fallback_view) = watch::channel(FallbackView::default());
        let trouble_limits = TroubleLimits::from(&config);
        let prefix = &config.incident_key_prefix;
        let monitor = Monitor::new(Utc::now(), queue.clone(), worker.view(), metrics.clone(), trouble_limits, prefix)
            .with_commits(commits)
            .with_cluster(cluster.clone())
            .with_canaries(optional.canary.is_some())
            .with_audit(optional.audit.as_ref().map(AuditTask::status))
            .with_catch_up(optional.catch_up.as_ref().map(CatchUpTask::status))
            .with_pagerduty(names, optional.proof.as_ref().map(ProofTask::status))
            .with_fallback(webhook.is_some().then_some(fallback_view));
        let alarms = AlarmTask::new(monitor.clone(), queue.clone(), client, live.follow(paging));
        let fallback = webhook.map(|webhook| {
            FallbackTask::new(monitor.clone(), queue.clone(), webhook, alarms.unsent_alarm(), fallback_sender)
        });

        let retention = Retention { age: config.keep_delivered, rows: KEEP_ROWS };
        let (drain, grace) = (config.shutdown_drain, config.shutdown_grace);
        let two_way = two_way(&config, &mut live);
        let state = app_state(config, ingest, &queue, metrics, monitor);
        let shared = Data::new(state.with_cluster(cluster.clone()).with_two_way(two_way));
        let mut reload = Reload::new(shared.clone(), live, cluster.clone());
        // Admits held webhooks before any webhook is received, because new ones belong behind them.
        reload.begin().await;
        let public = if admin.is_some() { Endpoints::Public } else { Endpoints::All };
        let listeners = [Some((listener, public)), admin.map(|listener| (listener, Endpoints::Admin))];
        let servers = listeners.into_iter().flatten();
        let servers = servers.map(|(listener, endpoints)| server::serve(listener, endpoints, shared.clone(), grace));
        Ok(Self {
            address,
            admin_address,
            servers: servers.collect::<io::Result<_>>().map_err(StartupError::Server)?,
            worker,
            queue,
            cluster,
            shared,
            alarms,
            fallback,
            reload,
            optional,
            retention,
            drain,
            grace,
        })
    }

    /// Sets other intervals for the alarms and the fallback webhook.
    #[must_use]
    pub fn with_intervals(self, intervals: Intervals) -> Self {
        let fallback = self.fallback.map(|fallback| fallback.with_intervals(intervals));
        Self { alarms: self.alarms.with_intervals(intervals), fallback, ..self }
    }

    /// Changes the limits at which troubles begin for the alarms.
    #[must_use]
    pub fn with_trouble_limits(self, change: impl FnOnce(&mut TroubleLimits)) -> Self {
        Self { alarms: self.alarms.with_limits(change), ..self }
    }

    /// Makes the bridge read these files of secrets again when they change, and at once on a signal of `hangups`.
    #[must_use]
    pub fn with_secret_files(self, files: SecretFiles, hangups: Signal) -> Self {
        Self { reload: self.reload.with_files(files, hangups), ..self }
    }

    /// Sets other schedules for the canaries and the audits.
    #[must_use]
    pub fn with_schedules(mut self, canaries: CanarySchedule, audits: AuditSchedule) -> Self {
        self.optional.canary = self.optional.canary.map(|canary| canary.with_schedule(canaries));
        self.optional.audit = self.optional.audit.map(|audit| audit.with_schedule(audits));
        self
    }

    /// Sets another schedule for the look-ups in PagerDuty.
    #[must_use]
    pub fn with_proof_schedule(mut self, schedule: sample::ProofSchedule) -> Self {
        self.optional.proof = self.optional.proof.map(|proof| proof.with_schedule(schedule));
        self
    }

    /// The address on which the webhook is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The queue, for inspection while the bridge runs.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Runs until `shutdown` resolves, then stops: `/readyz` answers 503 at once, webhooks are still served while load
    /// balancers notice, and requests and deliveries in flight get a grace period to end.
    ///
    /// # Errors
    ///
    /// When the web server fails, or a background task ends, by itself or by a panic.
    pub async fn run_until_stopped(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let Self { queue, cluster, shared, drain, grace, .. } = self;
        let handles: Vec<_> = self.servers.iter().map(Server::handle).collect();
        let (stop_worker, worker_stops) = oneshot::channel();
        let mut worker = rt::spawn(self.worker.run(async move { worker_stops.await.unwrap_or_default() }));
        let mut servers: Vec<_> = self.servers.into_iter().map(rt::spawn).collect();

        let mut tasks = Tasks::default();
        let (writer, pruned, saved) = (queue.clone(), queue.clone(), queue.clone());
        let (metrics, retention, is_leader) = (shared.metrics.clone(), self.retention, cluster.leadership());
        tasks.spawn("the queue's writer", async move { writer.writer_ended().await });
        tasks.spawn("the log's writer", logging::writer_ended());
        tasks.spawn("the summary of repeated log lines", throttle::keep_reporting());
        tasks.spawn("the leases", cluster.clone().run());
        let mut until_shutdown = self.optional.spawn(&mut tasks);
        until_shutdown.extend([
            tasks.spawn("retention", async move {
                pruned.keep_pruned(retention, PRUNE_INTERVAL, Utc::now, is_leader).await
            }),
            tasks.spawn("saving metrics", async move { saved.keep_metrics_persisted(&metrics, SAVE_INTERVAL).await }),
            tasks.spawn("the alarms", self.alarms.run()),
            tasks.spawn("the reading of secrets", self.reload.run()),
        ]);
        until_shutdown.extend(self.fallback.map(|fallback| tasks.spawn("the fallback webhook", fallback.run())));
        info!("listening on http://{}", self.address);
        if let Some(address) = self.admin_address {
            info!("status page, API and metrics on http://{address}");
        }

        // None of them ends by itself unless something is wrong, and a restart is better than a process that looks alive
        // and receives or sends nothing.
        let ended = tokio::select! {
            () = shutdown => Ok(()),
            (ended, ..) = select_all(&mut servers) => Err(RunError::of_server(ended)),
            ended = &mut worker => Err(TaskEnded::new("the delivery worker", &ended).into()),
            ended = tasks.ended() => Err(ended.into()),
        };
        if ended.is_err() {
            tasks.stop().await;
            return ended;
        }

        shared.stop();
        // Other bridges take over deliveries while this one still receives webhooks.
        cluster.leave();
        until_shutdown.iter().for_each(AbortHandle::abort);
        info!("stopping: /readyz is 503, webhooks are served for another {drain:?}");
        sleep(drain).await;
        // The worker and the requests in flight end at the same time, so that the grace period is spent once.
        let _ = stop_worker.send(grace);
        // The web server checks its own timeout once a second, which may be later than the grace period allows.
        let _ = timeout(grace, join_all(handles.iter().map(|handle| handle.stop(true)))).await;
        worker.await.map_err(|error| TaskEnded::new("the delivery worker", &Err(error)))?;
        if let Err(error) = queue.persist_metrics(&shared.metrics).await {
            warn!("the counts of the last seconds are lost: {error}");
        }
        if let Err(error) = queue.close().await {
            // For example, the disk is full: everything that was committed stays in the files beside the database. Only files
            // that were taken away, and could not be written again so far, are gone with this process.
            warn!("the database could not be closed cleanly: {error}");
        }
        // Last, because a queue that is exported beside a bridge would lack what the bridge still commits.
        cluster.wait_until_left(HANDOVER).await;
        tasks.stop().await;
        throttle::report_all();
        info!("stopped");
        Ok(())
    }
}

/// Joins the bridges that share the queue, if the queue can be shared.
fn join_cluster(config: &Config, queue: &Queue) -> Cluster {
    let Some(leases) = queue.leases() else { return Cluster::alone() };
    let (version, fingerprint) = (BuildInfo::current().to_string(), config.fingerprint().to_string());
    Cluster::join(leases, config.pagerduty_timeout, version, fingerprint)
}

/// Counts every commit of `queue` in `metrics`, and returns the times of the commits.
fn count_commits(queue: &Queue, metrics: &Metrics) -> Arc<CommitTimes> {
    let times = Arc::new(CommitTimes::default());
    let (metrics, committed) = (metrics.clone(), Arc::clone(&times));
    queue.observe(move |commit| match commit {
        CommitOutcome::Done { took, arrivals, folded_count, rejected } => {
            if let [first, ..] = arrivals
                && let Some(last) = arrivals.last()
            {
                committed.committed(first.id, last.id, Instant::now());
            }
            metrics.record_commit(*took);
            arrivals.iter().for_each(|arrival| metrics.count_queued(arrival.event_type));
            metrics.count_folded(*folded_count);
            metrics.count_rejected_kept(*rejected);
        }
        CommitOutcome::Failed => metrics.count_failed_commit(),
    });
    times
}

/// Restores the persisted metrics of an earlier run. Returns the TLS error for which PagerDuty was not trusted then, if
/// there was one.
async fn restore(queue: &Queue, metrics: &Metrics) -> Option<String> {
    let now = Utc::now();
    match queue.persisted_metrics(now).await {
        Ok(stored) => {
            let untrusted = stored.untrusted.clone();
            metrics.restore(stored, now);
            untrusted
        }
        Err(error) => {
            warn!("the metrics of the previous run could not be restored: {error}");
            None
        }
    }
}

/// How the last attempts of an earlier run failed, for each service key with waiting events.
async fn last_failures(queue: &Queue) -> Vec<(ServiceKey, String)> {
    match queue.reader().backlog(&[]).await {
        Ok(backlog) => {
            let first = backlog.first.into_iter();
            first.filter_map(|first| first.reason.map(|reason| (first.service_key, reason))).collect()
        }
        Err(error) => {
            warn!("how deliveries failed before the start is not known: {error}");
            Vec::new()
        }
    }
}

/// Returns the names that the settings give to service keys; they follow changes of the settings.
fn key_names(config: &Config, live: &mut LiveConfig) -> KeyNames {
    let of = |config: &Config| -> Vec<_> { config.pagerduty_names.clone() };
    let names = KeyNames::new(of(config));
    let followed = names.clone();
    live.on_change(move |config| followed.set(of(config)));
    names
}

/// The webhook of `BRIDGE_FALLBACK_URL`, if that is set.
fn fallback_webhook(config: &Config, live: &mut LiveConfig) -> Result<Option<FallbackWebhook>, TlsError> {
    let Some(urls) = live.follow_set(|config| config.fallback_url.clone()) else { return Ok(None) };
    let url = urls.borrow().clone();
    Ok(Some(FallbackWebhook::new(url, config.fallback_ca_file.as_deref())?.with_urls(urls)))
}

/// Returns what the handler of PagerDuty's webhooks needs, if two-way is on.
fn two_way(config: &Config, live: &mut LiveConfig) -> Option<TwoWay> {
    let settings = TwoWaySettings { prefix: config.incident_key_prefix.clone(), reopens: config.pagerduty_reopen };
    let is_on = !config.pagerduty_webhook_secret.is_empty();
    is_on.then(|| TwoWay { secrets: live.follow(|config| config.pagerduty_webhook_secret.clone()), settings })
}

/// Alarms page the alarm key first, then the default key.
fn paging(config: &Config) -> Paging {
    let mut service_keys = Vec::new();
    if config.alarms {
        service_keys = vec![config.alarm_key().clone(), config.pagerduty_service_key.clone()];
        service_keys.dedup();
    }
    Paging { service_keys, apis: config.routes().apis().clone(), prefix: config.incident_key_prefix.clone() }
}

/// Creates the state that the endpoints share.
fn app_state(config: Config, ingest: Ingest, queue: &Queue, metrics: Metrics, monitor: Monitor) -> AppState {
    let fingerprint = config.fingerprint().to_string();
    let authentication = Authentication::new(config.webhook_token, config.sentry_client_secret);
    let admin = AdminAuth::new(config.admin_token, rand::random());
    let state = AppState::new(authentication, ingest, queue.clone(), config.max_body, metrics, monitor);
    state.with_admin(admin).with_fingerprint(fingerprint)
}

/// Why a running bridge ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// The web server failed.
    #[error("the web server failed: {0}")]
    Server(String),
    /// A background task ended.
    #[error(transparent)]
    Task(#[from] TaskEnded),
}

impl RunError {
    /// Describes the end of the web server.
    fn of_server(ended: Result<io::Result<()>, JoinError>) -> Self {
        Self::Server(match ended {
            Ok(Ok(())) => "it stopped by itself".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        })
    }
}
