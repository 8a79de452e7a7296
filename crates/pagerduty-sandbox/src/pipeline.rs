//! How a request is handled: the fault that is due, PagerDuty's checks, the incident, the journal and the response.
//!
//! A pure function of the records, the request and the time, except for the incident keys that it generates.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::api::{EventsApiVersion, PATH, PATH_V2, parse};
use crate::faults::{Fault, Until};
use crate::incidents::{Effect, EventType, Transition, ValidEvent};
use crate::journal::{Extent, JournalEntry, Received, Verdict};
use crate::options::{Options, Oversize, ThrottleStatus, UnknownKey};
use crate::records::{HeldEvent, Records, generated_key};
use crate::responses::{self, PlannedResponse, SendMode};
use crate::validate::{Findings, validate_v1, validate_v2};

/// What became of a request.
struct Handled {
    verdict: Verdict,
    response: PlannedResponse,
    /// If the event was applied: its incident key and what it changed.
    applied: Option<(String, Transition)>,
    /// If a fault postpones the event: until when.
    held: Option<(ValidEvent, Until)>,
}

impl Handled {
    fn new(verdict: Verdict, response: PlannedResponse) -> Self {
        Self { verdict, response, applied: None, held: None }
    }
}

/// Handles a request.
///
/// For an event that is held for a fixed time, it also returns the number of its journal entry and that time: the caller
/// releases the event.
pub(crate) fn handle(
    records: &mut Records,
    request: Received,
    now: DateTime<Utc>,
) -> (PlannedResponse, Option<(u64, Duration)>) {
    let options = Arc::clone(&records.options);
    let body = match request.extent {
        Extent::Whole => parse(&request.body),
        Extent::TooLarge => Err("The body is too large to be read".to_owned()),
        Extent::Broken => Err("The connection broke before the body was complete".to_owned()),
    };
    let members = body.as_ref().ok().map(|(members, _)| members);
    let event = members.map(|members| Value::Object(members.clone()));
    // A request to any other path is read as if it were for v1.
    let served = EventsApiVersion::of_target(&request.target);
    let api = served.unwrap_or(EventsApiVersion::V1);
    let fault = match request.extent {
        Extent::Broken => None,
        _ => records.faults.next(api, members, request.on_connection > 1, now),
    };

    let mut findings = Findings::default();
    let Handled { verdict, response, applied, held } = if request.extent == Extent::Broken {
        let response = PlannedResponse::empty(400).with_delivery(SendMode::Dropped(Duration::ZERO));
        Handled::new(Verdict::Broken, response)
    } else if let Some(response) = fault.as_ref().and_then(|fault| fault_before(fault, &options, now)) {
        Handled::new(Verdict::Faulted, response)
    } else {
        let outcome = match check(records, &request, &body, now, &mut findings) {
            Err((verdict, response)) => Handled::new(verdict, response),
            Ok(event) => accept(records, api, event, fault.as_ref(), now),
        };
        fault_after(outcome, fault.as_ref(), &options)
    };

    let (incident_key, transition) = applied.unzip();
    let entry = records.write(JournalEntry {
        number: records.journal.next_number(),
        request,
        api: served,
        event,
        verdict,
        fault,
        status: response.delivery.shows_status().then_some(response.status),
        incident_key,
        before: transition.and_then(|transition| transition.before),
        after: transition.and_then(|transition| transition.after),
        warnings: findings.warnings,
        violations: findings.violations,
        late_of: None,
    });
    if transition.is_some_and(|transition| transition.effect == Effect::Resolved) {
        let (service_key, incident_key) = (entry.service_key(), entry.incident_key.as_deref());
        records.release(now, |held| {
            held.until == Until::Resolved
                && Some(held.event.service_key.as_str()) == service_key
                && held.event.incident_key.as_deref() == incident_key
        });
    }
    let mut timed_release = None;
    if let Some((event, until)) = held {
        if let Until::Ms(ms) = until {
            timed_release = Some((entry.number, Duration::from_millis(ms)));
        }
        records.held.push(HeldEvent { api, event, until, origin: entry });
    }
    (response, timed_release)
}

/// The response of a fault that acts before the request is looked at.
fn fault_before(fault: &Fault, options: &Options, now: DateTime<Utc>) -> Option<PlannedResponse> {
    match fault {
        Fault::Answer { apply: false, .. } => fault_response(fault, options),
        Fault::Throttled { status, retry_after } => Some(responses::throttled(options, *status, *retry_after, now)),
        Fault::Close { apply: false, cut } => Some(responses::error(options, 500).with_delivery(*cut)),
        Fault::Hang { lasts } => Some(responses::error(options, 500).with_delivery(SendMode::Dropped(*lasts))),
        _ => None,
    }
}

/// The response that a fault puts in place of PagerDuty's.
fn fault_response(fault: &Fault, options: &Options) -> Option<PlannedResponse> {
    let Fault::Answer { status, body, headers, .. } = fault else { return None };
    let mut response = responses::of_fault(options, *status, body);
    response.headers.extend(headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())));
    Some(response)
}

/// Applies a fault to the response of a request that was handled, and to how that response is delivered.
fn fault_after(mut outcome: Handled, fault: Option<&Fault>, options: &Options) -> Handled {
    let invalid = matches!(outcome.verdict, Verdict::Invalid { .. } | Verdict::Unreadable { .. });
    if invalid && fault == Some(&Fault::InvalidAs500) {
        outcome.response = responses::error(options, 500);
    }
    outcome.response.delivery = match fault {
        Some(Fault::Close { cut, .. }) => (*cut).into(),
        Some(Fault::Delay { by }) => SendMode::Delayed(*by),
        Some(Fault::Drip { pause }) => SendMode::Dripped(*pause),
        Some(Fault::CloseIdle { after }) => SendMode::IdleClose(*after),
        Some(Fault::Late { hang, .. }) if outcome.held.is_some() => SendMode::Dropped(*hang),
        _ => SendMode::Whole,
    };
    outcome
}

