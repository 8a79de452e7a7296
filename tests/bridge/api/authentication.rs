//! Authentication of `/api`, and responses to invalid requests.

use serde_json::{Value, json};

use super::client::{ADMIN_TOKEN, Client, request, start};
use super::spec::Spec;
use crate::support::{Bridge, PagerDuty, TOKEN};

const NUMBERS: [(&str, &str); 2] = [("rejected/{id}", "rejected/r1"), ("{id}", "1")];

/// Method and a concrete address of every operation in the specification.
fn addresses() -> Vec<(String, String)> {
    let address = |path: String| NUMBERS.iter().fold(path, |path, (name, number)| path.replace(name, number));
    Spec::read().operations().into_iter().map(|(method, path)| (method, address(path))).collect()
}

#[test]
fn without_an_admin_token_there_is_no_api() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let nothing = bridge.get("/no/such/address").status_and_json();
    assert_eq!(nothing.0, 404);
    for (method, path) in addresses() {
        for token in [None, Some(TOKEN), Some("")] {
            assert_eq!(request(&bridge, &method, &path, token, b"").status_and_json(), nothing, "{method} {path}");
        }
    }
    assert_eq!(request(&bridge, "PUT", "/api/status", None, b"").status_and_json(), nothing);
}

#[test]
fn nobody_learns_anything_without_the_token() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty, &[]);
    bridge.reject(b"{", 400);
    let first = request(&bridge, "GET", "/api/status", None, b"");
    assert_eq!(first.status, 401);
    let unknown = [("GET".to_owned(), "/api/no-such".to_owned()), ("PUT".to_owned(), "/api/events".to_owned())];
    for (method, path) in addresses().into_iter().chain(unknown) {
        let answer = request(&bridge, &method, &path, None, br#"{"all":["rejected"]}"#);
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"sentry-pagerduty-bridge\""));
        assert_eq!(answer.header("cache-control"), Some("no-store"));
        // The same response for all, so that it does not show what exists.
        assert_eq!(answer.status_and_json(), first.status_and_json(), "{method} {path}");
    }
    for wrong in [TOKEN, "", &ADMIN_TOKEN[1..], &ADMIN_TOKEN.to_uppercase()] {
        let (status, said) = request(&bridge, "GET", "/api/rejected", Some(wrong), b"").status_and_json();
        assert_eq!((status, &said["status"]), (401, &Value::from("error")), "{wrong}");
    }
    assert_eq!(Client::new(&bridge).get("/api/rejected")["rejected"].as_array().unwrap().len(), 1);
}

#[test]
fn wrong_tokens_are_limited_and_the_right_one_opens_all_the_same() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty, &[]);
    let guess = |number: usize| request(&bridge, "GET", "/api/status", Some(&format!("a-guess-{number}")), b"");
    // A minute may end between two of them, so it is enough that one of the guesses is limited.
    let limited = (0..12).map(guess).find(|answer| answer.status == 429).expect("nothing is limited");
    let wait: u32 = limited.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    Spec::read().holds("GET", "/api/status", 429, &limited.json());
    assert_eq!(request(&bridge, "GET", "/api/status", None, b"").status, 401, "that was no guess");
    Client::new(&bridge).get("/api/status");
    let logged = bridge.process.stderr.all().join("\n");
    assert!(logged.contains("wrong admin token") && !logged.contains("a-guess"), "{logged}");
}

#[test]
fn while_rotating_either_token_opens() {
    let pagerduty = PagerDuty::start();
    let bridge =
        Bridge::start_with(&pagerduty.url(), &[("BRIDGE_ADMIN_TOKEN", "an-admin-token-of-old, and-one-that-is-new")]);
    for token in ["an-admin-token-of-old", "and-one-that-is-new"] {
        assert_eq!(request(&bridge, "GET", "/api/status", Some(token), b"").status, 200, "{token}");
    }
}

#[test]
fn what_is_asked_in_a_wrong_way_is_told_the_right_one() {
    let pagerduty = PagerDuty::start();
    let bridge = start(&pagerduty, &[]);
    let asked = |method: &str, path: &str| request(&bridge, method, path, Some(ADMIN_TOKEN), b"");
    for (path, allowed) in [
        ("/api/status", "GET"),
        ("/api/events/1", "GET, DELETE"),
        ("/api/events/1/retry", "POST"),
        ("/api/retry", "POST"),
    ] {
        let answer = asked("PUT", path);
        assert_eq!((answer.status, answer.header("allow")), (405, Some(allowed)), "{path}");
        assert_eq!(answer.json(), json!({"status": "error", "reason": format!("this address takes {allowed}")}));
    }
    for path in ["/api", "/api/", "/api/v1/status", "/api/events/1/2"] {
        let (status, said) = asked("GET", path).status_and_json();
        assert_eq!((status, &said["status"]), (404, &Value::from("error")), "{path}");
    }
    let client = Client::new(&bridge);
    for path in ["/api/events?state=rejected", "/api/events?limit=0", "/api/events?befor=1", "/api/events?after=r1"] {
        assert_eq!(client.refused("GET", path, "").0, 400, "{path}");
    }
    for path in ["/api/events/r1", "/api/events/x", "/api/events/7", "/api/rejected/7", "/api/rejected/r7"] {
        assert_eq!(client.refused("GET", path, "").0, 404, "{path}");
    }
    for body in ["", "{}", r#"{"ids":["x"]}"#, r#"{"all":["waiting"]}"#] {
        assert_eq!(client.refused("POST", "/api/discard", body).0, 400, "{body}");
    }
    assert_eq!(client.refused("POST", "/api/retry", &"x".repeat(64 * 1024 + 1)).0, 413);
}
