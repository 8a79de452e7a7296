//! What is trouble, how bad it is, and in which words.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::delivery::{DeliveryView, LaneView, UnreadableView};
use crate::metrics::{Senders, Snapshot};
use crate::monitor::*;
use crate::pagerduty::ServiceKey;
use crate::queue::{Backlog, DeadLetters, Destination, EventId, FirstInLine, Overview, QueueError};

const LIMITS: Limits = Limits {
    silence: Some(Duration::from_hours(2)),
    waiting: Duration::from_mins(15),
    signatures: 5,
    unverified: Duration::from_mins(5),
};

fn at(minutes: i64) -> DateTime<Utc> {
    DateTime::UNIX_EPOCH + TimeDelta::days(20_000) + TimeDelta::minutes(minutes)
}

fn key() -> ServiceKey {
    ServiceKey::parse("0123456789abcdef0123456789abWXYZ").unwrap()
}

fn full() -> QueueError {
    QueueError::Full { database: "bridge.db".to_owned() }
}

/// A bridge that started at 0 and is well at 60.
fn well() -> Facts {
    Facts {
        at: at(60),
        started_at: at(0),
        queue: Ok(Overview::default()),
        attention: Ok(Backlog::default()),
        storage: Ok(()),
        delivery: DeliveryView { lanes: vec![lane()], ..DeliveryView::default() },
        metrics: Snapshot { last_webhook_at: Some(at(59)), ..Snapshot::default() },
    }
}

fn lane() -> LaneView {
    LaneView {
        service_key: key(),
        allowed: 120,
        rate: 120,
        under_way: 0,
        backs_off_until: None,
        trouble: None,
        is_refusal: false,
        last_delivered_at: None,
    }
}

fn waiting_since(since: DateTime<Utc>) -> Backlog {
    let first = FirstInLine {
        id: EventId::new(7),
        service_key: key(),
        since,
        is_revived: false,
        reason: Some("no answer".to_owned()),
    };
    Backlog { first: vec![first], dead: Vec::new() }
}

fn dead_at(died_at: DateTime<Utc>) -> DeadLetters {
    DeadLetters {
        service_key: key(),
        number: 3,
        newest: EventId::new(9),
        died_at,
        reason: Some("answered 400: Invalid key".to_owned()),
    }
}

fn judged(facts: &Facts) -> (Word, Vec<Cause>) {
    let troubles = judge(facts, &LIMITS);
    (Word::of(&troubles), troubles.iter().map(|trouble| trouble.cause).collect())
}

fn sentence(facts: &Facts) -> String {
    let troubles = judge(facts, &LIMITS);
    assert_eq!(troubles.len(), 1, "{troubles:?}");
    troubles[0].sentence.clone()
}

#[test]
fn a_bridge_with_nothing_to_do_is_well() {
    assert_eq!(judged(&well()), (Word::Well, vec![]));
}

#[test]
fn silence_counts_from_the_last_webhook_also_of_an_earlier_run() {
    let mut facts = well();
    facts.metrics.last_webhook_at = Some(at(-60));
    assert_eq!(judged(&facts), (Word::Failing, vec![Cause::Silence]));
    assert!(
        sentence(&facts).starts_with("no webhook came for 2h, and BRIDGE_SILENCE_ALARM is 2h: "),
        "{}",
        sentence(&facts)
    );
    facts.metrics.last_webhook_at = Some(at(-60) + TimeDelta::milliseconds(1));
    assert_eq!(judged(&facts), (Word::Well, vec![]));
}

#[test]
fn silence_counts_from_the_start_when_no_webhook_ever_came() {
    let mut facts = Facts { metrics: Snapshot::default(), ..well() };
    assert_eq!(judged(&facts), (Word::Well, vec![]));
    facts.at = at(125);
    assert!(
        sentence(&facts).starts_with("no webhook came since the bridge started, for 2h 5m, "),
        "{}",
        sentence(&facts)
    );
    assert_eq!(judge(&facts, &Limits { silence: None, ..LIMITS }), []);
}

#[test]
fn a_clock_that_was_set_back_is_no_trouble() {
    let mut facts = well();
    facts.at = at(-10_000);
    facts.attention = Ok(waiting_since(at(59)));
    assert_eq!(judged(&facts), (Word::Well, vec![]));
}

#[test]
fn what_waits_strains_first_and_is_trouble_later() {
    let mut facts = well();
    facts.attention = Ok(waiting_since(at(60) - TimeDelta::seconds(59)));
    assert_eq!(judged(&facts), (Word::Well, vec![]));
    facts.attention = Ok(waiting_since(at(59)));
    assert_eq!(judged(&facts), (Word::Strained, vec![Cause::Delivery]));
    assert_eq!(
        sentence(&facts),
        "event 7 for the service key …WXYZ waits for 1m (its last attempt ended so: no answer)"
    );
    facts.attention = Ok(waiting_since(at(45)));
    assert_eq!(judged(&facts), (Word::Failing, vec![Cause::Waiting]));
    assert_eq!(
        sentence(&facts),
        "event 7 for the service key …WXYZ waits for 15m, and BRIDGE_WAITING_ALARM is 15m (PagerDuty: no answer): see \
         PagerDuty's status page, and the way there with `check`"
    );
}

