//! The status page over HTTP: authentication, headers, and which forms are accepted.

use std::net::SocketAddr;
use std::time::Instant;

use pagerduty_sandbox::{Fault, FaultRule, IncidentState};

use crate::support::{
    Answer, Bridge, Connection, IS_POSTGRES, KEY, PATIENCE, PagerDuty, TOKEN, alert, get, post, refuse_resolves,
    take_resolves,
};

const ADMIN: &str = "admin-token-for-tests-alone";

/// Every page.
const PAGES: [&str; 10] = [
    "/",
    "/dead",
    "/rejected",
    "/recent",
    "/recent?q=Disk",
    "/services",
    "/test",
    "/events/1",
    "/rejected/r1",
    "/dead/discard",
];

/// Every address that accepts a form, except for log-in and log-out.
const ACTIONS: [&str; 9] = [
    "/test",
    "/dead/retry",
    "/dead/discard",
    "/rejected/retry",
    "/rejected/discard",
    "/events/1/retry",
    "/events/1/discard",
    "/rejected/r1/retry",
    "/rejected/r1/discard",
];

/// A bridge with a dead letter about a full disk, whose title contains the service key, and a rejected webhook.
#[track_caller]
fn with_trouble(pagerduty: &PagerDuty) -> Bridge {
    pagerduty.inject(FaultRule::new(Fault::status(400)).times(1)).unwrap();
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_ADMIN_TOKEN", ADMIN)]);
    bridge.queue(&alert(7, &format!("Disk full, and key={KEY} in the log")));
    bridge.wait_for_log("dead letter");
    bridge.reject(format!("{{\"key\": \"{KEY}\"}}").as_bytes(), 422);
    bridge
}

fn form(address: SocketAddr, path: &str, headers: &[(&str, &str)], fields: &str) -> Answer {
    let headers = [&[("Content-Type", "application/x-www-form-urlencoded")], headers].concat();
    post(address, path, &headers, fields.as_bytes())
}

/// Posts a form as a page of the bridge does.
fn form_of_page(address: SocketAddr, path: &str, cookie: &str, fields: &str) -> Answer {
    let origin = format!("http://{address}");
    form(address, path, &[("Cookie", cookie), ("Origin", &origin)], fields)
}

/// Requests a page with additional headers.
fn get_with(address: SocketAddr, path: &str, headers: &str) -> Answer {
    let mut connection = Connection::open(address);
    connection
        .send(format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n\r\n").as_bytes());
    connection.answer()
}

fn text(answer: &Answer) -> String {
    String::from_utf8(answer.body.clone()).unwrap()
}

/// The addresses of the style sheet, the script and the icon that a page loads.
#[track_caller]
fn assets(page: &str) -> Vec<String> {
    let paths = page.split('"').filter(|part| part.starts_with("/assets/"));
    let paths: Vec<_> = paths.map(str::to_owned).collect();
    assert_eq!(paths.len(), 3, "{page}");
    paths
}

/// Logs in and returns the cookie.
#[track_caller]
fn log_in(address: SocketAddr) -> String {
    let answer = form(address, "/login", &[], &format!("token={ADMIN}&next=%2F"));
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")), "{answer:?}");
    let cookie = answer.header("set-cookie").unwrap();
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    cookie.split(';').next().unwrap().to_owned()
}

#[test]
fn without_an_admin_token_there_is_no_page_at_all() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start(&pagerduty.url());
    let nothing = bridge.get("/no/such/page").status_and_json();
    let other = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_ADMIN_TOKEN", ADMIN)]);
    let assets = assets(&text(&other.get("/")));
    for path in PAGES.into_iter().chain(["/login"]).chain(assets.iter().map(String::as_str)) {
        assert_eq!(bridge.get(path).status_and_json(), nothing, "{path}");
    }
    for path in ACTIONS.into_iter().chain(["/login", "/logout"]) {
        assert_eq!(form(bridge.address, path, &[], "token=x").status_and_json(), nothing, "{path}");
        assert_eq!(post(bridge.address, path, &[], b"no form").status_and_json(), nothing, "{path}");
    }
}

