//! The running application: [`Bridge::build`] puts the parts together, [`Bridge::run_until_stopped`] runs them.

mod proof;
mod sentry;

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;
use std::thread::available_parallelism;
use std::time::{Duration, Instant};

use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::Data;
use actix_web::{App, HttpServer, rt};
use chrono::Utc;
use futures_util::future::{join_all, select_all};
use log::{info, warn};
use thiserror::Error;
use tokio::signal::unix::Signal;
use tokio::sync::{oneshot, watch};
use tokio::task::{AbortHandle, JoinError};
use tokio::time::{sleep, timeout};

use self::sentry::SentryTasks;
use crate::build_info::BuildInfo;
use crate::canary::{CanaryTask, Pace};
use crate::cluster::Cluster;
use crate::config::{Config, SecretFiles};
use crate::delivery::{DeliveryLimits, Worker};
use crate::descriptors;
use crate::ingest::Ingest;
use crate::logging::{self, throttle};
use crate::metrics::Metrics;
use crate::monitor::fallback::{FallbackTask, Webhook};
use crate::monitor::snapshot::FallbackView;
use crate::monitor::{self, AlarmTask, CommitTimes, Intervals, Monitor, Paging};
use crate::pagerduty::{EventsClient, ServiceKey};
use crate::pagerduty_api::Client as PagerDutyApi;
use crate::proof::{ProofTask, sample};
use crate::queue::retention::KEEP_ROWS;
use crate::queue::{Commit, Queue, QueueError, Retention};
use crate::reload::{LiveConfig, Reload};
use crate::sentry_api::SentryClient;
use crate::sentry_api::audit::{AuditSchedule, AuditSettings, AuditTask};
use crate::supervision::{TaskEnded, Tasks};
use crate::tls::TlsError;
use crate::two_way::webhook::Wishes;
use crate::web::auth::admin::AdminAuth;
use crate::web::auth::webhook::Authentication;
use crate::web::{self, AppState, Endpoints, TwoWay};

/// How long a client may take to send the head of a request. Sentry waits for 5 seconds at most.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How many connections one thread of the web server accepts at most.
const CONNECTIONS: usize = 25_000;

/// How often delivered events beyond their retention are deleted.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);

/// How often metrics are stored; a crash loses at most the counts of this time.
const SAVE_INTERVAL: Duration = Duration::from_secs(10);

/// How long a stopping bridge waits for the database to record that its service keys are free.
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

