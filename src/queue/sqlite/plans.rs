//! Tests that the queries of pages and alarms use indexes, so that they take no longer when the queue is larger.

use std::path::Path;

use sqlx::{ConnectOptions, Row as _, SqliteConnection};

use super::database::Database;
use super::read::{delivery, external, list, status};
use super::{SqliteEngine, load, write};
use crate::queue::store::Store as _;

/// SQLite's plan of a query, one line for each step.
async fn plan(connection: &mut SqliteConnection, query: &str) -> Vec<String> {
    let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {query}"));
    let steps = sqlx::query(explain).fetch_all(connection).await.unwrap();
    steps.iter().map(|step| step.get("detail")).collect()
}

/// Whether a step scans the events or collects them for sorting. The tallies have a few rows and the rejected webhooks
/// at most a thousand.
fn grows(step: &str) -> bool {
    step.contains("TEMP B-TREE")
        || step.contains("AUTOMATIC")
        || step
            .strip_prefix("SCAN ")
            .is_some_and(|table| ["events", "line", "bodies", "proofs"].iter().any(|t| table.starts_with(t)))
}

async fn tables(path: &Path) -> SqliteConnection {
    SqliteEngine::open(path).await.unwrap().close().await.unwrap();
    Database::new(path).reading().connect().await.unwrap()
}

#[tokio::test]
async fn nothing_that_a_page_or_an_alarm_asks_for_leafs_through_the_events() {
    let directory = tempfile::tempdir().unwrap();
    let mut connection = tables(&directory.path().join("bridge.db")).await;
    for query in list::QUERIES.iter().chain(&status::QUERIES).chain(&external::QUERIES) {
        let plan = plan(&mut connection, query).await;
        assert!(!plan.is_empty());
        assert!(!plan.iter().any(|step| grows(step)), "{query}\n{plan:#?}");
    }
    // The statements of a batch do not scan the events either, only the numbers that they are given.
    for query in [
        load::TAIL,
        load::WAITING,
        load::SETTLING,
        load::BEGINNING,
        load::EDITING,
        write::ATTEMPTS,
        write::REQUEUED,
        write::SETTLED,
    ] {
        let plan = plan(&mut connection, query).await;
        assert!(
            !plan.iter().any(|step| step.starts_with("SCAN events") || step.starts_with("SCAN bodies")),
            "{plan:#?}"
        );
        assert!(!plan.iter().any(|step| step.contains("AUTOMATIC")), "{query}\n{plan:#?}");
    }
    // The check itself recognises queries that do scan or sort the events.
    for query in ["SELECT * FROM events WHERE count > 1", "SELECT id FROM events WHERE id > 7 ORDER BY description"] {
        let plan = plan(&mut connection, query).await;
        assert!(plan.iter().any(|step| grows(step)), "{query}\n{plan:#?}");
    }
}

#[tokio::test]
async fn the_attempts_that_count_after_a_restart_are_found_by_their_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut connection = tables(&directory.path().join("bridge.db")).await;
    for query in delivery::QUERIES {
        let plan = plan(&mut connection, query).await;
        for index in ["events_attempted", "discarded_attempted"] {
            assert!(plan.iter().any(|step| step.starts_with("SEARCH") && step.contains(index)), "{query}\n{plan:#?}");
        }
        assert!(!plan.iter().any(|step| step.starts_with("SCAN events") || step.starts_with("SCAN discarded")));
    }
}
