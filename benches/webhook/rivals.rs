//! Servers that do less than the bridge: what they reach is what there is to reach.

use std::env;
use std::fs::File;
use std::io::Write;
use std::sync::mpsc;
use std::thread;

use actix_web::web::{self, Bytes, Data};
use actix_web::{App, HttpResponse, HttpServer};
use chrono::Utc;
use sentry_pagerduty_bridge::ingest::{Decision, Ingest, Policy, Webhook};
use sentry_pagerduty_bridge::pagerduty::ServiceKey;
use sentry_pagerduty_bridge::routing::Routes;
use sentry_pagerduty_bridge::web::answer;
use sqlx::{Connection, PgConnection};
use tokio::sync::oneshot;

use crate::server::{DATABASE, Kind};

/// What is written together with its neighbours, and whom to tell.
struct Entry {
    service_key: String,
    incident_key: String,
    event_type: &'static str,
    received_at: i64,
    body: Vec<u8>,
    written: oneshot::Sender<()>,
}

struct Shared {
    ingest: Ingest,
    writer: Option<mpsc::Sender<Entry>>,
}

pub(crate) fn serve(kind: Kind) {
    let routes = Routes::new(ServiceKey::parse(&"0".repeat(32)).unwrap(), "").unwrap();
    let ingest = Ingest::new(routes, Policy::default());
    let writer = match kind {
        Kind::File => Some(file()),
        Kind::Insert => Some(insert()),
        _ => None,
    };
    let shared = Data::new(Shared { ingest, writer });
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
    let Decision::Queue(prepared) = shared.ingest.decide(&Webhook::of_body(&body, received_at)) else {
        return HttpResponse::UnprocessableEntity().finish();
    };
    let incident_key = prepared.event.incident_key.clone();
    let event_type = prepared.event.event_type();
    if let Some(writer) = &shared.writer {
        let (told, written) = oneshot::channel();
        let entry = Entry {
            service_key: prepared.event.destination.key.expose().to_owned(),
            incident_key: incident_key.as_str().to_owned(),
            event_type: event_type.as_str(),
            received_at: received_at.timestamp_millis(),
            body: prepared.rendered.bytes,
            written: told,
        };
        writer.send(entry).unwrap();
        written.await.unwrap();
    }
    answer::queued(&incident_key, event_type, None)
}

/// Hands whatever has piled up to `write`, which the thread makes for itself, and tells all of them.
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

/// Appends to a file, with one fsync.
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

/// Inserts into a table, with one statement, which is a transaction of its own.
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
            let texts = |part: fn(&Entry) -> &str| batch.iter().map(part).collect::<Vec<_>>();
            let query = sqlx::query(INSERT)
                .bind(texts(|entry| &entry.service_key))
                .bind(texts(|entry| &entry.incident_key))
                .bind(texts(|entry| entry.event_type))
                .bind(batch.iter().map(|entry| entry.received_at).collect::<Vec<_>>())
                .bind(batch.iter().map(|entry| entry.body.as_slice()).collect::<Vec<_>>());
            let done = runtime.block_on(query.execute(&mut connection)).unwrap();
            assert_eq!(done.rows_affected(), batch.len() as u64);
        }
    })
}