/// Why the bridge cannot listen on an address, and what to do about it.
#[must_use]
pub fn cannot_listen(address: SocketAddr, error: &io::Error) -> String {
    let port = address.port();
    let why = match error.kind() {
        io::ErrorKind::AddrInUse => format!(
            "the address is in use, perhaps by another bridge; `ss -ltnp 'sport = :{port}'` shows by which process"
        ),
        io::ErrorKind::AddrNotAvailable => {
            "this machine has no such address; `ip address` lists those it has".to_owned()
        }
        io::ErrorKind::PermissionDenied => {
            format!("no permission ({error}); ports below 1024 need CAP_NET_BIND_SERVICE, so choose a higher one")
        }
        _ => error.to_string(),
    };
    format!("cannot listen on {address}: {why}")
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
    reload: Reload,
    canary: Option<CanaryTask<IsLeader>>,
    audit: Option<AuditTask<SentryClient, IsLeader>>,
    fallback: Option<FallbackTask>,
    history: Retention,
    sentry: SentryTasks,
    proof: Option<ProofTask<PagerDutyApi, IsLeader>>,
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
        let cluster = cluster(&config, &queue);
        let metrics = Metrics::new();
        let commits = count_commits(&queue, &metrics);
        let untrusted = restore(&queue, &metrics).await;
        let worker = worker(&config, &queue, &client, &metrics, untrusted, &cluster).await;
        let audit = audit(&config, &mut live, &cluster)?;
        let canary = canary(&config, &mut live, &ingest, &queue, &metrics, &cluster)?;
        let sentry = SentryTasks::new(&config, &mut live, &ingest, &queue, &metrics, &cluster)?;
        let names = proof::names(&config, &mut live);
        let proof = proof::task(&config, &mut live, &queue, &metrics, &names, &cluster)?;
        let (view, fallback_view) = watch::channel(FallbackView::default());
        let monitor = Monitor::new(
            Utc::now(),
            queue.clone(),
            worker.view(),
            metrics.clone(),
            monitor::Limits::from(&config),
            &config.incident_key_prefix,
        )
        .with_commits(commits)
        .with_cluster(cluster.clone())
        .with_sentry(canary.is_some(), audit.as_ref().map(AuditTask::status))
        .with_catch_up(sentry.catch_up_status.clone())
        .with_pagerduty(names, proof.as_ref().map(ProofTask::status))
        .with_fallback(webhook.is_some().then_some(fallback_view));
        let alarms = AlarmTask::new(monitor.clone(), queue.clone(), client, live.follow(paging));
        let leader = cluster.clone();
        let leads = move || leader.is_leader();
        let fallback = webhook.map(|webhook| {
            FallbackTask::new(monitor.clone(), queue.clone(), webhook, leads, alarms.unsent_alarm(), view)
        });
        let history = Retention { age: config.keep_delivered, rows: KEEP_ROWS };
        let (drain, grace) = (config.shutdown_drain, config.shutdown_grace);
        let two_way = two_way(&config, &mut live);
        let state = app_state(config, ingest, &queue, metrics, monitor).with_cluster(cluster.clone());
        let state = state.with_two_way(two_way);
        let shared = Data::new(state);
        let mut reload = Reload::new(shared.clone(), live, cluster.clone());
        // Admits held webhooks before any webhook is received, because new ones belong behind them.
        reload.begin().await;
        let public = if admin.is_some() { Endpoints::Public } else { Endpoints::All };
        let listeners = [Some((listener, public)), admin.map(|listener| (listener, Endpoints::Admin))];
        let servers = listeners.into_iter().flatten();
        let servers = servers.map(|(listener, endpoints)| serve(listener, endpoints, shared.clone(), grace));
        let servers = servers.collect::<io::Result<_>>().map_err(StartupError::Server)?;
        Ok(Self {
            address,
            admin_address,
            servers,
            worker,
            queue,
            cluster,
            shared,
            alarms,
            reload,
            canary,
            audit,
            fallback,
            history,
            sentry,
            proof,
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

    /// Makes the bridge read these files of secrets again when they change, and at once on a signal of `hangups`.
    #[must_use]
    pub fn with_secret_files(self, files: SecretFiles, hangups: Signal) -> Self {
        Self { reload: self.reload.with_files(files, hangups), ..self }
    }

    /// Sets another pace for the canaries, and another schedule for the audits.
    #[must_use]
    pub fn with_pace(self, pace: Pace, schedule: AuditSchedule) -> Self {
        let canary = self.canary.map(|canary| canary.with_pace(pace));
        let audit = self.audit.map(|audit| audit.with_schedule(schedule));
        Self { canary, audit, ..self }
    }

    /// Sets another schedule for the look-ups in PagerDuty.
    #[must_use]
    pub fn with_proof_schedule(self, schedule: sample::Schedule) -> Self {
        Self { proof: self.proof.map(|proof| proof.with_schedule(schedule)), ..self }
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
        let Self {
            address,
            admin_address,
            servers,
            worker,
            queue,
            cluster,
            shared,
            alarms,
            reload,
            canary,
            audit,
            fallback,
            history,
            sentry: asking,
            proof,
            drain,
            grace,
        } = self;
        let handles: Vec<_> = servers.iter().map(Server::handle).collect();
        let (stop_worker, worker_stops) = oneshot::channel();
        let mut worker = rt::spawn(worker.run(async move { worker_stops.await.unwrap_or_default() }));
        let mut servers: Vec<_> = servers.into_iter().map(rt::spawn).collect();

        let mut tasks = Tasks::default();
        let (writer, pruned, saved) = (queue.clone(), queue.clone(), queue.clone());
        let metrics = shared.metrics.clone();
        tasks.spawn("the queue's writer", async move { writer.writer_ended().await });
        tasks.spawn("the log's writer", logging::writer_ended());
        tasks.spawn("the summary of repeated log lines", throttle::keep_reporting());
        tasks.spawn("the leases", cluster.clone().run());
        let leader = cluster.clone();
        let leads = move || leader.is_leader();
        let sentry = [
            canary.map(|canary| tasks.spawn("the canary", canary.run())),
            audit.map(|audit| tasks.spawn("the audit", audit.run())),
        ];
        let mut until_shutdown = vec![
            tasks.spawn("retention", async move { pruned.keep_pruned(history, PRUNE_INTERVAL, Utc::now, leads).await }),
            tasks.spawn("saving metrics", async move { saved.keep_metrics_persisted(&metrics, SAVE_INTERVAL).await }),
            tasks.spawn("the alarms", alarms.run()),
            tasks.spawn("the reading of secrets", reload.run()),
        ];
        until_shutdown.extend(asking.spawn(&mut tasks));
        until_shutdown.extend(proof.map(|proof| tasks.spawn("the look-ups in PagerDuty", proof.run())));
        until_shutdown.extend(fallback.map(|fallback| tasks.spawn("the fallback webhook", fallback.run())));
        info!("listening on http://{address}");
        if let Some(address) = admin_address {
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
        until_shutdown.iter().chain(sentry.iter().flatten()).for_each(AbortHandle::abort);
        info!("stopping: /readyz is 503, webhooks are served for another {drain:?}");
        sleep(drain).await;
        // The worker and the requests in flight end at the same time, so that the grace period is spent once.
        let _ = stop_worker.send(grace);
        // The web server checks its own timeout once a second, which may be later than the grace period allows.
        let _ = timeout(grace, join_all(handles.iter().map(|handle| handle.stop(true)))).await;
        worker.await.map_err(|error| TaskEnded::new("the delivery worker", &Err(error)))?;
        cluster.wait_until_left(HANDOVER).await;
        tasks.stop().await;
        if let Err(error) = queue.persist_metrics(&shared.metrics).await {
            warn!("the counts of the last seconds are lost: {error}");
        }
        if let Err(error) = queue.close().await {
            // For example, the disk is full: everything that was committed stays in the files beside the database. Only files
            // that were taken away, and could not be written again so far, are gone with this process.
            warn!("the database could not be closed cleanly: {error}");
        }
        throttle::report_all();
        info!("stopped");
        Ok(())
    }
}

/// Joins the bridges that share the queue, if the queue can be shared.
fn cluster(config: &Config, queue: &Queue) -> Cluster {
    let Some(leases) = queue.leases() else { return Cluster::alone() };
    let (version, fingerprint) = (BuildInfo::current().to_string(), config.fingerprint().to_string());
    Cluster::join(leases, config.pagerduty_timeout, version, fingerprint)
}

/// Whether this bridge is the leader, which does what only one of several bridges on a queue has to do.
type IsLeader = Box<dyn Fn() -> bool>;

fn is_leader(cluster: &Cluster) -> IsLeader {
    let cluster = cluster.clone();
    Box::new(move || cluster.is_leader())
}

/// Returns the canary task, if a canary is configured.
fn canary(
    config: &Config,
    live: &mut LiveConfig,
    ingest: &Ingest,
    queue: &Queue,
    metrics: &Metrics,
    cluster: &Cluster,
) -> Result<Option<CanaryTask<IsLeader>>, TlsError> {
    let Some(dsn) = live.follow_set(|config| config.canary_dsn.clone()) else { return Ok(None) };
    let (pace, ca_file) = (Pace::new(config.canary_every), config.sentry_ca_file.as_deref());
    CanaryTask::new(dsn, ca_file, ingest.clone(), queue.clone(), metrics.clone(), pace, is_leader(cluster)).map(Some)
}

/// Returns the task of the daily audit, if Sentry's API is configured.
fn audit(
    config: &Config,
    live: &mut LiveConfig,
    cluster: &Cluster,
) -> Result<Option<AuditTask<SentryClient, IsLeader>>, TlsError> {
    let Some(client) = sentry::client(config, live)? else { return Ok(None) };
    Ok(Some(AuditTask::new(client, live.follow(AuditSettings::of), is_leader(cluster))))
}

/// Counts every commit of `queue` in `metrics`, and returns the times of the commits.
fn count_commits(queue: &Queue, metrics: &Metrics) -> Arc<CommitTimes> {
    let times = Arc::new(CommitTimes::default());
    let (metrics, committed) = (metrics.clone(), Arc::clone(&times));
    queue.observe(move |commit| match commit {
        Commit::Done { took, arrivals, folded, rejected } => {
            if let [first, ..] = arrivals
                && let Some(last) = arrivals.last()
            {
                committed.committed(first.id, last.id, Instant::now());
            }
            metrics.committed(*took);
            arrivals.iter().for_each(|arrival| metrics.queued(arrival.event_type));
            metrics.folded(*folded);
            metrics.rejected_kept(*rejected);
        }
        Commit::Failed => metrics.commit_failed(),
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

/// Creates the delivery worker, with the failures of an earlier run if events are still waiting.
async fn worker(
    config: &Config,
    queue: &Queue,
    client: &EventsClient,
    metrics: &Metrics,
    untrusted: Option<String>,
    cluster: &Cluster,
) -> Worker {
    let failures = last_failures(queue).await;
    let limits = DeliveryLimits::new(config.pagerduty_rate, config.give_up_after);
    Worker::new(queue.clone(), client.clone(), limits)
        .with_cluster(cluster.clone())
        .with_metrics(metrics.clone())
        .with_earlier_failures(failures, untrusted)
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

/// The webhook of `BRIDGE_FALLBACK_URL`, if that is set.
fn fallback_webhook(config: &Config, live: &mut LiveConfig) -> Result<Option<Webhook>, TlsError> {
    let Some(urls) = live.follow_set(|config| config.fallback_url.clone()) else { return Ok(None) };
    let url = urls.borrow().clone();
    Ok(Some(Webhook::new(url, config.fallback_ca_file.as_deref())?.with_urls(urls)))
}

/// Returns what the handler of PagerDuty's webhooks needs, if two-way is on.
fn two_way(config: &Config, live: &mut LiveConfig) -> Option<TwoWay> {
    let wishes = Wishes { prefix: config.incident_key_prefix.clone(), reopens: config.pagerduty_reopen };
    let is_on = !config.pagerduty_webhook_secret.is_empty();
    is_on.then(|| TwoWay { secrets: live.follow(|config| config.pagerduty_webhook_secret.clone()), wishes })
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
    fn of_server(ended: Result<io::Result<()>, JoinError>) -> Self {
        Self::Server(match ended {
            Ok(Ok(())) => "it stopped by itself".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        })
    }
}

fn serve(listener: TcpListener, endpoints: Endpoints, shared: Data<AppState>, grace: Duration) -> io::Result<Server> {
    let threads = available_parallelism().map_or(1, usize::from);
    let connections = (descriptors::connections(descriptors::limit()) / threads).clamp(1, CONNECTIONS);
    let server = HttpServer::new(move || {
        let app = App::new().app_data(shared.clone()).wrap(from_fn(close_unless_accepted));
        app.configure(|config| web::routes(endpoints, config))
    })
    .workers(threads)
    .max_connections(connections)
    .disable_signals()
    .client_request_timeout(HEAD_TIMEOUT)
    .shutdown_timeout(whole_seconds(grace))
    .listen(listener)?
    .run();
    Ok(server)
}

/// Closes the connection after every response except 202: the web server limits the time only for the first request head
/// of a connection, so that an unauthenticated client could hold a connection forever.
async fn close_unless_accepted<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let mut response = next.call(request).await?;
    if response.status() != StatusCode::ACCEPTED {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}

/// Rounds up to whole seconds, because the web server takes no fractions.
fn whole_seconds(duration: Duration) -> u64 {
    duration.as_secs() + u64::from(duration.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_of_less_than_a_second_is_not_none() {
        let seconds = [0, 1, 500, 1000, 1001, 20_000].map(|millis| whole_seconds(Duration::from_millis(millis)));
        assert_eq!(seconds, [0, 1, 1, 1, 2, 20]);
    }
}
