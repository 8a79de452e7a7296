//! `queue`: inspect and change waiting events, dead letters and rejected webhooks, with or without a running bridge.

mod change;
mod read;
mod transfer;

use super::environment::block_on;
use crate::cli::QueueCommand;
use crate::exit_code::ExitCode;

/// Runs a subcommand.
pub(super) fn run(command: &QueueCommand) -> anyhow::Result<ExitCode> {
    block_on(async {
        match command {
            QueueCommand::List(args) => read::list(args).await,
            QueueCommand::Show(args) => read::show(args).await,
            QueueCommand::Retry(args) => change::retry(args).await,
            QueueCommand::Discard(args) => change::discard(args).await,
            QueueCommand::Export(args) if args.complete => transfer::export(args).await,
            QueueCommand::Export(args) => read::export(args).await,
            QueueCommand::Import(args) => transfer::import(args).await,
        }
    })
}
