//! A strict local twin of Sentry's web API, for tests of code that reads from Sentry or changes it.
//!
//! It serves the endpoints that alerts depend on, in the form that each of three generations of Sentry has, on a real
//! socket: projects, rules, workflows, detectors, integrations, legacy webhooks, issues and the alerts that fired for them,
//! the test webhooks that Sentry sends on demand, and the store endpoint, whose events make alerts send their webhooks. It
//! shares no code with the product that it tests, so that a misunderstanding of Sentry's API becomes visible. It is based
//! on Sentry's OpenAPI description of August 2026 and the source code of 9.1.2 and 23.7.1.
//!
//! ```no_run
//! # fn example() -> std::io::Result<()> {
//! use sentry_twin::{SentryGeneration, Twin, World};
//!
//! let mut world = World::new(SentryGeneration::Workflows);
//! world.add_project("shop");
//! let twin = Twin::start(world)?;
//! println!("{} with the token {}", twin.url(), sentry_twin::TOKEN);
//! # Ok(())
//! # }
//! ```
//!
//! # How strict it is
//!
//! - A call without a known token is answered with 401, a call whose token lacks the scope with 403.
//! - `per_page` may be at most 100. Pages are linked only by the `Link` header, which always has both `previous` and
//!   `next`.
//! - Bodies are validated as Sentry's serializers do: names, frequencies, conditions, actions, scopes.
//! - An endpoint that a generation does not have is answered with 404; rules on a Sentry that has withdrawn them with 410.
//!
//! **Beyond the sources** the twin is stricter than Sentry, so that a client uses only what the sources show. Each such
//! place is marked `Beyond:` in the code: a path without its trailing slash is answered with 404 (Sentry redirects GETs), a
//! field of a body or query that no source names with 400, and a body must be `application/json`. Where the sources do not
//! show the form of a response, the twin uses one of its own, and the mark says so.
//!
//! # Faults
//!
//! A [`TwinFault`] affects the next calls whose path contains a given text: throttling, a brown-out, a slow response, half a
//! page, a redirect, a page of HTML.

#![expect(clippy::result_large_err, reason = "a refusal is an answer like any other, and tests can afford its copies")]

mod apps;
mod deliver;
mod endpoints;
mod issues;
mod reply;
mod rules;
mod server;
mod store;
mod workflows;
mod world;

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex, PoisonError};

pub use world::{
    AlertFiring, OutgoingWebhook, RecordedCall, SentryGeneration, TwinFault, TwinFaultKind, TwinProject, TwinToken,
    World,
};

/// The slug of the organization.
pub const ORGANIZATION: &str = "acme";

/// The token of a member with every scope, which every new [`World`] accepts.
pub const TOKEN: &str = "token-of-a-member-for-tests-alone";

/// A running twin; dropping it stops it.
#[derive(Debug)]
pub struct Twin {
    world: Arc<Mutex<World>>,
    address: SocketAddr,
    server: Option<server::TwinThread>,
}

impl Twin {
    /// Starts a twin on a free port of the loopback address.
    ///
    /// # Errors
    ///
    /// When no port can be bound or the thread cannot be started.
    pub fn start(world: World) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let world = Arc::new(Mutex::new(world));
        let server = server::TwinThread::start(Arc::clone(&world), listener)?;
        Ok(Self { world, address, server: Some(server) })
    }

    /// Its root URL.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// The DSN of a project.
    ///
    /// # Panics
    ///
    /// When there is no such project.
    #[must_use]
    #[expect(clippy::expect_used, reason = "for tests alone")]
    pub fn dsn(&self, slug: &str) -> String {
        let (key, id) = self.world(|world| {
            let project = world.project(slug).expect("a project of this name");
            (project.key(), project.id)
        });
        format!("http://{key}@{}/{id}", self.address)
    }

    /// Reads or changes the world. Calls to the twin wait until `act` returns.
    pub fn world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every call so far.
    #[must_use]
    pub fn calls(&self) -> Vec<RecordedCall> {
        self.world(|world| world.calls.clone())
    }

    /// Every call so far that may change something (all but GET), in the form `POST /api/0/…`.
    #[must_use]
    pub fn changes(&self) -> Vec<String> {
        let changes = self.calls().into_iter().filter(|call| call.method != "GET");
        changes.map(|call| format!("{} {}", call.method, call.path)).collect()
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        if let Some(server) = self.server.take() {
            server.stop();
        }
    }
}