#[test]
fn a_stranger_sees_the_log_in_form_and_nothing_else() {
    let pagerduty = PagerDuty::start();
    let bridge = with_trouble(&pagerduty);
    let forged = format!("Cookie: bridge_session={}", "A".repeat(75));
    for path in PAGES {
        for headers in ["X-Nothing: here", &forged, &format!("Authorization: Bearer {ADMIN}")] {
            let answer = get_with(bridge.address, path, headers);
            assert_eq!(answer.status, 401, "{path}");
            let page = text(&answer);
            assert!(page.contains("action=\"/login\"") && page.matches("<form").count() == 1, "{page}");
            assert!(!page.contains("Disk full") && !page.contains("…00A1") && !page.contains("0.1.0"), "{page}");
        }
    }
    for path in ACTIONS {
        assert_eq!(form(bridge.address, path, &[], "force=true").status, 401, "{path}");
    }
    assert_eq!(bridge.end()[0].summary.attempts, 1);
}

#[test]
fn wrong_tokens_are_refused_then_limited_and_the_right_one_still_opens() {
    let pagerduty = PagerDuty::start();
    let bridge = with_trouble(&pagerduty);
    let guess = || form(bridge.address, "/login", &[], "token=a-guess-of-some-length&next=%2F");
    for _ in 0..5 {
        let answer = guess();
        assert_eq!((answer.status, answer.header("set-cookie")), (401, None));
        assert!(text(&answer).contains("The token is wrong."));
    }
    let answer = guess();
    assert_eq!((answer.status, answer.header("set-cookie")), (429, None));
    assert!(answer.header("retry-after").unwrap().parse::<u64>().unwrap() <= 61);
    assert!(text(&answer).contains("Too many wrong tokens. Wait for "));
    log_in(bridge.address);
    assert_eq!(form(bridge.address, "/login", &[], "no=token").status, 400);
}

#[test]
fn the_status_page_tells_what_an_accepted_alert_survives() {
    let pagerduty = PagerDuty::start();
    let bridge = with_trouble(&pagerduty);
    let cookie = log_in(bridge.address);
    let page = text(&get_with(bridge.address, "/", &format!("Cookie: {cookie}")));
    let (sentence, setting) = if IS_POSTGRES {
        ("A crash of the database's machine may lose alerts that were answered with 202.", "fsync=off")
    } else {
        (
            "An alert that was answered with 202 survives a crash of the database's machine, but not the loss of its disk.",
            "synchronous=FULL",
        )
    };
    assert!(page.contains(sentence), "{sentence}: {page}");
    assert!(page.contains(&format!("<code>{setting}</code>")), "{setting}: {page}");
}

#[test]
fn a_log_in_leads_to_pages_of_the_bridge_alone() {
    let pagerduty = PagerDuty::start();
    let bridge = with_trouble(&pagerduty);
    for (next, place) in [("%2Fevents%2F1", "/events/1"), ("%2F%2Fevil.test", "/"), ("https%3A%2F%2Fevil.test", "/")] {
        let answer = form(bridge.address, "/login", &[], &format!("token={ADMIN}&next={next}"));
        assert_eq!((answer.status, answer.header("location")), (303, Some(place)));
    }
}

