//! The responses of PagerDuty, and what the bridge does with each.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::net::TcpListener;
use std::time::Duration;

use pagerduty_sandbox::{CloseMode, Fault, FaultBody, FaultRule, JournalEntry, RetryAfter, ThrottleStatus, Verdict};
use sentry_pagerduty_bridge::queue::State;

use crate::support::{Bridge, KEY, OTHER_KEY, PagerDuty, ROUTES, alert, alert_of_level};

fn for_incident(incident_key: &str, fault: Fault) -> FaultRule {
    FaultRule { incident_key: Some(incident_key.to_owned()), ..FaultRule::new(fault) }
}

fn for_key(service_key: &str, fault: Fault) -> FaultRule {
    FaultRule { service_key: Some(service_key.to_owned()), ..FaultRule::new(fault) }
}

/// The statuses of the requests in order, `None` where there was no response. All requests must have had the same bytes.
#[track_caller]
fn attempts(journal: &[JournalEntry]) -> Vec<Option<u16>> {
    assert!(journal.iter().all(|entry| entry.request.body == journal[0].request.body), "{journal:#?}");
    journal.iter().map(|entry| entry.status).collect()
}

#[test]
fn an_event_that_met_trouble_comes_again_with_the_same_bytes() {
    let pagerduty = PagerDuty::with_fault(FaultRule::new(Fault::status(500)).times(1));
    pagerduty.inject(FaultRule::new(Fault::status(503)).times(1)).unwrap();
    let bridge = Bridge::start(&pagerduty.url());
    bridge.queue(&alert(7, "Disk full"));
    pagerduty.wait_for_accepted(1);
    assert_eq!(attempts(&pagerduty.journal()), [Some(500), Some(503), Some(200)]);
    let [record] = &bridge.end()[..] else { panic!("one event") };
    assert_eq!((record.summary.state, record.summary.attempts), (State::Delivered, 3));
    assert_eq!(record.body, pagerduty.journal()[0].request.body);
}

#[test]
fn throttled_with_403_or_429_an_event_waits_and_is_delivered() {
    let throttled = |status| Fault::Throttled { status, retry_after: Some(RetryAfter::Seconds(1)) };
    let pagerduty = PagerDuty::with_fault(for_key(KEY, throttled(ThrottleStatus::Forbidden)).times(1));
    pagerduty.inject(for_key(OTHER_KEY, throttled(ThrottleStatus::TooManyRequests)).times(1)).unwrap();
    let bridge = Bridge::start_with(&pagerduty.url(), &[ROUTES]);
    bridge.queue(&alert(7, "Disk full"));
    bridge.queue(&alert_of_level("fatal", 8, "Disk gone"));
    pagerduty.wait_for_accepted(2);
    for (key, refusal) in [(KEY, 403), (OTHER_KEY, 429)] {
        let journal: Vec<_> =
            pagerduty.journal().into_iter().filter(|entry| entry.text("service_key") == Some(key)).collect();
        assert_eq!(attempts(&journal), [Some(refusal), Some(200)]);
    }
    assert!(bridge.end().iter().all(|record| record.summary.state == State::Delivered && record.summary.attempts == 2));
}

#[test]
fn a_throttled_service_key_holds_up_no_other() {
    let fault = Fault::Throttled { status: ThrottleStatus::Forbidden, retry_after: Some(RetryAfter::Seconds(3600)) };
    let pagerduty = PagerDuty::with_fault(for_key(KEY, fault));
    let bridge = Bridge::start_with(&pagerduty.url(), &[ROUTES]);
    bridge.queue(&alert(1, "Disk full"));
    pagerduty.wait_for_requests(1);
    for issue in 2..=5 {
        bridge.queue(&alert(issue, "Disk full"));
        bridge.queue(&alert_of_level("fatal", issue, "Disk gone"));
        pagerduty.wait_for_accepted(issue - 1);
    }
    let waiting = bridge.end().into_iter().filter(|record| record.summary.state == State::Waiting);
    assert!(waiting.map(|record| record.summary.service_key.expose().to_owned()).eq([KEY; 5]));
}

#[test]
fn what_pagerduty_refuses_for_good_is_a_dead_letter_with_its_reason_and_the_rest_flows() {
    let pagerduty = PagerDuty::with_fault(for_incident("2", Fault::status(400)));
    let bridge = Bridge::start(&pagerduty.url());
    for issue in 1..=3 {
        bridge.queue(&alert(issue, "Disk full"));
    }
    // Otherwise the second would be folded into the first, which has not been attempted yet.
    pagerduty.wait_for_requests(3);
    bridge.queue(&alert(2, "Disk fuller"));
    pagerduty.wait_for_requests(4);
    let records = bridge.end();
    let states: Vec<_> = records.iter().map(|record| (record.summary.state, record.summary.attempts)).collect();
    assert_eq!(states, [(State::Delivered, 1), (State::Dead, 1), (State::Delivered, 1), (State::Dead, 1)]);
    let reason = records[1].summary.reason.as_deref().unwrap();
    assert!(reason.contains("400") && reason.contains("The sandbox was told to refuse this event"), "{reason}");
}

