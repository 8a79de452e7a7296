//! The way a request takes to be an event: the first step that fails answers.

use chrono::{DateTime, Utc};

use crate::PATH;
use crate::answers::{Answer, Answers};
use crate::journal::{Extent, Received, Verdict};
use crate::options::{Options, Oversize, UnknownKey};
use crate::parse::Parsed;
use crate::records::made_up_key;
use crate::state::Event;
use crate::throttle::Throttle;
use crate::validate::validate;

/// Why a request is no event that may be applied, and what that is answered.
pub(crate) type Refusal = (Verdict, Answer);

/// What is noticed on the way.
#[derive(Debug, Default)]
pub(crate) struct Notes {
    pub(crate) warnings: Vec<String>,
    pub(crate) violations: Vec<String>,
}

/// Looks at a request whose body reads as `parsed`. The throttle remembers the event if it lets it through.
pub(crate) fn inspect(
    request: &Received,
    parsed: &Result<Parsed, String>,
    options: &Options,
    throttle: &mut Throttle,
    now: DateTime<Utc>,
    notes: &mut Notes,
) -> Result<Event, Refusal> {
    let answers = Answers { reversed: options.reversed_keys };
    notes.violations = violations(request);
    if path(request) != PATH {
        notes.violations.push(format!("The path is not {PATH}"));
        return Err((Verdict::NotFound, answers.not_found()));
    }
    if request.method != "POST" {
        notes.violations.push("The method is not POST".to_owned());
        return Err((Verdict::WrongMethod, answers.invalid_method()));
    }
    if options.strict && !notes.violations.is_empty() {
        return Err((Verdict::Violation, answers.invalid(&notes.violations)));
    }
    if request.extent == Extent::TooLarge {
        let error = format!("Event object is too large (maximum is {} bytes)", options.max_body);
        let mut answer = match options.oversize {
            Oversize::Status413 => Answer::empty(413),
            Oversize::Json400 => answers.invalid(&[error]),
        };
        answer.close = true;
        return Err((Verdict::TooLarge, answer));
    }
    let parsed = match parsed {
        Ok(parsed) => parsed,
        Err(reason) => return Err((Verdict::Unreadable { reason: reason.clone() }, answers.unreadable())),
    };
    for name in &parsed.duplicates {
        notes.violations.push(format!("The member {name} is written twice"));
    }
    if let Some(reason) = notes.violations.last().filter(|_| options.strict) {
        return Err((Verdict::Unreadable { reason: reason.clone() }, answers.unreadable()));
    }
    let (event, findings) = validate(&parsed.members, options.count, options.strict);
    notes.warnings = findings.warnings;
    let Some(event) = event else {
        let answer = answers.invalid(&findings.errors);
        return Err((Verdict::Invalid { errors: findings.errors }, answer));
    };
    if options.keys.as_ref().is_some_and(|keys| !keys.contains(&event.service_key)) {
        return Err(match options.unknown_key {
            UnknownKey::Refuse => (Verdict::UnknownKey, Answers::unknown_key()),
            UnknownKey::Accept => (Verdict::Discarded, answers.success(&key_of(&event))),
        });
    }
    if !throttle.admits(&event.service_key, now, &options.throttle) {
        let answer = answers.throttled(options.throttle.status, options.throttle.retry_after, now);
        return Err((Verdict::Throttled, answer));
    }
    Ok(event)
}

/// The event's incident key, or a made-up one, for an answer that promises more than it keeps.
pub(crate) fn key_of(event: &Event) -> String {
    event.incident_key.clone().unwrap_or_else(made_up_key)
}

fn path(request: &Received) -> &str {
    request.target.split('?').next().unwrap_or_default()
}

/// What is wrong with the head, although PagerDuty's servers are not known to mind.
fn violations(request: &Received) -> Vec<String> {
    let mut violations = Vec::new();
    let mut content_types = request.header("content-type");
    if !content_types.next().is_some_and(is_json) || content_types.next().is_some() {
        violations.push("The Content-Type is not application/json".to_owned());
    }
    if request.header("authorization").next().is_some() {
        violations.push("There is an Authorization header: the service key is all that v1 wants to know".to_owned());
    }
    if request.header("host").filter(|host| !host.is_empty()).count() != 1 {
        violations.push("There is not one Host header".to_owned());
    }
    if request.header("content-length").chain(request.header("transfer-encoding")).count() != 1 {
        violations.push("There is not one of Content-Length and Transfer-Encoding".to_owned());
    }
    if request.target.contains('?') {
        violations.push("There is a query".to_owned());
    }
    violations
}

fn is_json(content_type: &str) -> bool {
    let mut parts = content_type.split(';').map(|part| part.trim().to_ascii_lowercase());
    parts.next().is_some_and(|essence| essence == "application/json")
        && parts.all(|parameter| matches!(parameter.as_str(), "charset=utf-8" | "charset=\"utf-8\""))
}
