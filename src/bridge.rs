//! The running application: built from its configuration and a listener, runs until a shutdown future resolves.

use std::future::Future;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::pin::pin;
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
use log::{info, warn};
use thiserror::Error;
use tokio::sync::oneshot;
use tokio::time::{sleep, timeout};

use crate::about::Build;
use crate::config::Config;
use crate::delivery::{Limits, Worker};
use crate::descriptors;
use crate::ingest::Ingest;
use crate::logging::{self, repeats};
use crate::metrics::Metrics;
use crate::monitor::{self, CommitTimes, Keeper, Paging, Rhythm, Watch};
use crate::pagerduty::ServiceKey;
use crate::pagerduty::client::{Client, ClientError};
use crate::queue::retention::KEEP_ROWS;
use crate::queue::{Commit, Queue, QueueError, Retention};
use crate::supervision::{Ended, Tasks};
use crate::web::admin::Admin;
use crate::web::door::Door;
use crate::web::page::layout::Imprint;
use crate::web::{self, Shared};

/// How long a client may take to send the head of a request. Sentry gives up after 5 seconds at most.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How many connections one thread of the web server takes at most.
const CONNECTIONS: usize = 25_000;

/// How often delivered events that are too old are forgotten.
const PRUNE_INTERVAL: Duration = Duration::from_mins(1);

/// How often it is kept what happened lately; a crash loses no more than that.
const REMEMBER_INTERVAL: Duration = Duration::from_secs(10);

/// Why the bridge cannot start, as a sentence for the operator.
#[derive(Debug, Error)]
pub enum StartupError {
    /// The address is taken or not this machine's.
    #[error("BRIDGE_LISTEN is {address}, which cannot be listened on: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The queue cannot be used.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// PagerDuty's client cannot be made.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The HTTP server cannot be set up.
    #[error("the web server cannot start: {0}")]
    Server(io::Error),
}

/// Binds the address of `BRIDGE_LISTEN`.
///
/// # Errors
///
/// When the address is taken or not this machine's.
pub fn listen(address: SocketAddr) -> Result<TcpListener, StartupError> {
    TcpListener::bind(address).map_err(|source| StartupError::Listen { address, source })
}

/// A bridge that is ready to run.
pub struct Bridge {
    address: SocketAddr,
    server: Server,
    worker: Worker,
    queue: Queue,
    shared: Data<Shared>,
    keeper: Keeper,
    history: Retention,
    drain: Duration,
    grace: Duration,
}

impl Bridge {
    /// Opens the queue and prepares the server on `listener`, whose port may be any. Must be called within an actix
    /// system.
    ///
    /// # Errors
    ///
    /// When the queue, the certificate authorities or the listener cannot be used.
    pub async fn build(config: Config, listener: TcpListener) -> Result<Self, StartupError> {
        let address = listener.local_addr().map_err(StartupError::Server)?;
        let client = Client::new(&config.pagerduty_url, config.pagerduty_timeout, config.pagerduty_ca_file.as_deref())?;
        let queue = Queue::open(config.database_url.sqlite_path()).await?;
        let limits = Limits::new(config.pagerduty_rate, config.give_up_after);
        let metrics = Metrics::new();
        let commits = Arc::new(CommitTimes::default());
        let untrusted = count(&queue, &metrics, &commits).await;
        let troubles = troubles(&queue).await;
        let untrusted = untrusted.filter(|_| !troubles.is_empty());
        let worker = Worker::new(queue.clone(), client.clone(), limits).counted_by(metrics.clone());
        let worker = worker.knowing(troubles, untrusted);
        let watch = Watch::new(
            Utc::now(),
            queue.clone(),
            worker.view(),
            metrics.clone(),
            monitor::Limits::from(&config),
            &config.incident_key_prefix,
        )
        .with_commits(commits);
        let mut alarm_keys = vec![config.alarm_key().clone(), config.pagerduty_service_key.clone()];
        alarm_keys.dedup();
        let paging = Paging {
            service_keys: if config.alarms { alarm_keys } else { Vec::new() },
            prefix: config.incident_key_prefix.clone(),
        };
        let keeper = Keeper::new(watch.clone(), queue.clone(), client, paging);
        let imprint =
            Imprint { version: Build::current().to_string(), fingerprint: Some(config.fingerprint().to_string()) };
        let ingest = Ingest::of(&config);
        let door = Door::new(config.webhook_token, config.sentry_client_secret);
        let admin = Admin::new(config.admin_token, rand::random());
        let shared = Shared::new(door, ingest, queue.clone(), config.max_body, metrics, watch);
        let shared = Data::new(shared.with_admin(admin).with_imprint(imprint));
        let server = serve(listener, shared.clone(), config.shutdown_grace).map_err(StartupError::Server)?;
        Ok(Self {
            address,
            server,
            worker,
            queue,
            shared,
            keeper,
            history: Retention { age: config.keep_delivered, rows: KEEP_ROWS },
            drain: config.shutdown_drain,
            grace: config.shutdown_grace,
        })
    }

    /// The same, looking whether it is well in another rhythm.
    #[must_use]
    pub fn with_rhythm(self, rhythm: Rhythm) -> Self {
        Self { keeper: self.keeper.with_rhythm(rhythm), ..self }
    }

