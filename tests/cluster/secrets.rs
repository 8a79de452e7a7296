//! A secret is rotated while several bridges share a queue.

use std::fs;
use std::path::Path;

use hmac::{Hmac, KeyInit, Mac};
use sentry_pagerduty_bridge::config::DatabaseUrl;
use sentry_pagerduty_bridge::queue::Reader;
use serde_json::json;
use sha2::Sha256;

use crate::support::{Bridge, PagerDuty, get, post};
use crate::{DATABASE_TIMEOUT, LONG, database, wait_until};

const OLD: &str = "the-client-secret-of-the-beginning";
const NEW: &str = "the-client-secret-after-the-rotation";

fn start(pagerduty: &PagerDuty, database: &str, secret: &Path) -> Bridge {
    fs::write(secret, OLD).unwrap();
    let file = ("BRIDGE_SENTRY_CLIENT_SECRET_FILE", secret.to_str().unwrap());
    Bridge::start_with(&pagerduty.url(), &[("BRIDGE_DATABASE_URL", database), DATABASE_TIMEOUT, file])
}

fn send(bridge: &Bridge, issue: u32) -> u16 {
    let event =
        json!({"event_id": format!("{issue:032x}"), "issue_id": issue.to_string(), "title": format!("Issue {issue}")});
    let body = json!({"action": "triggered", "data": {"event": event}}).to_string().into_bytes();
    let mac = Hmac::<Sha256>::new_from_slice(NEW.as_bytes()).unwrap().chain_update(&body).finalize();
    let signature = hex::encode(mac.into_bytes());
    let headers = [("Sentry-Hook-Resource", "event_alert"), ("Sentry-Hook-Signature", signature.as_str())];
    post(bridge.address, "/sentry", &headers, &body).status
}

fn says(bridge: &Bridge, sample: &str) -> bool {
    String::from_utf8(get(bridge.address, "/metrics").body).unwrap().lines().any(|line| line == sample)
}

#[test]
fn what_a_bridge_held_that_has_stopped_is_admitted_by_one_that_learned_the_secret_before() {
    let (pagerduty, database, home) = (PagerDuty::start(), database(), tempfile::tempdir().unwrap());
    let secrets = ["first", "second"].map(|name| home.path().join(name));
    let [mut first, second] = [&secrets[0], &secrets[1]].map(|secret| start(&pagerduty, &database, secret));
    fs::write(&secrets[1], NEW).unwrap();
    second.process.signal("HUP");
    second.wait_for_log("BRIDGE_SENTRY_CLIENT_SECRET changed and is in use from now on");
    // Once it answers another signal, it has finished with the held webhooks of the first one, and does not look for more.
    second.process.signal("HUP");
    second.wait_for_log("the files of secrets have the same contents as before");
    assert_eq!(send(&first, 1), 401);
    // It is answered after a second even if it is not held yet.
    first.wait_for_log("is held for 24 hours");
    first.process.kill();
    second.wait_for_log("1 held webhooks are verified by a secret and admitted: 1 queued");
    pagerduty.wait_for_accepted(1);
}

#[test]
fn what_one_bridge_holds_is_admitted_by_another_that_learns_the_secret_first() {
    let (pagerduty, database, home) = (PagerDuty::start(), database(), tempfile::tempdir().unwrap());
    let secrets = ["first", "second"].map(|name| home.path().join(name));
    let [mut first, second] = [&secrets[0], &secrets[1]].map(|secret| start(&pagerduty, &database, secret));
    for issue in 1..=20 {
        assert_eq!(send(&first, issue), 401);
    }
    wait_until("that all are held", LONG, || says(&second, "bridge_queue_events{state=\"held\"} 20"));

    fs::write(&secrets[1], NEW).unwrap();
    second.process.signal("HUP");
    second.wait_for_log("20 held webhooks are verified by a secret and admitted: 20 queued");
    pagerduty.wait_for_accepted(20);
    let mut opened: Vec<u32> = pagerduty.triggers().into_iter().map(|(key, _)| key.parse().unwrap()).collect();
    opened.sort_unstable();
    assert_eq!(opened, (1..=20).collect::<Vec<_>>(), "each once");
    let differ = |number| format!("bridge_trouble{{cause=\"bridges\"}} {number}");
    wait_until("the warning that the settings differ", LONG, || says(&second, &differ(1)));

    assert_eq!(send(&first, 21), 401);
    fs::write(&secrets[0], NEW).unwrap();
    first.process.signal("HUP");
    // Either bridge may be the first to find it, because each looks for what the other holds.
    pagerduty.wait_for_accepted(21);
    first.wait_for_log("BRIDGE_SENTRY_CLIENT_SECRET changed and is in use from now on");
    wait_until("the end of that warning", LONG, || says(&second, &differ(0)));
    assert_eq!(send(&first, 22), 202);
    pagerduty.wait_for_accepted(22);

    assert_eq!(first.terminate("TERM").code(), Some(0));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let reader = runtime.block_on(Reader::open(DatabaseUrl::parse(&database).unwrap())).unwrap();
    assert_eq!(runtime.block_on(reader.overview()).unwrap().held, 0);
}