/// Applies, holds or discards an event that passed all checks.
fn accept(
    records: &mut Records,
    api: EventsApiVersion,
    event: ValidEvent,
    fault: Option<&Fault>,
    now: DateTime<Utc>,
) -> Handled {
    let options = Arc::clone(&records.options);
    if let Some(Fault::Late { until, .. }) = fault {
        let response = responses::success(&options, api, &key_of(&event));
        return Handled { held: Some((event, *until)), ..Handled::new(Verdict::Held, response) };
    }
    let is_off = event.event_type == EventType::Trigger && records.rest_service_is_off(&event.service_key);
    if options.silent_drop || is_off || fault == Some(&Fault::SilentDrop) {
        return Handled::new(Verdict::Discarded, responses::success(&options, api, &key_of(&event)));
    }
    let (incident_key, transition) = records.apply(api, &event, now);
    let response = fault
        .and_then(|fault| fault_response(fault, &options))
        .unwrap_or_else(|| responses::success(&options, api, &incident_key));
    let verdict = Verdict::Accepted { effect: transition.effect };
    Handled { applied: Some((incident_key, transition)), ..Handled::new(verdict, response) }
}

/// The event's incident key, or a generated one, for a response to an event that is not applied.
fn key_of(event: &ValidEvent) -> String {
    event.incident_key.clone().unwrap_or_else(generated_key)
}

/// PagerDuty's checks in order: head, size, JSON, event, integration key, rate. The first that fails decides the
/// response; only an event that passes the others reaches the rate limit and counts there.
fn check(
    records: &mut Records,
    request: &Received,
    body: &Result<(Map<String, Value>, Vec<String>), String>,
    now: DateTime<Utc>,
    findings: &mut Findings,
) -> Result<ValidEvent, (Verdict, PlannedResponse)> {
    let options = &records.options;
    findings.violations = head_violations(request);
    let Some(api) = EventsApiVersion::of_target(&request.target) else {
        findings.violations.push(format!("The path is neither {PATH} nor {PATH_V2}"));
        return Err((Verdict::NotFound, responses::not_found(options)));
    };
    if request.method != "POST" {
        findings.violations.push("The method is not POST".to_owned());
        return Err((Verdict::WrongMethod, responses::method_not_allowed(options)));
    }
    if options.strict && !findings.violations.is_empty() {
        return Err((Verdict::Violation, responses::invalid(options, &findings.violations)));
    }
    if request.extent == Extent::TooLarge {
        let error = format!("Event object is too large (maximum is {} bytes)", options.max_body);
        let response = match options.oversize {
            Oversize::Status413 => PlannedResponse::empty(413),
            Oversize::Json400 => responses::invalid(options, &[error]),
        };
        return Err((Verdict::TooLarge, PlannedResponse { close: true, ..response }));
    }
    let unreadable = |reason: &str| (Verdict::Unreadable { reason: reason.to_owned() }, responses::not_json(options));
    let (members, duplicates) = body.as_ref().map_err(|reason| unreadable(reason))?;
    for name in duplicates {
        findings.violations.push(format!("The field {name} appears twice"));
    }
    if let Some(reason) = findings.violations.last().filter(|_| options.strict) {
        return Err(unreadable(reason));
    }
    let valid = match api {
        EventsApiVersion::V1 => validate_v1(members, options, findings),
        EventsApiVersion::V2 => validate_v2(members, options, findings),
    };
    let Some(event) = valid else {
        let errors = std::mem::take(&mut findings.errors);
        let response = responses::invalid(options, &errors);
        return Err((Verdict::Invalid { errors }, response));
    };
    if options.keys.as_ref().is_some_and(|keys| !keys.contains(&event.service_key)) {
        return Err(match options.unknown_key {
            UnknownKey::Refuse => (Verdict::UnknownKey, responses::unknown_key()),
            UnknownKey::Accept => (Verdict::Discarded, responses::success(options, api, &key_of(&event))),
        });
    }
    let throttle = &options.throttle;
    if !records.throttle.admit(&event.service_key, now, throttle) {
        let status = match api {
            EventsApiVersion::V1 => throttle.status,
            EventsApiVersion::V2 => ThrottleStatus::TooManyRequests,
        };
        return Err((Verdict::Throttled, responses::throttled(options, status, throttle.retry_after, now)));
    }
    Ok(event)
}

/// Returns the problems of a request's head that PagerDuty's servers are not known to refuse.
fn head_violations(request: &Received) -> Vec<String> {
    let mut violations = Vec::new();
    let mut content_types = request.header("content-type");
    if !content_types.next().is_some_and(is_json) || content_types.next().is_some() {
        violations.push("The Content-Type is not application/json".to_owned());
    }
    if request.header("authorization").next().is_some() {
        violations.push(
            "There is an Authorization header: the Events APIs authenticate by the key in the body only".to_owned(),
        );
    }
    if request.header("host").filter(|host| !host.is_empty()).count() != 1 {
        violations.push("There must be exactly one Host header".to_owned());
    }
    if request.header("content-length").chain(request.header("transfer-encoding")).count() != 1 {
        violations.push("There must be exactly one of Content-Length and Transfer-Encoding".to_owned());
    }
    if request.target.contains('?') {
        violations.push("The URL has a query string".to_owned());
    }
    violations
}

fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(|part| part.trim().to_ascii_lowercase());
    parts.next().is_some_and(|essence| essence == "application/json")
        && parts.all(|parameter| matches!(parameter.as_str(), "charset=utf-8" | "charset=\"utf-8\""))
}
