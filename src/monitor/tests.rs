//! Tests with the machine's clock set back or forward while the bridge runs. The queue is a real file.

use chrono::{DateTime, TimeDelta, Utc};
use tempfile::TempDir;
use tokio::sync::watch;
use tokio::time::sleep;

use super::*;
use crate::canary::CanaryLimits;
use crate::delivery::DeliveryView;
use crate::metrics::{Metrics, WebhookAnswer, WebhookSource};
use crate::pagerduty::{ApiVersion, EventType, IncidentKey, ServiceKey};
use crate::queue::{
    BeginRequest, CommitOutcome, Disposition, Editor, Envelope, EventId, Queue, ResolvedTriggers, SettleRequest,
};

/// A limit that every test exceeds.
const SOON: Duration = Duration::from_millis(1);

/// A limit longer than the test and shorter than the steps of the clock.
pub(super) const LONG: Duration = Duration::from_hours(1);

const STEPS: [TimeDelta; 3] = [TimeDelta::hours(-2), TimeDelta::zero(), TimeDelta::days(180)];

pub(super) struct Bridge {
    pub(super) queue: Queue,
    metrics: Metrics,
    pub(super) monitor: Monitor,
    _sender: watch::Sender<DeliveryView>,
    pub(super) directory: TempDir,
}

pub(super) async fn start(limit: Duration) -> Bridge {
    let directory = tempfile::tempdir().unwrap();
    let queue = Queue::open(&directory.path().join("bridge.db")).await.unwrap();
    let (sender, delivery) = watch::channel(DeliveryView::default());
    let metrics = Metrics::new();
    let limits = TroubleLimits {
        silence: Some(limit),
        waiting: limit,
        signatures: 5,
        unverified: LONG,
        canary: CanaryLimits::USUAL,
    };
    let commits = std::sync::Arc::new(CommitTimes::default());
    let heard = std::sync::Arc::clone(&commits);
    queue.observe(move |commit| {
        if let CommitOutcome::Done { arrivals, .. } = commit {
            arrivals.iter().for_each(|arrival| heard.committed(arrival.id, arrival.id, std::time::Instant::now()));
        }
    });
    let monitor = Monitor::new(Utc::now(), queue.clone(), delivery, metrics.clone(), limits, "").with_commits(commits);
    Bridge { queue, metrics, monitor, _sender: sender, directory }
}

impl Bridge {
    /// The causes of the troubles that page when the clock shows `now`.
    async fn troubles(&self, now: DateTime<Utc>) -> Vec<Cause> {
        let snapshot = self.monitor.snapshot(now).await;
        let troubles = troubles(&snapshot, self.monitor.limits()).into_iter().map(|trouble| trouble.cause);
        troubles.filter(|cause| cause.is_paged()).collect()
    }

    async fn accept(&self, received_at: DateTime<Utc>) -> EventId {
        let event = Envelope {
            service_key: ServiceKey::parse("0123456789abcdef0123456789abWXYZ").unwrap(),
            api: ApiVersion::V1,
            issue_key: None,
            incident_key: IncidentKey::parse("42").unwrap(),
            event_type: EventType::Trigger,
            description: "Disk full".to_owned(),
            body: b"{}".to_vec(),
            counts_at: None,
            received_at,
        };
        self.queue.enqueue_event(event).await.unwrap().id
    }
}

#[tokio::test]
async fn silence_is_counted_from_the_last_webhook_whatever_is_done_to_the_clock() {
    for webhooks in [0, 1] {
        for step in STEPS {
            for (limit, expected) in [(SOON, vec![Cause::Silence]), (LONG, vec![])] {
                let bridge = start(limit).await;
                (0..webhooks).for_each(|_| {
                    bridge.metrics.count_webhook(WebhookSource::Legacy, WebhookAnswer::Queued, Utc::now());
                });
                sleep(5 * SOON).await;
                assert_eq!(
                    bridge.troubles(Utc::now() + step).await,
                    expected,
                    "{webhooks} webhooks, {step}, {limit:?}"
                );
            }
        }
    }
}

