//! The command `queue`: lists and changes waiting events, dead letters and rejected webhooks, with and without a running
//! bridge.

use std::fs;
use std::os::unix::fs::PermissionsExt;

use pagerduty_sandbox::{Fault, FaultRule};
use sentry_pagerduty_bridge::queue::State;
use serde_json::{Value, json};

use crate::support::{
    Bridge, ClosedPort, KEY, PagerDuty, Run, TOKEN, alert, execute_sql, make_dead_letter, make_events_wait,
    run_with_input,
};

/// The queue of a bridge, accessed by the command.
struct Queue {
    database: String,
}

impl Queue {
    fn of(bridge: &Bridge) -> Self {
        Self { database: bridge.database_url() }
    }

    fn run(&self, args: &[&str]) -> Run {
        run_with_input(&[&["queue"], args].concat(), &[("BRIDGE_DATABASE_URL", &self.database)], b"y\n")
    }

    /// Runs a command that has to succeed.
    #[track_caller]
    fn done(&self, args: &[&str]) -> String {
        let run = self.run(args);
        assert_eq!(run.code, Some(0), "{run:?}");
        run.stdout
    }

    #[track_caller]
    fn list(&self, args: &[&str]) -> Vec<Value> {
        serde_json::from_str(&self.done(&[&["list", "--json"], args].concat())).unwrap()
    }

    /// The ids and states in the list.
    #[track_caller]
    fn states(&self) -> Vec<(String, String)> {
        let text = |row: &Value, name: &str| row[name].as_str().unwrap().to_owned();
        self.list(&[]).iter().map(|row| (text(row, "id"), text(row, "state"))).collect()
    }
}

fn pair(id: &str, state: &str) -> (String, String) {
    (id.to_owned(), state.to_owned())
}

/// A bridge with a dead letter (1), a waiting trigger that stands for two alerts (2) and a rejected webhook (r1).
fn bridge_with_entries(pagerduty: &PagerDuty) -> Bridge {
    let bridge = Bridge::start(&pagerduty.url());
    make_dead_letter(&bridge, pagerduty);
    make_events_wait(&bridge, pagerduty);
    bridge
}

#[test]
fn the_list_tells_what_stands_where() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge_with_entries(&pagerduty);
    let queue = Queue::of(&bridge);
    let rows = queue.list(&[]);
    let masked = format!("…{}", &KEY[28..]);
    let members = |row: &Value| row.as_object().unwrap().keys().cloned().collect::<Vec<_>>().join(" ");
    let expected =
        "id state event_type incident_key service_key description count attempts received_at next_attempt_at reason";
    assert!(rows.iter().all(|row| members(row) == expected), "{rows:#?}");

    let numbers: Vec<_> = rows.iter().map(|row| (&row["id"], &row["state"])).collect();
    let (dead, rejected, waiting) = (json!("dead"), json!("rejected"), json!("waiting"));
    let ids = ["1", "r1", "2", "3"].map(Value::from);
    assert_eq!(numbers, [(&ids[0], &dead), (&ids[1], &rejected), (&ids[2], &waiting), (&ids[3], &waiting)]);

    assert_eq!(rows[0]["service_key"], masked);
    assert_eq!((&rows[0]["event_type"], &rows[0]["incident_key"]), (&json!("trigger"), &json!("7")));
    assert_eq!((&rows[0]["description"], &rows[0]["attempts"]), (&json!("Disk full"), &json!(1)));
    assert!(rows[0]["reason"].as_str().unwrap().contains("400"), "{}", rows[0]);
    assert_eq!(rows[0]["next_attempt_at"], Value::Null);
    assert!(rows[1]["reason"].as_str().unwrap().contains("JSON"), "{}", rows[1]);
    assert!(
        ["event_type", "incident_key", "service_key", "description", "count", "attempts", "next_attempt_at"]
            .iter()
            .all(|name| rows[1][name].is_null())
    );
    assert!(rows[2]["next_attempt_at"].is_string(), "{}", rows[2]);
    assert_eq!((&rows[3]["count"], &rows[3]["description"]), (&json!(2), &json!("Disk hotter")));
    assert!(rows.iter().all(|row| chrono::DateTime::parse_from_rfc3339(row["received_at"].as_str().unwrap()).is_ok()));

    assert_eq!(queue.list(&["--state", "delivered"]), Vec::<Value>::new());
    assert_eq!(queue.list(&["--state", "waiting,dead", "--limit", "2"]), [rows[2].clone(), rows[3].clone()]);

    let table = queue.done(&["list"]);
    assert_eq!(table.lines().count(), 1 + 4 + 3, "a head, four entries and three reasons: {table}");
    assert!(table.contains("Disk hotter") && !table.contains(KEY), "{table}");
}

