//! PagerDuty: what an alert should do there, how that is sent, and what the response means.
//!
//! - [`event`]: an [`Event`], independent of the API, its [`Severity`], and whether it took effect; [`map`]:
//!   [`Alert`](crate::alert::Alert) → [`EventAction`](event::EventAction), of which `ingest` makes the event
//! - [`keys`]: [`ServiceKey`] and its name for people, [`IncidentKey`]; [`destination`]: through which API an integration
//!   takes events
//! - [`description`]: the line that people read first; [`template`]: the operator's own format for that line
//! - [`mod@events_api`]: what an [`EventsApi`] does, and the JSON of an event; `fit`: cuts it to the limits; [`v1`], [`v2`]:
//!   the APIs
//! - `stored`: counts that are added to a stored event, and where in Sentry it came from
//! - [`client`]: one attempt to send an event
//! - [`outcome`]: what PagerDuty's response means for the event

pub mod client;
pub mod description;
pub mod destination;
pub mod event;
pub mod events_api;
mod fit;
pub mod keys;
pub mod map;
pub mod outcome;
mod stored;
pub mod template;
pub mod v1;
pub mod v2;

pub use client::EventsClient;
pub use description::Description;
pub use destination::{ApiSet, ApiVersion, Destination, KeyApis};
pub use event::{Event, EventType, ProofState, Severity};
pub use events_api::{Cut, EventsApi, Rendered, with_counts};
pub use keys::{IncidentKey, KeyNames, ServiceKey};
pub use map::test_page;
pub use outcome::OutcomeKind;
pub use stored::{SentryOrigin, with_counts_by_parsing};
pub use template::{Template, TemplateError};

/// The Events API of this version.
#[must_use]
pub fn events_api(version: ApiVersion) -> &'static dyn EventsApi {
    match version {
        ApiVersion::V1 => &v1::V1,
        ApiVersion::V2 => &v2::V2,
    }
}

/// The JSON to send for the event, in the format of its destination's API.
#[must_use]
pub fn render(event: &Event) -> Rendered {
    events_api(event.destination.api).render(event)
}
