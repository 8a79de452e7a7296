//! Sentry's side: a webhook becomes an [`Alert`](crate::alert::Alert), whichever version of Sentry sent it.
//!
//! - `body`: [`Webhook`], and the one parser of its body: the legacy plugin's, a service hook's or the platform's
//! - `resource`: what a webhook of the integration platform is about; `data`: its content, where the kinds are registered
//! - `event_alert`, `issue`, `metric`, `activity`: the kinds of webhooks of the integration platform
//! - `event`, `stack`, `title`, `tags`, `link`: parts of bodies, under the names they had since Sentry 8.0
//! - `fetched`: what Sentry's API shows, in place of a webhook that never came
//! - `lenient`, `json`: values of unexpected types, and text that is almost JSON
//! - [`signature`]: verifies that the integration platform sent a body

mod activity;
mod body;
mod data;
mod event;
mod event_alert;
mod fetched;
mod issue;
mod json;
mod lenient;
mod link;
mod metric;
mod resource;
pub mod signature;
mod stack;
mod tags;
mod title;

pub use body::{Generation, NoAlert, Rejection, Webhook};
pub use fetched::{fetched_alert, resolved_alert};
pub use json::{Defect, NotJson};
pub use resource::{NotAnAlert, Resource};
