//! What catch-up, the check of issues, two-way resolve and the proof of deliveries read from the queue and store in it.

use std::collections::BTreeMap;

use chrono::{DateTime, TimeDelta, Utc};
use sentry_pagerduty_bridge::ingest::CanaryMark;
use sentry_pagerduty_bridge::pagerduty::{ApiVersion, EventType, IncidentKey, ProofState, ServiceKey};
use sentry_pagerduty_bridge::queue::external::{CatchUpRun, IssueNote, SentryNotes};
use sentry_pagerduty_bridge::queue::{
    BeginRequest, CanaryChange, Disposition, Editor, EnqueueRequest, Enqueued, Envelope, EventId, IssueUpdate,
    IssueUpdateChange, Proof, Queue, Retention, SettleRequest, State, StatusChange, UpdateEnd,
};

use crate::database::TestDatabase;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn incident(name: &str) -> IncidentKey {
    IncidentKey::parse(name).unwrap()
}

fn event(event_type: EventType, name: &str, seconds: i64) -> Envelope {
    Envelope {
        service_key: ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap(),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: incident(name),
        event_type,
        description: "Disk full".to_owned(),
        body: br#"{"details":{}}"#.to_vec(),
        received_at: at(seconds),
        counts_at: None,
    }
}

async fn open() -> (TestDatabase, Queue) {
    let database = TestDatabase::new();
    let queue = Queue::open(&database).await.unwrap();
    (database, queue)
}

/// Enqueues an event and settles it with this disposition at `seconds`.
async fn settle(queue: &Queue, event: Envelope, disposition: Disposition, seconds: i64) {
    let id = queue.enqueue_event(event).await.unwrap().id;
    queue.begin(BeginRequest::new(id, at(seconds))).await.unwrap();
    queue.settle(SettleRequest::new(id, disposition, at(seconds))).await.unwrap();
}

fn delivered() -> Disposition {
    Disposition::Delivered { note: None }
}

#[tokio::test]
async fn the_newest_alert_of_an_incident_is_known_whatever_became_of_it() {
    let (_database, queue) = open().await;
    queue.enqueue_event(event(EventType::Trigger, "waits", 10)).await.unwrap();
    queue.enqueue_event(event(EventType::Trigger, "waits", 20)).await.unwrap();
    settle(&queue, event(EventType::Trigger, "dead", 30), Disposition::Dead { reason: "no".to_owned() }, 31).await;
    settle(&queue, event(EventType::Trigger, "open", 40), delivered(), 45).await;
    settle(&queue, event(EventType::Trigger, "closed", 50), delivered(), 51).await;
    settle(&queue, event(EventType::Resolve, "closed", 60), delivered(), 61).await;

    let all = ["waits", "dead", "open", "closed", "unknown"].map(incident);
    let last = async |since| -> BTreeMap<String, i64> {
        let last = queue.reader().last_triggers(&all, at(since)).await.unwrap();
        last.into_iter().map(|(key, at)| (key.as_str().to_owned(), at.timestamp() - 1_800_000_000)).collect()
    };
    let named = |pairs: &[(&str, i64)]| pairs.iter().map(|(name, at)| ((*name).to_owned(), *at)).collect();
    assert_eq!(last(0).await, named(&[("waits", 20), ("dead", 30), ("open", 45), ("closed", 50)]));
    // A resolve is not an alert, and delivered events from before that time count only while their incidents are open.
    assert_eq!(last(100).await, named(&[("waits", 20), ("dead", 30), ("open", 45)]));
    assert!(queue.reader().last_triggers(&[], at(0)).await.unwrap().is_empty());
}

