//! What the read operations of `/api` return.

use serde_json::{Value, json};

use super::client::{Client, start, texts};
use crate::support::{
    Bridge, IS_POSTGRES, KEY, OTHER_KEY, PagerDuty, ROUTES, alert, alert_of_level, make_dead_letter, make_events_wait,
};

/// A bridge with a dead letter (1), a delivered event (2), two waiting events (3, 4), of which the second stands for two
/// alerts, and a rejected webhook (r1).
pub(super) fn bridge_with_entries(pagerduty: &PagerDuty) -> Bridge {
    let bridge = start(pagerduty, &[ROUTES]);
    make_dead_letter(&bridge, pagerduty);
    bridge.queue(&alert_of_level("fatal", 2, "Taken"));
    bridge.wait_for_log("delivered");
    make_events_wait(&bridge, pagerduty);
    bridge
}

#[test]
fn the_status_tells_how_the_bridge_fares() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty, &[]);
    let client = Client::new(&bridge);
    let status = client.get("/api/status");
    assert_eq!((&status["status"], &status["troubles"]), (&json!("healthy"), &json!([])));
    assert_eq!(status["version"], env!("CARGO_PKG_VERSION"));
    assert_eq!((&status["queue"]["waiting"], &status["destinations"]), (&json!(0), &json!([])));

    let bridge = bridge_with_entries(&pagerduty);
    let status = Client::new(&bridge).get("/api/status");
    assert_ne!(status["status"], "healthy");
    // The event that is retried may be a trouble as well by now.
    assert_eq!(texts(&status["troubles"], "cause")[0], "dead_letters", "{status:#}");
    let mut queue = status["queue"].clone();
    assert!(queue.as_object_mut().unwrap().remove("oldest_waiting").unwrap().is_string());
    assert_eq!(queue, json!({"waiting": 2, "dead": 1, "delivered": 1, "rejected": 1, "held": 0, "unreadable": 0}));
    let masked = |key: &str| format!("…{}", &key[28..]);
    assert_eq!(texts(&status["destinations"], "service_key"), [masked(OTHER_KEY), masked(KEY)]);
    let counts =
        |place: usize| ["waiting", "dead", "delivered"].map(|name| status["destinations"][place][name].clone());
    assert_eq!((counts(0), counts(1)), ([0, 0, 1].map(Value::from), [2, 1, 0].map(Value::from)));
}

#[test]
fn the_status_tells_what_an_accepted_alert_survives() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty, &[]);
    let durability = &Client::new(&bridge).get("/api/status")["durability"];
    let (survives, settings) = (&durability["survives"], &durability["settings"]);
    if IS_POSTGRES {
        // The PostgreSQL of the tests runs with `fsync` off; the bridge waits for the commit all the same.
        assert_eq!((survives, &settings["fsync"]), (&json!("nothing"), &json!("off")), "{durability}");
        assert_eq!((&settings["synchronous_commit"], &settings["pg_is_in_recovery"]), (&json!("on"), &json!("off")));
    } else {
        assert_eq!(survives, "crash");
        assert_eq!(settings, &json!({"journal_mode": "WAL", "synchronous": "FULL"}));
    }
    assert!(durability["sentence"].as_str().unwrap().contains("answered with 202"), "{durability}");
}

#[test]
fn events_are_listed_by_state_and_by_pages() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge_with_entries(&pagerduty);
    let client = Client::new(&bridge);
    let ids = |path: &str| texts(&client.get(path)["events"], "id");
    assert_eq!(ids("/api/events"), ["4", "3", "2", "1"]);
    assert_eq!(ids("/api/events?state=waiting"), ["3", "4"]);
    assert_eq!(ids("/api/events?state=dead"), ["1"]);
    assert_eq!(ids("/api/events?state=delivered"), ["2"]);

    let mut seen = Vec::new();
    let mut path = "/api/events?limit=3".to_owned();
    for _ in 0..2 {
        let page = client.get(&path);
        seen.append(&mut texts(&page["events"], "id"));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/api/events?limit=3&after={next}");
    }
    assert_eq!(seen, ["4", "3", "2", "1"]);
    assert_eq!(client.get("/api/events?limit=4")["next"], Value::Null);

    let hot = &client.get("/api/events?limit=1")["events"][0];
    assert_eq!(
        (&hot["count"], &hot["description"], &hot["state"]),
        (&json!(2), &json!("Disk hotter"), &json!("waiting"))
    );
    let dead = &client.get("/api/events?state=dead")["events"][0];
    assert!(dead["reason"].as_str().unwrap().contains("400"), "{dead}");

    let rejected = client.get("/api/rejected");
    assert_eq!((texts(&rejected["rejected"], "id"), &rejected["next"]), (vec!["r1".to_owned()], &Value::Null));
    bridge.reject(b"[", 400);
    assert_eq!(client.get("/api/rejected?limit=1")["next"], "r2");
    assert_eq!(texts(&client.get("/api/rejected?after=r2")["rejected"], "id"), ["r1"]);
}

#[test]
fn an_event_is_told_whole_but_for_its_key() {
    let pagerduty = PagerDuty::start();
    let bridge = bridge_with_entries(&pagerduty);
    let event = Client::new(&bridge).get("/api/events/1");
    let masked = format!("…{}", &KEY[28..]);
    assert_eq!((&event["service_key"], &event["event"]["service_key"]), (&json!(masked), &json!(masked)));
    assert_eq!((&event["event"]["incident_key"], &event["event"]["description"]), (&json!("7"), &json!("Disk full")));
    assert!(event["finished_at"].is_string() && event["event"]["details"]["tags"].is_object(), "{event:#}");
}

#[test]
fn a_key_is_masked_in_the_texts_of_an_alert_as_well() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty, &[]);
    bridge.queue(&alert(7, &format!("PagerDuty refused the key {KEY}")));
    let client = Client::new(&bridge);
    let masked = format!("PagerDuty refused the key …{}", &KEY[28..]);
    assert_eq!(client.get("/api/events")["events"][0]["description"], masked);
    let event = client.get("/api/events/1")["event"].clone();
    assert_eq!((&event["description"], &event["incident_key"]), (&json!(masked), &json!("7")));

    bridge.reject(format!("{{\"service_key\": \"{KEY}").as_bytes(), 400);
    assert_eq!(client.get("/api/rejected/r1")["body"], format!("{{\"service_key\": \"…{}", &KEY[28..]));
}

#[test]
fn what_strangers_wrote_stays_text_in_json() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty, &[]);
    let client = Client::new(&bridge);
    let hostile = "</script><script>alert(1)</script>\u{202e}\",\"service_key\":\"x\u{0}\u{7f}\\";
    bridge.queue(&alert(7, hostile));
    pagerduty.wait_for_accepted(1);
    let event = client.get("/api/events/1");
    let description = event["event"]["description"].as_str().unwrap();
    assert!(description.contains("</script>") && description.contains("\",\"service_key\":\"x"), "{description}");

    let text = format!("{{\"not\": \"finished {hostile}");
    bridge.reject(text.as_bytes(), 400);
    assert_eq!(client.get("/api/rejected/r1")["body"], text);
    bridge.reject(b"\xff\xfe{", 400);
    assert_eq!(client.get("/api/rejected/r2")["body_base64"], "//57");
}
