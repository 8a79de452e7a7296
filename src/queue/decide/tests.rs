//! Batches and stored state, written as words. `t1` is a trigger of incident 1 that brings its own service key, `r1`
//! such a resolve; `A1`, `R1` and `U1` are webhooks that acknowledge, resolve or reopen incident 1 wherever it is open.
//! The word at place `n` was received, and happened in Sentry, at second `n`; `@9` after a word sets another second for
//! Sentry.

use std::collections::BTreeSet;

use super::*;
use crate::envelope::{FollowUp, dedup};
use crate::pagerduty::event::{Details, EventAction, Trigger, V2Fields};
use crate::pagerduty::{ApiSet, ApiVersion, Description, KeyApis, Severity};
use crate::queue::store::{EventToBegin, EventToSettle, IncidentEvent, IncidentQueueKey, SharedIssue};
use crate::queue::{BridgeId, Disposition};

pub(in crate::queue) const KEY: &str = "0123456789abcdef0123456789abcdef";
pub(in crate::queue) const OTHER: &str = "0123456789abcdef0123456789abcdeF";

pub(in crate::queue) fn key(text: &str) -> ServiceKey {
    ServiceKey::parse(text).unwrap()
}

pub(in crate::queue) fn incident(name: &str) -> IncidentKey {
    IncidentKey::parse(name).unwrap()
}

pub(in crate::queue) fn at(second: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(second, 0).unwrap()
}

fn envelope(word: &str, second: i64) -> Envelope {
    let (kind, name) = word.split_at(1);
    let event_type = if kind == "t" { EventType::Trigger } else { EventType::Resolve };
    Envelope {
        service_key: key(KEY),
        api: ApiVersion::V1,
        issue_key: None,
        incident_key: incident(name),
        event_type,
        description: word.to_owned(),
        body: br#"{"details":{}}"#.to_vec(),
        counts_at: Some(12),
        received_at: at(second),
    }
}

pub(in crate::queue) fn enqueue(text: &str, place: i64) -> EnqueueRequest {
    let (word, second) = text.split_once('@').map_or((text, place), |(word, second)| (word, second.parse().unwrap()));
    let (kind, name) = word.split_at(1);
    if "tr".contains(kind) {
        let (envelope, sentry_at) = (envelope(word, place), Some(at(second)));
        return EnqueueRequest::Event { envelope, sentry_at, dedup: Dedup::default() };
    }
    let note = Description::new(word);
    let action = match kind {
        "A" => EventAction::Acknowledge(note),
        "R" => EventAction::Resolve(note),
        _ => EventAction::Trigger(Trigger {
            description: Description::new(word).unwrap(),
            client: "sentry",
            client_url: None,
            details: Details::new(),
            links: Vec::new(),
            severity: Severity::Error,
            v2_fields: Box::new(V2Fields::of_source(Description::new(word).unwrap())),
        }),
    };
    let follow_up = FollowUp {
        incident_key: incident(name),
        action,
        sentry_at: Some(at(second)),
        received_at: at(place),
        fallback: None,
        reopening: None,
        apis: KeyApis::default(),
        shared_key: None,
        dedup: Dedup { replay_key: Some(dedup::key_of(text)), ..Dedup::default() },
    };
    EnqueueRequest::FollowUp(Box::new(follow_up))
}

fn enqueues(words: &str) -> Vec<EnqueueRequest> {
    words.split_whitespace().zip(0..).map(|(word, place)| enqueue(word, place)).collect()
}

/// The rows as text: the initial of the event type and the incident, `'` for another service key, the count if it is
/// more than one, and the event that it replaces; `!` marks a trigger that is already resolved.
fn rows(plan: &Plan<'_>) -> String {
    let row = |row: &EventWrite<'_>| {
        let kind = &row.envelope.event_type.as_str()[..1];
        let other = if row.envelope.service_key == key(KEY) { "" } else { "'" };
        let count = if row.count > 1 { format!("x{}", row.count) } else { String::new() };
        let replaced = row.replaces.map_or_else(String::new, |id| format!("={id}"));
        let resolved = if row.resolved_at.is_some() { "!" } else { "" };
        format!("{kind}{}{other}{count}{replaced}{resolved}", row.envelope.incident_key.as_str())
    };
    plan.rows.iter().map(row).collect::<Vec<_>>().join(" ")
}

