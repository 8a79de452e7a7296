//! HTTP: the two listeners, the clients' connections, how a request is read and how its response is sent.
//!
//! Both servers run on a thread with a runtime of its own, so that callers need no runtime, and a caller's runtime does not
//! have to outlive the sandbox.

use std::any::Any;
use std::io;
use std::net::{Shutdown, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::Duration;

use actix_web::body::{BoxBody, SizedStream};
use actix_web::dev::{Server, ServerHandle};
use actix_web::http::StatusCode;
use actix_web::http::header::HeaderValue;
use actix_web::rt;
use actix_web::rt::net::TcpStream;
use actix_web::rt::time::sleep;
use actix_web::web::{self, Bytes, BytesMut, Data, Payload};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use chrono::{DateTime, Utc};
use futures_util::future::try_join_all;
use futures_util::{StreamExt, stream};
use socket2::{SockRef, Socket};
use tokio::sync::oneshot;

use crate::control;
use crate::journal::{Extent, Received};
use crate::pipeline;
use crate::records::SharedRecords;
use crate::responses::{PlannedResponse, SendMode};
use crate::rest;
use crate::webhooks::post_all;

/// The longest time that a fault keeps a connection waiting.
const MAX_WAIT: Duration = Duration::from_mins(10);

/// The thread that runs the servers.
#[derive(Debug)]
pub(crate) struct SandboxThread {
    shared: Arc<SharedRecords>,
    /// False as soon as the sandbox begins to stop. From then on, a request on a connection that is still open gets no
    /// response and changes nothing.
    accepting: Arc<AtomicBool>,
    handles: Vec<ServerHandle>,
    thread: thread::JoinHandle<()>,
    /// Its sender is dropped when the thread is done.
    finished: oneshot::Receiver<()>,
}

impl SandboxThread {
    /// Starts both servers. They accept connections when this returns.
    pub(crate) fn start(
        shared: Arc<SharedRecords>,
        api: TcpListener,
        control: Option<TcpListener>,
    ) -> io::Result<Self> {
        let accepting = Arc::new(AtomicBool::new(true));
        let (report, started) = mpsc::channel();
        let (until_finished, finished) = oneshot::channel::<()>();
        let (state, accepts) = (Arc::clone(&shared), Arc::clone(&accepting));
        let thread = thread::Builder::new().name("sandbox".to_owned()).spawn(move || {
            let _until_finished = until_finished;
            rt::System::new().block_on(async move {
                match servers(&state, &accepts, api, control) {
                    Err(error) => drop(report.send(Err(error))),
                    Ok(servers) => {
                        let handles = servers.iter().map(Server::handle).collect();
                        if let Some(webhooks) = state.take_webhooks() {
                            let records = Arc::clone(&state);
                            rt::spawn(post_all(webhooks, move |attempt| {
                                records.change(|records, _| records.webhook_attempts.push(attempt));
                            }));
                        }
                        drop(report.send(Ok(handles)));
                        if let Err(error) = try_join_all(servers).await {
                            log::error!("The sandbox has ended: {error}");
                        }
                    }
                }
            });
        })?;
        let handles = started.recv().map_err(|_| io::Error::other("the sandbox's thread did not start"))??;
        Ok(Self { shared, accepting, handles, thread, finished })
    }

    /// Stops both servers and waits until their ports are free.
    pub(crate) async fn stop(self) {
        self.stop_accepting();
        for handle in &self.handles {
            handle.stop(false).await;
        }
        let _ = self.finished.await;
    }

    /// Like [`stop`](Self::stop), for callers that cannot await: blocks until the thread is done.
    pub(crate) fn stop_blocking(self) {
        self.stop_accepting();
        for handle in &self.handles {
            // The command is sent before the future is polled.
            drop(handle.stop(false));
        }
        // A panic in the thread was reported when it happened.
        let _ = self.thread.join();
    }

    /// Waits for the request that is being handled, if any. No later request changes anything.
    fn stop_accepting(&self) {
        self.shared.change(|_, _| self.accepting.store(false, Ordering::Release));
    }
}

fn servers(
    shared: &Arc<SharedRecords>,
    accepting: &Arc<AtomicBool>,
    api: TcpListener,
    control: Option<TcpListener>,
) -> io::Result<Vec<Server>> {
    let (shared, accepting) = (Data::from(Arc::clone(shared)), Data::from(Arc::clone(accepting)));
    let keep_alive = shared.read(|records| records.options.keep_alive);
    let connections = AtomicU64::new(0);
    let for_api = shared.clone();
    let api = HttpServer::new(move || {
        App::new()
            .app_data(for_api.clone())
            .app_data(accepting.clone())
            .service(web::scope(rest::ROOT).default_service(web::to(serve_rest)))
            .default_service(web::to(serve))
    })
    .on_connect(move |stream, data| {
        let id = connections.fetch_add(1, Ordering::Relaxed) + 1;
        data.insert(Arc::new(Connection::new(id, stream)));
    })
    .workers(1)
    .keep_alive(keep_alive)
    .disable_signals()
    .listen(api)?
    .run();
    let mut servers = vec![api];
    if let Some(control) = control {
        let control = HttpServer::new(move || App::new().app_data(shared.clone()).configure(control::endpoints))
            .workers(1)
            .disable_signals()
            .listen(control)?
            .run();
        servers.push(control);
    }
    Ok(servers)
}

/// Handles a request to the Events API, whatever its path and method.
async fn serve(
    request: HttpRequest,
    payload: Payload,
    shared: Data<SharedRecords>,
    accepting: Data<AtomicBool>,
) -> HttpResponse {
    let Some(connection) = request.conn_data::<Arc<Connection>>() else { return no_response() };
    let (at, on_connection) = (shared.clock.now(), connection.count_request());
    let max_body = shared.read(|records| records.options.max_body);
    let (body, extent) = read(payload, max_body).await;
    let received = Received { connection: connection.id, on_connection, extent, ..received(&request, at, body) };
    let handled = shared.change(|records, now| {
        // Checked under the lock, so that nothing changes once `stop_accepting` has returned.
        accepting.load(Ordering::Acquire).then(|| pipeline::handle(records, received, now))
    });
    let Some((response, timed_release)) = handled else { return no_response() };
    if let Some((number, after)) = timed_release {
        rt::spawn(async move {
            sleep(after).await;
            shared.change(|records, now| records.release(now, |held| held.origin.number == number));
        });
    }
    send(response, connection).await
}

/// Handles a request to the REST API.
async fn serve_rest(
    request: HttpRequest,
    body: Bytes,
    shared: Data<SharedRecords>,
    accepting: Data<AtomicBool>,
) -> HttpResponse {
    let received = received(&request, shared.clock.now(), body);
    let handled =
        shared.change(|records, now| accepting.load(Ordering::Acquire).then(|| rest::handle(records, &received, now)));
    handled.map_or_else(no_response, whole)
}

/// A request with a whole body. Its connection is set only for the Events APIs.
fn received(request: &HttpRequest, at: DateTime<Utc>, body: Bytes) -> Received {
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    Received {
        at,
        connection: 0,
        on_connection: 0,
        method: request.method().to_string(),
        target: request.uri().to_string(),
        headers: request.headers().iter().map(|(name, value)| (name.to_string(), text(value))).collect(),
        body,
        extent: Extent::Whole,
    }
}

/// Reads a body, at most `max` bytes of it.
async fn read(mut payload: Payload, max: usize) -> (Bytes, Extent) {
    let mut body = BytesMut::new();
    while let Some(chunk) = payload.next().await {
        let Ok(chunk) = chunk else { return (body.freeze(), Extent::Broken) };
        if body.len() + chunk.len() > max {
            body.extend_from_slice(&chunk[..max - body.len()]);
            return (body.freeze(), Extent::TooLarge);
        }
        body.extend_from_slice(&chunk);
    }
    (body.freeze(), Extent::Whole)
}

/// Makes the server send `response` as its [`SendMode`] says.
async fn send(response: PlannedResponse, connection: &Arc<Connection>) -> HttpResponse {
    match response.delivery {
        SendMode::Whole => whole(response),
        SendMode::Delayed(by) => {
            sleep(by.min(MAX_WAIT)).await;
            whole(response)
        }
        SendMode::Dropped(after) => {
            sleep(after.min(MAX_WAIT)).await;
            no_response()
        }
        SendMode::Reset => {
            connection.reset_on_close();
            no_response()
        }
        SendMode::IdleClose(after) => {
            connection.close_when_idle(after.min(MAX_WAIT));
            whole(response)
        }
        SendMode::Truncated => truncated(response),
        SendMode::Dripped(pause) => dripped(response, pause.min(MAX_WAIT)),
    }
}

/// Ends the connection without a byte: a body that fails at once does so before the head has left the server's buffer.
fn no_response() -> HttpResponse {
    HttpResponse::Ok().streaming(stream::iter([Err::<Bytes, _>(aborted())]))
}

fn aborted() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "a fault of the sandbox ends this connection")
}