#[test]
fn everything_about_an_entry_is_shown_and_keys_only_on_demand() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge_with_entries(&pagerduty);
    let queue = Queue::of(&bridge);
    for args in [&["show", "3"][..], &["show", "3", "--json"]] {
        let hidden = queue.done(args);
        assert!(hidden.contains("Disk hotter") && hidden.contains("occurrences"), "{hidden}");
        assert!(!hidden.contains(KEY) && hidden.contains(&KEY[28..]), "{hidden}");
        let shown = queue.done(&[args, &["--show-keys"]].concat());
        assert_eq!(shown.matches(KEY).count(), 2, "in the row and in the event: {shown}");
    }
    let event: Value = serde_json::from_str(&queue.done(&["show", "3", "--json"])).unwrap();
    assert_eq!(event["event"]["details"]["occurrences"], 2);
    assert!(event["first_seen"].is_string() && event["count"] == 2, "{event}");
    let webhook: Value = serde_json::from_str(&queue.done(&["show", "r1", "--json"])).unwrap();
    assert_eq!((&webhook["body"], &webhook["state"]), (&json!("{"), &json!("rejected")));

    for (id, code) in [("99", 1), ("r99", 1), ("x7", 2)] {
        let run = queue.run(&["show", id]);
        assert_eq!((run.code, &*run.stdout), (Some(code), ""), "{run:?}");
    }
}

#[test]
fn a_dead_letter_that_is_retried_is_delivered_at_once_by_the_running_bridge() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    pagerduty.inject(FaultRule::new(Fault::status(400)).times(2)).unwrap();
    bridge.queue(&alert(7, "Disk full"));
    bridge.queue(&alert(8, "Disk slow"));
    pagerduty.wait_for_requests(2);
    bridge.queue(&alert(9, "Disk hot"));
    pagerduty.wait_for_accepted(1);
    // An accepted event is settled a moment later.
    bridge.wait_for_log("delivered");
    bridge.wait_for_logs(2, "dead letter");
    let queue = Queue::of(&bridge);
    assert_eq!(queue.states(), [pair("1", "dead"), pair("2", "dead")]);

    assert_eq!(queue.done(&["retry", "2", "2"]), "2: requeued\n");
    pagerduty.wait_for_accepted(2);
    assert_eq!(queue.done(&["retry", "--all"]), "1: requeued\n");
    pagerduty.wait_for_accepted(3);
    let run = queue.run(&["retry", "1", "99"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("99: the queue has no such event"), "{}", run.stderr);
    let records = bridge.end();
    let ends: Vec<_> = records.iter().map(|record| (record.summary.state, record.summary.attempts)).collect();
    assert_eq!(ends, [(State::Delivered, 2), (State::Delivered, 2), (State::Delivered, 1)], "{records:#?}");
}

#[test]
fn a_rejected_webhook_that_is_understood_now_becomes_an_event() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    bridge.reject(b"{", 400);
    let nameless = br#"{"project": "shop", "event": {"title": "no issue"}}"#;
    bridge.reject(nameless, 422);
    bridge.reject(b"not kept, because nobody knows who sent it", 400);
    // A webhook that an earlier version rejected and this version understands.
    execute_sql(&bridge, "UPDATE rejected SET body = ?, reason = 'an old reason' WHERE id = 1", &alert(7, "Disk full"));
    let queue = Queue::of(&bridge);

    let keyless = queue.run(&["retry", "r1"]);
    assert_eq!(keyless.code, Some(2));
    assert!(keyless.stderr.contains("BRIDGE_PAGERDUTY_SERVICE_KEY is not set"), "{}", keyless.stderr);

    let settings = [
        ("BRIDGE_DATABASE_URL", &*queue.database),
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
        ("BRIDGE_WEBHOOK_TOKEN", TOKEN),
    ];
    let run = run_with_input(&["queue", "retry", "--all"], &settings, b"");
    assert_eq!(run.code, Some(1), "two are rejected still: {run:?}");
    assert_eq!(run.stdout, "r1: queued as event 1 of incident 7\n");
    assert!(run.stderr.contains("r2: is still rejected"), "{}", run.stderr);
    pagerduty.wait_for_accepted(1);
    // An accepted event is settled a moment later.
    bridge.wait_for_log("delivered");
    assert_eq!(pagerduty.triggers(), [("7".to_owned(), "Disk full".to_owned())]);
    assert_eq!(queue.states(), [pair("r2", "rejected"), pair("r3", "rejected")]);
}

