//! The whole way of a request: what the fault script says, what the request is, what it changes, what is answered.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::answers::{Answer, Answers};
use crate::faults::{Cut, Fault, Until};
use crate::inspect::{Notes, inspect, key_of};
use crate::journal::{Extent, JournalEntry, Received, Verdict};
use crate::parse::parse;
use crate::records::{Held, Records};
use crate::script::Target;
use crate::state::{Event, State};

/// What is answered, and how that travels.
#[derive(Debug)]
pub(crate) struct Ruling {
    pub(crate) answer: Answer,
    pub(crate) delivery: Delivery,
    /// A held event (the number of its entry) and how long it is held.
    pub(crate) release: Option<(u64, Duration)>,
}

/// How an answer travels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Delivery {
    /// As answers do.
    Whole,
    /// Not at all; the connection ends after this time.
    Never(Duration),
    /// Not at all; the connection is reset.
    Reset,
    /// Half of its body, then the connection ends.
    Half,
    /// Whole, but so much later.
    Late(Duration),
    /// With a pause before each byte of its body.
    Drip(Duration),
    /// Whole; the connection ends after this time unless another request came by it.
    CloseIdle(Duration),
}

impl Delivery {
    fn of_cut(cut: Cut) -> Self {
        match cut {
            Cut::Silent => Self::Never(Duration::ZERO),
            Cut::Reset => Self::Reset,
            Cut::Midway => Self::Half,
        }
    }
}

/// What a request did.
struct Outcome {
    verdict: Verdict,
    answer: Answer,
    incident_key: Option<String>,
    before: Option<State>,
    after: Option<State>,
    held: Option<(Event, Until)>,
}

impl Outcome {
    fn new(verdict: Verdict, answer: Answer) -> Self {
        Self { verdict, answer, incident_key: None, before: None, after: None, held: None }
    }
}

/// Takes a request all the way.
pub(crate) fn rule(records: &mut Records, request: Received, now: DateTime<Utc>) -> Ruling {
    let answers = Answers { reversed: records.options.reversed_keys };
    let parsed = match request.extent {
        Extent::Whole => parse(&request.body),
        Extent::TooLarge => Err("The body is too large to be read".to_owned()),
        Extent::Broken => Err("The connection broke before the body was complete".to_owned()),
    };
    let members = parsed.as_ref().ok().map(|parsed| &parsed.members);
    let event = members.map(|members| Value::Object(members.clone()));
    let fault = if request.extent == Extent::Broken {
        None
    } else {
        records.script.next(Target { members, reused_connection: request.on_connection > 1 }, now)
    };

    let mut notes = Notes::default();
    let (outcome, delivery) = if request.extent == Extent::Broken {
        (Outcome::new(Verdict::Broken, Answer::empty(400)), Delivery::Never(Duration::ZERO))
    } else if let Some((answer, delivery)) = fault.as_ref().and_then(|fault| before(fault, answers, now)) {
        (Outcome::new(Verdict::Faulted, answer), delivery)
    } else {
        let options = std::sync::Arc::clone(&records.options);
        let outcome = match inspect(&request, &parsed, &options, &mut records.throttle, now, &mut notes) {
            Err((verdict, answer)) => Outcome::new(verdict, answer),
            Ok(event) => accept(records, event, fault.as_ref(), answers, now),
        };
        after(outcome, fault.as_ref(), answers)
    };

    let Outcome { verdict, answer, incident_key, before, after, held } = outcome;
    let answered = !matches!(delivery, Delivery::Never(_) | Delivery::Reset);
    let resolved = matches!(verdict, Verdict::Accepted { effect: crate::Effect::Resolved });
    let origin = records.write(JournalEntry {
        number: records.journal.next_number(),
        request,
        event,
        verdict,
        fault,
        status: answered.then_some(answer.status),
        incident_key,
        before,
        after,
        warnings: notes.warnings,
        violations: notes.violations,
        late_of: None,
    });
    let mut release = None;
    if resolved {
        let (service_key, incident_key) = (origin.text("service_key"), origin.text("incident_key"));
        records.release(now, |held| {
            held.until == Until::Resolved
                && Some(held.event.service_key.as_str()) == service_key
                && held.event.incident_key.as_deref() == incident_key
        });
    }
    if let Some((event, until)) = held {
        if let Until::Ms(ms) = until {
            release = Some((origin.number, Duration::from_millis(ms)));
        }
        records.held.push(Held { event, until, origin });
    }
    Ruling { answer, delivery, release }
}

/// What a fault that comes before the pipeline does.
fn before(fault: &Fault, answers: Answers, now: DateTime<Utc>) -> Option<(Answer, Delivery)> {
    let (answer, delivery) = match fault {
        Fault::Answer { apply: false, .. } => (other_answer(fault, answers)?, Delivery::Whole),
        Fault::Throttled { status, retry_after } => (answers.throttled(*status, *retry_after, now), Delivery::Whole),
        Fault::Close { apply: false, cut } => (answers.trouble(500), Delivery::of_cut(*cut)),
        Fault::Hang { lasts } => (answers.trouble(500), Delivery::Never(*lasts)),
        _ => return None,
    };
    Some((answer, delivery))
}

/// The answer a fault puts in the place of another.
fn other_answer(fault: &Fault, answers: Answers) -> Option<Answer> {
    let Fault::Answer { status, body, headers, .. } = fault else { return None };
    let mut answer = body.answer(*status, answers);
    answer.headers.extend(headers.iter().map(|(name, value)| (name.to_ascii_lowercase(), value.clone())));
    Some(answer)
}

/// What becomes of an event that nothing speaks against.
fn accept(records: &mut Records, event: Event, fault: Option<&Fault>, answers: Answers, now: DateTime<Utc>) -> Outcome {
    if let Some(Fault::Late { until, .. }) = fault {
        let answer = answers.success(&key_of(&event));
        return Outcome { held: Some((event, *until)), ..Outcome::new(Verdict::Held, answer) };
    }
    if records.options.silent_drop || fault == Some(&Fault::SilentDrop) {
        return Outcome::new(Verdict::Discarded, answers.success(&key_of(&event)));
    }
    let (incident_key, transition) = records.apply(&event, now);
    let mut outcome = Outcome::new(Verdict::Accepted { effect: transition.effect }, answers.success(&incident_key));
    outcome.answer = fault.and_then(|fault| other_answer(fault, answers)).unwrap_or(outcome.answer);
    Outcome { incident_key: Some(incident_key), before: transition.before, after: transition.after, ..outcome }
}

/// What a fault does to an answer and to its way.
fn after(mut outcome: Outcome, fault: Option<&Fault>, answers: Answers) -> (Outcome, Delivery) {
    let delivery = match fault {
        Some(Fault::Close { cut, .. }) => Delivery::of_cut(*cut),
        Some(Fault::Delay { by }) => Delivery::Late(*by),
        Some(Fault::Drip { pause }) => Delivery::Drip(*pause),
        Some(Fault::CloseIdle { after }) => Delivery::CloseIdle(*after),
        Some(Fault::Late { hang, .. }) if outcome.held.is_some() => Delivery::Never(*hang),
        _ => Delivery::Whole,
    };
    let invalid = matches!(outcome.verdict, Verdict::Invalid { .. } | Verdict::Unreadable { .. });
    if invalid && fault == Some(&Fault::InvalidAs500) {
        outcome.answer = answers.trouble(500);
    }
    (outcome, delivery)
}
