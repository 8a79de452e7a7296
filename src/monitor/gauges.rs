//! A snapshot as gauges for Prometheus. Pure.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use strum::VariantArray;

use super::checks::{Cause, Trouble};
use super::snapshot::{FallbackView, Snapshot};
use crate::cluster::{BridgeView, ClusterView};
use crate::delivery::KeyView;
use crate::metrics::{Gauge, MetricsSnapshot};

/// The gauges of `/metrics`. What the queue holds is left out when the queue cannot be read.
#[must_use]
pub fn gauges(snapshot: &Snapshot, troubles: &[Trouble]) -> Vec<Gauge> {
    let mut gauges = vec![
        Gauge::of(
            "bridge_start_time_seconds",
            "When the bridge started, in seconds since 1970.",
            Some(seconds(snapshot.started_at)),
        ),
        Gauge::by(
            "bridge_trouble",
            "1 while the bridge knows of this trouble, by cause.",
            "cause",
            Cause::VARIANTS
                .iter()
                .map(|cause| (cause.name(), number(troubles.iter().any(|trouble| trouble.cause == *cause)))),
        ),
    ];
    gauges.extend(of_database(snapshot.queue.is_ok(), snapshot.storage.is_ok()));
    gauges.extend(of_metrics(&snapshot.metrics));
    gauges.extend(of_sentry(snapshot));
    gauges.extend(of_queue(snapshot));
    gauges.push(Gauge::of(
        "bridge_queue_unreadable_events",
        "Waiting events that cannot be read and are quarantined, as after damage to the database file.",
        Some(count(snapshot.delivery.unreadable.events)),
    ));
    let last_run = snapshot.catch_up.as_ref().and_then(|status| status.last);
    gauges.push(Gauge::of(
        "bridge_catch_up_timestamp_seconds",
        "When Sentry last said which alerts it fired, in seconds since 1970; 0 where it is not asked.",
        Some(last_run.map_or(0.0, |run| seconds(run.ran_at))),
    ));
    gauges.extend(of_keys(&snapshot.delivery.keys, snapshot.at));
    gauges.extend(of_bridges(&snapshot.cluster));
    gauges.extend(snapshot.fallback.iter().flat_map(of_fallback));
    gauges
}

/// The gauges that are known without the database, for when it does not answer.
#[must_use]
pub fn gauges_without_database(metrics: &MetricsSnapshot, can_commit: bool) -> Vec<Gauge> {
    of_database(false, can_commit).into_iter().chain(of_metrics(metrics)).collect()
}

fn of_database(is_readable: bool, is_writable: bool) -> Vec<Gauge> {
    vec![
        Gauge::of(
            "bridge_queue_readable",
            "1 while the database can be read; the other bridge_queue gauges are only present then.",
            Some(number(is_readable)),
        ),
        Gauge::of(
            "bridge_queue_writable",
            "1 while alerts can be committed, as of the last commit; 0: alerts are answered 503.",
            Some(number(is_writable)),
        ),
    ]
}

fn of_metrics(metrics: &MetricsSnapshot) -> Vec<Gauge> {
    vec![
        Gauge::of(
            "bridge_last_webhook_timestamp_seconds",
            "When the last authenticated webhook was received, in this run or an earlier one, in seconds since 1970.",
            metrics.last_webhook_at.map(seconds),
        ),
        Gauge::of(
            "bridge_last_delivery_timestamp_seconds",
            "When PagerDuty accepted the last event, in this run or an earlier one, in seconds since 1970.",
            metrics.last_delivered_at.map(seconds),
        ),
        Gauge::of(
            "bridge_wrong_signatures_in_a_row",
            "Webhooks with a wrong signature since the last one with a right signature.",
            Some(f64::from(metrics.wrong_signatures)),
        ),
    ]
}

fn of_sentry(snapshot: &Snapshot) -> Vec<Gauge> {
    let canary = snapshot.canary.as_ref().and_then(|canary| canary.as_ref().ok());
    let mut gauges = vec![Gauge::of(
        "bridge_canary_last_return_timestamp_seconds",
        "When the webhook of the last canary came, in this run or an earlier one, in seconds since 1970.",
        canary.and_then(|canary| canary.last).map(|last| seconds(last.returned_at)),
    )];
    let Some(audit) = &snapshot.audit else { return gauges };
    gauges.push(Gauge::of(
        "bridge_audit_failed",
        "1 while the last audit of Sentry's alerts failed; the other bridge_audit gauges are those of the last one done.",
        Some(number(audit.failure.is_some())),
    ));
    if let Some(report) = &audit.last {
        gauges.push(Gauge::of(
            "bridge_audit_last_run_timestamp_seconds",
            "When the last audit of Sentry's alerts was done, in this run, in seconds since 1970.",
            Some(seconds(report.at)),
        ));
        gauges.push(Gauge::by(
            "bridge_audit_findings",
            "What the last audit of Sentry's alerts found, by kind.",
            "kind",
            report.by_kind().map(|(kind, findings)| (kind.name(), count(findings as u64))),
        ));
    }
    gauges
}