#[tokio::test]
async fn a_webhook_after_the_clock_was_set_back_ends_the_silence() {
    let bridge = start(LONG).await;
    bridge.metrics.count_webhook(WebhookSource::Legacy, WebhookAnswer::Queued, Utc::now());
    let back = Utc::now() - TimeDelta::hours(2);
    bridge.metrics.count_webhook(WebhookSource::Legacy, WebhookAnswer::Queued, back);
    assert_eq!(bridge.monitor.snapshot(back).await.metrics.last_webhook_at, Some(back));
}

#[tokio::test]
async fn an_event_waits_since_it_was_committed_whatever_is_done_to_the_clock() {
    for step in STEPS {
        for (limit, expected) in [(SOON, vec![Cause::Waiting]), (LONG, vec![])] {
            let bridge = start(limit).await;
            bridge.metrics.count_webhook(
                WebhookSource::Legacy,
                WebhookAnswer::Queued,
                Utc::now() + TimeDelta::days(400),
            );
            bridge.accept(Utc::now()).await;
            sleep(5 * SOON).await;
            let mut troubles = bridge.troubles(Utc::now() + step).await;
            troubles.retain(|cause| *cause != Cause::Silence);
            assert_eq!(troubles, expected, "{step}, {limit:?}");
            let snapshot = bridge.monitor.snapshot(Utc::now() + step).await;
            let shown = snapshot.at - snapshot.queue.unwrap().oldest_waiting.unwrap();
            assert!(shown.abs() < TimeDelta::minutes(10), "the page and the metrics show {shown} after {step}");
        }
    }
}

#[tokio::test]
async fn an_event_of_an_earlier_run_is_as_old_as_it_was_at_the_start_and_the_time_since() {
    for step in STEPS {
        for (limit, expected) in [(2 * LONG, vec![Cause::Waiting]), (4 * LONG, vec![])] {
            let bridge = start(limit).await;
            bridge.queue.close().await.unwrap();
            let path = bridge.directory.path().join("bridge.db");
            let bridge = Bridge { queue: Queue::open(&path).await.unwrap(), ..bridge };
            let (_sender, delivery) = watch::channel(DeliveryView::default());
            // The event was accepted before commits were observed.
            bridge.accept(Utc::now() - TimeDelta::hours(3)).await;
            let limits = TroubleLimits {
                silence: None,
                waiting: limit,
                signatures: 5,
                unverified: LONG,
                canary: CanaryLimits::USUAL,
            };
            let monitor = Monitor::new(Utc::now(), bridge.queue.clone(), delivery, Metrics::new(), limits, "");
            let snapshot = monitor.snapshot(Utc::now() + step).await;
            let troubles: Vec<_> = troubles(&snapshot, &limits).into_iter().map(|trouble| trouble.cause).collect();
            let troubles: Vec<_> = troubles.into_iter().filter(|cause| cause.is_paged()).collect();
            assert_eq!(troubles, expected, "{step}, {limit:?}");
        }
    }
}

#[tokio::test]
async fn a_dead_letter_that_was_put_back_waits_from_then_on() {
    let bridge = start(LONG).await;
    let yesterday = Utc::now() - TimeDelta::days(1);
    let id = bridge.accept(yesterday).await;
    bridge.queue.begin(BeginRequest::new(id, yesterday)).await.unwrap();
    bridge
        .queue
        .settle(SettleRequest::new(id, Disposition::Dead { reason: "answered 400".to_owned() }, yesterday))
        .await
        .unwrap();
    let mut editor = Editor::open(&bridge.directory.path().join("bridge.db")).await.unwrap();
    editor.requeue(&[id], ResolvedTriggers::Skip).await.unwrap();
    assert_eq!(bridge.troubles(Utc::now()).await, []);
    assert_eq!(bridge.troubles(Utc::now() - TimeDelta::hours(2)).await, []);
    let first = bridge.monitor.snapshot(Utc::now()).await.backlog.unwrap().first.remove(0);
    assert!(first.is_requeued && Utc::now() - first.since < TimeDelta::minutes(10), "{first:?}");
    let shown = bridge.monitor.snapshot(Utc::now()).await.queue.unwrap().oldest_waiting;
    assert_eq!(shown, Some(first.since), "Prometheus alerts by it");
}
