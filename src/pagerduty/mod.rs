//! PagerDuty: what an alert is to do there, how that is sent, and what the answer means.
//!
//! - [`event`]: an [`Event`], independent of the API; [`map`]: [`Alert`](crate::alert::Alert) → [`Event`]
//! - [`keys`]: [`ServiceKey`] and [`IncidentKey`]; [`destination`]: which of the APIs an integration takes events by
//! - [`description`]: the line people read first; [`template`]: that line as the operator wants it
//! - [`severity`]: how severe an alert is; [`names`]: the names that people know service keys by
//! - [`api`]: what an [`EventsApi`] does, and the JSON of an event; `fit`: makes it small enough; [`v1`], [`v2`]: the APIs
//! - [`client`]: one attempt to send an event
//! - [`origin`]: project, environment and page of an alert, read back from its event
//! - [`test_page`]: a test incident
//! - [`outcome`]: what PagerDuty's answer means for the event; [`proof`]: what became of one that it accepted

pub mod api;
pub mod client;
pub mod description;
pub mod destination;
pub mod event;
mod fit;
pub mod fold;
pub mod keys;
pub mod map;
pub mod names;
pub mod origin;
pub mod outcome;
pub mod proof;
pub mod severity;
pub mod template;
pub mod test_page;
pub mod v1;
pub mod v2;

pub use api::{Cut, EventsApi, Rendered, with_counts};
pub use description::{CutLine, Description};
pub use destination::{ApiSet, ApiVersion, Destination, KeyApis};
pub use event::{Event, EventType};
pub use keys::{IncidentKey, ServiceKey};
pub use names::KeyNames;
pub use origin::Origin;
pub use outcome::OutcomeKind;
pub use proof::ProofState;
pub use severity::Severity;
pub use template::{Template, TemplateError};

/// The Events API of this version.
#[must_use]
pub fn events_api(version: ApiVersion) -> &'static dyn EventsApi {
    match version {
        ApiVersion::V1 => &v1::V1,
        ApiVersion::V2 => &v2::V2,
    }
}

/// The JSON to send for the event, by the API of its destination.
#[must_use]
pub fn render(event: &Event) -> Rendered {
    events_api(event.destination.api).render(event)
}
