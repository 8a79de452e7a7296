//! Triggers in both formats and resolves of the same few issues, while the bridge is killed and PagerDuty fails.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc;
use std::thread;

use pagerduty_sandbox::{IncidentState, JournalEntry, Options, Verdict};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use crate::accounting::occurrences;
use crate::support::{Bridge, KEY, PATIENCE, PagerDuty, TOKEN, alert};
use crate::{drained, number, random_faults};

/// How often it is killed unless `CRASH_KILLS` says otherwise.
const KILLS: usize = 25;

/// So many issues, each with a client of its own, which knows the order of its webhooks.
const ISSUES: u64 = 5;

/// How many webhooks come about an issue between two kills, at most.
const POSTS: usize = 12;

/// A webhook that was posted.
#[derive(Debug)]
struct Post {
    /// No other webhook says the same.
    text: String,
    is_resolve: bool,
    /// Whether it was queued; if not, it was ignored. `None`: there was no answer.
    is_queued: Option<bool>,
}

/// Posts about one issue.
struct Client {
    issue: u64,
    random: StdRng,
    posts: Vec<Post>,
}

impl Client {
    /// Posts a trigger or a resolve. Returns whether it was answered.
    fn post(&mut self, bridge: SocketAddr, is_resolve: bool) -> bool {
        let (issue, number) = (self.issue, self.posts.len() as u64);
        let text = format!("webhook {number} of issue {issue}");
        let (resource, body) = match (is_resolve, self.random.random()) {
            (true, _) => {
                let issue = json!({"id": issue.to_string(), "title": text});
                (Some("issue"), json!({"action": "resolved", "data": {"issue": issue}}).to_string().into_bytes())
            }
            (false, true) => {
                let event_id = format!("{:032x}", issue * 1_000_000 + number);
                let event = json!({"event_id": event_id, "issue_id": issue.to_string(), "title": text});
                let body = json!({"action": "triggered", "data": {"event": event}});
                (Some("event_alert"), body.to_string().into_bytes())
            }
            (false, false) => (None, alert(issue, &text)),
        };
        let is_queued = status(bridge, resource, &body).map(|status| status == "queued");
        self.posts.push(Post { text, is_resolve, is_queued });
        is_queued.is_some()
    }

    /// Asserts that PagerDuty was sent what was queued, in order, and that each event was settled before the next was sent.
    #[track_caller]
    fn assert_delivered(&self, journal: &[JournalEntry]) {
        let (issue, posts) = (self.issue, &self.posts);
        let requests = || journal.iter().filter(|entry| entry.text("incident_key") == Some(&issue.to_string()));
        let mut bodies: Vec<_> = requests().map(|entry| &entry.request.body).collect();
        bodies.dedup();
        let mut seen = HashSet::new();
        assert!(bodies.iter().all(|body| seen.insert(*body)), "an event was sent again after a later one: {posts:#?}");

        let mut seen = HashSet::new();
        let taken = requests().filter(|entry| matches!(entry.verdict, Verdict::Accepted { .. }));
        let taken: Vec<_> = taken.filter(|entry| seen.insert(&entry.request.body)).collect();
        let place = |entry: &&JournalEntry| {
            let text = entry.text("description").unwrap().trim_start_matches("Resolved in Sentry: ");
            posts.iter().position(|post| post.text == text).unwrap()
        };
        let places: Vec<_> = taken.iter().map(place).collect();
        assert!(places.is_sorted(), "not in order: {places:?} of {posts:#?}");
        let missing = posts
            .iter()
            .enumerate()
            .filter(|(number, post)| post.is_resolve && post.is_queued == Some(true) && !places.contains(number));
        assert_eq!(missing.count(), 0, "only {places:?} of {posts:#?}");
        let alerts =
            |wanted: Option<bool>| posts.iter().filter(|post| !post.is_resolve && post.is_queued == wanted).count();
        let (queued, unknown) = (alerts(Some(true)) as u64, alerts(None) as u64);
        let triggers = taken.iter().filter(|entry| entry.text("event_type") == Some("trigger"));
        let told: u64 = triggers.map(|entry| occurrences(entry)).sum();
        assert!((queued..=queued + unknown).contains(&told), "{told} told of {queued} and {unknown}: {posts:#?}");
        self.assert_answers();
    }

