//! PagerDuty: what an alert is to do there, how that is sent, and what the answer means.
//!
//! - [`event`]: an [`Event`], independent of the API; [`map`]: [`Alert`](crate::alert::Alert) → [`Event`]
//! - [`keys`]: [`Destination`], [`ServiceKey`] and [`IncidentKey`]; [`description`]: the line people read first
//! - [`api`]: what an [`EventsApi`] does, and the JSON of an event; `fit`: makes it small enough; [`v1`]: Events API v1
//! - [`names`]: the names that people know service keys by
//! - [`client`]: one attempt to send an event
//! - [`origin`]: project, environment and page of an alert, read back from its event
//! - [`test_page`]: a test incident
//! - [`outcome`]: what PagerDuty's answer means for the event; [`proof`]: what became of one that it accepted

pub mod api;
pub mod client;
pub mod description;
pub mod event;
mod fit;
pub mod fold;
pub mod keys;
pub mod map;
pub mod names;
pub mod origin;
pub mod outcome;
pub mod proof;
pub mod test_page;
pub mod v1;

pub use api::{Cut, EventsApi, Rendered, with_counts};
pub use description::{CutLine, Description};
pub use event::{Event, EventType};
pub use keys::{ApiVersion, Destination, IncidentKey, ServiceKey};
pub use names::KeyNames;
pub use origin::Origin;
pub use outcome::OutcomeKind;
pub use proof::ProofState;

/// The Events API of this version.
#[must_use]
pub fn events_api(version: ApiVersion) -> &'static dyn EventsApi {
    match version {
        ApiVersion::V1 => &v1::V1,
    }
}

/// The JSON to send for the event, by the API of its destination.
#[must_use]
pub fn render(event: &Event) -> Rendered {
    events_api(event.destination.api).render(event)
}
