//! What the sandbox knows of each connection, and how it ends one.

use std::any::Any;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use actix_web::rt::net::TcpStream;
use socket2::{SockRef, Socket};

/// One connection of a client.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) id: u64,
    requests: AtomicU64,
    /// A second handle of the socket, which the server itself lends to nobody.
    socket: Option<Socket>,
}

impl Connection {
    /// Looks at what the server has accepted. Nothing but plain TCP has a socket that can be ended from here.
    pub(crate) fn new(id: u64, stream: &dyn Any) -> Self {
        let socket = stream.downcast_ref::<TcpStream>().and_then(|stream| SockRef::from(stream).try_clone().ok());
        Self { id, requests: AtomicU64::new(0), socket }
    }

    /// Counts a request and tells how many there were with it.
    pub(crate) fn count(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Makes the end of the connection, whenever it comes, a reset.
    pub(crate) fn will_be_reset(&self) {
        if let Some(socket) = &self.socket {
            // Where it fails, the connection ends in order, which a client has to live with just as well.
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }

    /// Ends the connection after `idle`, unless another request has come by it.
    pub(crate) fn close_when_idle(self: &Arc<Self>, idle: Duration) {
        // A strong handle would keep the socket open that the client or the server may want to close.
        let connection = Arc::downgrade(self);
        let requests = self.requests.load(Ordering::Relaxed);
        actix_web::rt::spawn(async move {
            actix_web::rt::time::sleep(idle).await;
            let Some(connection) = connection.upgrade() else { return };
            if connection.requests.load(Ordering::Relaxed) == requests
                && let Some(socket) = &connection.socket
            {
                // An error means that it is closed already.
                let _ = socket.shutdown(std::net::Shutdown::Both);
            }
        });
    }
}
