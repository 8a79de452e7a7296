//! What an alarm tells PagerDuty. Pure.

use chrono::{DateTime, SecondsFormat, Utc};

use super::{Facts, Trouble};
use crate::ingest::{Dedup, FollowUp};
use crate::pagerduty::event::{Detail, Details, EventAction, HAPPENED_AT, Note, Trigger};
use crate::pagerduty::{Description, Destination, Event, IncidentKey, ServiceKey};

/// Who sends it.
const CLIENT: &str = "sentry-pagerduty-bridge";

/// Where an alarm goes, and when.
#[derive(Clone, Debug)]
pub(super) struct Notice {
    pub(super) service_key: ServiceKey,
    pub(super) incident_key: IncidentKey,
    pub(super) at: DateTime<Utc>,
}

impl Notice {
    /// The event that opens the incident.
    pub(super) fn trigger(self, trouble: &Trouble, facts: &Facts) -> Event {
        let line = format!("{CLIENT}: {}", trouble.sentence);
        // It begins with a name, so it is never blank.
        let description = Description::new(&line).or_else(|| Description::new(CLIENT));
        let action = match description {
            Some(description) => EventAction::Trigger(Trigger {
                description,
                client: CLIENT,
                client_url: None,
                details: details(trouble, facts, self.at),
                links: Vec::new(),
            }),
            None => EventAction::Resolve(Note::default()),
        };
        self.event(action)
    }

    /// The event that closes it.
    pub(super) fn resolve(self) -> Event {
        let action = self.over();
        self.event(action)
    }

    /// The same wherever it is open.
    pub(super) fn follow_up(self) -> FollowUp {
        let action = self.over();
        // No time of Sentry's has a part in it.
        FollowUp { incident_key: self.incident_key, action, happened_at: None, fallback: None, dedup: Dedup::default() }
    }

    fn over(&self) -> EventAction {
        let line = format!("{CLIENT}: this trouble is over, seen at {}", in_seconds(self.at));
        EventAction::Resolve(Note { description: Description::new(&line) })
    }

    fn event(self, action: EventAction) -> Event {
        let Self { service_key, incident_key, .. } = self;
        Event { destination: Destination::v1(service_key), incident_key, action }
    }
}

fn details(trouble: &Trouble, facts: &Facts, at: DateTime<Utc>) -> Details {
    let mut details = Details::new();
    let mut add = |name, detail| drop(details.insert(name, detail));
    add("cause", Detail::Text(trouble.cause.name().to_owned()));
    add(HAPPENED_AT, time(at));
    add("version", Detail::Text(env!("CARGO_PKG_VERSION").to_owned()));
    add("started_at", time(facts.started_at));
    if let Ok(queue) = &facts.queue {
        add("waiting", Detail::Number(queue.waiting));
        add("dead_letters", Detail::Number(queue.dead));
    }
    let oldest = facts.attention.as_ref().ok().and_then(|attention| attention.oldest());
    for (name, moment) in [
        ("oldest_waiting", oldest.map(|oldest| oldest.since)),
        ("last_webhook_at", facts.metrics.last_webhook_at),
        ("last_delivered_at", facts.metrics.last_delivered_at),
    ] {
        if let Some(moment) = moment {
            add(name, time(moment));
        }
    }
    details
}

fn time(moment: DateTime<Utc>) -> Detail {
    Detail::Text(in_seconds(moment))
}

fn in_seconds(moment: DateTime<Utc>) -> String {
    moment.to_rfc3339_opts(SecondsFormat::Secs, true)
}