#[tokio::test]
async fn open_incidents_are_listed_from_the_last_that_changed() {
    let (_database, queue) = open().await;
    for (name, seconds) in [("1", 10), ("2", 30), ("3", 20)] {
        settle(&queue, event(EventType::Trigger, name, seconds), delivered(), seconds).await;
    }
    settle(&queue, event(EventType::Resolve, "3", 40), delivered(), 40).await;
    let open = async |limit| {
        let open = queue.reader().open_incidents(limit).await.unwrap();
        open.into_iter().map(|one| (one.incident_key.as_str().to_owned(), one.since)).collect::<Vec<_>>()
    };
    assert_eq!(open(10).await, [("2".to_owned(), at(30)), ("1".to_owned(), at(10))]);
    assert_eq!(open(1).await.len(), 1);
}

#[tokio::test]
async fn what_sentry_told_is_kept_by_incident_and_forgotten_after_half_a_year() {
    let (database, queue) = open().await;
    let note = |name: &str, fired: Option<i64>, seen: Option<i64>| IssueNote {
        incident_key: incident(name),
        fired_at: fired.map(at),
        seen_at: seen.map(at),
    };
    let notes = |seconds, issues| SentryNotes { at: at(seconds), run: None, issues };
    queue.write_sentry_notes(notes(1, vec![note("1", Some(5), None), note("2", None, Some(6))])).await.unwrap();
    queue.write_sentry_notes(notes(2, vec![note("1", None, Some(7))])).await.unwrap();
    let known = async || {
        let mut known = queue.reader().sentry_issues(&["1", "2", "3"].map(incident)).await.unwrap();
        known.sort_by(|one, other| one.incident_key.as_str().cmp(other.incident_key.as_str()));
        known
    };
    assert_eq!(known().await, [note("1", Some(5), Some(7)), note("2", None, Some(6))], "what is not given stays");

    assert_eq!(queue.reader().catch_up().await.unwrap(), None);
    let run = |found| CatchUpRun { until: at(3), ran_at: at(4), found, enqueued: 1, reported: 2, summarized: 3 };
    for found in [6, 7] {
        let notes = SentryNotes { at: at(4), run: Some(run(found)), issues: Vec::new() };
        queue.write_sentry_notes(notes).await.unwrap();
    }
    assert_eq!(queue.reader().catch_up().await.unwrap(), Some(run(7)));
    // From another process as well.
    let mut editor = Editor::open(&database).await.unwrap();
    let later = at(2) + TimeDelta::days(180);
    editor.write_sentry_notes(SentryNotes { at: later, run: None, issues: Vec::new() }).await.unwrap();
    editor.close().await.unwrap();
    assert_eq!(known().await, [note("1", Some(5), Some(7))]);
}

#[tokio::test]
async fn what_is_found_beside_a_bridge_is_enqueued_like_any_event() {
    let (database, queue) = open().await;
    let first = queue.enqueue_event(event(EventType::Trigger, "1", 10)).await.unwrap();
    let mut editor = Editor::open(&database).await.unwrap();
    for (name, expected) in [("1", (first.id, 2)), ("2", (sentry_pagerduty_bridge::queue::EventId::new(2), 1))] {
        let admitted = editor.admit(EnqueueRequest::event(event(EventType::Trigger, name, 20))).await.unwrap();
        let Enqueued::Queued(accepted) = admitted else { panic!("{admitted:?}") };
        assert_eq!((accepted[0].id, accepted[0].count), expected, "{name}");
    }
    editor.close().await.unwrap();
    assert_eq!(queue.reader().overview().await.unwrap().waiting, 2);
}

fn update(webhook_id: &str, name: &str, change: StatusChange, seconds: i64) -> IssueUpdate {
    IssueUpdate {
        webhook_id: webhook_id.to_owned(),
        incident_key: incident(name),
        change,
        happened_at: at(seconds - 1),
        received_at: at(seconds),
        attempts: 0,
        next_attempt_at: at(seconds),
    }
}

fn proof(event: i64, key: char, state: ProofState, delivered: i64) -> Proof {
    Proof {
        event: EventId::new(event),
        service_key: ServiceKey::parse(&key.to_string().repeat(32)).unwrap(),
        state,
        delivered_at: at(delivered),
        judged_at: at(delivered + 1200),
        incident_number: Some(7),
        incident_url: Some("https://example.pagerduty.com/incidents/Q1".to_owned()),
        reason: Some("the service Payments\0 is disabled".to_owned()),
    }
}

