//! Hands over to the command that was asked for.

use std::process::ExitCode;

use sentry_pagerduty_bridge::commands;

/// A payload is many small texts: with the system's allocator the bridge takes a ninth fewer webhooks a second, and what a
/// burst of large ones took is still held after hundreds of small ones. Without huge pages, which double the memory that a
/// bridge at rest holds.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    commands::run_arguments().into()
}
