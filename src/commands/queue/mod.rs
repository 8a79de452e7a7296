//! `queue`: look at and act on what waits, what is dead and what was rejected, while the bridge runs or not.

mod change;
mod read;
mod transfer;

use super::environment::block_on;
use crate::cli::QueueCommand;
use crate::exit_code::ExitCode;

/// Does what was asked for.
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