/// A queue in which so many events wait for the key.
fn with_waiting(service_key: ServiceKey, waiting: u64) -> Overview {
    let destination = Destination { service_key, waiting, dead: 0, delivered: 7, oldest_waiting: None };
    Overview { waiting, destinations: vec![destination], ..Overview::default() }
}

#[test]
fn what_waits_for_a_key_that_is_throttled_or_fails_strains_from_the_first_moment() {
    for lane in [
        LaneView { allowed: 60, ..lane() },
        LaneView { backs_off_until: Some(at(61)), ..lane() },
        LaneView { trouble: Some("answered 500".to_owned()), ..lane() },
    ] {
        let mut facts = well();
        facts.delivery.lanes = vec![lane];
        assert_eq!(judged(&facts), (Word::Well, vec![]), "nothing waits");
        facts.queue = Ok(with_waiting(ServiceKey::parse(&"g".repeat(32)).unwrap(), 1));
        assert_eq!(judged(&facts), (Word::Well, vec![]), "what waits is for another key");
        facts.queue = Ok(with_waiting(key(), 0));
        assert_eq!(judged(&facts), (Word::Well, vec![]), "nothing waits any more");
        facts.queue = Ok(with_waiting(key(), 1));
        assert_eq!(judged(&facts), (Word::Strained, vec![Cause::Delivery]));
        facts.queue = Err(QueueError::Busy { database: "bridge.db".to_owned() });
        let told = (Word::Strained, vec![Cause::Delivery]);
        assert_eq!(judged(&facts), told, "nobody can tell that nothing waits");
    }
    let refused = LaneView { trouble: Some("answered 400".to_owned()), is_refusal: true, ..lane() };
    let mut facts = Facts { queue: Ok(with_waiting(key(), 1)), ..well() };
    facts.delivery.lanes = vec![refused];
    assert_eq!(judged(&facts), (Word::Well, vec![]), "one that was refused holds up no other");
}

#[test]
fn why_a_key_is_held_up_and_when_it_delivered_last_is_told() {
    let mut facts = well();
    facts.queue = Ok(with_waiting(key(), 1));
    facts.delivery.lanes[0].trouble = Some("answered 500".to_owned());
    assert_eq!(
        sentence(&facts),
        "events for the service key …WXYZ wait, and are tried again (the last attempt ended so: answered 500); PagerDuty \
         has taken none for it yet"
    );
    facts.metrics.delivered.insert(key(), at(30));
    assert!(sentence(&facts).ends_with("PagerDuty took the last one for it 30m ago"), "{}", sentence(&facts));
    facts.delivery.lanes[0] = LaneView { allowed: 60, ..lane() };
    assert!(sentence(&facts).contains("(PagerDuty throttles, so 60 of 120 may leave in a minute)"));
    facts.attention = Ok(waiting_since(at(0)));
    assert_eq!(judged(&facts), (Word::Failing, vec![Cause::Waiting]), "which says the same");
}

#[test]
fn what_waits_for_a_key_that_is_well_just_passes_through() {
    let facts = Facts { queue: Ok(with_waiting(key(), 3)), ..well() };
    assert_eq!(judged(&facts), (Word::Well, vec![]));
}

#[test]
fn wrong_signatures_are_trouble_from_the_fifth_in_a_row_once_they_came_for_minutes() {
    let mut facts = well();
    facts.metrics.wrong_signatures_for = Duration::from_mins(5);
    facts.metrics.wrong_signatures = 4;
    assert_eq!(judged(&facts), (Word::Well, vec![]));
    facts.metrics.wrong_signatures = 5;
    assert_eq!(judged(&facts), (Word::Failing, vec![Cause::Signatures]));
    assert!(sentence(&facts).contains("BRIDGE_SENTRY_CLIENT_SECRET"));
    assert!(sentence(&facts).contains("they came from unknown addresses: "));
    let first = ["203.0.113.7", "2001:db8::7"].map(|address| address.parse().unwrap()).to_vec();
    facts.metrics.wrong_signatures_from = Senders { first, more: true };
    assert!(sentence(&facts).contains("5 webhooks in a row, within 5m, "), "{}", sentence(&facts));
    assert!(sentence(&facts).contains("they came from 203.0.113.7, 2001:db8::7 and others: "), "{}", sentence(&facts));
    facts.metrics.wrong_signatures = 1000;
    facts.metrics.wrong_signatures_for = Duration::from_secs(299);
    assert_eq!(judged(&facts), (Word::Well, vec![]), "anybody can send a thousand at once");
}

