//! What PagerDuty's REST API says about each integration key in use.

use std::collections::BTreeMap;

use chrono::SecondsFormat;

use crate::config::Config;
use crate::pagerduty::{ApiVersion, Destination, KeyNames, ServiceKey};
use crate::pagerduty_api::types::{Integration, PagerDutyService, ServiceStatus, owners};
use crate::pagerduty_api::{PagerDutyApiError, PagerDutyRestClient};

/// Integration keys of event orchestrations and rulesets begin with this letter; they belong to no service.
const RULESET: char = 'R';

/// What was found out about one key, or the API itself: its subject, and what is well or wrong with it.
pub(super) type Finding = (String, Result<String, String>);

/// Checks every integration key in use.
pub(super) async fn check(config: &Config, api: &PagerDutyRestClient) -> Vec<Finding> {
    let services = match api.services(None).await {
        Ok(services) => services,
        Err(error) => return vec![("PagerDuty's REST API".to_owned(), Err(error.to_string()))],
    };
    let number = services.len();
    let owners = owners(services);
    let names = KeyNames::new(config.pagerduty_names.iter().cloned());
    let mut findings = vec![("PagerDuty's REST API".to_owned(), Ok(format!("the token shows {number} services")))];
    let routes = config.routes();
    for key in config.service_keys() {
        findings.push((format!("key {}", names.show(&key)), check_key(&routes.destination(&key), &owners, api).await));
    }
    findings
}

async fn check_key(
    Destination { api: takes, key }: &Destination,
    owners: &BTreeMap<ServiceKey, (PagerDutyService, Integration)>,
    api: &PagerDutyRestClient,
) -> Result<String, String> {
    let Some((service, integration)) = owners.get(key) else {
        if key.expose().starts_with(RULESET) {
            return Ok("the key of an event orchestration or a ruleset, whose rules decide who is paged".to_owned());
        }
        return Err(
            "no service that the token shows has an integration with this key: take the key from the Integrations \
                    page of the service, or use a REST API key of the whole account"
                .to_owned(),
        );
    };
    let (mut good, mut bad) = (vec![format!("service {}", service.name)], Vec::new());
    match service.status {
        ServiceStatus::Active => good.push("enabled".to_owned()),
        ServiceStatus::Disabled => {
            bad.push("it is disabled and opens no incidents: enable it on its page in PagerDuty".to_owned());
        }
        ServiceStatus::Maintenance => bad.push(maintenance(service, api).await),
    }
    let what = integration.name.as_deref().unwrap_or("without a name");
    if integration.is_of(*takes) {
        good.push(format!("integration {what} of Events API {takes}"));
    } else if integration.takes_events() && *takes == ApiVersion::V2 {
        bad.push(format!(
            "its integration {what} is of Events API v1, the settings send to it by v2, and PagerDuty does not document that this works: \
             set v1 for it, or use the key of an integration of Events API v2"
        ));
    } else if integration.takes_events() {
        good.push(format!("integration {what} of Events API v2, which takes events of v1 as well"));
    } else {
        bad.push(format!(
            "its integration {what} is of the type {}, which takes no events: add one of the type Events API",
            integration.kind
        ));
    }
    match on_call(service, api).await {
        Ok(people) => good.push(people),
        Err(problem) => bad.push(problem),
    }
    if bad.is_empty() { Ok(good.join(", ")) } else { Err(format!("{}: {}", good.join(", "), bad.join("; "))) }
}

async fn maintenance(service: &PagerDutyService, api: &PagerDutyRestClient) -> String {
    let windows = api.maintenance(&service.id).await.unwrap_or_default();
    let Some(window) = windows.iter().max_by_key(|window| window.end_time) else {
        return "it is in maintenance and opens no incidents".to_owned();
    };
    let until = window.end_time.to_rfc3339_opts(SecondsFormat::Secs, true);
    match window.description.as_deref().filter(|text| !text.is_empty()) {
        Some(text) => format!("it is in maintenance until {until} ({text}) and opens no incidents"),
        None => format!("it is in maintenance until {until} and opens no incidents"),
    }
}

/// Returns who is on call, or an error if nobody is. It is not a failure if the token may not see that.
async fn on_call(service: &PagerDutyService, api: &PagerDutyRestClient) -> Result<String, String> {
    let Some(policy) = &service.escalation_policy else {
        return Err("it has no escalation policy, so that nobody is notified".to_owned());
    };
    let name = policy.summary.as_deref().unwrap_or(&policy.id);
    match api.on_call(&policy.id).await {
        Ok(people) if people.is_empty() => Err(format!("nobody is on call for its escalation policy {name}")),
        Ok(people) => Ok(format!("on call: {}", people.join(", "))),
        Err(error @ (PagerDutyApiError::Forbidden { .. } | PagerDutyApiError::NotInPlan { .. })) => {
            Ok(format!("who is on call is not known: {error}"))
        }
        Err(error) => Err(format!("who is on call is not known: {error}")),
    }
}
