//! The REST API, over real sockets.

use pagerduty_sandbox::{Options, RestAnswer, RestOptions, RestServiceStatus, Sandbox, ServiceOptions};
use serde_json::{Value, json};

use super::{Answer, KEY, client, event, post, send, start};

pub(crate) const TOKEN: &str = "u+3rdPartyRestApiKey";

/// A sandbox with one service, modified by `change`.
fn with_service(change: impl FnOnce(&mut ServiceOptions)) -> Sandbox {
    let mut service = ServiceOptions::new("PPAY", "Payments", KEY);
    change(&mut service);
    let rest = RestOptions { token: Some(TOKEN.to_owned()), services: vec![service], ..RestOptions::default() };
    start(Options { rest, ..Options::default() })
}

async fn call(sandbox: &Sandbox, method: &str, path: &str, head: &[(&str, &str)], body: &str) -> Answer {
    let mut request = client().request(method.parse().unwrap(), format!("{}{path}", sandbox.rest_url()));
    for header in head {
        request = request.insert_header(*header);
    }
    send(request, body).await.unwrap()
}

const ACCEPT: (&str, &str) = ("Accept", "application/vnd.pagerduty+json;version=2");
const AUTHORIZED: (&str, &str) = ("Authorization", "Token token=u+3rdPartyRestApiKey");

pub(crate) async fn get(sandbox: &Sandbox, path: &str) -> (u16, Value) {
    let answer = call(sandbox, "GET", path, &[ACCEPT, AUTHORIZED], "").await;
    (answer.status, answer.json())
}

#[actix_web::test]
async fn the_token_and_the_version_have_to_be_in_the_head() {
    let sandbox = with_service(|_| {});
    for (head, status) in [
        (&[ACCEPT][..], 401),
        (&[ACCEPT, ("Authorization", "Bearer u+3rdPartyRestApiKey")], 401),
        (&[ACCEPT, ("Authorization", "Token token=another")], 401),
        (&[AUTHORIZED], 400),
        (&[ACCEPT, AUTHORIZED], 200),
    ] {
        assert_eq!(call(&sandbox, "GET", "/services", head, "").await.status, status, "{head:?}");
    }
    let refused = call(&sandbox, "GET", "/services", &[ACCEPT], "").await.json();
    assert_eq!(refused["error"]["code"], 2006, "{refused}");
}

#[actix_web::test]
async fn an_incident_is_found_by_its_key_or_by_that_of_its_alerts() {
    for creates_alerts in [false, true] {
        let sandbox = with_service(|service| service.creates_alerts = creates_alerts);
        post(&sandbox, &event("trigger")).await;
        let (status, found) = get(&sandbox, "/incidents?incident_key=42&date_range=all&service_ids%5B%5D=PPAY").await;
        assert_eq!(status, 200, "{found}");
        let incident = &found["incidents"][0];
        assert_eq!((&incident["incident_number"], &incident["status"]), (&json!(1), &json!("triggered")));
        assert_eq!(incident["incident_key"], if creates_alerts { Value::Null } else { json!("42") });
        let id = incident["id"].as_str().unwrap();
        let (_, alerts) = get(&sandbox, &format!("/incidents/{id}/alerts?alert_key=42")).await;
        assert_eq!(alerts["alerts"].as_array().unwrap().len(), usize::from(creates_alerts), "{alerts}");

        post(&sandbox, &event("resolve")).await;
        let (_, found) = get(&sandbox, "/incidents?incident_key=42&date_range=all").await;
        assert_eq!(found["incidents"][0]["status"], "resolved");
        assert!(found["incidents"][0]["resolved_at"].is_string());
        let (_, open) = get(&sandbox, "/incidents?statuses%5B%5D=triggered&statuses%5B%5D=acknowledged").await;
        assert_eq!(open["incidents"], json!([]));
        let (_, elsewhere) = get(&sandbox, "/incidents?incident_key=42&service_ids%5B%5D=PWEB").await;
        assert_eq!(elsewhere["incidents"], json!([]));
    }
}

#[actix_web::test]
async fn what_the_api_does_not_know_is_refused() {
    let sandbox = with_service(|_| {});
    for path in [
        "/incidents?routing_key=1",
        "/incidents?incident_key=",
        "/incidents?date_range=year",
        "/incidents?statuses%5B%5D=open",
        "/incidents?limit=101",
        "/incidents?limit=100&offset=9950",
        "/maintenance_windows",
    ] {
        let (status, refused) = get(&sandbox, path).await;
        assert_eq!((status, &refused["error"]["code"]), (400, &json!(2001)), "{path}");
    }
    for path in ["/services/PNONE", "/incidents/QNONE/alerts", "/alerts"] {
        assert_eq!(get(&sandbox, path).await.0, 404, "{path}");
    }
    let recorded: Vec<_> = sandbox.read(|records| records.rest_requests().map(|request| request.status).collect());
    assert_eq!(recorded, [400, 400, 400, 400, 400, 400, 400, 404, 404, 404]);
}