    /// Where the webhook is served.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The queue, for whoever wants to look at it while the bridge runs.
    #[must_use]
    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    /// Runs until `shutdown` resolves and everything under way has ended or its grace is over: `/readyz` turns red
    /// first, webhooks are still served while load balancers notice, then requests and deliveries in flight end.
    ///
    /// # Errors
    ///
    /// When the web server fails, or a background task ends, of its own accord or by a panic.
    pub async fn run_until(self, shutdown: impl Future<Output = ()>) -> Result<(), RunError> {
        let handle = self.server.handle();
        let (stop_worker, worker_stops) = oneshot::channel();
        let worker = rt::spawn(self.worker.run(async move { worker_stops.await.unwrap_or_default() }));
        let server = rt::spawn(self.server);
        let mut tasks = Tasks::default();
        let queue = self.queue.clone();
        tasks.spawn("the queue's writer", async move { queue.writer_ended().await });
        let (queue, history) = (self.queue.clone(), self.history);
        let pruning = async move { queue.keep_pruned(history, PRUNE_INTERVAL, Utc::now).await };
        let pruning = tasks.spawn("the pruning of the queue", pruning);
        let (queue, metrics) = (self.queue.clone(), self.shared.metrics.clone());
        let remembering = async move { queue.keep_metrics_persisted(&metrics, REMEMBER_INTERVAL).await };
        let remembering = tasks.spawn("the keeping of the metrics", remembering);
        let keeping = tasks.spawn("the monitor", self.keeper.run());
        tasks.spawn("the counting of log lines", repeats::keep_telling());
        tasks.spawn("the log's writer", logging::writer_ended());
        info!("listening on http://{}", self.address);

        let mut server = pin!(server);
        let mut worker = pin!(worker);
        // Neither ends by itself unless something is wrong with it. Whoever runs the bridge had better start it again
        // than keep one that looks alive and hears or says nothing.
        tokio::select! {
            () = shutdown => {}
            ended = &mut server => return Err(RunError::Server(match ended {
                Ok(Ok(())) => "it stopped by itself".to_owned(),
                Ok(Err(error)) => error.to_string(),
                Err(error) => error.to_string(),
            })),
            ended = &mut worker => return Err(Ended::new("the delivery worker", &ended).into()),
            ended = tasks.ended() => return Err(ended.into()),
        }
        self.shared.stop();
        pruning.abort();
        remembering.abort();
        // While the bridge goes away, nothing about it is news.
        keeping.abort();
        info!("stopping: /readyz is 503, webhooks are served for another {:?}", self.drain);
        sleep(self.drain).await;
        // The worker ends together with the requests in flight, so that the grace is spent once.
        let _ = stop_worker.send(self.grace);
        // The web server looks once a second whether its time is over, which may be later than the grace allows.
        let _ = timeout(self.grace, handle.stop(true)).await;
        worker.await.map_err(|error| Ended::new("the delivery worker", &Err(error)))?;
        if let Err(error) = self.queue.persist_metrics(&self.shared.metrics).await {
            warn!("the counts of the last seconds are lost: {error}");
        }
        if let Err(error) = self.queue.close().await {
            // As on a full disk. All that was committed stands in the files beside the database.
            warn!("the queue is safe, but its files could not be tidied up: {error}");
        }
        drop(tasks);
        repeats::tell_the_rest();
        info!("stopped");
        Ok(())
    }
}

/// Lets `metrics` and `commits` hear of every commit of `queue`, and `metrics` know what an earlier run remembered. Says
/// why PagerDuty could not be trusted then.
async fn count(queue: &Queue, metrics: &Metrics, commits: &Arc<CommitTimes>) -> Option<String> {
    let (heard, commits) = (metrics.clone(), Arc::clone(commits));
    queue.observe(move |commit| match commit {
        Commit::Done { took, arrivals, folded, rejected } => {
            if let [first, ..] = arrivals
                && let Some(last) = arrivals.last()
            {
                commits.committed(first.id, last.id, Instant::now());
            }
            heard.committed(*took);
            arrivals.iter().for_each(|arrival| heard.queued(arrival.event_type));
            heard.folded(*folded);
            heard.rejected_kept(*rejected);
        }
        Commit::Failed => heard.commit_failed(),
    });
    let now = Utc::now();
    match queue.persisted_metrics(now).await {
        Ok(memory) => {
            let untrusted = memory.untrusted.clone();
            metrics.recall(memory, now);
            untrusted
        }
        Err(error) => {
            warn!("what happened before the start is not known: {error}");
            None
        }
    }
}

/// How the last attempts of an earlier run failed, for each service key for which something waits.
async fn troubles(queue: &Queue) -> Vec<(ServiceKey, String)> {
    match queue.reader().backlog(&[]).await {
        Ok(attention) => {
            let first = attention.first.into_iter();
            first.filter_map(|first| first.reason.map(|reason| (first.service_key, reason))).collect()
        }
        Err(error) => {
            warn!("how deliveries failed before the start is not known: {error}");
            Vec::new()
        }
    }
}

/// Why a running bridge ended.
#[derive(Debug, Error)]
pub enum RunError {
    /// The web server failed.
    #[error("the web server failed: {0}")]
    Server(String),
    /// A background task ended.
    #[error(transparent)]
    Task(#[from] Ended),
}

fn serve(listener: TcpListener, shared: Data<Shared>, grace: Duration) -> io::Result<Server> {
    let threads = available_parallelism().map_or(1, usize::from);
    let connections = (descriptors::connections(descriptors::limit()) / threads).clamp(1, CONNECTIONS);
    let server = HttpServer::new(move || {
        App::new().app_data(shared.clone()).wrap(from_fn(keep_only_trusted)).configure(web::routes)
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

/// Closes the connection after every answer but that to an alert that was taken: the web server has a deadline for the
/// first head of a connection and none for the others, so a stranger could hold it for ever.
async fn keep_only_trusted<B: MessageBody>(
    request: ServiceRequest,
    next: Next<B>,
) -> Result<ServiceResponse<B>, actix_web::Error> {
    let mut response = next.call(request).await?;
    if response.status() != StatusCode::ACCEPTED {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}

/// What the web server understands, and no less than was asked for.
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