#[tokio::test]
async fn what_people_did_in_pagerduty_is_kept_once_until_it_is_done_and_for_a_week_after() {
    let (_database, queue) = open().await;
    let record = async |change| queue.record_issue_update(change).await.unwrap();
    let first = update("w\0-1", "42", StatusChange::Resolve, 10);
    assert!(record(IssueUpdateChange::Received(first.clone())).await);
    assert!(!record(IssueUpdateChange::Received(first.clone())).await, "PagerDuty repeats its webhooks");
    let second = update("a", "7", StatusChange::Unresolve, 20);
    assert!(record(IssueUpdateChange::Received(second.clone())).await);
    assert_eq!(queue.reader().issue_updates().await.unwrap(), [first.clone(), second.clone()]);

    let (webhook_id, reason) = (first.webhook_id.clone(), "answered 502".to_owned());
    assert!(record(IssueUpdateChange::Failed { webhook_id, next_attempt_at: at(60), reason }).await);
    let tried = IssueUpdate { attempts: 1, next_attempt_at: at(60), ..first.clone() };
    assert_eq!(queue.reader().issue_updates().await.unwrap(), [tried, second.clone()]);

    let end = |webhook_id: &str, end, seconds| IssueUpdateChange::Ended {
        webhook_id: webhook_id.to_owned(),
        at: at(seconds),
        end,
        reason: Some("as it should be".to_owned()),
    };
    assert!(record(end("w\0-1", UpdateEnd::Done, 70)).await);
    assert!(!record(end("w\0-1", UpdateEnd::Dead, 71)).await, "it has ended");
    assert_eq!(queue.reader().issue_updates().await.unwrap(), [second]);
    let was_updated =
        async |name: &str, change, since| queue.reader().was_updated(&incident(name), change, at(since)).await.unwrap();
    assert!(was_updated("42", StatusChange::Resolve, 70).await && !was_updated("42", StatusChange::Resolve, 71).await);
    assert!(was_updated("7", StatusChange::Unresolve, 9_999).await, "it waits");
    assert!(!was_updated("7", StatusChange::Resolve, 0).await && !was_updated("8", StatusChange::Unresolve, 0).await);
    assert!(record(end("a", UpdateEnd::Dead, 80)).await);
    assert!(!was_updated("7", StatusChange::Unresolve, 0).await, "it was not made");

    // After a week the id of a webhook is deleted.
    let week = 7 * 24 * 3600;
    assert!(record(IssueUpdateChange::Received(update("b", "7", StatusChange::Resolve, week + 9))).await);
    assert!(!record(IssueUpdateChange::Received(update("w\0-1", "42", StatusChange::Resolve, week + 9))).await);
    assert!(record(IssueUpdateChange::Received(update("c", "7", StatusChange::Resolve, week + 11))).await);
    assert!(record(IssueUpdateChange::Received(update("w\0-1", "42", StatusChange::Resolve, week + 12))).await);
}

#[tokio::test]
async fn a_reopened_incident_ends_the_resolves_that_wait_and_happened_before() {
    let (_database, queue) = open().await;
    let resolve = |id: &str, name: &str, seconds| update(id, name, StatusChange::Resolve, seconds);
    let other = update("d", "42", StatusChange::Unresolve, 10);
    let updates =
        [resolve("a", "42", 10), resolve("b", "42", 20), resolve("c", "7", 10), other, resolve("e", "42", 40)];
    for update in &updates {
        assert!(queue.record_issue_update(IssueUpdateChange::Received(update.clone())).await.unwrap());
    }
    let reopened =
        |seconds| IssueUpdateChange::Reopened { incident_key: incident("42"), reopened_at: at(seconds), at: at(50) };
    assert!(queue.record_issue_update(reopened(30)).await.unwrap());
    assert!(!queue.record_issue_update(reopened(31)).await.unwrap(), "none waits any more");
    let waiting = queue.reader().issue_updates().await.unwrap();
    let waiting: Vec<_> = waiting.iter().map(|update| update.webhook_id.as_str()).collect();
    assert_eq!(waiting, ["c", "d", "e"]);
    assert!(!queue.record_issue_update(IssueUpdateChange::Received(updates[0].clone())).await.unwrap(), "a repetition");
}

