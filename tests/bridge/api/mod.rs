//! `/api`: who may ask, what is told, and what is done. Every answer is held against `docs/openapi.json`.

mod act;
mod caller;
mod doors;
mod look;
mod spec;
