//! End-to-end tests of the program: the real binary, real sockets and files, and the strict sandbox as PagerDuty.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "these are tests, helpers of tests included")]

mod api;
mod body_memory;
mod check;
mod check_services;
mod clocks;
mod command_line;
mod connect_pagerduty;
mod damage;
mod delivery;
mod demo_and_sandbox;
mod descriptors;
mod disk;
mod events_api;
mod explain;
mod files;
mod incident_scope;
mod issue_lifecycle;
mod log_throttling;
mod logs;
mod outages;
mod process_lifecycle;
mod queue;
mod replay;
mod requests;
mod retry;
mod rotation;
mod startup;
mod status_page;
mod supervision;
mod support;
mod terminal_escaping;
mod upgrade;
mod webhook;
