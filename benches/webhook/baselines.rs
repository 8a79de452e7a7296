//! Servers that do less than the bridge: their results are the most that the bridge could reach.

use std::env;
use std::fs::File;
use std::io::Write;
use std::sync::mpsc;
use std::thread;

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpResponse, HttpServer};
use chrono::Utc;
use sentry_pagerduty_bridge::envelope::EnqueueRequest;
use sentry_pagerduty_bridge::ingest::{Decision, Ingest, Policy, Webhook};
use sentry_pagerduty_bridge::pagerduty::{EventType, ServiceKey};
use sentry_pagerduty_bridge::routing::Routes;
use serde_json::json;
use sqlx::{Connection, PgConnection};
use tokio::sync::oneshot;

use crate::lean;
use crate::server::{DATABASE, Kind};

const SERVICE_KEY: &str = "00000000000000000000000000000000";

/// An event that is written together with others, and the channel that reports when it is written.
struct Entry {
    incident_key: String,
    received_at: i64,
    body: Vec<u8>,
    written: oneshot::Sender<()>,
}

/// How a body becomes an incident key and an event.
enum Mapping {
    Lean,
    Bridge(Ingest),
}

struct Shared {
    mapping: Mapping,
    writer: Option<mpsc::Sender<Entry>>,
}

/// The bridge's own mapping.
pub(crate) fn ingest() -> Ingest {
    Ingest::new(Routes::new(ServiceKey::parse(SERVICE_KEY).unwrap(), "").unwrap(), Policy::default())
}

pub(crate) fn serve(kind: Kind) {
    let mapping = match kind {
        Kind::Mapping | Kind::Insert => Mapping::Bridge(ingest()),
        _ => Mapping::Lean,
    };
    let writer = match kind {
        Kind::File => Some(file()),
        Kind::Insert => Some(insert()),
        _ => None,
    };
    let shared = Data::new(Shared { mapping, writer });
    actix_web::rt::System::new().block_on(async {
        let server = HttpServer::new(move || {
            App::new()
                .app_data(web::PayloadConfig::new(16 << 20))
                .app_data(shared.clone())
                .route("/sentry/{token}", web::post().to(take))
        })
        .bind("127.0.0.1:0")
        .unwrap();
        eprintln!("listening on http://{}", server.addrs()[0]);
        server.run().await.unwrap();
    });
}

async fn take(body: Bytes, shared: Data<Shared>) -> HttpResponse {
    let received_at = Utc::now();
    let (incident_key, event) = match &shared.mapping {
        Mapping::Lean => lean::event(&body, SERVICE_KEY),
        Mapping::Bridge(ingest) => {
            let Decision::Enqueue(enqueue) = ingest.decide(&Webhook::of_body(&body, received_at)) else {
                return HttpResponse::UnprocessableEntity().finish();
            };
            let EnqueueRequest::Event { envelope, .. } = *enqueue else {
                return HttpResponse::UnprocessableEntity().finish();
            };
            (envelope.incident_key.as_str().to_owned(), envelope.body)
        }
    };
    drop(body);
    if let Some(writer) = &shared.writer {
        let (told, written) = oneshot::channel();
        let (incident_key, received_at) = (incident_key.clone(), received_at.timestamp_millis());
        writer.send(Entry { incident_key, received_at, body: event, written: told }).unwrap();
        written.await.unwrap();
    }
    HttpResponse::Accepted().json(json!({"status": "queued", "incident_key": incident_key, "event_type": "trigger"}))
}

/// Starts a thread that passes all entries that have accumulated to the function that `open` returns, and then notifies
/// their senders.
fn writer<W: FnMut(&[Entry])>(open: impl FnOnce() -> W + Send + 'static) -> mpsc::Sender<Entry> {
    let (sender, entries) = mpsc::channel::<Entry>();
    thread::spawn(move || {
        let mut write = open();
        while let Ok(first) = entries.recv() {
            let batch: Vec<Entry> = std::iter::once(first).chain(entries.try_iter()).collect();
            write(&batch);
            for entry in batch {
                let _ = entry.written.send(());
            }
        }
    });
    sender
}

/// Appends each batch to a file, with one fsync.
fn file() -> mpsc::Sender<Entry> {
    writer(|| {
        let mut file = File::create("events").unwrap();
        move |batch: &[Entry]| {
            let bytes: Vec<u8> = batch.iter().flat_map(|entry| entry.body.iter().copied().chain([b'\n'])).collect();
            file.write_all(&bytes).unwrap();
            file.sync_data().unwrap();
        }
    })
}

const TABLE: &str = "CREATE TABLE alerts (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, service_key text NOT NULL, \
    incident_key text NOT NULL, event_type text NOT NULL, received_at bigint NOT NULL, body bytea NOT NULL)";

const INSERT: &str = "INSERT INTO alerts (service_key, incident_key, event_type, received_at, body) \
    SELECT * FROM UNNEST($1::text[], $2::text[], $3::text[], $4::bigint[], $5::bytea[])";

/// Inserts each batch into a table, with one statement, which is a transaction of its own.
fn insert() -> mpsc::Sender<Entry> {
    writer(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let url = env::var(DATABASE).unwrap();
        let mut connection = runtime.block_on(async {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            sqlx::query(TABLE).execute(&mut connection).await.unwrap();
            connection
        });
        move |batch: &[Entry]| {
            let query = sqlx::query(INSERT)
                .bind(vec![SERVICE_KEY; batch.len()])
                .bind(batch.iter().map(|entry| entry.incident_key.as_str()).collect::<Vec<_>>())
                .bind(vec![EventType::Trigger.as_str(); batch.len()])
                .bind(batch.iter().map(|entry| entry.received_at).collect::<Vec<_>>())
                .bind(batch.iter().map(|entry| entry.body.as_slice()).collect::<Vec<_>>());
            let done = runtime.block_on(query.execute(&mut connection)).unwrap();
            assert_eq!(done.rows_affected(), batch.len() as u64);
        }
    })
}
