//! `/api`: who may ask, what is told, and what is done. Every answer is held against `docs/openapi.json`.

mod actions;
mod authentication;
mod client;
mod reads;
mod spec;