fn of_queue(snapshot: &Snapshot) -> Vec<Gauge> {
    let Ok(queue) = &snapshot.queue else { return Vec::new() };
    let states = [
        ("waiting", queue.waiting),
        ("dead", queue.dead),
        ("delivered", queue.delivered),
        ("rejected", queue.rejected),
        ("held", queue.held),
    ];
    let waits = queue.oldest_waiting.map_or(0.0, |since| (snapshot.at - since).as_seconds_f64().max(0.0));
    vec![
        Gauge::by(
            "bridge_queue_events",
            "Events in the queue, stored rejected webhooks and held webhooks, by state.",
            "state",
            states.map(|(state, events)| (state, count(events))),
        ),
        Gauge::of(
            "bridge_queue_oldest_seconds",
            "How long the oldest waiting event has been waiting, in seconds; 0 when none waits.",
            Some(waits),
        ),
    ]
}

/// Keys that look alike when masked share a series, which shows the worst of them.
fn of_keys(keys: &[KeyView], now: DateTime<Utc>) -> Vec<Gauge> {
    let mut by_key: BTreeMap<String, (u32, f64)> = BTreeMap::new();
    for key in keys {
        let backs_off = key.backs_off_until.map_or(0.0, |until| (until - now).as_seconds_f64().max(0.0));
        let entry = by_key.entry(key.service_key.to_string()).or_insert((key.allowed, backs_off));
        *entry = (entry.0.min(key.allowed), entry.1.max(backs_off));
    }
    vec![
        Gauge::by(
            "bridge_pace_allowed_events",
            "Attempts that the rate limiter allows in 60 seconds, by masked service key; less than BRIDGE_PAGERDUTY_RATE while PagerDuty throttles.",
            "service_key",
            by_key.iter().map(|(key, (allowed, _))| (key, f64::from(*allowed))),
        ),
        Gauge::by(
            "bridge_backoff_seconds",
            "How long sending pauses after failed attempts, in seconds, by masked service key; 0 when sending.",
            "service_key",
            by_key.iter().map(|(key, (_, backs_off))| (key, *backs_off)),
        ),
    ]
}

/// The bridges that share the queue, by their host's name and the beginning of their id; nothing where there is only one.
fn of_bridges(cluster: &ClusterView) -> Vec<Gauge> {
    if cluster.bridges.is_empty() {
        return Vec::new();
    }
    let name = |bridge: &BridgeView| format!("{}/{}", bridge.name, &bridge.id.to_string()[..8]);
    let by = |metric, help, value: &dyn Fn(&BridgeView) -> f64| {
        Gauge::by(metric, help, "bridge", cluster.bridges.iter().map(|bridge| (name(bridge), value(bridge))))
    };
    vec![
        by(
            "bridge_cluster_last_seen_timestamp_seconds",
            "When a bridge that shares the queue was seen last, in seconds since 1970, by bridge.",
            &|bridge| seconds(bridge.last_seen),
        ),
        by("bridge_cluster_service_keys", "Service keys that a bridge delivers for, by bridge.", &|bridge| {
            count(bridge.keys.len() as u64)
        }),
        by(
            "bridge_cluster_leader",
            "1 for the bridge that does what is done once for all: alarms and retention.",
            &|bridge| number(bridge.is_leader),
        ),
        Gauge::of(
            "bridge_cluster_different_settings",
            "1 while bridges with different settings share the queue.",
            Some(number(cluster.different_settings().is_some())),
        ),
    ]
}

/// The gauges of the fallback webhook; there are none if no fallback webhook is set.
fn of_fallback(fallback: &FallbackView) -> Vec<Gauge> {
    vec![
        Gauge::of(
            "bridge_fallback_outage",
            "1 while BRIDGE_FALLBACK_URL was told that PagerDuty takes no events, and not yet that it is over.",
            Some(number(fallback.outage_since.is_some())),
        ),
        Gauge::of(
            "bridge_fallback_failing",
            "1 when the last attempt to send a message to BRIDGE_FALLBACK_URL failed.",
            Some(number(fallback.failure.is_some())),
        ),
        Gauge::of(
            "bridge_fallback_last_told_timestamp_seconds",
            "When BRIDGE_FALLBACK_URL accepted the last message, in this run or an earlier one, in seconds since 1970.",
            fallback.last_told_at.map(seconds),
        ),
    ]
}

