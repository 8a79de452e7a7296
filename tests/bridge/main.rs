//! The program as people run it, end to end: the real binary, real sockets and files, and the strict sandbox in
//! PagerDuty's place.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]

mod api;
mod check;
mod damage;
mod delivery;
mod disk;
mod doors;
mod explain;
mod life;
mod lifecycle;
mod logs;
mod outages;
mod queue;
mod rehearsal;
mod replay;
mod retry;
mod shell;
mod startup;
mod status_page;
mod storms;
mod support;
mod webhook;
