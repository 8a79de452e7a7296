//! Only one of several bridges looks up deliveries in PagerDuty, and another one takes over after it.

use crate::support::{Bridge, PagerDuty, alert_of_level};
use crate::{DATABASE_TIMEOUT, LEVELS, LONG, ROUTES, database, takeovers, wait_until};

fn start(pagerduty: &PagerDuty, database: &str) -> Bridge {
    let api = pagerduty.rest_url();
    let settings = [
        ("BRIDGE_DATABASE_URL", database),
        DATABASE_TIMEOUT,
        ("BRIDGE_PAGERDUTY_ROUTES", ROUTES),
        ("BRIDGE_PAGERDUTY_TIMEOUT", "2s"),
        ("BRIDGE_PAGERDUTY_API_URL", &api),
        ("BRIDGE_PAGERDUTY_API_TOKEN", "u+3rdPartyRestApiKey"),
    ];
    Bridge::start_with(&pagerduty.url(), &settings)
}

/// The number of events that a bridge has found to be confirmed.
fn confirmed(bridge: &Bridge) -> u64 {
    let metrics = String::from_utf8(bridge.get("/metrics").body).unwrap();
    let series = "bridge_event_proofs_total{state=\"confirmed\"} ";
    metrics.lines().find_map(|line| line.strip_prefix(series)).unwrap().parse().unwrap()
}

/// The number of requests for incidents that PagerDuty received.
fn asked(pagerduty: &PagerDuty) -> usize {
    let is_asked = |request: &&pagerduty_sandbox::RestRequest| request.target.starts_with("/incidents?");
    pagerduty.read(|records| records.rest_requests().filter(is_asked).count())
}

#[test]
fn one_of_several_bridges_looks_up_what_all_deliver_and_another_goes_on_after_it() {
    let (pagerduty, database) = (PagerDuty::start(), database());
    let (one, other) = (start(&pagerduty, &database), start(&pagerduty, &database));
    for (issue, level) in (0..).zip(LEVELS) {
        assert_eq!(one.post(&alert_of_level(level, issue, "before")).status, 202);
    }
    pagerduty.wait_for_accepted(5);
    wait_until("the spread of keys over both bridges", LONG, || takeovers(&one) >= 2 && takeovers(&other) >= 2);
    wait_until("five proofs", LONG, || confirmed(&one) + confirmed(&other) == 5);
    let (mut leader, follower) = if confirmed(&one) > 0 { (one, other) } else { (other, one) };
    assert_eq!((confirmed(&leader), confirmed(&follower), asked(&pagerduty)), (5, 0, 5));

    assert_eq!(leader.terminate("TERM").code(), Some(0));
    assert_eq!(follower.post(&alert_of_level("error", 9, "after")).status, 202);
    wait_until("the proof of the other", LONG, || confirmed(&follower) == 1);
    assert_eq!(asked(&pagerduty), 6, "nothing is looked up twice");
}
