//! The format of `/metrics`.

use pagerduty_sandbox::{Fault, FaultBody, FaultRule};

use crate::support::{Bridge, KEY, OTHER_KEY, PagerDuty, ROUTES, TOKEN, alert, alert_of_level, post};
use crate::{SECRET, post_signed, promtool, scrape, wait_for};

/// A bridge on which everything has happened that the metrics count.
fn busy(pagerduty: &PagerDuty) -> Bridge {
    let echo = FaultBody::Text(format!("bad key {KEY}, try another"));
    let fault = Fault::Answer { status: 400, body: echo, headers: std::collections::BTreeMap::new(), apply: false };
    pagerduty.inject(FaultRule { incident_key: Some("2".to_owned()), ..fault.into() }).unwrap();
    let bridge = Bridge::start_with(&pagerduty.url(), &[ROUTES, ("BRIDGE_SENTRY_CLIENT_SECRET", SECRET)]);
    bridge.queue(&alert(1, "Disk full"));
    bridge.queue(&alert(2, "Disk full"));
    bridge.queue(&alert_of_level("fatal", 3, "Disk full"));
    bridge.post(format!("{{\"{TOKEN}\": \"{KEY}\"}}").as_bytes());
    post(bridge.address, &format!("/sentry/{TOKEN}x"), &[], b"{}");
    post_signed(&bridge, SECRET, SECRET, TOKEN.as_bytes());
    post_signed(&bridge, "another secret", "event_alert", b"{}");
    wait_for(&bridge, "the end of all deliveries and the view of both keys", |samples| {
        let keys = samples.of("bridge_pace_allowed_events").len();
        samples.is("bridge_queue_events{state=\"waiting\"}", 0.0) && keys == 2
    });
    bridge
}

#[test]
fn promtool_finds_nothing_wrong_with_it() {
    let pagerduty = PagerDuty::start();
    let bridge = busy(&pagerduty);
    let text = scrape(&bridge);
    assert_eq!(promtool(&["check", "metrics"], &text), "", "{text}");
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let name = line.split(['{', ' ']).next().unwrap();
        assert!(name.starts_with("bridge_"), "{line}");
        let family = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let has_help = |name: &str| text.contains(&format!("# HELP {name} "));
        assert!(has_help(name) || family.is_some_and(has_help), "{line}");
    }
}

#[test]
fn no_secret_and_no_whole_service_key_is_in_it() {
    let pagerduty = PagerDuty::start();
    let bridge = busy(&pagerduty);
    let text = scrape(&bridge);
    for secret in [KEY, OTHER_KEY, TOKEN, SECRET, "Disk full"] {
        assert!(!text.contains(secret), "{secret} is in {text}");
    }
}

#[test]
fn anybody_may_read_it_and_nobody_may_write_it() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let answer = bridge.get("/metrics");
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/plain; version=0.0.4; charset=utf-8")));
    let version = format!("version=\"{}\"", env!("CARGO_PKG_VERSION"));
    let text = String::from_utf8(answer.body).unwrap();
    let build = text.lines().find(|line| line.starts_with("bridge_build_info{")).unwrap();
    assert!(build.contains(&version) && build.ends_with(" 1"), "{build}");
    let answer = post(bridge.address, "/metrics", &[], b"bridge_events_dead_total 7");
    assert_eq!((answer.status, answer.header("allow")), (405, Some("GET, HEAD")));
}
