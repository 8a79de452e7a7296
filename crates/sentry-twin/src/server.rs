//! HTTP: how a call is read and its response sent.

use std::io;
use std::net::TcpListener;
use std::sync::{Arc, Mutex, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use actix_web::body::{BoxBody, SizedStream};
use actix_web::dev::ServerHandle;
use actix_web::http::StatusCode;
use actix_web::rt;
use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpRequest, HttpResponse, HttpServer};
use futures_util::stream;
use serde_json::{Value, json};

use crate::endpoints;
use crate::reply::{TwinReply, TwinRequest};
use crate::store;
use crate::world::{OutgoingWebhook, RecordedCall, TwinFaultKind, World};

/// How long a webhook that the twin sends may take.
const WEBHOOK_TIMEOUT: Duration = Duration::from_secs(10);

/// The thread that runs the server.
#[derive(Debug)]
pub(crate) struct TwinThread {
    handle: ServerHandle,
    thread: thread::JoinHandle<()>,
}

impl TwinThread {
    pub(crate) fn start(world: Arc<Mutex<World>>, listener: TcpListener) -> io::Result<Self> {
        let (report, started) = mpsc::channel();
        let thread = thread::Builder::new().name("twin".to_owned()).spawn(move || {
            rt::System::new().block_on(async move {
                let world = Data::from(world);
                let server =
                    HttpServer::new(move || App::new().app_data(world.clone()).default_service(web::to(serve)))
                        .workers(1)
                        .disable_signals()
                        // Clients may be slow: a test must not fail because the machine is busy.
                        .client_request_timeout(Duration::ZERO)
                        .listen(listener);
                match server {
                    Err(error) => drop(report.send(Err(error))),
                    Ok(server) => {
                        let server = server.run();
                        drop(report.send(Ok(server.handle())));
                        let _ = server.await;
                    }
                }
            });
        })?;
        let handle = started.recv().map_err(|_| io::Error::other("the twin's thread did not start"))??;
        Ok(Self { handle, thread })
    }

    pub(crate) fn stop(self) {
        // The command is sent before the future is polled.
        drop(self.handle.stop(false));
        let _ = self.thread.join();
    }
}

async fn serve(request: HttpRequest, body: Bytes, world: Data<Mutex<World>>) -> HttpResponse {
    let path = request.path().to_owned();
    let (reply, fault) = {
        let mut world = world.lock().unwrap_or_else(PoisonError::into_inner);
        let fault = world.due_fault(&path);
        let reply = match fault.as_ref().and_then(faulty) {
            Some(reply) => reply,
            None => handle(&mut world, &request, &body),
        };
        world.under_way += 1;
        world.most_at_once = world.most_at_once.max(world.under_way);
        world.calls.push(RecordedCall {
            method: request.method().to_string(),
            path: path.clone(),
            query: request.query_string().to_owned(),
            status: reply.status,
            closes: request.headers().get("Connection").is_some_and(|value| value == "close"),
        });
        (reply, fault)
    };
    if let Some(TwinFaultKind::Slow(by)) = fault {
        tokio::time::sleep(by).await;
    }
    world.lock().unwrap_or_else(PoisonError::into_inner).under_way -= 1;
    let mut delivered = true;
    for delivery in reply.deliveries {
        delivered &= send(delivery).await;
    }
    let (status, body) = match reply.unless_delivered {
        Some((status, body)) if !delivered => (status, Some(body)),
        _ => (reply.status, reply.body),
    };
    let mut response = HttpResponse::build(StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR));
    for (name, value) in reply.headers {
        let value = if matches!(fault, Some(TwinFaultKind::Loop)) { LOOP.to_owned() } else { value };
        response.insert_header((name, value));
    }
    match (body, fault) {
        (Some(body), Some(TwinFaultKind::HalfPage)) => half(&mut response, &body.to_string()),
        (Some(Value::String(html)), _) => response.content_type("text/html").body(html),
        (Some(body), _) => response.json(body),
        (None, _) => response.finish(),
    }
}

/// A list whose next page is itself.
const LOOP: &str = "<http://twin/>; rel=\"previous\"; results=\"false\"; cursor=\"0:0:1\", \
                    <http://twin/>; rel=\"next\"; results=\"true\"; cursor=\"0:0:0\"";

