//! Why PagerDuty opened no incident, as far as its REST API shows.

use chrono::SecondsFormat;

use crate::pagerduty_api::PagerDutyApi;
use crate::pagerduty_api::types::{Integration, Service, ServiceStatus};

/// Returns the likely cause, as the end of a sentence, from the current state of the key's service.
pub(super) async fn of(api: &impl PagerDutyApi, owner: Option<&(Service, Integration)>) -> String {
    let Some((known, _)) = owner else {
        return "no service that the token shows has this integration key, so check on which service it is".to_owned();
    };
    let Ok(service) = api.service(&known.id).await else {
        return format!("the service {} could not be read, so look at its page in PagerDuty", known.name);
    };
    let name = &service.name;
    match service.status {
        ServiceStatus::Disabled => format!("the service {name} is disabled, so enable it in PagerDuty"),
        ServiceStatus::Maintenance => {
            let windows = api.maintenance(&service.id).await.unwrap_or_default();
            windows.iter().max_by_key(|window| window.end_time).map_or_else(
                || format!("the service {name} is in maintenance"),
                |window| {
                    let until = window.end_time.to_rfc3339_opts(SecondsFormat::Secs, true);
                    let what = window.description.as_deref().filter(|text| !text.is_empty());
                    let what = what.map_or_else(String::new, |text| format!(" ({text})"));
                    format!("the service {name} is in maintenance until {until}{what}")
                },
            )
        }
        ServiceStatus::Active => format!(
            "the service {name} is enabled, so a rule may suppress the event, or PagerDuty has lost it: look at the \
             activity of the service and at PagerDuty's status page"
        ),
    }
}