#[test]
fn dead_letters_strain_while_others_of_their_key_pass_and_are_failure_while_none_does() {
    let mut facts = well();
    facts.attention = Ok(Backlog { dead: vec![dead_at(at(30))], ..Backlog::default() });
    assert_eq!(judged(&facts), (Word::Failing, vec![Cause::DeadLetters]));
    assert_eq!(
        sentence(&facts),
        "3 events are dead letters and reached nobody, such as: event 9 for the service key …WXYZ (answered 400: \
         Invalid key), and PagerDuty has taken none for that key since; see `queue list --state dead`, and retry or \
         discard them"
    );
    facts.delivery.lanes[0].last_delivered_at = Some(at(29));
    assert_eq!(judged(&facts).0, Word::Failing);
    facts.metrics.last_delivered_at = Some(at(40));
    assert_eq!(judged(&facts).0, Word::Failing, "another key is no proof");
    facts.delivery.lanes[0].last_delivered_at = Some(at(31));
    assert_eq!(judged(&facts), (Word::Strained, vec![Cause::DeadLetters]));
}

#[test]
fn dead_letters_of_an_earlier_run_are_failure_only_if_nothing_passed_since() {
    let mut facts = well();
    facts.attention = Ok(Backlog { dead: vec![dead_at(at(-30))], ..Backlog::default() });
    assert_eq!(judged(&facts).0, Word::Failing);
    facts.metrics.last_delivered_at = Some(at(-20));
    assert_eq!(judged(&facts).0, Word::Failing, "another key is no proof");
    facts.metrics.delivered.insert(key(), at(-40));
    assert_eq!(judged(&facts).0, Word::Failing);
    facts.metrics.delivered.insert(key(), at(-20));
    assert_eq!(judged(&facts).0, Word::Strained);
}

#[test]
fn one_bad_key_is_not_hidden_by_a_good_one() {
    let good = ServiceKey::parse(&"g".repeat(32)).unwrap();
    let mut facts = well();
    facts.delivery.lanes.push(LaneView { service_key: good.clone(), last_delivered_at: Some(at(50)), ..lane() });
    let newer = DeadLetters { service_key: good, ..dead_at(at(40)) };
    facts.attention = Ok(Backlog { dead: vec![dead_at(at(30)), newer], ..Backlog::default() });
    assert_eq!(judged(&facts).0, Word::Failing);
    assert!(sentence(&facts).starts_with("6 events are dead letters"));
    assert!(sentence(&facts).contains("…WXYZ"));
}

#[test]
fn a_queue_that_can_be_neither_written_nor_read_is_trouble() {
    let unwritten = Facts { storage: Err(full()), ..well() };
    assert_eq!(judged(&unwritten), (Word::Failing, vec![Cause::Storage]));
    assert!(sentence(&unwritten).contains("the disk with the database bridge.db is full"));
    let unread = Facts { queue: Err(full()), attention: Err(full()), ..well() };
    assert_eq!(judged(&unread), (Word::Failing, vec![Cause::Storage]));
}

#[test]
fn a_queue_that_many_look_at_is_no_trouble() {
    let busy = || QueueError::Busy { database: "bridge.db".to_owned() };
    let facts = Facts { queue: Err(busy()), attention: Err(busy()), ..well() };
    assert_eq!(judged(&facts), (Word::Well, vec![]));
    let facts = Facts { queue: Err(busy()), attention: Err(full()), ..well() };
    assert_eq!(judged(&facts), (Word::Failing, vec![Cause::Storage]));
}

#[test]
fn the_worst_comes_first() {
    let mut facts = well();
    facts.storage = Err(full());
    facts.delivery.untrusted = Some("TLS: expired".to_owned());
    facts.delivery.lanes[0].last_delivered_at = Some(at(31));
    facts.metrics = Snapshot {
        last_webhook_at: Some(at(-500)),
        wrong_signatures: 9,
        wrong_signatures_for: Duration::from_hours(1),
        ..Snapshot::default()
    };
    facts.attention = Ok(Backlog { dead: vec![dead_at(at(30))], ..waiting_since(at(0)) });
    let all = Cause::ALL.into_iter().filter(|cause| *cause != Cause::Delivery);
    assert_eq!(judged(&facts), (Word::Failing, all.collect()));
}

#[test]
fn what_cannot_be_read_of_the_queue_is_trouble_with_storage() {
    let with = |unreadable| {
        let delivery = DeliveryView { unreadable, ..DeliveryView::default() };
        judge(&Facts { delivery, ..well() }, &LIMITS)
    };
    assert_eq!(with(UnreadableView::default()), []);
    let damaged = || Some("a part of the database bridge.db is damaged".to_owned());
    for (view, begins) in [
        (
            UnreadableView { events: 1, reason: damaged(), ..UnreadableView::default() },
            "1 event in the queue cannot be read and is not delivered, while all others are: a part of the database",
        ),
        (
            UnreadableView { events: 7, lines: 1, reason: damaged(), ..UnreadableView::default() },
            "7 events in the queue cannot be read",
        ),
        (
            UnreadableView { lines: 2, reason: damaged(), ..UnreadableView::default() },
            "what waits for 2 of the service keys cannot be read",
        ),
        (
            UnreadableView { unsettled: 3, ..UnreadableView::default() },
            "a damaged part of the database keeps 3 events from being marked as done",
        ),
    ] {
        let troubles = with(view);
        assert_eq!((troubles.len(), troubles[0].cause, troubles[0].word), (1, Cause::Storage, Word::Failing));
        assert!(troubles[0].sentence.starts_with(begins), "{troubles:?}");
    }
}