#[tokio::test]
async fn an_incident_is_known_once_its_trigger_waits_and_open_again_once_a_person_reopened_it() {
    let (_database, queue) = open().await;
    let knows = async |name: &str| queue.reader().knows_incident(&incident(name)).await.unwrap();
    assert!(!knows("42").await);
    queue.enqueue_event(event(EventType::Trigger, "waits", 10)).await.unwrap();
    assert!(knows("waits").await);
    settle(&queue, event(EventType::Trigger, "42", 20), delivered(), 21).await;
    settle(&queue, event(EventType::Resolve, "42", 30), delivered(), 31).await;
    assert!(knows("42").await);
    let open = async || queue.reader().open_incidents(10).await.unwrap().len();
    assert_eq!(open().await, 0);
    let resolved = update("a", "42", StatusChange::Resolve, 40);
    queue.record_issue_update(IssueUpdateChange::Received(resolved)).await.unwrap();
    assert_eq!(open().await, 0);
    let reopened = update("b", "42", StatusChange::Unresolve, 41);
    queue.record_issue_update(IssueUpdateChange::Received(reopened)).await.unwrap();
    assert_eq!(open().await, 1);
}

#[tokio::test]
async fn what_pagerduty_shows_of_an_event_is_kept_as_long_as_the_event() {
    let (database, queue) = open().await;
    for number in 1..=3 {
        settle(&queue, event(EventType::Trigger, &number.to_string(), 10 * number), delivered(), 10 * number).await;
    }
    let ids: Vec<_> = (1..=4).map(EventId::new).collect();
    let known = async || {
        let mut proofs = queue.reader().proofs(&ids).await.unwrap();
        proofs.sort_by_key(|proof| proof.event);
        proofs
    };
    let (first, second) = (proof(1, 'a', ProofState::Resent, 10), proof(2, 'a', ProofState::Confirmed, 20));
    for proof in [&first, &second, &proof(4, 'a', ProofState::Confirmed, 40)] {
        queue.record_proof(proof.clone()).await.unwrap();
    }
    assert_eq!(known().await, [first.clone(), second.clone()], "nothing is kept of an event that is not there");
    let changed = Proof { state: ProofState::LeftOpen, incident_number: None, incident_url: None, ..first };
    queue.record_proof(changed.clone()).await.unwrap();
    assert_eq!(known().await, [changed, second.clone()]);

    let mut editor = Editor::open(&database).await.unwrap();
    assert_eq!(editor.discard(State::Delivered, &[EventId::new(1)]).await.unwrap(), [EventId::new(1)]);
    assert_eq!(known().await, [second]);
    queue.prune(Retention { age: std::time::Duration::ZERO, rows: 1 }, at(100)).await.unwrap();
    assert_eq!(database.number("SELECT COUNT(*) FROM proofs").await, 0);
}

#[tokio::test]
async fn a_failure_is_told_until_a_later_event_of_its_key_is_confirmed_and_for_an_hour_at_least() {
    let (_database, queue) = open().await;
    for number in 1..=4 {
        settle(&queue, event(EventType::Trigger, &number.to_string(), 10 * number), delivered(), 10 * number).await;
    }
    let told = async |now: i64| {
        let failures = queue.reader().failed_proofs(at(now)).await.unwrap();
        failures.iter().map(|proof| proof.event.get()).collect::<Vec<_>>()
    };
    for failed in [proof(2, 'a', ProofState::NotOpened, 20), proof(3, 'b', ProofState::LeftOpen, 30)] {
        queue.record_proof(failed).await.unwrap();
    }
    queue.record_proof(proof(1, 'a', ProofState::Confirmed, 10)).await.unwrap();
    assert_eq!(told(8_000).await, [3, 2], "an earlier event proves nothing");
    queue.record_proof(proof(4, 'a', ProofState::Confirmed, 40)).await.unwrap();
    assert_eq!(told(1_300).await, [3, 2], "an hour at least");
    assert_eq!(told(8_000).await, [3]);
    assert_eq!(told(86_500).await, [0; 0], "a day at most");
}