#[actix_web::test]
async fn a_service_that_is_off_takes_events_and_opens_nothing() {
    for (status, windows) in [(RestServiceStatus::Disabled, 0), (RestServiceStatus::Maintenance, 1)] {
        let sandbox = with_service(|service| service.status = status);
        assert_eq!(post(&sandbox, &event("trigger")).await.status, 200);
        assert_eq!((sandbox.counters().discarded, sandbox.counters().opened), (1, 0));
        let (_, found) = get(&sandbox, "/maintenance_windows?filter=ongoing&service_ids%5B%5D=PPAY").await;
        assert_eq!(found["maintenance_windows"].as_array().unwrap().len(), windows, "{found}");
        let (_, service) = get(&sandbox, "/services/PPAY?include%5B%5D=integrations").await;
        assert_eq!(service["service"]["status"], json!(status));
        assert_eq!(service["service"]["integrations"][0]["integration_key"], KEY);
    }
}

#[actix_web::test]
async fn more_than_the_limit_is_refused_and_so_is_all_that_a_fault_says() {
    let sandbox = with_service(|_| {});
    let set = |change: &dyn Fn(&mut RestOptions)| {
        let mut options = sandbox.options();
        change(&mut options.rest);
        sandbox.set_options(options);
    };
    set(&|rest| rest.limit = 2);
    let asked =
        [get(&sandbox, "/services").await.0, get(&sandbox, "/oncalls").await.0, get(&sandbox, "/oncalls").await.0];
    assert_eq!(asked, [200, 200, 429]);
    for (status, code) in [(401, 2006), (402, 2014), (403, 2010), (429, 2020), (500, 2000)] {
        set(&|rest| rest.answer = Some(RestAnswer { status, reset: None }));
        let answer = call(&sandbox, "GET", "/services", &[ACCEPT, AUTHORIZED], "").await;
        assert_eq!((answer.status, &answer.json()["error"]["code"]), (status, &json!(code)));
        assert_eq!(answer.header("ratelimit-reset"), None, "PagerDuty may leave it out");
    }
    set(&|rest| rest.answer = Some(RestAnswer { status: 429, reset: Some(7) }));
    let answer = call(&sandbox, "GET", "/services", &[ACCEPT, AUTHORIZED], "").await;
    assert_eq!(answer.header("ratelimit-reset"), Some("7"));
}

#[actix_web::test]
async fn an_integration_that_is_made_takes_events() {
    let sandbox = with_service(|_| {});
    let mut options = sandbox.options();
    options.keys = Some([KEY.to_owned()].into());
    sandbox.set_options(options);
    let reference = json!({"id": "PPAY", "type": "service_reference"});
    let wanted = json!({"type": "generic_events_api_inbound_integration", "name": "Bridge", "service": reference});
    let body = json!({"integration": wanted}).to_string();
    let head = [ACCEPT, AUTHORIZED, ("Content-Type", "application/json")];
    let made = call(&sandbox, "POST", "/services/PPAY/integrations", &head, &body).await;
    assert_eq!(made.status, 201);
    let made = made.json();
    let mut event = event("trigger");
    event["service_key"] = made["integration"]["integration_key"].clone();
    assert_eq!(post(&sandbox, &event).await.status, 200);
    assert_eq!(sandbox.counters().opened, 1);
    let id = made["integration"]["id"].as_str().unwrap();
    assert_eq!(get(&sandbox, &format!("/services/PPAY/integrations/{id}")).await.1["integration"]["name"], "Bridge");

    let mut options = sandbox.options();
    options.rest.read_only = true;
    sandbox.set_options(options);
    assert_eq!(call(&sandbox, "POST", "/services/PPAY/integrations", &head, &body).await.status, 403);
}

#[actix_web::test]
async fn without_services_every_key_has_one_of_its_own() {
    let sandbox = start(Options::default());
    post(&sandbox, &event("trigger")).await;
    let (_, found) = get(&sandbox, "/services?include%5B%5D=integrations").await;
    assert_eq!(found["services"][0]["integrations"][0]["integration_key"], KEY, "{found}");
    let (_, found) = get(&sandbox, "/incidents?incident_key=42").await;
    assert_eq!(found["incidents"].as_array().unwrap().len(), 1);
}
