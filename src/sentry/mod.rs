//! Sentry's side: bodies as Sentry and everything between it and the bridge write them, read into an
//! [`Alert`](crate::alert::Alert).
//!
//! - [`json`]: JSON that is almost JSON; `repair`: makes JSON of it
//! - [`lenient`]: values of any shape where one shape is hoped for
//! - [`event`]: the members of an event, under the names of every version
//! - [`occurrence`]: what made an issue that is no error
//! - [`tags`]: tags in each of their forms
//! - [`id`]: ids, text or number
//! - [`legacy`]: the body of the `WebHooks` plugin, Sentry 8.0 and later
//! - [`service_hook`]: the body of a project's service hook, Sentry 9.0 and later
//! - [`platform`]: the bodies of the integration platform, Sentry 9.1 and later
//! - [`signature`]: whether the integration platform sent a body
//! - [`link`]: the page, its id and its Sentry out of a web address

pub mod event;
pub mod id;
pub mod json;
pub mod legacy;
pub mod lenient;
pub mod link;
pub mod occurrence;
pub mod platform;
mod repair;
pub mod service_hook;
pub mod signature;
pub mod tags;
