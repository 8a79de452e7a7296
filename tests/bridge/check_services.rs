//! `check` with a token of PagerDuty's REST API: what it prints about the service of each integration key.

use pagerduty_sandbox::{IntegrationOptions, Options, RestAnswer, RestOptions, RestServiceStatus, ServiceOptions};

use crate::support::{KEY, OTHER_KEY, PagerDuty, ROUTES, Run, TOKEN, run};

const API_TOKEN: &str = "u+3rdPartyRestApiKey";

/// A PagerDuty with these services, whose REST API accepts only the token of these tests.
fn pagerduty(services: Vec<ServiceOptions>) -> PagerDuty {
    let pagerduty = PagerDuty::start();
    let rest = RestOptions { token: Some(API_TOKEN.to_owned()), read_only: true, services, ..RestOptions::default() };
    pagerduty.set_options(Options { rest, ..pagerduty.options() });
    pagerduty
}

fn check(pagerduty: &PagerDuty, token: &str) -> Run {
    let home = tempfile::tempdir().unwrap();
    let (url, api) = (pagerduty.url(), pagerduty.rest_url());
    let database = format!("sqlite:{}", home.path().join("bridge.db").display());
    let settings = [
        ("BRIDGE_PAGERDUTY_URL", url.as_str()),
        ("BRIDGE_PAGERDUTY_API_URL", api.as_str()),
        ("BRIDGE_PAGERDUTY_API_TOKEN", token),
        ("BRIDGE_PAGERDUTY_SERVICE_KEY", KEY),
        ("BRIDGE_PAGERDUTY_NAMES", "another0key0for0tests000000000B2,Our second team"),
        ("BRIDGE_WEBHOOK_TOKEN", TOKEN),
        ("BRIDGE_DATABASE_URL", database.as_str()),
        ROUTES,
    ];
    let checked = run(&["check"], &settings);
    for secret in [KEY, OTHER_KEY, token] {
        assert!(!checked.stdout.contains(secret) && !checked.stderr.contains(secret), "{checked:?}");
    }
    checked
}

/// The line of the output that is about `what`.
#[track_caller]
fn line<'r>(checked: &'r Run, what: &str) -> &'r str {
    let found = checked.stdout.lines().find(|line| line[8..].starts_with(&format!("{what}: ")));
    found.unwrap_or_else(|| panic!("nothing about {what}: {checked:?}"))
}

#[test]
fn every_key_is_told_with_its_service_and_who_is_on_call() {
    let mut other = ServiceOptions::new("PWEB", "Web", OTHER_KEY);
    other.integrations[0].kind = "events_api_v2_inbound_integration".to_owned();
    let pagerduty = pagerduty(vec![ServiceOptions::new("PPAY", "Payments", KEY), other]);
    let checked = check(&pagerduty, API_TOKEN);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert_eq!(line(&checked, "PagerDuty's REST API"), "ok      PagerDuty's REST API: the token shows 2 services");
    assert_eq!(
        line(&checked, "key …00A1"),
        "ok      key …00A1: service Payments, enabled, integration Sentry of Events API v1, on call: Ada Lovelace"
    );
    assert_eq!(
        line(&checked, "key Our second team (…00B2)"),
        "ok      key Our second team (…00B2): service Web, enabled, integration Sentry of Events API v2, which takes events \
         of v1 as well, on call: Ada Lovelace"
    );
}

#[test]
fn a_service_that_pages_nobody_is_told_with_the_reason() {
    let off = ServiceOptions {
        status: RestServiceStatus::Disabled,
        on_call: Vec::new(),
        ..ServiceOptions::new("PPAY", "Payments", KEY)
    };
    let mut resting = ServiceOptions::new("PWEB", "Web", OTHER_KEY);
    resting.status = RestServiceStatus::Maintenance;
    resting.integrations[0].kind = "generic_email_inbound_integration".to_owned();
    let checked = check(&pagerduty(vec![off, resting]), API_TOKEN);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert_eq!(
        line(&checked, "key …00A1"),
        "FAILED  key …00A1: service Payments, integration Sentry of Events API v1: it is disabled and opens no incidents: \
         enable it on its page in PagerDuty; nobody is on call for its escalation policy Payments policy"
    );
    let told = line(&checked, "key Our second team (…00B2)");
    assert!(told.starts_with("FAILED  ") && told.contains("it is in maintenance until 20"), "{told}");
    assert!(told.contains("(Work on Web) and opens no incidents"), "{told}");
    assert!(told.contains("is of the type generic_email_inbound_integration, which takes no events"), "{told}");
}

#[test]
fn a_key_that_no_service_has_is_told() {
    let mut service = ServiceOptions::new("PPAY", "Payments", KEY);
    let another = IntegrationOptions { key: "not0a0key".to_owned(), ..service.integrations[0].clone() };
    service.integrations.push(another);
    let checked = check(&pagerduty(vec![service]), API_TOKEN);
    assert_eq!(checked.code, Some(1), "{checked:?}");
    assert!(line(&checked, "key …00A1").starts_with("ok      "), "{checked:?}");
    let told = line(&checked, "key Our second team (…00B2)");
    assert!(told.starts_with("FAILED  ") && told.contains("no service that the token shows has"), "{told}");
}

#[test]
fn services_are_found_on_every_page() {
    let many = (0..230).map(|number| ServiceOptions::new(&format!("P{number}"), &format!("Service {number}"), "none"));
    let last = [ServiceOptions::new("PPAY", "Payments", KEY), ServiceOptions::new("PWEB", "Web", OTHER_KEY)];
    let pagerduty = pagerduty(many.chain(last).collect());
    let checked = check(&pagerduty, API_TOKEN);
    assert_eq!(checked.code, Some(0), "{checked:?}");
    assert!(line(&checked, "PagerDuty's REST API").ends_with("shows 232 services"), "{checked:?}");
    let pages = pagerduty
        .read(|records| records.rest_requests().filter(|request| request.target.starts_with("/services?")).count());
    assert_eq!(pages, 3);
}

#[test]
fn each_refusal_says_what_to_do() {
    let services = vec![ServiceOptions::new("PPAY", "Payments", KEY)];
    let pagerduty = pagerduty(services);
    let told = |token: &str| {
        let checked = check(&pagerduty, token);
        assert_eq!(checked.code, Some(1), "{checked:?}");
        line(&checked, "PagerDuty's REST API").to_owned()
    };
    assert!(told("another+token+of+20ch").contains("does not know the token of BRIDGE_PAGERDUTY_API_TOKEN (401"));
    let answering = |status: u16| {
        let mut options = pagerduty.options();
        options.rest.answer = Some(RestAnswer { status, reset: None });
        pagerduty.set_options(options);
        told(API_TOKEN)
    };
    assert!(answering(401).contains("make a read-only REST API key"));
    assert!(answering(402).contains("the plan of this PagerDuty account does not include"));
    assert!(answering(403).contains("may not do GET /services (403)"));
    assert!(answering(429).contains("throttles GET /services (429): try again later"));
    assert!(answering(500).contains("answered GET /services with 500: Internal Server Error"));
}