#[tokio::test]
async fn canaries_of_a_clock_that_was_ahead_hide_none_that_is_sent_since() {
    let (_database, queue) = open().await;
    let mark = CanaryMark::new(&ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap());
    let send = async |seconds: i64, returns: bool| {
        let id = mark.event_id(at(seconds), 7);
        queue.record_canary(CanaryChange::Sent { id, at: at(seconds) }).await.unwrap();
        if returns {
            queue.record_canary(CanaryChange::Returned { id, at: at(seconds + 1) }).await.unwrap();
        }
    };
    let shown = async |now: i64| -> Vec<i64> {
        let records = queue.reader().canaries(at(now)).await.unwrap();
        records.iter().map(|record| (record.sent_at - at(0)).num_seconds()).collect()
    };
    // The clock is a day ahead for long enough to use up the limit of stored canaries.
    for number in 0..256 {
        send(86_400 + number, true).await;
    }
    assert_eq!(shown(90_000).await, [86_655]);
    for (seconds, returns) in [(100, true), (200, true), (300, false), (400, false)] {
        send(seconds, returns).await;
    }
    assert_eq!(shown(500).await, [200, 300, 400]);
    assert_eq!(shown(300).await, [200, 300], "what is sent at this moment counts");
}

#[tokio::test]
async fn catch_up_has_dealt_with_the_alert_of_a_discarded_trigger() {
    let (database, queue) = open().await;
    let wait =
        async |event_type, name, seconds| queue.enqueue_event(event(event_type, name, seconds)).await.unwrap().id;
    let earlier = SentryNotes {
        at: at(90),
        run: None,
        issues: vec![
            IssueNote { incident_key: incident("noted"), fired_at: Some(at(5)), seen_at: Some(at(6)) },
            IssueNote { incident_key: incident("later"), fired_at: Some(at(900)), seen_at: None },
        ],
    };
    queue.write_sentry_notes(earlier).await.unwrap();
    let dead = wait(EventType::Trigger, "dead", 10).await;
    queue.begin(BeginRequest::new(dead, at(10))).await.unwrap();
    queue.settle(SettleRequest::new(dead, Disposition::Dead { reason: "no".to_owned() }, at(11))).await.unwrap();
    let waiting = [
        wait(EventType::Trigger, "noted", 20).await,
        wait(EventType::Trigger, "later", 30).await,
        wait(EventType::Resolve, "resolve", 40).await,
    ];
    wait(EventType::Trigger, "kept", 50).await;
    let mut editor = Editor::open(&database).await.unwrap();
    assert_eq!(editor.discard(State::Dead, &[dead]).await.unwrap().len(), 1);
    assert_eq!(editor.discard(State::Waiting, &waiting).await.unwrap().len(), 3);
    editor.close().await.unwrap();

    let keys = ["dead", "noted", "later", "resolve", "kept"].map(incident);
    let notes = queue.reader().sentry_issues(&keys).await.unwrap();
    let notes: BTreeMap<_, _> = notes.iter().map(|note| (note.incident_key.as_str(), note)).collect();
    // An alert that Sentry fired up to a minute after the bridge received it is the same alert.
    assert_eq!(notes["dead"].fired_at, Some(at(70)));
    assert_eq!((notes["noted"].fired_at, notes["noted"].seen_at), (Some(at(80)), Some(at(6))));
    assert_eq!(notes["later"].fired_at, Some(at(900)), "an earlier time replaces no later one");
    assert_eq!(notes.len(), 3, "{notes:?}");
}