/// The outcome of each word: its rows, or why there are none.
fn outcomes(enqueued: &[Enqueued<usize>]) -> String {
    let outcome = |enqueued: &Enqueued<usize>| match enqueued {
        Enqueued::Queued(events) => events.iter().map(|event| event.id.to_string()).collect::<Vec<_>>().join("+"),
        Enqueued::Ignored(IgnoreReason::NothingOpen(_)) => "nothingopen".to_owned(),
        Enqueued::Ignored(reason) => format!("{reason:?}").to_lowercase(),
    };
    enqueued.iter().map(outcome).collect::<Vec<_>>().join(" ")
}

/// Decides the words and returns rows and outcomes.
fn decided(known: &Known, words: &str) -> (String, String) {
    let enqueues = enqueues(words);
    let batch = Batch { enqueues: enqueues.iter().collect(), ..Batch::default() };
    let decided = decide(&batch, known, &DedupWindow::default());
    (rows(&decided.plan), outcomes(&decided.enqueued))
}

/// A trigger that waits at the end of the queue of an incident.
fn foldable(name: &str, id: i64, count: u32) -> (IncidentQueueKey, FoldableTrigger) {
    let queue = IncidentQueueKey { incident_key: incident(name), service_key: key(KEY) };
    (queue, FoldableTrigger { id: EventId::new(id), count, first_seen: at(-9), sentry_at: None })
}

/// Incident 1 as PagerDuty has accepted it at some integrations, open or closed at each, with the second at which
/// Sentry received its latest trigger.
fn delivered(at_keys: &[(&str, bool, i64)]) -> Known {
    let delivered = at_keys.iter().map(|(text, is_open, second)| {
        (
            key(text),
            IntegrationIncident {
                is_open: *is_open,
                apis: ApiSet::only(ApiVersion::V1),
                triggered_at: Some(at(*second)),
            },
        )
    });
    let known = KnownIncident { delivered: delivered.collect(), waiting: Vec::new() };
    Known { incidents: HashMap::from([(incident("1"), known)]), ..Known::default() }
}

#[test]
fn triggers_of_one_incident_share_a_row_until_it_is_resolved() {
    let table = [
        ("t1", "t1", "0"),
        ("t1 t2 t1 r1 t1 t1 r2 r2", "t1x2 t2 r1 t1x2 r2 r2", "0 1 0 2 3 3 4 5"),
        ("r1 t1 t1", "r1 t1x2", "0 1 1"),
    ];
    for (words, expected, outcomes) in table {
        assert_eq!(decided(&Known::default(), words), (expected.to_owned(), outcomes.to_owned()), "{words}");
    }
}

#[test]
fn the_first_trigger_of_a_queue_is_folded_into_the_one_that_waits_at_its_end() {
    let known = Known { foldable: HashMap::from([foldable("1", 7, 40), foldable("2", 8, 1)]), ..Known::default() };
    let enqueues = enqueues("r1 t2 t2 t1");
    let mut batch = Batch { enqueues: enqueues.iter().collect(), ..Batch::default() };
    let decided = decide(&batch, &known, &DedupWindow::default());
    // Nothing is folded into the stored event at the end of the first queue: a resolve comes before the trigger.
    assert_eq!(rows(&decided.plan), "r1 t2x3=8 t1");
    assert_eq!(decided.plan.rows[1].first_seen, at(-9));
    let counts = decided.enqueued.iter().map(|planned| match planned {
        Enqueued::Queued(events) => events[0].count,
        Enqueued::Ignored(_) => 0,
    });
    assert_eq!(counts.collect::<Vec<_>>(), [1, 2, 3, 1]);

    batch.skips_folding = true;
    assert_eq!(rows(&decide(&batch, &known, &DedupWindow::default()).plan), "r1 t2x2 t1");
    // Its bytes were sent, though that is not recorded yet.
    let unrecorded = [(EventId::new(8), at(0))];
    let batch = Batch { enqueues: enqueues.iter().collect(), unrecorded: &unrecorded, ..Batch::default() };
    assert_eq!(rows(&decide(&batch, &known, &DedupWindow::default()).plan), "r1 t2x2 t1");
    // The same if it cannot be recorded because of damage.
    let unrecordable = [EventId::new(8)];
    let batch = Batch { enqueues: enqueues.iter().collect(), unrecordable: &unrecordable, ..Batch::default() };
    assert_eq!(rows(&decide(&batch, &known, &DedupWindow::default()).plan), "r1 t2x2 t1");
}

