//! Sentry's side: bodies as Sentry and everything between it and the bridge write them, read into an
//! [`Alert`](crate::alert::Alert).
//!
//! - [`json`]: JSON that is almost JSON
//! - [`lenient`]: values of any shape where one shape is hoped for
//! - [`event`]: the members of an event, under the names of every version
//! - [`tags`]: tags in each of their forms
//! - [`legacy`]: the body of the `WebHooks` plugin, Sentry 8.0 and later
//! - [`link`]: the page, its id and its Sentry out of a web address

pub mod event;
pub mod json;
pub mod legacy;
pub mod lenient;
pub mod link;
mod repair;
pub mod tags;