#[test]
fn an_event_that_fails_while_others_of_its_key_pass_is_given_up_in_the_end() {
    let pagerduty = PagerDuty::with_fault(for_incident("7", Fault::status(500)));
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_GIVE_UP_AFTER", "1s")]);
    bridge.queue(&alert(7, "Disk full"));
    let others = bridge.deliver_others_until_given_up(|number| {
        bridge.queue(&alert(100 + number, "Disk full"));
        pagerduty.wait_for_accepted(number);
    });
    bridge.wait_for_log("dead letter");
    let records = bridge.end();
    assert!(others > 0 && records.len() as u64 == 1 + others, "{records:#?}");
    let states: Vec<_> = records.iter().map(|record| record.summary.state).collect();
    assert_eq!(states[0], State::Dead);
    assert!(states[1..].iter().all(|state| *state == State::Delivered), "{states:?}");
    let reason = records[0].summary.reason.as_deref().unwrap();
    assert!(reason.contains("answered 500") && reason.contains("given up"), "{reason}");
}

#[test]
fn a_redirect_is_never_followed() {
    let elsewhere = TcpListener::bind("127.0.0.1:0").unwrap();
    let location = format!("http://{}/generic", elsewhere.local_addr().unwrap());
    let pagerduty = PagerDuty::with_fault(FaultRule::new(Fault::redirect(301, &location)).times(1));
    pagerduty.inject(FaultRule::new(Fault::redirect(307, &location)).times(1)).unwrap();
    let bridge = Bridge::start(&pagerduty.url());
    bridge.queue(&alert(7, "Disk full"));
    pagerduty.wait_for_accepted(1);
    assert_eq!(attempts(&pagerduty.journal()), [Some(301), Some(307), Some(200)]);
    // If the redirect had been followed, there would be a connection by now, because the request to PagerDuty came later.
    elsewhere.set_nonblocking(true).unwrap();
    assert_eq!(elsewhere.accept().unwrap_err().kind(), ErrorKind::WouldBlock);
    bridge.wait_for_log("redirect");
}

#[test]
fn an_answer_lost_after_the_event_was_taken_makes_no_second_incident() {
    for cut in [CloseMode::Silent, CloseMode::Reset] {
        let pagerduty = PagerDuty::with_fault(FaultRule::new(Fault::Close { apply: true, cut }).times(1));
        let bridge = Bridge::start(&pagerduty.url());
        bridge.queue(&alert(7, "Disk full"));
        pagerduty.wait_for_accepted(2);
        assert_eq!(attempts(&pagerduty.journal()), [None, Some(200)]);
        assert_eq!(pagerduty.counters().opened, 1);
        assert!(bridge.end().iter().all(|record| record.summary.state == State::Delivered));
    }
}

#[test]
fn a_pagerduty_that_never_answers_is_asked_again() {
    let fault = Fault::Hang { lasts: Duration::from_mins(5) };
    let pagerduty = PagerDuty::with_fault(FaultRule::new(fault).times(1));
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_PAGERDUTY_TIMEOUT", "5s")]);
    bridge.queue(&alert(7, "Disk full"));
    pagerduty.wait_for_accepted(1);
    assert_eq!(attempts(&pagerduty.journal()), [None, Some(200)]);
    bridge.wait_for_log("no answer within 5s");
}

#[test]
fn a_success_that_does_not_read_like_one_is_a_success_all_the_same() {
    let answers = [
        Fault::success(204, FaultBody::Empty),
        Fault::success(200, FaultBody::Garbage),
        Fault::success(200, FaultBody::Html),
        Fault::success(202, FaultBody::Truncated),
        Fault::success(200, FaultBody::NotSuccess),
        Fault::success(200, FaultBody::Filler(1 << 20)),
        Fault::Close { apply: true, cut: CloseMode::Midway },
    ];
    let number = answers.len() as u64;
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    for (issue, fault) in (1..).zip(answers) {
        pagerduty.inject(for_incident(&issue.to_string(), fault)).unwrap();
        bridge.queue(&alert(issue, "Disk full"));
    }
    pagerduty.wait_for_accepted(number);
    for record in bridge.end() {
        let issue = &record.summary.incident_key;
        assert_eq!(
            (record.summary.state, record.summary.attempts),
            (State::Delivered, 1),
            "{issue}: {:?}",
            record.summary.reason
        );
        assert!(record.summary.reason.is_some_and(|oddity| oddity.contains("answered 20")), "{issue}");
    }
    assert_eq!(pagerduty.counters().requests, number);
}

#[test]
fn no_event_overtakes_an_earlier_one_of_its_incident() {
    let pagerduty = PagerDuty::with_fault(for_incident("7", Fault::status(503)));
    let bridge = Bridge::start(&pagerduty.url());
    bridge.queue(&alert(7, "one"));
    pagerduty.wait_for_requests(1);
    // The first one was attempted and keeps its bytes, so these are folded into a new event.
    for message in ["two", "three", "four"] {
        bridge.queue(&alert(7, message));
    }
    // Events of other incidents are delivered meanwhile.
    bridge.queue(&alert(8, "other"));
    pagerduty.wait_for_accepted(1);
    pagerduty.clear_faults();
    pagerduty.wait_for_accepted(3);
    let triggers: Vec<_> = pagerduty.triggers().into_iter().map(|(_, description)| description).collect();
    assert_eq!(triggers, ["other", "one", "four"]);
    let refused = pagerduty.journal().into_iter().filter(|entry| entry.verdict == Verdict::Faulted);
    let refused: BTreeSet<_> = refused.map(|entry| entry.text("description").unwrap().to_owned()).collect();
    assert_eq!(refused, BTreeSet::from(["one".to_owned()]));
    let counts: Vec<_> = bridge.end().iter().map(|record| record.summary.count).collect();
    assert_eq!(counts, [1, 3, 1]);
}
