//! Persisted metrics after a restart.

use sentry_pagerduty_bridge::metrics::PersistedMetrics;
use sentry_pagerduty_bridge::queue::Queue;

use crate::support::{Bridge, PagerDuty, alert};
use crate::{samples, wait_for};

/// The persisted metrics of a stopped bridge.
fn persisted_metrics(bridge: &Bridge) -> PersistedMetrics {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let queue = Queue::open(&bridge.database()).await.unwrap();
        let memory = queue.persisted_metrics(chrono::Utc::now()).await.unwrap();
        queue.close().await.unwrap();
        memory
    })
}

/// The sums of received, delivered, throttled and failed over all steps.
fn sums(memory: &PersistedMetrics) -> [u64; 4] {
    memory.buckets.iter().fold([0; 4], |[received, delivered, throttled, failed], bucket| {
        [received + bucket.received, delivered + bucket.delivered, throttled + bucket.throttled, failed + bucket.failed]
    })
}

#[test]
fn the_last_webhook_and_delivery_and_the_last_day_outlive_a_restart_and_counters_do_not() {
    let pagerduty = PagerDuty::start();
    let mut bridge = Bridge::start(&pagerduty.url());
    assert!(!samples(&bridge).0.contains_key("bridge_last_webhook_timestamp_seconds"), "none came so far");
    bridge.queue(&alert(1, "Disk full"));
    bridge.queue(&alert(2, "Disk full"));
    let before = wait_for(&bridge, "two deliveries", |samples| samples.get("bridge_events_delivered_total") == 2.0);
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    assert_eq!(sums(&persisted_metrics(&bridge)), [2, 2, 0, 0]);

    bridge.restart();
    let after = samples(&bridge);
    for time in ["bridge_last_webhook_timestamp_seconds", "bridge_last_delivery_timestamp_seconds"] {
        assert_eq!(after.get(time), before.get(time), "{time}");
        assert!(after.get(time) < after.get("bridge_start_time_seconds"), "{time}");
    }
    assert_eq!(after.get("bridge_events_delivered_total"), 0.0);

    bridge.queue(&alert(3, "Disk full"));
    wait_for(&bridge, "another delivery", |samples| samples.get("bridge_events_delivered_total") == 1.0);
    assert_eq!(bridge.terminate("INT").code(), Some(0));
    let memory = persisted_metrics(&bridge);
    assert_eq!(sums(&memory), [3, 3, 0, 0], "what the first run counted is not counted again or lost");
    assert!(
        memory.last_webhook_at > Some(chrono::DateTime::UNIX_EPOCH)
            && memory.last_delivered_at > memory.last_webhook_at
    );
}

#[test]
fn a_bridge_that_is_killed_remembers_what_happened_up_to_a_few_seconds_before() {
    let pagerduty = PagerDuty::start();
    let mut bridge = Bridge::start(&pagerduty.url());
    bridge.queue(&alert(1, "Disk full"));
    let before = wait_for(&bridge, "a delivery", |samples| samples.get("bridge_events_delivered_total") == 1.0);
    wait_until_kept(&bridge);
    bridge.terminate("KILL");
    bridge.restart();
    let after = samples(&bridge);
    for time in ["bridge_last_webhook_timestamp_seconds", "bridge_last_delivery_timestamp_seconds"] {
        assert_eq!(after.get(time), before.get(time), "{time}");
    }
}

/// Waits until the delivery is stored; no event announces it.
#[track_caller]
fn wait_until_kept(bridge: &Bridge) {
    use sqlx::ConnectOptions;
    let deadline = std::time::Instant::now() + crate::PATIENCE;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(bridge.database()).read_only(true);
        let mut connection = options.connect().await.unwrap();
        loop {
            let kept: Option<i64> =
                sqlx::query_scalar("SELECT last_delivered_at FROM lately").fetch_one(&mut connection).await.unwrap();
            if kept.is_some() {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "it is never kept");
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
    });
}
