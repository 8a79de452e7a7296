//! PagerDuty's side: events that cannot be invalid, how an alert becomes one, and the client that sends it.
//!
//! - [`keys`]: [`ServiceKey`] and [`IncidentKey`]
//! - [`description`]: the one line people read first
//! - [`event`]: an [`Event`] of the Events API v1
//! - [`wire`]: the event as the bytes that are queued and sent, within PagerDuty's size limit
//! - [`fold`]: one trigger that stands for several alerts of its incident
//! - [`map`]: [`Alert`](crate::alert::Alert) → [`Event`]
//! - `fit`: makes an event small enough; [`cut`]: what it had to lose for that
//! - [`client`]: one attempt to hand an event over, with `awc`
//! - `connect`: its connections, which skip 1xx answers
//! - [`outcome`]: what PagerDuty's answer means for the event

pub mod client;
mod connect;
pub mod cut;
pub mod description;
pub mod event;
mod fit;
pub mod fold;
pub mod keys;
pub mod map;
pub mod outcome;
pub mod wire;

pub use cut::Cut;
pub use description::{CutLine, Description};
pub use event::{Event, EventType};
pub use keys::{IncidentKey, ServiceKey};
pub use outcome::OutcomeKind;
pub use wire::WireEvent;