#[test]
fn the_same_incident_at_another_integration_is_another_one() {
    let mut other = envelope("t1", 1);
    other.service_key = key(OTHER);
    let enqueues = [enqueue("t1", 0), EnqueueRequest::event(other)];
    let batch = Batch { enqueues: enqueues.iter().collect(), ..Batch::default() };
    assert_eq!(rows(&decide(&batch, &Known::default(), &DedupWindow::default()).plan), "t1 t1'");
}

#[test]
fn a_webhook_about_an_incident_goes_wherever_it_is_open_also_by_this_batch() {
    let nowhere = Known::default();
    let there = delivered(&[(KEY, true, -9), (OTHER, false, -9)]);
    let table = [
        (&nowhere, "R1 A1 U1", "", "nothingopen nothingopen nothingopen"),
        (&there, "A1 R1 A1 R1@4", "a1 r1", "0 1 nothingopen nothingopen"),
        (&there, "U1 A1", "t1' t1 a1' a1", "0+1 2+3"),
        (&nowhere, "t1 A1 t1 R1 t1", "t1! a1 t1! r1 t1", "0 1 2 3 4"),
    ];
    for (known, words, expected, outcomes) in table {
        assert_eq!(decided(known, words), (expected.to_owned(), outcomes.to_owned()), "{words}");
    }
}

#[test]
fn what_waits_counts_as_delivered() {
    let waiting = |event_type, service_key| {
        let api = ApiVersion::V1;
        IncidentEvent { service_key, api, event_type, sentry_at: None, foldable: None }
    };
    let mut known = delivered(&[(KEY, true, -9)]);
    let incident = known.incidents.get_mut(&incident("1")).unwrap();
    incident.waiting.push(waiting(EventType::Resolve, key(KEY)));
    incident.waiting.push(waiting(EventType::Resolve, key(OTHER)));
    assert_eq!(decided(&known, "R1").1, "nothingopen");
    known.incidents.values_mut().for_each(|incident| incident.waiting.push(waiting(EventType::Trigger, key(OTHER))));
    assert_eq!(decided(&known, "R1").0, "r1'");
}

#[test]
fn a_trigger_and_a_resolve_belong_in_sentrys_order_in_whatever_order_they_come() {
    let table = [
        // Overtaken: the resolve came first.
        ("R1@5 t1@4", "t1! r1", "nothingopen 0+1"),
        ("R1@5 t1@5", "t1", "nothingopen 0"),
        ("R1@5 t1@6 t1@4", "t1x2", "nothingopen 0 0"),
        ("R1@5 U1@6 t1@4", "t1", "nothingopen nothingopen 0"),
        ("R1@5 U1@4 t1@4", "t1! r1", "nothingopen nothingopen 0+1"),
    ];
    for (words, expected, outcomes) in table {
        assert_eq!(decided(&Known::default(), words), (expected.to_owned(), outcomes.to_owned()), "{words}");
    }
    // Outdated: Sentry received a trigger after it had sent the resolve.
    let known = delivered(&[(KEY, true, 1), (OTHER, true, -9)]);
    assert_eq!(decided(&known, "t2 t2 R1@0").0, "t2x2 r1'");
    assert_eq!(decided(&delivered(&[(KEY, true, 1)]), "t2 t2 R1@0").1, "0 0 outdated");
}

