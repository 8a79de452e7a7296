//! `/api`: authentication, reads and actions. Every response is validated against `docs/openapi.json`.

mod actions;
mod authentication;
mod client;
mod reads;
mod spec;
