//! Sentry's side: a webhook becomes an [`Alert`](crate::alert::Alert), whichever version of Sentry sent it.
//!
//! - `body`: [`Webhook`], and the one parser of its body: the legacy plugin's, a service hook's or the platform's, where the
//!   platform's kinds of webhooks are registered
//! - `event`, `issue`, `metric`: these kinds. An event is the same in all three bodies
//! - `resource`: what a webhook of the integration platform is about, and why a webhook makes no alert
//! - `stack`, `title`, `tags`, `link`: parts of bodies, under the names they have had since Sentry 8.0
//! - `fetched`: what Sentry's API shows, in place of a webhook that never came
//! - `lenient`, `json`: values of unexpected types, and text that is almost JSON
//! - [`signature`]: verifies that the integration platform sent a body

mod body;
mod event;
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

pub use body::{Webhook, WebhookFormat};
pub use fetched::{fetched_alert, resolved_alert};
pub use json::NotJson;
pub use resource::{NoActionReason, ParseFailure, Rejection, Resource};