fn number(is: bool) -> f64 {
    f64::from(u8::from(is))
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 events")]
fn count(events: u64) -> f64 {
    events as f64
}

#[expect(clippy::cast_precision_loss, reason = "exact up to the year 287,000")]
fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::delivery::DeliveryView;
    use crate::monitor::checks::Health;
    use crate::pagerduty::ServiceKey;
    use crate::queue::{EventId, Overview, QueueError};

    fn now() -> DateTime<Utc> {
        "2026-11-23T12:00:00Z".parse().unwrap()
    }

    fn snapshot() -> Snapshot {
        Snapshot { waiting_alerts: None, ..Snapshot::empty(now(), now() - TimeDelta::hours(1)) }
    }

    fn key(key: &str, allowed: u32, backs_off: i64) -> KeyView {
        KeyView {
            service_key: ServiceKey::parse(key).unwrap(),
            allowed,
            rate: 120,
            in_flight: 0,
            backs_off_until: Some(now() + TimeDelta::seconds(backs_off)),
            last_failure: None,
            is_permanent: false,
            is_throttled: false,
            last_delivered_at: None,
        }
    }

    fn text(snapshot: &Snapshot, troubles: &[Trouble]) -> String {
        MetricsSnapshot::default().into_text(gauges(snapshot, troubles))
    }

    #[track_caller]
    fn has(text: &str, line: &str) {
        assert!(text.lines().any(|found| found == line), "{line} is missing: {text}");
    }

    #[test]
    fn what_never_happened_has_no_time_and_an_empty_queue_has_no_age() {
        let text = text(&snapshot(), &[]);
        has(&text, "bridge_queue_oldest_seconds 0");
        has(&text, "bridge_start_time_seconds 1795431600");
        assert!(!text.contains("bridge_last_"), "{text}");
        assert!(!text.contains("bridge_pace"), "{text}");
    }

    #[test]
    fn the_queue_is_told_with_the_age_of_the_oldest() {
        let overview = Overview {
            waiting: 3,
            dead: 2,
            delivered: 70,
            rejected: 1,
            oldest_waiting: Some(now() - TimeDelta::milliseconds(90_500)),
            ..Overview::default()
        };
        let text = text(&Snapshot { queue: Ok(overview), ..snapshot() }, &[]);
        has(&text, "bridge_queue_events{state=\"waiting\"} 3");
        has(&text, "bridge_queue_events{state=\"dead\"} 2");
        has(&text, "bridge_queue_events{state=\"delivered\"} 70");
        has(&text, "bridge_queue_events{state=\"rejected\"} 1");
        has(&text, "bridge_queue_oldest_seconds 90.5");
    }

    #[test]
    fn a_queue_that_cannot_be_read_is_not_told_as_an_empty_one() {
        let error = QueueError::NotWaiting(EventId::new(1));
        let snapshot = Snapshot { queue: Err(error.clone()), storage: Err(error), ..snapshot() };
        let text = text(&snapshot, &[]);
        has(&text, "bridge_queue_readable 0");
        has(&text, "bridge_queue_writable 0");
        assert!(!text.contains("bridge_queue_events"), "{text}");
        assert!(!text.contains("bridge_queue_oldest_seconds"), "{text}");
    }

    #[test]
    fn keys_that_look_alike_when_masked_share_a_series_that_shows_the_worse() {
        let keys = vec![
            key("0123456789abcdef0123456789abWXYZ", 60, -5),
            key("1123456789abcdef0123456789abWXYZ", 30, 7),
            key("0123456789abcdef0123456789abOTHR", 120, -5),
        ];
        let text = text(&Snapshot { delivery: DeliveryView { keys, ..DeliveryView::default() }, ..snapshot() }, &[]);
        has(&text, "bridge_pace_allowed_events{service_key=\"…WXYZ\"} 30");
        has(&text, "bridge_pace_allowed_events{service_key=\"…OTHR\"} 120");
        has(&text, "bridge_backoff_seconds{service_key=\"…WXYZ\"} 7");
        has(&text, "bridge_backoff_seconds{service_key=\"…OTHR\"} 0");
        assert_eq!(text.matches("WXYZ").count(), 2, "{text}");
    }

    #[test]
    fn every_cause_of_trouble_is_0_or_1() {
        let troubles =
            [Trouble { cause: Cause::Silence, health: Health::Failing, sentence: "no webhook came".to_owned() }];
        let text = text(&snapshot(), &troubles);
        has(&text, "bridge_trouble{cause=\"silence\"} 1");
        has(&text, "bridge_trouble{cause=\"waiting\"} 0");
        assert_eq!(text.matches("bridge_trouble{").count(), Cause::VARIANTS.len());
        assert!(!text.contains("no webhook came"));
    }

    #[test]
    fn the_fallback_webhook_has_gauges_where_there_is_one() {
        assert!(!text(&snapshot(), &[]).contains("bridge_fallback"));
        let untold = text(&Snapshot { fallback: Some(FallbackView::default()), ..snapshot() }, &[]);
        has(&untold, "bridge_fallback_outage 0");
        has(&untold, "bridge_fallback_failing 0");
        assert!(!untold.contains("last_told"), "{untold}");
        let (last_told_at, outage_since) = (Some(now()), Some(now() - TimeDelta::minutes(3)));
        let fallback = Some(FallbackView { last_told_at, outage_since, failure: Some("answered 500".to_owned()) });
        let told = text(&Snapshot { fallback, ..snapshot() }, &[]);
        has(&told, "bridge_fallback_outage 1");
        has(&told, "bridge_fallback_failing 1");
        has(&told, "bridge_fallback_last_told_timestamp_seconds 1795435200");
    }
}