#[test]
fn a_copy_of_a_signed_resolve_does_nothing() {
    let seen = (incident("1"), EventType::Resolve);
    let mut known = delivered(&[(KEY, true, -9)]);
    known.seen.insert(dedup::key_of("R1"), seen);
    assert_eq!(decided(&known, "R1").1, "replayed");
    known.seen.clear();
    assert_eq!(decided(&known, "R1 R1").1, "0 replayed");
}

/// A waiting event whose last attempt has ended.
fn to_settle(event_type: EventType, was_in_doubt: bool, is_known: bool) -> EventToSettle {
    let queue = IncidentQueueKey { incident_key: incident("1"), service_key: key(KEY) };
    let (api, open_apis) = (ApiVersion::V1, ApiSet::default());
    EventToSettle { queue, api, event_type, sentry_at: Some(at(3)), was_in_doubt, attempts: 1, is_known, open_apis }
}

#[test]
fn what_pagerduty_accepts_opens_its_incident_or_closes_one_that_is_known() {
    let (trigger, resolve, acknowledge) = (EventType::Trigger, EventType::Resolve, EventType::Acknowledge);
    let delivered = Disposition::Delivered { note: None };
    let dead = Disposition::Dead { reason: "400".to_owned() };
    let table = [
        (to_settle(trigger, false, false), &delivered, Some(true)),
        (to_settle(resolve, false, true), &delivered, Some(false)),
        (to_settle(resolve, false, false), &delivered, None),
        (to_settle(acknowledge, false, true), &delivered, None),
        (to_settle(trigger, false, true), &dead, None),
        // An earlier attempt may have reached PagerDuty.
        (to_settle(trigger, true, false), &dead, Some(true)),
        (to_settle(resolve, true, true), &dead, None),
    ];
    for (event, disposition, expected) in table {
        let known = Known { to_settle: HashMap::from([(EventId::new(7), event)]), ..Known::default() };
        let settle = SettleRequest { id: EventId::new(7), disposition: disposition.clone(), at: at(9), fence: None };
        let batch = Batch { settles: vec![&settle, &settle], ..Batch::default() };
        let decided = decide(&batch, &known, &DedupWindow::default());
        let settled: Vec<_> = decided.settled.iter().map(Result::is_ok).collect();
        assert_eq!(settled, [true, false], "it waits only once");
        let is_open: Vec<_> = decided.plan.incidents.iter().map(|update| update.is_open).collect();
        assert_eq!(is_open, Vec::from_iter(expected), "{known:?}");
    }
}

#[test]
fn a_refused_trigger_may_be_open_if_an_attempt_before_that_was_not_refused() {
    let id = EventId::new(7);
    let refused =
        SettleRequest { id, disposition: Disposition::Dead { reason: "400".to_owned() }, at: at(9), fence: None };
    let began = [(id, at(4)), (id, at(5))];
    // How many attempts are stored, are recorded with the refusal, and cannot be recorded.
    for (stored, recorded, unrecordable, is_open) in [
        (1, 0, 0, false),
        (0, 1, 0, false),
        (0, 0, 1, false),
        (2, 0, 0, true),
        (1, 1, 0, true),
        (0, 2, 0, true),
        (0, 0, 2, true),
        (0, 1, 1, true),
    ] {
        let event = EventToSettle { attempts: stored, ..to_settle(EventType::Trigger, false, false) };
        let (to_settle, to_begin) = ([(id, event)].into(), [(id, event_to_begin(1, true))].into());
        let known = Known { to_settle, to_begin, ..Known::default() };
        let batch = Batch {
            settles: vec![&refused],
            unrecorded: &began[..recorded],
            unrecordable: &[id, id][..unrecordable],
            ..Batch::default()
        };
        let incidents = decide(&batch, &known, &DedupWindow::default()).plan.incidents;
        let opened: Vec<_> = incidents.iter().map(|update| update.is_open).collect();
        assert_eq!(opened, Vec::from_iter(is_open.then_some(true)), "{stored} {recorded} {unrecordable}");
    }
}

