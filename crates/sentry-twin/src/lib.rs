//! A strict local twin of Sentry's web API, for tests of what reads and changes a Sentry.
//!
//! It serves the endpoints that an alert's way depends on, as each of three generations of Sentry has them, on a real
//! socket: projects, rules, workflows, detectors, integrations, legacy webhooks, issues and what fired for them, the test
//! webhooks that Sentry sends on demand, and the store endpoint, whose events make alerts send their webhooks. It shares no code with the product that it tests, so that a misunderstanding of Sentry's API shows. Its
//! sources are Sentry's OpenAPI description of August 2026 and the sources of 9.1.2 and 23.7.1.
//!
//! ```no_run
//! # fn example() -> std::io::Result<()> {
//! use sentry_twin::{Generation, Twin, World};
//!
//! let mut world = World::new(Generation::Workflows);
//! world.add_project("shop");
//! let twin = Twin::start(world)?;
//! println!("{} with the token {}", twin.url(), sentry_twin::TOKEN);
//! # Ok(())
//! # }
//! ```
//!
//! # How strict it is
//!
//! - A call without a token that the twin knows is answered 401, one without the scope 403.
//! - `per_page` may be 100 at most; pages are linked by `Link` alone, with `previous` and `next` always.
//! - Bodies are validated as Sentry's serializers do: names, frequencies, conditions, actions, scopes.
//! - What a generation does not have is answered 404; rules on a Sentry that withdrew them 410.
//!
//! **Beyond the sources** the twin asserts more than Sentry does, so that a client stays on the beaten track. Each such
//! place is marked `Beyond:` in the code: a path without its last slash is 404 (Sentry redirects GETs), a member of a body
//! or query that no source names is 400, and a body must be `application/json`. Where a shape is not in the sources the
//! twin has one and the mark says so.
//!
//! # Faults
//!
//! A [`Fault`] acts on the next calls whose path contains a text: throttled, gone for the length of a brown-out, slow, half a
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

pub use world::{Call, Delivery, Fault, FaultKind, Firing, Generation, Project, Token, World};

/// The slug of the organization.
pub const ORGANIZATION: &str = "acme";

/// The token of a member with every scope, as a twin begins with.
pub const TOKEN: &str = "token-of-a-member-for-tests-alone";

/// A running twin; dropping it stops it.
#[derive(Debug)]
pub struct Twin {
    world: Arc<Mutex<World>>,
    address: SocketAddr,
    server: Option<server::ServerThread>,
}

impl Twin {
    /// Starts one on a free port of this machine.
    ///
    /// # Errors
    ///
    /// When there is no port or no thread.
    pub fn start(world: World) -> io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let address = listener.local_addr()?;
        let world = Arc::new(Mutex::new(world));
        let server = server::ServerThread::start(Arc::clone(&world), listener)?;
        Ok(Self { world, address, server: Some(server) })
    }

    /// Its root.
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

    /// Looks at the world or changes it; calls wait meanwhile.
    pub fn world<T>(&self, act: impl FnOnce(&mut World) -> T) -> T {
        act(&mut self.world.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Every call so far.
    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.world(|world| world.calls.clone())
    }

    /// Every call so far that would change something, as `POST /api/0/…`.
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
