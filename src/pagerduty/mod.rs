//! PagerDuty's side: events that cannot be invalid, how an alert becomes one, and the client that sends it.
//!
//! - [`keys`]: [`ServiceKey`] and [`IncidentKey`]
//! - [`description`]: the one line people read first
//! - [`event`]: an [`Event`] of the Events API v1
//! - [`wire`]: the event as the bytes that are queued and sent, within PagerDuty's size limit
//! - [`api`]: the bytes of an event, and the counts that are inserted into them
//! - [`fold`]: one trigger that stands for several alerts of its incident
//! - [`map`]: [`Alert`](crate::alert::Alert) → [`Event`]
//! - `fit`: makes an event small enough; [`cut`]: what it had to lose for that
//! - [`client`]: one attempt to hand an event over, with `awc`
//! - `connect`: the connections it sends by; `interim`: takes 1xx answers out of them
//! - [`outcome`]: what PagerDuty's answer means for the event
//! - [`kind`]: the same in a word, to be counted

pub mod api;
pub mod client;
mod connect;
pub mod cut;
pub mod description;
pub mod event;
mod fit;
pub mod fold;
mod interim;
pub mod keys;
pub mod kind;
pub mod map;
pub mod outcome;
pub mod wire;

pub use api::{Rendered, with_counts};
pub use cut::Cut;
pub use description::{CutLine, Description};
pub use event::{Event, EventType};
pub use keys::{IncidentKey, ServiceKey};
pub use kind::OutcomeKind;
pub use wire::WireEvent;
