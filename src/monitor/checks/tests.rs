//! What is a trouble, how bad it is, and which sentence describes it.

use super::*;
use crate::canary::{CanaryProgress, CanaryStatus, RoundTrip};
use crate::cluster::{BridgeView, ClusterView};
use crate::delivery::{DeliveryView, KeyView};
use crate::metrics::{MetricsSnapshot, Senders};
use crate::monitor::snapshot::ProofView;
use crate::pagerduty::{KeyNames, ProofState, ServiceKey};
use crate::proof::ProofStatus;
use crate::queue::BridgeId;
use crate::queue::{Backlog, DeadLetters, EventId, FirstWaiting, Overview, Proof, QueueError, ServiceKeyCounts};

const LIMITS: TroubleLimits = TroubleLimits {
    silence: Some(Duration::from_hours(2)),
    waiting: Duration::from_mins(15),
    signatures: 5,
    unverified: Duration::from_mins(5),
    canary: CanaryLimits::USUAL,
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

/// A bridge that started at minute 0 and is healthy at minute 60.
fn healthy() -> Snapshot {
    Snapshot {
        delivery: DeliveryView { keys: vec![key_view()], ..DeliveryView::default() },
        metrics: MetricsSnapshot { last_webhook_at: Some(at(59)), ..MetricsSnapshot::default() },
        ..Snapshot::empty(at(60), at(0))
    }
}

fn key_view() -> KeyView {
    KeyView {
        service_key: key(),
        allowed: 120,
        rate: 120,
        in_flight: 0,
        backs_off_until: None,
        last_failure: None,
        is_permanent: false,
        is_throttled: false,
        last_delivered_at: None,
    }
}

fn waiting_since(since: DateTime<Utc>) -> Backlog {
    let first = FirstWaiting {
        id: EventId::new(7),
        service_key: key(),
        since,
        is_requeued: false,
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

fn checked(snapshot: &Snapshot) -> (Health, Vec<Cause>) {
    let troubles = troubles(snapshot, &LIMITS);
    (Health::of(&troubles), troubles.iter().map(|trouble| trouble.cause).collect())
}

fn sentence(snapshot: &Snapshot) -> String {
    let troubles = troubles(snapshot, &LIMITS);
    assert_eq!(troubles.len(), 1, "{troubles:?}");
    troubles[0].sentence.clone()
}

fn bridge(name: &str, fingerprint: &str, reaches_pagerduty: bool) -> BridgeView {
    BridgeView {
        id: BridgeId::new(1),
        name: name.to_owned(),
        version: String::new(),
        fingerprint: fingerprint.to_owned(),
        last_seen: at(0),
        is_alive: true,
        is_self: false,
        is_leader: false,
        reaches_pagerduty,
        keys: Vec::new(),
    }
}

#[test]
fn bridges_with_different_settings_are_degraded_and_one_that_is_cut_off_is_named() {
    let mut snapshot = healthy();
    let mut sentence = |bridges: Vec<BridgeView>| {
        snapshot.cluster = ClusterView { bridges };
        let trouble = troubles(&snapshot, &LIMITS).into_iter().find(|trouble| trouble.cause == Cause::Bridges);
        trouble.map(|trouble| (trouble.health, trouble.sentence))
    };
    assert_eq!(sentence(vec![bridge("a", "1", true), bridge("b", "1", true)]), None);
    let (health, said) = sentence(vec![bridge("a", "1", true), bridge("b", "2", true)]).unwrap();
    assert!(health == Health::Degraded && said.contains("config 1 and 2"), "{said}");
    let (_, said) = sentence(vec![bridge("a", "1", true), bridge("b", "1", false)]).unwrap();
    assert!(said.starts_with("the bridge b does not reach PagerDuty"), "{said}");
    assert_eq!(sentence(vec![bridge("a", "1", false), bridge("b", "1", false)]), None, "PagerDuty is down");
}

#[test]
fn a_bridge_with_nothing_to_do_is_healthy() {
    assert_eq!(checked(&healthy()), (Health::Healthy, vec![]));
}

#[test]
fn silence_counts_from_the_last_webhook_also_of_an_earlier_run() {
    let mut snapshot = healthy();
    snapshot.metrics.last_webhook_at = Some(at(-60));
    assert_eq!(checked(&snapshot), (Health::Failing, vec![Cause::Silence]));
    assert!(
        sentence(&snapshot).starts_with("no webhook came for 2h, and BRIDGE_SILENCE_ALARM is 2h: "),
        "{}",
        sentence(&snapshot)
    );
    snapshot.metrics.last_webhook_at = Some(at(-60) + TimeDelta::milliseconds(1));
    assert_eq!(checked(&snapshot), (Health::Healthy, vec![]));
}

#[test]
fn silence_counts_from_the_start_when_no_webhook_ever_came() {
    let mut snapshot = Snapshot { metrics: MetricsSnapshot::default(), ..healthy() };
    assert_eq!(checked(&snapshot), (Health::Healthy, vec![]));
    snapshot.at = at(125);
    assert!(
        sentence(&snapshot).starts_with("no webhook came since the bridge started, for 2h 5m, "),
        "{}",
        sentence(&snapshot)
    );
    assert_eq!(troubles(&snapshot, &TroubleLimits { silence: None, ..LIMITS }), []);
}

#[test]
fn a_clock_that_was_set_back_is_no_trouble() {
    let mut snapshot = healthy();
    snapshot.at = at(-10_000);
    snapshot.backlog = Ok(waiting_since(at(59)));
    assert_eq!(checked(&snapshot), (Health::Healthy, vec![]));
}

#[test]
fn what_waits_is_degraded_first_and_failing_later() {
    let mut snapshot = healthy();
    snapshot.backlog = Ok(waiting_since(at(60) - TimeDelta::seconds(59)));
    assert_eq!(checked(&snapshot), (Health::Healthy, vec![]));
    snapshot.backlog = Ok(waiting_since(at(59)));
    assert_eq!(checked(&snapshot), (Health::Degraded, vec![Cause::Delivery]));
    assert_eq!(
        sentence(&snapshot),
        "event 7 for the service key …WXYZ has been waiting for 1m (last attempt: no answer)"
    );
    snapshot.backlog = Ok(waiting_since(at(45)));
    assert_eq!(checked(&snapshot), (Health::Failing, vec![Cause::Waiting]));
    assert_eq!(
        sentence(&snapshot),
        "event 7 for the service key …WXYZ has been waiting for 15m, and BRIDGE_WAITING_ALARM is 15m (last attempt: no \
         answer): check PagerDuty's status page, and the connection with `check`"
    );
}

/// A queue in which `waiting` events wait for the service key.
fn with_waiting(service_key: ServiceKey, waiting: u64) -> Overview {
    let destination = ServiceKeyCounts { service_key, waiting, dead: 0, delivered: 7, oldest_waiting: None };
    Overview { waiting, service_keys: vec![destination], ..Overview::default() }
}

#[test]
fn what_waits_for_a_key_that_is_throttled_or_fails_is_degraded_from_the_first_moment() {
    for view in [
        KeyView { allowed: 60, ..key_view() },
        KeyView { backs_off_until: Some(at(61)), ..key_view() },
        KeyView { last_failure: Some("answered 500".to_owned()), ..key_view() },
    ] {
        let mut snapshot = healthy();
        snapshot.delivery.keys = vec![view];
        assert_eq!(checked(&snapshot), (Health::Healthy, vec![]), "nothing waits");
        snapshot.queue = Ok(with_waiting(ServiceKey::parse(&"g".repeat(32)).unwrap(), 1));
        assert_eq!(checked(&snapshot), (Health::Healthy, vec![]), "what waits is for another key");
        snapshot.queue = Ok(with_waiting(key(), 0));
        assert_eq!(checked(&snapshot), (Health::Healthy, vec![]), "nothing waits any more");
        snapshot.queue = Ok(with_waiting(key(), 1));
        assert_eq!(checked(&snapshot), (Health::Degraded, vec![Cause::Delivery]));
        snapshot.queue = Err(QueueError::Busy { database: "bridge.db".to_owned() });
        let expected = (Health::Degraded, vec![Cause::Delivery]);
        assert_eq!(checked(&snapshot), expected, "nobody can tell that nothing waits");
    }
    let refused = KeyView { last_failure: Some("answered 400".to_owned()), is_permanent: true, ..key_view() };
    let mut snapshot = Snapshot { queue: Ok(with_waiting(key(), 1)), ..healthy() };
    snapshot.delivery.keys = vec![refused];
    assert_eq!(checked(&snapshot), (Health::Healthy, vec![]), "one that was refused holds up no other");
}

#[test]
fn why_a_key_is_held_up_and_when_it_delivered_last_is_told() {
    let mut snapshot = healthy();
    snapshot.queue = Ok(with_waiting(key(), 1));
    snapshot.delivery.keys[0].last_failure = Some("answered 500".to_owned());
    assert_eq!(
        sentence(&snapshot),
        "events for the service key …WXYZ are waiting and will be retried (last attempt: answered 500); PagerDuty has \
         accepted none for it yet"
    );
    snapshot.metrics.delivered.insert(key(), at(30));
    assert!(sentence(&snapshot).ends_with("PagerDuty accepted the last one for it 30m ago"), "{}", sentence(&snapshot));
    snapshot.delivery.keys[0] = KeyView { allowed: 60, ..key_view() };
    assert!(sentence(&snapshot).contains("(PagerDuty throttles: 60 of 120 events a minute may be sent)"));
    snapshot.backlog = Ok(waiting_since(at(0)));
    assert_eq!(checked(&snapshot), (Health::Failing, vec![Cause::Waiting]), "which says the same");
}

#[test]
fn what_waits_for_a_key_that_is_well_just_passes_through() {
    let snapshot = Snapshot { queue: Ok(with_waiting(key(), 3)), ..healthy() };
    assert_eq!(checked(&snapshot), (Health::Healthy, vec![]));
}

/// A bridge that holds `held` webhooks and has counted `wrong` wrong signatures, the first of them `seconds` ago.
fn holding(held: u64, wrong: u32, seconds: i64) -> Snapshot {
    let mut snapshot = Snapshot { queue: Ok(Overview { held, ..Overview::default() }), ..healthy() };
    snapshot.metrics.wrong_signatures = wrong;
    snapshot.metrics.wrong_signatures_since = Some(snapshot.at - TimeDelta::seconds(seconds));
    snapshot.metrics.is_verified = true;
    snapshot
}

#[test]
fn wrong_signatures_that_are_not_held_are_trouble_from_the_fifth_in_a_row_once_they_came_for_minutes() {
    let mut snapshot = holding(0, 4, 301);
    snapshot.metrics.wrong_signatures_for = Duration::from_mins(5);
    assert_eq!(checked(&snapshot), (Health::Healthy, vec![]));
    snapshot.metrics.wrong_signatures = 5;
    assert_eq!(checked(&snapshot), (Health::Failing, vec![Cause::Signatures]));
    assert!(sentence(&snapshot).contains("BRIDGE_SENTRY_CLIENT_SECRET"));
    assert!(sentence(&snapshot).contains("none is held), sent from unknown addresses: "), "{}", sentence(&snapshot));
    let first = ["203.0.113.7", "2001:db8::7"].map(|address| address.parse().unwrap()).to_vec();
    snapshot.metrics.wrong_signatures_from = Senders { first, has_more: true };
    assert!(sentence(&snapshot).contains("5 webhooks in a row, within 5m, "), "{}", sentence(&snapshot));
    assert!(sentence(&snapshot).contains("sent from 203.0.113.7, 2001:db8::7 and others: "), "{}", sentence(&snapshot));
    snapshot.metrics.wrong_signatures = 1000;
    snapshot.metrics.wrong_signatures_for = Duration::from_secs(299);
    assert_eq!(checked(&snapshot), (Health::Healthy, vec![]), "anybody can send a thousand at once");
}

#[test]
fn a_single_webhook_that_is_held_is_trouble_when_no_right_signature_came_for_minutes() {
    assert_eq!(checked(&holding(1, 1, 299)), (Health::Healthy, vec![]));
    let snapshot = holding(1, 1, 300);
    assert_eq!(checked(&snapshot), (Health::Failing, vec![Cause::Signatures]));
    let said = sentence(&snapshot);
    assert!(
        said.contains("a webhook had a wrong signature 5m ago (answered 401; 1 is held and is delivered"),
        "{said}"
    );
    assert_eq!(checked(&holding(1, 0, 0)), (Health::Healthy, vec![]), "a right one came since");

    let mut restarted = holding(2, 0, 0);
    restarted.metrics.is_verified = false;
    restarted.started_at = restarted.at - TimeDelta::seconds(299);
    assert_eq!(checked(&restarted), (Health::Healthy, vec![]));
    restarted.started_at = restarted.at - TimeDelta::seconds(300);
    assert_eq!(checked(&restarted), (Health::Failing, vec![Cause::Signatures]));
    assert!(sentence(&restarted).contains("before the bridge started (answered 401; 2 are held"));
}

#[test]
fn a_few_wrong_signatures_are_no_trouble_within_a_day_after_others_were_a_strangers() {
    let mut snapshot = holding(1, 4, 3000);
    snapshot.metrics.disproved_for = Duration::from_mins(5);
    assert_eq!(checked(&snapshot), (Health::Healthy, vec![]));
    snapshot.metrics.disproved_for = Duration::from_secs(299);
    assert_eq!(checked(&snapshot), (Health::Failing, vec![Cause::Signatures]), "nobody was paged for those");
    snapshot.metrics.disproved_for = Duration::from_mins(5);
    (snapshot.metrics.wrong_signatures, snapshot.metrics.wrong_signatures_for) = (5, Duration::from_mins(6));
    assert_eq!(checked(&snapshot), (Health::Failing, vec![Cause::Signatures]), "a stranger does not hide a rotation");
}

#[test]
fn who_has_a_right_token_is_no_stranger_whatever_others_send() {
    let mut snapshot = holding(1, 0, 0);
    let since = |seconds| {
        Ok(Overview {
            held: 1,
            held_with_token_since: Some(healthy().at - TimeDelta::seconds(seconds)),
            ..Overview::default()
        })
    };
    snapshot.queue = since(299);
    assert_eq!(checked(&snapshot), (Health::Healthy, vec![]));
    snapshot.queue = since(300);
    assert_eq!(checked(&snapshot), (Health::Failing, vec![Cause::Signatures]));
    assert!(
        sentence(&snapshot).starts_with("a webhook with a right token had a wrong signature 5m ago (answered 401; 1")
    );
}

#[test]
fn dead_letters_are_degraded_while_others_of_their_key_pass_and_failing_while_none_does() {
    let mut snapshot = healthy();
    snapshot.backlog = Ok(Backlog { dead: vec![dead_at(at(30))], ..Backlog::default() });
    assert_eq!(checked(&snapshot), (Health::Failing, vec![Cause::DeadLetters]));
    assert_eq!(
        sentence(&snapshot),
        "3 events are dead letters, such as event 9 for the service key …WXYZ (answered 400: Invalid key), and PagerDuty \
         has accepted no event for that key since; see `queue list --state dead`, then retry or discard"
    );
    snapshot.delivery.keys[0].last_delivered_at = Some(at(29));
    assert_eq!(checked(&snapshot).0, Health::Failing);
    snapshot.metrics.last_delivered_at = Some(at(40));
    assert_eq!(checked(&snapshot).0, Health::Failing, "another key is no proof");
    snapshot.delivery.keys[0].last_delivered_at = Some(at(31));
    assert_eq!(checked(&snapshot), (Health::Degraded, vec![Cause::DeadLetters]));
}

#[test]
fn dead_letters_of_an_earlier_run_are_failing_only_if_nothing_passed_since() {
    let mut snapshot = healthy();
    snapshot.backlog = Ok(Backlog { dead: vec![dead_at(at(-30))], ..Backlog::default() });
    assert_eq!(checked(&snapshot).0, Health::Failing);
    snapshot.metrics.last_delivered_at = Some(at(-20));
    assert_eq!(checked(&snapshot).0, Health::Failing, "another key is no proof");
    snapshot.metrics.delivered.insert(key(), at(-40));
    assert_eq!(checked(&snapshot).0, Health::Failing);
    snapshot.metrics.delivered.insert(key(), at(-20));
    assert_eq!(checked(&snapshot).0, Health::Degraded);
}

#[test]
fn one_bad_key_is_not_hidden_by_a_good_one() {
    let good = ServiceKey::parse(&"g".repeat(32)).unwrap();
    let mut snapshot = healthy();
    snapshot.delivery.keys.push(KeyView { service_key: good.clone(), last_delivered_at: Some(at(50)), ..key_view() });
    let newer = DeadLetters { service_key: good, ..dead_at(at(40)) };
    snapshot.backlog = Ok(Backlog { dead: vec![dead_at(at(30)), newer], ..Backlog::default() });
    assert_eq!(checked(&snapshot).0, Health::Failing);
    assert!(sentence(&snapshot).starts_with("6 events are dead letters"));
    assert!(sentence(&snapshot).contains("…WXYZ"));
}

#[test]
fn a_queue_that_can_be_neither_written_nor_read_is_trouble() {
    let unwritten = Snapshot { storage: Err(full()), ..healthy() };
    assert_eq!(checked(&unwritten), (Health::Failing, vec![Cause::Storage]));
    assert!(sentence(&unwritten).contains("the disk with the database bridge.db is full"));
    let unread = Snapshot { queue: Err(full()), backlog: Err(full()), ..healthy() };
    assert_eq!(checked(&unread), (Health::Failing, vec![Cause::Storage]));
}

#[test]
fn a_queue_that_many_look_at_is_no_trouble() {
    let busy = || QueueError::Busy { database: "bridge.db".to_owned() };
    let snapshot = Snapshot { queue: Err(busy()), backlog: Err(busy()), ..healthy() };
    assert_eq!(checked(&snapshot), (Health::Healthy, vec![]));
    let snapshot = Snapshot { queue: Err(busy()), backlog: Err(full()), ..healthy() };
    assert_eq!(checked(&snapshot), (Health::Failing, vec![Cause::Storage]));
}

fn canary(progress: CanaryProgress) -> CanaryStatus {
    let last = RoundTrip { sent_at: at(30), returned_at: at(31) };
    CanaryStatus { last: Some(last), last_sent_at: Some(at(50)), progress }
}

#[test]
fn a_canary_that_does_not_come_back_is_told_by_the_half_of_the_way_that_is_interrupted() {
    let told = |status: CanaryStatus| {
        let mut snapshot = healthy();
        snapshot.canary = Some(Ok(status));
        troubles(&snapshot, &LIMITS)
    };
    assert_eq!(told(canary(CanaryProgress::Returns)), []);
    assert_eq!(told(canary(CanaryProgress::Unknown)), []);
    let lost = told(canary(CanaryProgress::Lost { sent_at: at(50) }));
    assert_eq!((lost[0].cause, lost[0].health), (Cause::Canary, Health::Failing));
    let sentence = &lost[0].sentence;
    assert!(sentence.starts_with("Sentry took the canary 10m ago, and its webhook did not come"), "{sentence}");
    assert!(sentence.contains("the last one came back 29m ago"), "{sentence}");
    let reason = "it throttles this project or key (429)".to_owned();
    let not_taken = told(CanaryStatus { last: None, ..canary(CanaryProgress::NotTaken { since: at(50), reason }) });
    let sentence = &not_taken[0].sentence;
    assert!(sentence.starts_with("Sentry does not take the canary's events, for 10m now: it throttles"), "{sentence}");
    assert!(sentence.contains("none has come back so far"), "{sentence}");
}

fn unopened(event: i64) -> Proof {
    Proof {
        event: EventId::new(event),
        service_key: key(),
        state: ProofState::NotOpened,
        delivered_at: at(30),
        judged_at: at(50),
        incident_number: None,
        incident_url: None,
        reason: Some("the service Payments is disabled, so enable it in PagerDuty".to_owned()),
    }
}

fn proof_view(failures: Vec<Proof>) -> ProofView {
    ProofView { status: ProofStatus::default(), failures: Ok(failures) }
}

#[test]
fn what_pagerduty_accepted_and_did_not_do_is_trouble_with_the_reason() {
    let names = KeyNames::new([(key(), "Payments".to_owned())]);
    let told =
        |proof: ProofView| troubles(&Snapshot { key_names: names.clone(), proof: Some(proof), ..healthy() }, &LIMITS);
    assert_eq!(told(proof_view(Vec::new())), []);
    let troubles = told(proof_view(vec![unopened(7), unopened(6)]));
    let expected = "PagerDuty accepted event 7 for Payments (…WXYZ) 30m ago and no incident exists, so that nobody was \
                    notified: the service Payments is disabled, so enable it in PagerDuty; look at the alert in Sentry; the same \
                    happened to one earlier event";
    assert_eq!(troubles, [Trouble::failing(Cause::Proof, expected.to_owned())]);

    let refused = |is_refused| ProofStatus { failure: Some("no such token".to_owned()), is_refused };
    assert_eq!(told(ProofView { status: refused(false), ..proof_view(Vec::new()) }), [], "it is tried again soon");
    let troubles = told(ProofView { status: refused(true), ..proof_view(Vec::new()) });
    let expected = "whether PagerDuty does what it accepts is not known: no such token";
    assert_eq!(troubles, [Trouble::degraded(Cause::Proof, expected.to_owned())]);
}

#[test]
fn the_worst_comes_first() {
    let mut snapshot = healthy();
    snapshot.storage = Err(full());
    snapshot.delivery.untrusted = Some("TLS: expired".to_owned());
    snapshot.delivery.keys[0].last_delivered_at = Some(at(31));
    snapshot.metrics = MetricsSnapshot {
        last_webhook_at: Some(at(-500)),
        wrong_signatures: 9,
        wrong_signatures_for: Duration::from_hours(1),
        unusable_secrets: Some("BRIDGE_WEBHOOK_TOKEN_FILE names a file, which is empty".to_owned()),
        ..MetricsSnapshot::default()
    };
    snapshot.backlog = Ok(Backlog { dead: vec![dead_at(at(30))], ..waiting_since(at(0)) });
    snapshot.canary = Some(Ok(canary(CanaryProgress::Lost { sent_at: at(50) })));
    snapshot.proof = Some(proof_view(vec![unopened(1)]));
    snapshot.cluster.bridges = vec![bridge("a", "1", true), bridge("b", "2", true)];
    let all = Cause::VARIANTS.iter().copied().filter(|cause| *cause != Cause::Delivery);
    assert_eq!(checked(&snapshot), (Health::Failing, all.collect()));
}

#[test]
fn what_cannot_be_read_of_the_queue_is_trouble_with_storage() {
    let with = |unreadable| {
        let delivery = DeliveryView { unreadable, ..DeliveryView::default() };
        troubles(&Snapshot { delivery, ..healthy() }, &LIMITS)
    };
    assert_eq!(with(UnreadableView::default()), []);
    let damaged = || Some("a part of the database bridge.db is damaged".to_owned());
    for (view, begins) in [
        (
            UnreadableView { events: 1, reason: damaged(), ..UnreadableView::default() },
            "1 event in the queue cannot be read and is not delivered, while all others are: a part of the database",
        ),
        (
            UnreadableView { events: 7, keys: 1, reason: damaged(), ..UnreadableView::default() },
            "7 events in the queue cannot be read",
        ),
        (
            UnreadableView { keys: 2, reason: damaged(), ..UnreadableView::default() },
            "waiting events of 2 service keys cannot be read",
        ),
        (
            UnreadableView { unsettled: 3, ..UnreadableView::default() },
            "3 events cannot be marked as done because part of the database is damaged",
        ),
    ] {
        let troubles = with(view);
        assert_eq!((troubles.len(), troubles[0].cause, troubles[0].health), (1, Cause::Storage, Health::Failing));
        assert!(troubles[0].sentence.starts_with(begins), "{troubles:?}");
    }
}
