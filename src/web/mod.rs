//! The HTTP side: one file per endpoint, every answer JSON but those of `/metrics` and the status page.
//!
//! - [`webhook`]: `POST /sentry/{token}` and `POST /sentry`
//! - [`health`]: `GET /healthz` and `GET /readyz`
//! - [`metrics`]: `GET /metrics`
//! - [`page`]: the status page at `GET /`
//! - [`door`]: who may post webhooks
//! - [`admin`]: who may look and act
//! - [`api`]: `/api/…`, what the status page shows and does, as JSON
//! - [`body`]: reading a request's body within a bound
//! - [`body_memory`]: the bound of all bodies together, and which of them goes when there is no room
//! - [`answer`]: the JSON answers

pub mod admin;
pub mod answer;
pub mod api;
pub mod body;
pub mod body_memory;
pub mod door;
pub mod health;
pub mod metrics;
pub mod page;
pub mod webhook;

use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::web::{self, ServiceConfig};
use actix_web::{HttpRequest, HttpResponse};

use crate::ingest::Ingest;
use crate::metrics::Metrics;
use crate::monitor::Watch;
use crate::queue::Queue;
use crate::queue::admin::QueueAdmin;
use crate::web::admin::Admin;
use crate::web::answer::error;
use crate::web::body_memory::BodyMemory;
use crate::web::door::Door;
use crate::web::page::layout::Imprint;

/// The header that tells the webhooks of Sentry's integration platform apart.
const RESOURCE: &str = "Sentry-Hook-Resource";

/// What the endpoints share.
#[derive(Debug)]
pub struct Shared {
    /// Who may post webhooks.
    pub door: Door,
    /// Who may look and act.
    pub admin: Admin,
    /// What people do about what went wrong.
    pub upkeep: QueueAdmin,
    /// What a webhook means.
    pub ingest: Ingest,
    /// Where events are committed.
    pub queue: Queue,
    /// The largest body that is read, in bytes.
    pub max_body: usize,
    /// What is counted.
    pub metrics: Metrics,
    /// Whether the bridge is well.
    pub watch: Watch,
    /// What bodies may take together.
    pub body_memory: BodyMemory,
    /// Which bridge this is, for the status page.
    pub imprint: Imprint,
    stopping: AtomicBool,
}

impl Shared {
    /// What the endpoints need of a running bridge. There is neither status page nor `/api`, but see
    /// [`Shared::with_admin`].
    #[must_use]
    pub fn new(door: Door, ingest: Ingest, queue: Queue, max_body: usize, metrics: Metrics, watch: Watch) -> Self {
        let admin = Admin::default();
        let body_memory = BodyMemory::new(max_body);
        let upkeep = QueueAdmin::new(queue.clone(), ingest.clone());
        let (imprint, stopping) = (Imprint::default(), AtomicBool::new(false));
        Self { door, admin, upkeep, ingest, queue, max_body, metrics, watch, body_memory, imprint, stopping }
    }

    /// The same with a status page and `/api`, for those whom `admin` lets in.
    #[must_use]
    pub fn with_admin(self, admin: Admin) -> Self {
        Self { admin, ..self }
    }

    /// The same for a bridge that is told by `imprint`.
    #[must_use]
    pub fn with_imprint(self, imprint: Imprint) -> Self {
        Self { imprint, ..self }
    }

    /// From now on `/readyz` says that this bridge is going away.
    pub fn stop(&self) {
        self.stopping.store(true, Ordering::Relaxed);
    }

    fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::Relaxed)
    }
}

/// Adds every endpoint to an application.
pub fn routes(config: &mut ServiceConfig) {
    config
        .service(
            // A slash too many is no reason to lose an alert.
            web::resource(["/sentry/{token}", "/sentry/{token}/"])
                .route(web::post().to(webhook::with_token))
                .default_service(web::to(webhook::wrong_method)),
        )
        .service(
            web::resource("/sentry")
                .route(web::post().to(webhook::with_header))
                .default_service(web::to(webhook::wrong_method)),
        )
        .service(web::resource("/sentry/{path:.*}").default_service(web::to(webhook::elsewhere)))
        .service(web::resource("/healthz").route(web::get().to(health::healthz)).default_service(web::to(get_only)))
        .service(web::resource("/readyz").route(web::get().to(health::readyz)).default_service(web::to(get_only)))
        .service(web::resource("/metrics").route(web::get().to(metrics::metrics)).default_service(web::to(get_only)))
        .configure(page::routes)
        .configure(api::routes)
        .default_service(web::to(not_found));
}

async fn get_only() -> HttpResponse {
    let mut answer = HttpResponse::MethodNotAllowed();
    answer.insert_header(("Allow", "GET"));
    error(&mut answer, "this address is read with GET")
}

async fn not_found(_: HttpRequest) -> HttpResponse {
    nothing_here()
}

fn nothing_here() -> HttpResponse {
    error(&mut HttpResponse::NotFound(), "nothing is here: webhooks go to /sentry/{token}")
}
