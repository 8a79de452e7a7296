//! PagerDuty: what an alert should do there, how that is sent, and what the response means.
//!
//! - [`event`]: an [`Event`], independent of the API; [`map`]: [`Alert`](crate::alert::Alert) → [`Event`]
//! - [`keys`]: [`ServiceKey`] and [`IncidentKey`]; [`destination`]: through which API an integration takes events
//! - [`description`]: the line that people read first; [`template`]: the operator's own format for that line
//! - [`severity`]: how severe an alert is; [`names`]: the names by which people know service keys
//! - [`api`]: what an [`EventsApi`] does, and the JSON of an event; `fit`: cuts it to the limits; [`v1`], [`v2`]: the APIs
//! - [`client`]: one attempt to send an event
//! - [`origin`]: project, environment and page of an alert, parsed back from its event
//! - [`test_page`]: a test incident
//! - [`outcome`]: what PagerDuty's response means for the event; [`proof`]: what became of an event that it accepted

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

/// The JSON to send for the event, in the format of its destination's API.
#[must_use]
pub fn render(event: &Event) -> Rendered {
    events_api(event.destination.api).render(event)
}
