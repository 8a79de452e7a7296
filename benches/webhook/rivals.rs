//! Two servers that do less than the bridge: what they reach is what there is to reach.

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
use tokio::sync::oneshot;

use crate::server::Kind;

/// What is written together with its neighbours, and whom to tell.
type Entry = (Vec<u8>, oneshot::Sender<()>);

struct Shared {
    ingest: Ingest,
    file: Option<mpsc::Sender<Entry>>,
}

pub(crate) fn serve(kind: Kind) {
    let routes = Routes::new(ServiceKey::parse(&"0".repeat(32)).unwrap(), "").unwrap();
    let ingest = Ingest::new(routes, Policy::default());
    let shared = Data::new(Shared { ingest, file: (kind == Kind::File).then(writer) });
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
    if let Some(file) = &shared.file {
        let (told, written) = oneshot::channel();
        file.send((prepared.rendered.bytes, told)).unwrap();
        written.await.unwrap();
    }
    answer::queued(&incident_key, event_type, None)
}

/// Appends whatever has piled up, calls fsync once, and tells all of them.
fn writer() -> mpsc::Sender<Entry> {
    let (sender, entries) = mpsc::channel::<Entry>();
    thread::spawn(move || {
        let mut file = File::create("events").unwrap();
        while let Ok(first) = entries.recv() {
            let batch: Vec<Entry> = std::iter::once(first).chain(entries.try_iter()).collect();
            let bytes: Vec<u8> = batch.iter().flat_map(|(body, _)| body.iter().copied().chain([b'\n'])).collect();
            file.write_all(&bytes).unwrap();
            file.sync_data().unwrap();
            for (_, told) in batch {
                let _ = told.send(());
            }
        }
    });
    sender
}