#[test]
fn what_a_stranger_posts_and_what_is_too_large_is_not_kept() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_MAX_BODY", "1KiB")]);
    assert_eq!(bridge.post(&[b'x'; 1025]).status, 413);
    let stranger = crate::support::post(bridge.address, "/sentry/some-other-token", &[], b"{");
    assert_eq!(stranger.status, 401);
    assert_eq!(Queue::of(&bridge).states(), []);
}

#[test]
fn discarding_asks_unless_told_not_to() {
    let pagerduty = PagerDuty::start();
    let mut bridge = bridge_with_entries(&pagerduty);
    let queue = Queue::of(&bridge);
    let unasked = queue.run(&["discard", "--all"]);
    assert_eq!(unasked.code, Some(2), "standard input is no terminal: {unasked:?}");
    assert!(unasked.stderr.contains("--yes"), "{}", unasked.stderr);
    assert_eq!(queue.states().len(), 4);

    // Without `--state`, waiting and delivered events are not discarded.
    assert_eq!(queue.done(&["discard", "--all", "--yes"]), "2 discarded\n");
    assert_eq!(queue.states(), [pair("2", "waiting"), pair("3", "waiting")]);
    let run = queue.run(&["discard", "2", "99", "r99", "--yes"]);
    assert_eq!((run.code, &*run.stdout), (Some(1), "1 discarded\n"));
    assert!(run.stderr.contains("99: the queue has nothing") && run.stderr.contains("r99: the queue has nothing"));

    // The bridge continues without it.
    pagerduty.clear_faults();
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    bridge.restart();
    pagerduty.wait_for_accepted(1);
    assert_eq!(pagerduty.triggers(), [("9".to_owned(), "Disk hotter".to_owned())]);
}

#[test]
fn an_export_holds_everything_and_is_for_its_owner_alone() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge_with_entries(&pagerduty);
    let queue = Queue::of(&bridge);
    let home = tempfile::tempdir().unwrap();
    let file = home.path().join("queue.ndjson");
    let path = file.to_str().unwrap();
    assert_eq!(queue.done(&["export", path]), "");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    let rows: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let ids: Vec<_> = rows.iter().map(|row| row["id"].as_str().unwrap()).collect();
    assert_eq!(ids, ["1", "r1", "2", "3"]);
    assert_eq!((&rows[0]["service_key"], &rows[0]["event"]["service_key"]), (&json!(KEY), &json!(KEY)));
    assert_eq!((&rows[0]["event"]["description"], &rows[1]["body"]), (&json!("Disk full"), &json!("{")));

    let again = queue.run(&["export", path]);
    assert_eq!(again.code, Some(2), "{again:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), text);
    assert_eq!(queue.done(&["export", "--state", "dead", "-"]).lines().count(), 1);
}

#[test]
fn the_queue_of_a_stopped_bridge_is_reached_as_well() {
    let port = ClosedPort::new();
    let mut bridge = Bridge::start(&port.url());
    bridge.queue(&alert(7, "Disk full"));
    bridge.wait_for_log("not delivered yet");
    assert_eq!(bridge.terminate("TERM").code(), Some(0));
    let queue = Queue::of(&bridge);
    assert_eq!(queue.states(), [pair("1", "waiting")]);
    let run = queue.run(&["retry", "1"]);
    assert_eq!(run.code, Some(1));
    assert!(run.stderr.contains("1: waiting; only dead letters can be retried"), "{}", run.stderr);
    assert_eq!(queue.done(&["discard", "1", "--yes"]), "1 discarded\n");
    assert_eq!(queue.list(&[]), Vec::<Value>::new());
    bridge.restart();
    assert!(bridge.end().is_empty());

    let missing = Queue { database: "sqlite:no-such.db".to_owned() };
    for args in [&["list"][..], &["show", "1"], &["retry", "1"], &["discard", "1", "--yes"], &["export", "-"]] {
        let run = missing.run(args);
        assert_eq!((run.code, &*run.stdout), (Some(1), ""), "{run:?}");
        assert!(run.stderr.contains("there is no database no-such.db"), "{}", run.stderr);
    }
}
