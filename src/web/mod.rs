//! The HTTP endpoints.
//!
//! - `webhook`: `POST /sentry/{token}` and `POST /sentry`
//! - `pagerduty`: `POST /pagerduty`, PagerDuty's webhooks (two-way)
//! - [`auth`]: who may post webhooks, and who may use the status page and `/api`
//! - [`body`]: reading a request's body within limits of time and memory
//! - [`answer`]: the JSON of the responses to webhooks
//! - `probes`: `GET /healthz`, `GET /readyz` and `GET /metrics`
//! - `api`: `/api/…`
//! - `ui`: the status page at `GET /`

pub mod answer;
mod api;
pub mod auth;
pub mod body;
mod pagerduty;
mod probes;
mod ui;
mod webhook;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::middleware::from_fn;
use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpResponse, Resource, Route};

use tokio::sync::watch;

use self::answer::{method_not_allowed, not_found};
use self::auth::admin::AdminAuth;
use self::auth::webhook::Authentication;
use self::body::BodyMemory;
use crate::cluster::Cluster;
use crate::config::SigningSecret;
use crate::ingest::Ingest;
use crate::metrics::Metrics;
use crate::monitor::Monitor;
use crate::queue::Queue;
use crate::queue::admin::QueueAdmin;
use crate::two_way::webhook::TwoWaySettings;

/// The state that the endpoints share.
#[derive(Debug)]
pub struct AppState {
    /// Who may post webhooks.
    pub authentication: Authentication,
    /// Who may use the status page and `/api`.
    pub admin: AdminAuth,
    /// Retries and discards dead letters and rejected webhooks.
    pub queue_admin: QueueAdmin,
    /// Decides what a webhook means.
    pub ingest: Ingest,
    /// Where events are committed.
    pub queue: Queue,
    /// The largest body that is read, in bytes.
    pub max_body: usize,
    /// Counters.
    pub metrics: Metrics,
    /// The health of the bridge.
    pub monitor: Monitor,
    /// The memory limit of all bodies together.
    pub body_memory: Arc<BodyMemory>,
    /// The config fingerprint that the status page shows.
    pub config_fingerprint: watch::Sender<Option<String>>,
    /// The bridges that share the queue.
    pub cluster: Cluster,
    /// What two-way needs; `None` if it is off.
    pub two_way: Option<TwoWay>,
    stopping: AtomicBool,
}

/// What the handler of PagerDuty's webhooks needs.
#[derive(Debug)]
pub struct TwoWay {
    /// The current secrets, which verify their signatures.
    pub secrets: watch::Receiver<Vec<SigningSecret>>,
    /// The settings that decide what they ask for.
    pub settings: TwoWaySettings,
}

impl AppState {
    /// The state of a running bridge. Without [`AppState::with_admin`] the status page and `/api` are answered 404.
    #[must_use]
    pub fn new(
        authentication: Authentication,
        ingest: Ingest,
        queue: Queue,
        max_body: usize,
        metrics: Metrics,
        monitor: Monitor,
    ) -> Self {
        Self {
            authentication,
            admin: AdminAuth::default(),
            queue_admin: QueueAdmin::new(queue.clone(), ingest.clone()),
            ingest,
            queue,
            max_body,
            metrics,
            monitor,
            body_memory: BodyMemory::new(max_body),
            config_fingerprint: watch::Sender::new(None),
            cluster: Cluster::alone(),
            two_way: None,
            stopping: AtomicBool::new(false),
        }
    }

    /// Enables the status page and `/api`.
    #[must_use]
    pub fn with_admin(self, admin: AdminAuth) -> Self {
        Self { admin, ..self }
    }

    /// Accepts PagerDuty's webhooks, unless `two_way` is `None`.
    #[must_use]
    pub fn with_two_way(self, two_way: Option<TwoWay>) -> Self {
        Self { two_way, ..self }
    }

    /// Shares the queue with the other bridges of `cluster`.
    #[must_use]
    pub fn with_cluster(self, cluster: Cluster) -> Self {
        Self { cluster, ..self }
    }

    /// Shows this fingerprint of the configuration on the status page.
    #[must_use]
    pub fn with_fingerprint(self, fingerprint: String) -> Self {
        Self { config_fingerprint: watch::Sender::new(Some(fingerprint)), ..self }
    }

    /// Makes `/readyz` return 503 from now on.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// Which endpoints a listener serves.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Endpoints {
    /// All of them.
    All,
    /// What Sentry, PagerDuty and load balancers use: the webhooks, and the health.
    Public,
    /// What operators use: the status page, `/api`, metrics, and the health.
    Admin,
}

/// Adds the endpoints of a listener to an application.
pub fn routes(endpoints: Endpoints, config: &mut ServiceConfig) {
    config
        .service(readable("/healthz", [web::get(), web::head()].map(|route| route.to(probes::healthz))))
        .service(readable("/readyz", [web::get(), web::head()].map(|route| route.to(probes::readyz))));
    if endpoints != Endpoints::Admin {
        config.configure(webhook_routes);
    }
    if endpoints != Endpoints::Public {
        config
            .service(readable("/metrics", [web::get(), web::head()].map(|route| route.to(probes::metrics))))
            .configure(ui::routes)
            .configure(api::routes);
    }
    config.default_service(web::to(async || not_found()));
}

fn webhook_routes(config: &mut ServiceConfig) {
    for path in ["/pagerduty", "/pagerduty/"] {
        config.service(
            web::resource(path)
                .route(web::post().to(pagerduty::receive))
                .default_service(web::to(pagerduty::wrong_method)),
        );
    }
    config.service(web::scope("/sentry").wrap(from_fn(webhook::count)).default_service(web::to(webhook::dispatch)));
}

/// A read-only resource. HEAD is answered like GET, without the body.
fn readable(path: &str, routes: [Route; 2]) -> Resource {
    let resource = web::resource(path).default_service(web::to(get_only));
    routes.into_iter().fold(resource, Resource::route)
}

async fn get_only() -> HttpResponse {
    method_not_allowed("GET, HEAD", "use GET for this address")
}