#[test]
fn every_page_forbids_what_it_does_not_need() {
    let pagerduty = PagerDuty::start();
    let bridge = with_trouble(&pagerduty);
    let cookie = log_in(bridge.address);
    for path in PAGES {
        for headers in ["X-Nothing: here", &format!("Cookie: {cookie}")] {
            let answer = get_with(bridge.address, path, headers);
            let policy = answer.header("content-security-policy").unwrap();
            let parts: Vec<_> = policy.split("; ").collect();
            for part in ["default-src 'none'", "script-src 'self'", "form-action 'self'", "frame-ancestors 'none'"] {
                assert!(parts.contains(&part), "{path}: {policy}");
            }
            assert!(!policy.contains("unsafe") && !policy.contains('*') && !policy.contains("data:"), "{policy}");
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(answer.header("referrer-policy"), Some("same-origin"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            assert_eq!(answer.header("content-type"), Some("text/html; charset=utf-8"));
        }
    }
}

#[test]
fn what_pages_load_may_be_kept_for_ever() {
    let pagerduty = PagerDuty::start();
    let bridge = with_trouble(&pagerduty);
    for path in assets(&text(&bridge.get("/"))) {
        let answer = bridge.get(&path);
        assert_eq!(answer.status, 200, "{path}");
        assert_eq!(answer.header("cache-control"), Some("public, max-age=31536000, immutable"));
        assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
        assert!(!answer.body.is_empty());
    }
    assert_eq!(bridge.get("/assets/app-000000000000.css").status, 404);
}

#[test]
fn no_form_is_taken_that_the_page_did_not_write() {
    let pagerduty = PagerDuty::start();
    let bridge = with_trouble(&pagerduty);
    let cookie = log_in(bridge.address);
    let own = ("Cookie", cookie.as_str());
    let same = format!("http://{}", bridge.address);
    let fields = "up_to=9&force=true";
    for path in ACTIONS.into_iter().chain(["/logout"]) {
        let said = |headers: &[(&str, &str)]| form(bridge.address, path, &[&[own], headers].concat(), fields).status;
        // Every browser sends the origin of a form.
        assert_eq!(said(&[]), 403, "{path}");
        // Another port of this host is the same site: a browser sends the cookie to it.
        let other_port = format!("http://{}:1", bridge.address.ip());
        for origin in ["http://evil.test", "null", "", &other_port, &format!("{same}.evil.test")] {
            assert_eq!(said(&[("Origin", origin)]), 403, "{path} {origin}");
        }
        for site in ["cross-site", "same-site", ""] {
            assert_eq!(said(&[("Sec-Fetch-Site", site)]), 403, "{path} {site}");
            assert_eq!(said(&[("Sec-Fetch-Site", site), ("Origin", &same)]), 403, "{path} {site}");
        }
        assert_eq!(form(bridge.address, path, &[("Origin", &same)], fields).status, 401, "{path}");
        assert_eq!(get_with(bridge.address, path, &format!("Cookie: {cookie}")).header("set-cookie"), None);
    }
    // A body that is not sent as a form is refused as well.
    let no_form = post(bridge.address, "/dead/retry", &[own, ("Origin", &same)], b"force=true");
    assert_eq!(no_form.status, 400);
    let [record] = &bridge.end()[..] else { panic!("one event") };
    assert_eq!((record.summary.state.as_str(), record.summary.attempts), ("dead", 1));
}

#[test]
fn all_that_failed_is_retried_and_discarded_in_bulk() {
    let pagerduty = PagerDuty::start();
    let bridge = with_trouble(&pagerduty);
    let cookie = log_in(bridge.address);
    let go = |path: &str, fields: &str| {
        let answer = form_of_page(bridge.address, path, &cookie, fields);
        (answer.status, answer.header("location").unwrap_or_default().to_owned())
    };
    // Nothing is discarded without a list of what to discard.
    assert_eq!(go("/dead/discard", ""), (303, "/?notice=discarded&done=0".to_owned()));
    assert_eq!(go("/dead/discard", "up_to=0"), (303, "/?notice=discarded&done=0".to_owned()));
    assert_eq!(go("/dead/retry", ""), (303, "/?notice=retried&done=1&left=0&events=1".to_owned()));
    pagerduty.wait_for_accepted(1);
    let still = "/?notice=retried&done=0&left=1&why=rejected&rejected=r1";
    assert_eq!(go("/rejected/retry", ""), (303, still.to_owned()));
    let said = text(&get_with(bridge.address, still, &format!("Cookie: {cookie}")));
    assert!(said.contains("1 unchanged: still rejected (the body is JSON, but not a Sentry webhook"), "{said}");
    let ask = || get_with(bridge.address, "/rejected/discard", &format!("Cookie: {cookie}"));
    assert_eq!(ask().status, 200);
    assert_eq!(go("/rejected/discard", "up_to=1"), (303, "/?notice=discarded&done=1".to_owned()));
    assert_eq!(ask().status, 404, "nobody is asked about none");
    // A delivered event is not a dead letter any more.
    assert_eq!(go("/events/1/discard", ""), (303, "/?notice=discarded&done=0".to_owned()));
    assert_eq!(bridge.end()[0].summary.state.as_str(), "delivered");
}

#[test]
fn no_page_shows_a_service_key_or_a_token() {
    let pagerduty = PagerDuty::start();
    let bridge = with_trouble(&pagerduty);
    let cookie = log_in(bridge.address);
    for path in PAGES {
        let page = text(&get_with(bridge.address, path, &format!("Cookie: {cookie}")));
        assert!(!page.contains(KEY) && !page.contains(ADMIN) && !page.contains(crate::support::TOKEN), "{path}");
    }
    let home = text(&get_with(bridge.address, "/", &format!("Cookie: {cookie}")));
    assert!(home.contains("Disk full, and key=…00A1 in the log"), "{home}");
    let webhook = text(&get_with(bridge.address, "/rejected/r1", &format!("Cookie: {cookie}")));
    assert!(webhook.contains("…00A1"), "{webhook}");
}

#[test]
fn a_dead_trigger_that_was_resolved_since_is_sent_by_a_button_of_its_own() {
    let pagerduty = PagerDuty::start();
    let bridge = with_trouble(&pagerduty);
    let headers = [("Content-Type", "application/json"), ("Sentry-Hook-Resource", "issue")];
    let resolved = br#"{"action": "resolved", "data": {"issue": {"id": "7", "title": "Disk full"}}}"#;
    assert_eq!(post(bridge.address, &format!("/sentry/{TOKEN}"), &headers, resolved).status, 202);
    let cookie = log_in(bridge.address);
    let page = text(&get_with(bridge.address, "/events/1", &format!("Cookie: {cookie}")));
    assert!(page.contains("Its incident was resolved") && page.contains("id=\"reopen-events-1\""), "{page}");
    let go = |fields: &str| {
        let answer = form_of_page(bridge.address, "/events/1/retry", &cookie, fields);
        (answer.status, answer.header("location").unwrap().to_owned())
    };
    assert_eq!(go(""), (303, "/?notice=retried&done=0&left=1&why=resolved".to_owned()));
    assert_eq!(go("force=true"), (303, "/?notice=retried&done=1&left=0&events=1".to_owned()));
    pagerduty.wait_for_accepted(1);
}

#[test]
fn a_test_page_whose_resolve_cannot_be_stored_opens_no_incident() {
    let pagerduty = PagerDuty::start();
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_ADMIN_TOKEN", ADMIN)]);
    let cookie = log_in(bridge.address);
    let send = || form_of_page(bridge.address, "/test", &cookie, "service=0");
    refuse_resolves(&bridge);
    let refused = send();
    assert_eq!(refused.status, 503, "{}", text(&refused));
    take_resolves(&bridge);
    assert_eq!(send().status, 303);
    // What the first one had queued would be sent before.
    pagerduty.wait_for("the resolve of the second", |records| {
        records.incidents().any(|incident| incident.state == IncidentState::Resolved)
    });
    let incidents = pagerduty.incidents();
    assert_eq!(incidents.len(), 1, "{incidents:#?}");
    assert_eq!((incidents[0].opened, incidents[0].events), (1, 2));
}

#[test]
fn who_logs_out_holds_nothing_any_more() {
    let pagerduty = PagerDuty::start();
    let bridge = with_trouble(&pagerduty);
    let cookie = log_in(bridge.address);
    let answer = form_of_page(bridge.address, "/logout", &cookie, "");
    assert_eq!((answer.status, answer.header("location")), (303, Some("/")));
    let set = answer.header("set-cookie").unwrap();
    assert!(set.starts_with("bridge_session=;") && set.contains("Max-Age=0"), "{set}");
}

#[test]
fn long_lists_come_in_pages_and_every_entry_is_on_one() {
    let pagerduty = PagerDuty::with_fault(Fault::status(400));
    let bridge = Bridge::start_with(&pagerduty.url(), &[("BRIDGE_ADMIN_TOKEN", ADMIN)]);
    for issue in 1..=120 {
        bridge.queue(&alert(issue, "Disk full"));
    }
    pagerduty.wait_for_requests(120);
    let cookie = log_in(bridge.address);
    let page = |path: &str| text(&get_with(bridge.address, path, &format!("Cookie: {cookie}")));
    let deadline = Instant::now() + PATIENCE;
    let mut home = page("/");
    while !home.contains("<span class=\"badge\">120</span>") {
        assert!(Instant::now() < deadline, "{home}");
        home = page("/");
    }
    assert_eq!((home.matches("<article").count(), home.matches("id=\"alert-").count()), (5, 5));
    assert!(home.contains("href=\"/dead\"") && home.contains("href=\"/recent\""), "{home}");
    let lists =
        [("/dead", "?", "id=\"event-"), ("/recent", "?", "id=\"alert-"), ("/recent?q=disk", "&amp;", "id=\"alert-")];
    for (list, join, entry) in lists {
        let mut seen = Vec::new();
        let mut path = list.to_owned();
        for _ in 0..4 {
            let text = page(&path);
            let ids = text.split(entry).skip(1).map(|rest| rest.split('"').next().unwrap().to_owned());
            let ids: Vec<u32> = ids.map(|id| id.parse().unwrap()).collect();
            assert!(ids.len() <= 50);
            seen.extend(ids);
            let next =
                text.split(&format!("href=\"{list}{join}before=")).nth(1).and_then(|rest| rest.split('"').next());
            let Some(next) = next else { break };
            path = format!("{list}{}before={next}", join.replace("&amp;", "&"));
        }
        assert!(seen.iter().copied().eq((1..=120).rev()), "{list}: {seen:?}");
    }
    assert_eq!(get(bridge.address, "/dead?before=nonsense").status, 401);
    assert_eq!(page("/dead?before=nonsense").matches("<article").count(), 50);
    assert_eq!(page("/dead?before=-1").matches("<article").count(), 0);
}

#[test]
fn a_form_that_never_ends_is_not_waited_for() {
    let bridge = Bridge::start_with("http://127.0.0.1:9", &[("BRIDGE_ADMIN_TOKEN", ADMIN)]);
    let mut connections: Vec<_> = ["/login", "/logout", "/dead/retry", "/dead/discard"]
        .into_iter()
        .map(|path| {
            let mut connection = Connection::open(bridge.address);
            let head = format!(
                "POST {path} HTTP/1.1\r\nHost: bridge\r\nContent-Type: application/x-www-form-urlencoded\r\n\
                 Content-Length: 100\r\n\r\ntoken="
            );
            connection.send(head.as_bytes());
            connection
        })
        .collect();
    let answers: Vec<_> = connections.iter_mut().map(|connection| connection.answer().status).collect();
    assert_eq!(answers, [400, 401, 401, 401]);
}

#[test]
fn after_logging_out_the_cookie_is_worth_nothing() {
    let pagerduty = PagerDuty::start();
    let bridge = with_trouble(&pagerduty);
    let cookie = log_in(bridge.address);
    let other_cookie = log_in(bridge.address);
    let status = |path: &str, cookie: &str| get_with(bridge.address, path, &format!("Cookie: {cookie}")).status;
    for path in ["/", "/events/1", "/api/status"] {
        assert_eq!((status(path, &cookie), status(path, &other_cookie)), (200, 200), "{path}");
    }
    assert_eq!(form_of_page(bridge.address, "/logout", &cookie, "").status, 303);
    // A copy of the cookie is invalid for reads and for actions.
    for path in ["/", "/events/1", "/api/status"] {
        assert_eq!((status(path, &cookie), status(path, &other_cookie)), (401, 200), "{path}");
    }
    for path in ACTIONS.into_iter().chain(["/logout"]) {
        assert_eq!(form_of_page(bridge.address, path, &cookie, "").status, 401, "{path}");
        assert_eq!(status("/", &other_cookie), 200, "{path}");
    }
    log_in(bridge.address);
}