/// Returns the response with which a fault replaces the normal one, if it does.
fn faulty(fault: &TwinFaultKind) -> Option<TwinReply> {
    let html = || Value::String("<html><body>not an API</body></html>".to_owned());
    let throttled = |name: &'static str, value: u64| TwinReply {
        headers: vec![(name, value.to_string())],
        ..TwinReply::detail(429, "You are attempting to use this endpoint too frequently.")
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    match fault {
        TwinFaultKind::Throttled(seconds) => Some(throttled("Retry-After", *seconds)),
        TwinFaultKind::ThrottledUntilReset => Some(throttled("X-Sentry-Rate-Limit-Reset", now + 1)),
        TwinFaultKind::BrownOut => Some(TwinReply {
            headers: vec![("X-Sentry-Deprecation-Date", "2026-05-14T00:00:00Z".to_owned())],
            ..TwinReply::json(410, json!({"message": "This API no longer exists."}))
        }),
        TwinFaultKind::Status(status) => Some(TwinReply::json(*status, html())),
        TwinFaultKind::Redirect(to) => {
            Some(TwinReply { headers: vec![("Location", to.clone())], ..TwinReply::empty(302) })
        }
        TwinFaultKind::Html => Some(TwinReply::json(200, html())),
        TwinFaultKind::Slow(_) | TwinFaultKind::HalfPage | TwinFaultKind::Loop => None,
    }
}

fn handle(world: &mut World, request: &HttpRequest, body: &Bytes) -> TwinReply {
    let path = request.path();
    if path == "/api/client-config/" {
        return TwinReply::json(200, json!({"version": {"current": world.version}}));
    }
    if let ["api", project, "store", ""] = path.trim_start_matches('/').split('/').collect::<Vec<_>>().as_slice() {
        let auth = request.headers().get("X-Sentry-Auth").and_then(|value| value.to_str().ok()).unwrap_or_default();
        return store::answer(world, project, auth, body);
    }
    // Beyond: Sentry redirects a GET to the path with a trailing slash.
    let Some(path) = path.strip_prefix("/api/0/").filter(|rest| rest.is_empty() || rest.ends_with('/')) else {
        return TwinReply::missing();
    };
    let header = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let bearer = header("Authorization").strip_prefix("Bearer ").unwrap_or_default();
    let Some(token) = world.tokens.iter().find(|token| token.text == bearer).cloned() else {
        return TwinReply::detail(401, "Invalid token");
    };
    let body = if body.is_empty() {
        json!({})
    } else if header("Content-Type") != "application/json" {
        return TwinReply::detail(415, "Unsupported media type in request.");
    } else {
        match serde_json::from_slice(body) {
            Ok(body) => body,
            Err(_) => return TwinReply::detail(400, "JSON parse error"),
        }
    };
    let query = url::form_urlencoded::parse(request.query_string().as_bytes()).into_owned().collect();
    let request = TwinRequest {
        method: request.method().to_string(),
        path: path.split('/').filter(|part| !part.is_empty()).map(str::to_owned).collect(),
        query,
        body,
        token,
        target: request.path().to_owned(),
    };
    endpoints::answer(world, &request)
}

/// Sends a webhook, and returns whether it was answered with success.
async fn send(delivery: OutgoingWebhook) -> bool {
    // Sentry's client sends the user and password of a URL as HTTP Basic authentication; no test has any.
    let client = awc::Client::builder().timeout(WEBHOOK_TIMEOUT).disable_redirects().finish();
    let mut request = client.post(&delivery.url).insert_header(("Content-Type", "application/json"));
    for header in delivery.headers {
        request = request.insert_header(header);
    }
    request.send_body(delivery.body).await.is_ok_and(|response| response.status().is_success())
}

/// The first half of a body, after which the connection ends.
fn half(response: &mut actix_web::HttpResponseBuilder, body: &str) -> HttpResponse {
    let length = body.len() as u64;
    let half = Bytes::copy_from_slice(&body.as_bytes()[..body.len() / 2]);
    let chunks = stream::unfold(Some(half), |half| async {
        if let Some(half) = half {
            return Some((Ok(half), None));
        }
        // The server flushes its buffer when the body makes it wait; failing sooner would discard the head as well.
        tokio::task::yield_now().await;
        Some((Err(io::Error::new(io::ErrorKind::ConnectionAborted, "half a page")), None))
    });
    response.content_type("application/json").body(BoxBody::new(SizedStream::new(length, chunks)))
}
