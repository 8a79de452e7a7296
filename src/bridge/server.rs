//! The web server of a bridge: its threads, its limits, and why it cannot listen.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::thread::available_parallelism;
use std::time::Duration;

use actix_web::body::MessageBody;
use actix_web::dev::{Server, ServiceRequest, ServiceResponse};
use actix_web::http::{ConnectionType, StatusCode};
use actix_web::middleware::{Next, from_fn};
use actix_web::web::Data;
use actix_web::{App, HttpServer};

use crate::descriptors;
use crate::web::{self, AppState, Endpoints};

/// How long a client may take to send the head of a request. Sentry waits for 5 seconds at most.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);

/// How many connections one thread of the web server accepts at most.
const CONNECTIONS: usize = 25_000;

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

/// Prepares a server on `listener`. Once it is told to stop, requests get `grace` to end.
pub(super) fn serve(
    listener: TcpListener,
    endpoints: Endpoints,
    shared: Data<AppState>,
    grace: Duration,
) -> io::Result<Server> {
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