    /// Asserts that every trigger was queued, and every resolve exactly where the incident was open.
    #[track_caller]
    fn assert_answers(&self) {
        let mut is_open = Some(false);
        for post in &self.posts {
            match (post.is_queued, post.is_resolve) {
                // It is committed or not.
                (None, _) => is_open = None,
                (Some(is_queued), true) => {
                    assert!(is_open.is_none_or(|is_open| is_open == is_queued), "{post:?} of {:#?}", self.posts);
                    is_open = Some(false);
                }
                (Some(is_queued), false) => {
                    assert!(is_queued, "{post:?}");
                    is_open = Some(true);
                }
            }
        }
    }
}

#[test]
fn killed_at_any_moment_the_bridge_loses_no_resolve_and_keeps_the_order_of_each_incident() {
    let kills = number("CRASH_KILLS").unwrap_or(KILLS);
    let seed = number("CRASH_SEED").unwrap_or_else(rand::random);
    println!("CRASH_SEED={seed} CRASH_KILLS={kills}");
    let mut random = StdRng::seed_from_u64(seed);
    let client = |issue| Client { issue, random: StdRng::seed_from_u64(seed ^ issue), posts: Vec::new() };
    let mut clients: Vec<_> = (1..=ISSUES).map(client).collect();

    let pagerduty = PagerDuty::start();
    pagerduty.set_options(Options { journal_entries: usize::MAX, journal_bytes: usize::MAX, ..pagerduty.options() });
    let mut bridge = Bridge::start(&pagerduty.url());
    for _ in 0..kills {
        pagerduty.clear_faults();
        for rule in random_faults::rules(&mut random) {
            pagerduty.inject(rule).unwrap();
        }
        let killed_after = random.random_range(1..=clients.len() * POSTS);
        let (answered, answers) = mpsc::channel();
        let address = bridge.address;
        thread::scope(|scope| {
            for client in &mut clients {
                let answered = answered.clone();
                scope.spawn(move || {
                    for _ in 0..POSTS {
                        let is_resolve = client.random.random_ratio(1, 3);
                        if !client.post(address, is_resolve) || answered.send(()).is_err() {
                            break;
                        }
                    }
                });
            }
            drop(answered);
            // All have posted enough where fewer answers come.
            answers.iter().take(killed_after).for_each(drop);
            bridge.process.kill();
        });
        bridge.restart();
    }
    for client in &mut clients {
        assert!(client.post(bridge.address, false));
        // Half of the incidents end.
        assert!(client.issue.is_multiple_of(2) || client.post(bridge.address, true));
    }
    pagerduty.clear_faults();
    // A last time, so that nobody has to wait for the end of a backoff.
    bridge.process.kill();
    bridge.restart();
    let counts = drained(&bridge.database());

    assert_eq!((counts.waiting, counts.dead), (0, 0));
    let (journal, incidents) = (pagerduty.journal(), pagerduty.incidents());
    for client in &clients {
        client.assert_delivered(&journal);
        let is_this = |key: &str| key == client.issue.to_string();
        let incident = incidents.iter().find(|incident| incident.service_key == KEY && is_this(&incident.incident_key));
        let is_open = incident.unwrap().state != IncidentState::Resolved;
        assert_eq!(is_open, client.issue.is_multiple_of(2), "issue {}: {:#?}", client.issue, client.posts);
    }
    assert_eq!((pagerduty.counters().violations, pagerduty.counters().refused), (0, 0));
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
}

/// Posts a webhook and returns the member `status` of the answer, if there is one.
fn status(bridge: SocketAddr, resource: Option<&str>, body: &[u8]) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&bridge, PATIENCE).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_nodelay(true).ok()?;
    let resource = resource.map(|resource| format!("Sentry-Hook-Resource: {resource}\r\n")).unwrap_or_default();
    let head = format!(
        "POST /sentry/{TOKEN} HTTP/1.1\r\nHost: bridge\r\nConnection: close\r\n{resource}Content-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(&[head.as_bytes(), body].concat()).ok()?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).ok()?;
    let (head, body) = answer.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 202"), "{answer}");
    let body: Value = serde_json::from_str(body).ok()?;
    Some(body["status"].as_str().unwrap().to_owned())
}
