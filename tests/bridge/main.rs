//! The program as people run it, end to end: the real binary, real sockets and files, and the strict sandbox in
//! PagerDuty's place.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]

mod api;
mod body_memory;
mod check;
mod clocks;
mod connect_pagerduty;
mod damage;
mod delivery;
mod descriptors;
mod disk;
mod doors;
mod events_api;
mod explain;
mod files;
mod incident_scope;
mod life;
mod lifecycle;
mod logs;
mod outages;
mod printed;
mod queue;
mod rehearsal;
mod replay;
mod retry;
mod rotation;
mod services;
mod shell;
mod startup;
mod status_page;
mod storms;
mod supervision;
mod support;
mod upgrade;
mod webhook;
