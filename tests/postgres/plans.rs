//! PostgreSQL executes the statements on the path of an alert by an index, even if the plan was made while the tables were
//! small and they have not been analysed since.

use std::fmt::Write as _;
use std::time::Duration;

use chrono::Utc;
use futures_util::future::join_all;
use sentry_pagerduty_bridge::config::{DatabaseConfig, DatabaseUrl};
use sentry_pagerduty_bridge::pagerduty::EventType;
use sentry_pagerduty_bridge::queue::{BeginRequest, Disposition, Queue, SettleRequest};
use temporary_postgres::PostgresCluster;

use crate::incidents::{event_alert, issue};
use crate::several_bridges::{event, key, trigger};

/// The tables that grow with the number of alerts.
const LARGE: [&str; 8] =
    ["events", "bodies", "incident_queues", "incidents", "resolves", "seen_webhooks", "dedup_window", "discarded"];

/// The scans of a whole table or index in a log of plans, with their statements.
fn whole_scans(log: &str) -> String {
    let (mut found, mut statement) = (String::new(), String::new());
    let mut lines = log.lines().peekable();
    while let Some(line) = lines.next() {
        if let Some((_, query)) = line.split_once("Query Text: ") {
            query.clone_into(&mut statement);
        }
        let Some((scan, table)) = line.split_once(" on ") else { continue };
        let table = table.split_whitespace().next().unwrap_or_default();
        let next = lines.peek().copied().unwrap_or_default();
        let is_bounded = next.contains("Index Cond:");
        let is_whole = scan.contains("Seq Scan") || scan.contains(" using ") && !is_bounded;
        if is_whole && LARGE.contains(&table) {
            writeln!(found, "{} {} in {statement}", line.trim(), next.trim()).unwrap();
        }
    }
    found
}

#[tokio::test]
async fn no_statement_on_the_way_of_an_alert_reads_a_whole_table() {
    let cluster = PostgresCluster::start(&[
        ("session_preload_libraries", "auto_explain"),
        ("auto_explain.log_min_duration", "0"),
        ("auto_explain.log_nested_statements", "on"),
        ("autovacuum", "off"),
    ])
    .unwrap();
    for storm in [0, 150] {
        let url = DatabaseUrl::parse(&cluster.database().unwrap()).unwrap();
        let queue = Queue::open(DatabaseConfig { timeout: Duration::from_secs(30), ..url.into() }).await.unwrap();
        // From the sixth execution on, a generic plan is kept.
        for round in 0..8 {
            // The planner knows the number of pages without any statistics.
            let storm = (0..storm).map(|number| queue.enqueue_event(trigger(&format!("storm-{round}-{number}"))));
            for accepted in join_all(storm).await {
                accepted.unwrap();
            }
            let (incident, now) = (round.to_string(), Utc::now());
            queue.enqueue_event(trigger(&incident)).await.unwrap();
            let sent = queue.enqueue_event(trigger(&incident)).await.unwrap().id;
            queue.enqueue_event(event(&incident, EventType::Acknowledge)).await.unwrap();
            queue.enqueue(event_alert(&incident, round, round)).await.unwrap();
            let retry = Disposition::Retry { reason: "503".to_owned(), next_attempt_at: now, blamed: Duration::ZERO };
            for disposition in [retry, Disposition::Delivered { note: None }] {
                queue.begin(BeginRequest::new(sent, now)).await.unwrap();
                queue.settle(SettleRequest::new(sent, disposition, now)).await.unwrap();
            }
            queue.enqueue_event(event(&incident, EventType::Resolve)).await.unwrap();
            queue.enqueue(issue("resolved", round)).await.unwrap();
            queue.enqueue(issue("unresolved", round)).await.unwrap();
            assert!(!queue.reader().page(&key(), Some(sent), 2).await.unwrap().events.is_empty());
            queue.reader().attempts_since(now, now, 100).await.unwrap();
        }
        queue.close().await.unwrap();
    }
    let log = cluster.log().unwrap();
    assert!(log.contains("Index Cond:") && log.contains("INSERT INTO incident_queues"), "no plans were logged");
    assert_eq!(whole_scans(&log), "");
}
