//! Why a bridge cannot start, and why a running one ended.

use std::io;
use std::net::SocketAddr;

use thiserror::Error;
use tokio::task::JoinError;

use crate::queue::QueueError;
use crate::supervision::TaskEnded;
use crate::tls::TlsError;

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
    pub(super) fn of_server(ended: Result<io::Result<()>, JoinError>) -> Self {
        Self::Server(match ended {
            Ok(Ok(())) => "it stopped by itself".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        })
    }
}