/// A waiting trigger that stands for `count` alerts.
fn event_to_begin(count: u32, is_first: bool) -> EventToBegin {
    EventToBegin {
        earlier: None,
        is_first,
        api: ApiVersion::V1,
        body: Some(br#"{"details":{}}"#.to_vec()),
        counts_at: Some(12),
        count,
        first_seen: at(0),
        received_at: at(1),
    }
}

#[test]
fn the_counts_are_inserted_when_the_first_attempt_begins_and_stored_for_every_later_one() {
    let id = EventId::new(7);
    let counted = r#"{"details":{"occurrences":2,"first_seen":"1970-01-01T00:00:00.000000Z"}}"#;
    let table = [
        (event_to_begin(1, true), r#"{"details":{}}"#, None),
        (event_to_begin(2, true), counted, Some(counted)),
        (event_to_begin(2, false), r#"{"details":{}}"#, None),
    ];
    for (event, sent, stored) in table {
        let known = Known { to_begin: HashMap::from([(id, event)]), ..Known::default() };
        let begin = BeginRequest { id, at: at(9), skipped: Vec::new(), fence: None };
        let batch = Batch { begins: vec![&begin, &begin], ..Batch::default() };
        let Decided { plan, begun, .. } = decide(&batch, &known, &DedupWindow::default());
        for begun in begun {
            assert_eq!(begun.unwrap().body, sent.as_bytes());
        }
        let bodies: Vec<_> = plan.bodies.iter().map(|(_, body)| body.as_slice()).collect();
        assert_eq!(bodies, Vec::from_iter(stored.map(str::as_bytes)));
        assert_eq!((plan.attempts[0].added_attempts, plan.attempts[0].last_at), (2, at(9)));
    }
}

/// The answer to the only attempt of a batch.
fn begun(batch: &Batch<'_>, known: &Known) -> Result<AttemptPayload, QueueError> {
    let [begun] = <[_; 1]>::try_from(decide(batch, known, &DedupWindow::default()).begun).unwrap();
    begun
}

#[test]
fn an_attempt_waits_for_earlier_events_of_its_incident_and_for_nothing_that_ends_now() {
    let (first, second) = (EventId::new(6), EventId::new(7));
    let begin = BeginRequest { id: second, at: at(9), skipped: Vec::new(), fence: None };
    let behind = EventToBegin { earlier: Some(first), ..event_to_begin(1, true) };
    let known = Known { to_begin: HashMap::from([(second, behind)]), ..Known::default() };
    let batch = Batch { begins: vec![&begin], ..Batch::default() };
    assert!(
        matches!(begun(&batch, &known), Err(QueueError::Behind { id, earlier }) if (id, earlier) == (second, first))
    );
    assert!(matches!(begun(&batch, &Known::default()), Err(QueueError::NotWaiting(id)) if id == second));

    let settle =
        SettleRequest { id: first, disposition: Disposition::Delivered { note: None }, at: at(8), fence: None };
    let batch = Batch { begins: vec![&begin], settles: vec![&settle], ..Batch::default() };
    assert_eq!(dependencies(&batch).to_begin, [(second, vec![first])]);
    let settle = SettleRequest { id: second, ..settle };
    let batch = Batch { begins: vec![&begin], settles: vec![&settle], ..Batch::default() };
    let known = Known {
        to_begin: HashMap::from([(second, event_to_begin(1, true))]),
        to_settle: HashMap::from([(second, to_settle(EventType::Trigger, false, false))]),
        ..Known::default()
    };
    assert!(matches!(begun(&batch, &known), Err(QueueError::NotWaiting(id)) if id == second));
}

#[test]
fn what_another_bridge_delivers_by_now_is_neither_begun_nor_settled() {
    let fence = |number| Some(Fence { owner: BridgeId::new(1), number });
    let (first, second) = (EventId::new(6), EventId::new(7));
    let settle =
        |fence| SettleRequest { id: first, disposition: Disposition::Delivered { note: None }, at: at(8), fence };
    let attempt = |id, fence| BeginRequest { id, at: at(9), skipped: Vec::new(), fence };
    let known = |fenced: &[EventId]| Known {
        to_settle: HashMap::from([(first, to_settle(EventType::Trigger, false, false))]),
        to_begin: HashMap::from([(first, event_to_begin(1, true)), (second, event_to_begin(1, true))]),
        fenced: fenced.iter().copied().collect(),
        ..Known::default()
    };
    let outcomes = |settle: &SettleRequest, begin: &BeginRequest, fenced: &[EventId]| {
        let batch = Batch { settles: vec![settle], begins: vec![begin], ..Batch::default() };
        let decided = decide(&batch, &known(fenced), &DedupWindow::default()).begun;
        let settled = decide(&batch, &known(fenced), &DedupWindow::default()).settled;
        (settled[0].is_ok(), decided.into_iter().next().unwrap().map(drop), dependencies(&batch))
    };
    let (settled, begun, wanted) = outcomes(&settle(fence(5)), &attempt(second, fence(5)), &[]);
    assert!(settled && begun.is_ok());
    assert_eq!(wanted.fences, [(first, fence(5).unwrap()), (second, fence(5).unwrap())].into());
    assert_eq!(wanted.to_begin, [(second, vec![first])]);
    let (settled, begun, _) = outcomes(&settle(fence(5)), &attempt(second, fence(5)), &[first, second]);
    assert!(!settled && matches!(begun, Err(QueueError::Fenced(id)) if id == second));
    // The bridge lost the key and got it back meanwhile.
    let (settled, begun, wanted) = outcomes(&settle(fence(5)), &attempt(first, fence(7)), &[]);
    assert!(!settled && begun.is_ok());
    assert_eq!(wanted.fences, [(first, fence(7).unwrap())].into(), "the latest right counts");
    let (.., wanted) = outcomes(&settle(fence(5)), &attempt(second, fence(7)), &[first]);
    assert_eq!(wanted.to_begin, [(second, vec![])], "it waits for what may not be settled");
}

#[test]
fn alerts_that_are_folded_into_an_event_whose_attempt_begins_are_sent_with_it() {
    let enqueues = enqueues("t1");
    let begin = BeginRequest { id: EventId::new(7), at: at(9), skipped: Vec::new(), fence: None };
    let known = Known {
        foldable: HashMap::from([foldable("1", 7, 1)]),
        to_begin: HashMap::from([(EventId::new(7), event_to_begin(1, true))]),
        ..Known::default()
    };
    let batch = Batch { enqueues: enqueues.iter().collect(), begins: vec![&begin], ..Batch::default() };
    let Decided { plan, begun, .. } = decide(&batch, &known, &DedupWindow::default());
    let sent = begun.into_iter().next().unwrap().unwrap();
    assert!(String::from_utf8(sent.body.clone()).unwrap().contains(r#""occurrences":2"#));
    assert_eq!((&plan.rows[0].envelope.body, plan.rows[0].envelope.counts_at), (&sent.body, None));
    assert!(plan.bodies.is_empty());
}

#[test]
fn what_was_said_within_the_window_is_repeated_and_everything_else_of_the_batch_is_not() {
    let keyed = |text: &str, second| {
        let keys = vec![dedup::key_of(text)];
        let dedup = Dedup { lookup_keys: keys.clone(), recorded_keys: keys, ..Dedup::default() };
        EnqueueRequest::Event { envelope: envelope("t1", second), sentry_at: Some(at(second)), dedup }
    };
    let mut window = DedupWindow::default();
    window.remember(keyed("a", 0).dedup(), at(0));
    let enqueues = [keyed("a", 1), keyed("b", 1), keyed("b", 2)];
    let batch = Batch { enqueues: enqueues.iter().collect(), ..Batch::default() };
    let nothing = Known::default();
    let decided = decide(&batch, &nothing, &window);
    assert_eq!(outcomes(&decided.enqueued), "repeated 0 repeated");
    assert_eq!(decided.remembered.len(), 1);
    // A rejected webhook that is retried is compared with all that was ever seen.
    let batch = Batch { enqueues: vec![&enqueues[0], &enqueues[0]], is_late: true, ..Batch::default() };
    assert_eq!(outcomes(&decide(&batch, &Known::default(), &window).enqueued), "0 repeated");
}

#[test]
fn an_incident_is_acknowledged_and_resolved_by_every_api_that_triggered_it_and_triggered_by_the_one_that_is_set() {
    let by = |words: &str, api: ApiVersion| -> Vec<EnqueueRequest> {
        let mut enqueues = enqueues(words);
        for enqueue in &mut enqueues {
            match enqueue {
                EnqueueRequest::Event { envelope, .. } => envelope.api = api,
                EnqueueRequest::FollowUp(follow_up) => follow_up.apis = KeyApis::new(api, BTreeMap::new()),
            }
        }
        enqueues
    };
    let decided = |known: &Known, enqueues: &[EnqueueRequest]| -> Vec<String> {
        let batch = Batch { enqueues: enqueues.iter().collect(), ..Batch::default() };
        let plan = decide(&batch, known, &DedupWindow::default()).plan;
        let row = |row: &EventWrite<'_>| format!("{} {}", row.envelope.event_type, row.envelope.api);
        plan.rows.iter().map(row).collect()
    };
    // An incident that v1 opened is acknowledged and resolved by v1, whatever is configured now.
    let open = delivered(&[(KEY, true, -9)]);
    assert_eq!(decided(&open, &by("A1 R1", ApiVersion::V2)), ["acknowledge v1", "resolve v1"]);
    // An incident that v2 triggered, too, is resolved by both, and after that only by the API that triggered it again.
    let words = [by("t1", ApiVersion::V2), by("A1 R1@4 t1@5 R1@9", ApiVersion::V1)].concat();
    let both =
        ["trigger v2", "acknowledge v1", "acknowledge v2", "resolve v1", "resolve v2", "trigger v1", "resolve v1"];
    assert_eq!(decided(&open, &words), both);
    // A closed incident is opened again by the configured API.
    let closed = delivered(&[(KEY, false, -9)]);
    assert_eq!(decided(&closed, &by("U1 R1@9", ApiVersion::V2)), ["trigger v2", "resolve v2"]);
}

#[test]
fn an_open_incident_keeps_the_apis_of_its_triggers_until_it_is_closed() {
    let apis = |before: ApiSet, event_type: EventType, api: ApiVersion| {
        let event = EventToSettle { api, open_apis: before, is_known: true, ..to_settle(event_type, false, true) };
        let known = Known { to_settle: HashMap::from([(EventId::new(7), event)]), ..Known::default() };
        let disposition = Disposition::Delivered { note: None };
        let settle = SettleRequest { id: EventId::new(7), disposition, at: at(9), fence: None };
        let batch = Batch { settles: vec![&settle], ..Batch::default() };
        let decided = decide(&batch, &known, &DedupWindow::default());
        (decided.plan.incidents[0].is_open, decided.plan.incidents[0].apis.number())
    };
    let (v1, none) = (ApiSet::only(ApiVersion::V1), ApiSet::default());
    assert_eq!(apis(none, EventType::Trigger, ApiVersion::V2), (true, 2));
    assert_eq!(apis(v1, EventType::Trigger, ApiVersion::V2), (true, 3));
    assert_eq!(apis(v1, EventType::Trigger, ApiVersion::V1), (true, 1));
    assert!(!apis(v1.with(ApiVersion::V2), EventType::Resolve, ApiVersion::V1).0);
}

#[test]
fn an_attempt_is_made_by_the_api_of_its_bytes() {
    let id = EventId::new(7);
    let stored = EventToBegin { api: ApiVersion::V2, ..event_to_begin(1, true) };
    let known = Known {
        to_begin: HashMap::from([(id, stored)]),
        foldable: HashMap::from([foldable("1", 7, 1)]),
        ..Known::default()
    };
    let begin = BeginRequest { id, at: at(9), skipped: Vec::new(), fence: None };
    let alone = Batch { begins: vec![&begin], ..Batch::default() };
    let decided = decide(&alone, &known, &DedupWindow::default());
    assert_eq!(decided.begun[0].as_ref().unwrap().api, ApiVersion::V2);
    // A trigger of v1 is folded into it first.
    let enqueues = enqueues("t1");
    let folded = Batch { enqueues: enqueues.iter().collect(), begins: vec![&begin], ..Batch::default() };
    let decided = decide(&folded, &known, &DedupWindow::default());
    assert_eq!(decided.begun[0].as_ref().unwrap().api, ApiVersion::V1);
}

/// Triggers of issues that share the incident 9: `s1` is one of issue 1.
fn sharing(words: &str) -> Vec<EnqueueRequest> {
    let share = |mut enqueue: EnqueueRequest| {
        if let EnqueueRequest::Event { envelope, .. } = &mut enqueue {
            envelope.issue_key = Some(std::mem::replace(&mut envelope.incident_key, incident("9")));
        }
        enqueue
    };
    let enqueue = |(place, word): (usize, &str)| match word.strip_prefix('s') {
        Some(rest) => share(enqueue(&format!("t{rest}"), place.try_into().unwrap())),
        None => enqueue(word, place.try_into().unwrap()),
    };
    words.split_whitespace().enumerate().map(enqueue).collect()
}

#[test]
fn a_shared_incident_is_resolved_once_none_of_its_issues_is_open_any_more() {
    let decided = |known: &Known, words: &str| {
        let enqueues = sharing(words);
        let batch = Batch { enqueues: enqueues.iter().collect(), ..Batch::default() };
        let decided = decide(&batch, known, &DedupWindow::default());
        (rows(&decided.plan), outcomes(&decided.enqueued))
    };
    let issue = |name: &str, is_open: bool| {
        let queue = IncidentQueueKey { incident_key: incident("9"), service_key: key(KEY) };
        ((incident(name), queue), SharedIssue { is_open, received_at: at(-9), sentry_at: Some(at(-9)) })
    };
    let queue = IncidentQueueKey { incident_key: incident("9"), service_key: key(KEY) };
    let with = |is_open, open_otherwise| Known {
        shared_issues: BTreeMap::from([issue("1", is_open)]),
        open_otherwise,
        ..Known::default()
    };
    let none = Known::default();
    let (one, closed) = (with(true, BTreeSet::new()), with(false, BTreeSet::new()));
    let others = with(true, BTreeSet::from([queue]));
    let table = [
        (&none, "s1@0 s2@1 R1@5 R1@6 R2@7", "t9x2! r9", "0 0 staysopen nothingopen 1"),
        (&none, "s1@0 R1@5 s2@6 R1@7 R2@8", "t9! r9 t9! r9", "0 1 2 nothingopen 3"),
        (&one, "R1@5", "r9", "0"),
        (&one, "s2@0 R1@5", "t9", "0 staysopen"),
        (&others, "R1@5 R1@6", "", "staysopen nothingopen"),
        (&one, "A1@5", "a9", "0"),
        // Sentry received an alert of the issue after it had sent the resolve.
        (&none, "s2@0 s1@1 R1@0", "t9x2", "0 0 outdated"),
        // When an issue is back, the incident that it shared is opened again.
        (&closed, "R1@5 A1@5 U1@6 R1@8", "t9! r9", "nothingopen nothingopen 0 1"),
        // Overtaken: the resolve came first. Either other issues keep the incident open, or none does.
        (&none, "R1@5 s1@4 R1@9", "t9! r9", "nothingopen 0+1 nothingopen"),
        (&none, "s2@1 R1@5 s1@4 R2@9", "t9x2! r9", "0 nothingopen 0 1"),
    ];
    for (known, words, expected, outcomes) in table {
        assert_eq!(decided(known, words), (expected.to_owned(), outcomes.to_owned()), "{words}");
    }
}
