//! The port that stands for PagerDuty: every request, whatever its path, takes the pipeline.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use actix_web::web::{Bytes, BytesMut, Data, Payload};
use actix_web::{HttpRequest, HttpResponse};
use futures_util::StreamExt;

use crate::connection::Connection;
use crate::delivery::{deliver, nothing};
use crate::journal::{Extent, Received};
use crate::pipeline::rule;
use crate::records::Shared;

/// One run of the sandbox. The records outlive it.
#[derive(Clone, Debug)]
pub(crate) struct Run {
    pub(crate) shared: Arc<Shared>,
    /// False from the first moment of stopping: a connection that is still open gets no answer and changes nothing.
    pub(crate) alive: Arc<AtomicBool>,
}

/// Answers one request.
pub(crate) async fn answer(request: HttpRequest, payload: Payload, run: Data<Run>) -> HttpResponse {
    let Some(connection) = request.conn_data::<Arc<Connection>>() else { return nothing() };
    let (at, on_connection) = (run.shared.clock.now(), connection.count());
    let max_body = run.shared.read(|records| records.options.max_body);
    let (body, extent) = read(payload, max_body).await;
    let received = Received {
        at,
        connection: connection.id,
        on_connection,
        method: request.method().to_string(),
        target: request.uri().to_string(),
        headers: request
            .headers()
            .iter()
            .map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into_owned()))
            .collect(),
        body,
        extent,
    };
    let ruling = run.shared.change(|records, now| {
        // Asked under the lock, so that nothing changes once `stop` has returned.
        run.alive.load(Ordering::Acquire).then(|| rule(records, received, now))
    });
    let Some(ruling) = ruling else { return nothing() };
    if let Some((number, after)) = ruling.release {
        let shared = Arc::clone(&run.shared);
        actix_web::rt::spawn(async move {
            actix_web::rt::time::sleep(after).await;
            shared.change(|records, now| records.release(now, |held| held.origin.number == number));
        });
    }
    deliver(ruling.answer, ruling.delivery, connection).await
}

/// Reads a body as far as it may go.
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