fn whole(response: PlannedResponse) -> HttpResponse {
    let body = BoxBody::new(response.body.clone());
    with_body(response, body)
}

fn truncated(response: PlannedResponse) -> HttpResponse {
    let length = response.body.len();
    let half = response.body.slice(..length / 2);
    let chunks = stream::unfold(Some(half), |half| async {
        if let Some(half) = half {
            return Some((Ok(half), None));
        }
        // The server flushes its buffer when the body makes it wait; failing sooner would discard the head as well.
        tokio::task::yield_now().await;
        Some((Err(aborted()), None))
    });
    with_body(response, BoxBody::new(SizedStream::new(length as u64, chunks)))
}

fn dripped(response: PlannedResponse, pause: Duration) -> HttpResponse {
    let length = response.body.len() as u64;
    let chunks = stream::unfold(response.body.clone(), move |mut rest| async move {
        if rest.is_empty() {
            return None;
        }
        sleep(pause).await;
        let byte = rest.split_to(1);
        Some((Ok::<_, io::Error>(byte), rest))
    });
    with_body(response, BoxBody::new(SizedStream::new(length, chunks)))
}

fn with_body(response: PlannedResponse, body: BoxBody) -> HttpResponse {
    let status = StatusCode::from_u16(response.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let mut builder = HttpResponse::build(status);
    for header in response.headers {
        builder.insert_header(header);
    }
    if response.close {
        builder.force_close();
    }
    builder.body(body)
}

/// A client's connection to the Events API.
#[derive(Debug)]
struct Connection {
    /// Counted from 1.
    id: u64,
    requests: AtomicU64,
    /// A second handle of the socket, because the server does not give access to its own.
    socket: Option<Socket>,
}

impl Connection {
    fn new(id: u64, stream: &dyn Any) -> Self {
        let socket = stream.downcast_ref::<TcpStream>().and_then(|stream| SockRef::from(stream).try_clone().ok());
        Self { id, requests: AtomicU64::new(0), socket }
    }

    /// Counts a request and returns how many there have been, this one included.
    fn count_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Makes the connection end in a TCP reset, whenever it ends.
    fn reset_on_close(&self) {
        if let Some(socket) = &self.socket {
            // If this fails, the connection is closed normally, which a client must survive as well.
            let _ = socket.set_linger(Some(Duration::ZERO));
        }
    }

    /// Closes the connection after `idle` unless another request has arrived on it.
    fn close_when_idle(self: &Arc<Self>, idle: Duration) {
        // A strong reference would keep a socket open that the client or the server has closed.
        let connection = Arc::downgrade(self);
        let requests = self.requests.load(Ordering::Relaxed);
        rt::spawn(async move {
            sleep(idle).await;
            let Some(connection) = connection.upgrade() else { return };
            if connection.requests.load(Ordering::Relaxed) == requests
                && let Some(socket) = &connection.socket
            {
                // An error means that it is closed already.
                let _ = socket.shutdown(Shutdown::Both);
            }
        });
    }
}
