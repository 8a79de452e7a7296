//! The process ends with an error when one of its background tasks ends.

use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use sentry_pagerduty_bridge::bridge::Bridge;
use sentry_pagerduty_bridge::config::Config;

use crate::support::{ClosedPort, KEY, PATIENCE, TOKEN, get};

#[test]
fn a_bridge_whose_writer_has_ended_ends_with_a_clear_line() {
    let home = tempfile::tempdir().unwrap();
    let settings = [
        ("BRIDGE_PAGERDUTY_URL", ClosedPort::new().url()),
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY.to_owned()),
        ("BRIDGE_WEBHOOK_TOKEN", TOKEN.to_owned()),
        ("BRIDGE_DATABASE_URL", format!("sqlite:{}", home.path().join("bridge.db").display())),
    ];
    let (end, ended) = mpsc::channel();
    thread::spawn(move || {
        let ran = actix_web::rt::System::new().block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let bridge = Box::pin(Bridge::build(Config::from_vars(settings).unwrap(), listener)).await.unwrap();
            let (address, queue) = (bridge.address(), bridge.queue().clone());
            let close = async move {
                // After the start.
                let answer = actix_web::rt::task::spawn_blocking(move || get(address, "/healthz").status).await;
                assert_eq!(answer.unwrap(), 200);
                queue.close().await.unwrap();
                std::future::pending::<()>().await;
            };
            Box::pin(bridge.run_until_stopped(close)).await
        });
        end.send(ran).unwrap();
    });
    let ran = ended.recv_timeout(PATIENCE).expect("it looks alive and accepts nothing");
    let said = ran.expect_err("it ended as if it had been asked to").to_string();
    assert!(said.contains("the queue's writer") && said.contains("ended"), "{said}");
}
