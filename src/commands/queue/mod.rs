//! `queue`: look at and act on what waits, what is dead and what was rejected, while the bridge runs or not.

mod discard;
mod export;
mod list;
mod retry;
mod show;

use super::{block_on, config_or_stand_ins};
use crate::cli::{QueueCommand, Standing};
use crate::config::DatabaseUrl;
use crate::exit::Exit;
use crate::queue::{ItemId, QueueError, Reader, State};

/// Does what was asked for.
///
/// # Errors
///
/// When the settings are wrong, the database cannot be used, or standard output is closed.
pub fn run(command: &QueueCommand) -> anyhow::Result<Exit> {
    block_on(async {
        match command {
            QueueCommand::List(args) => list::run(args).await,
            QueueCommand::Show(args) => show::run(args).await,
            QueueCommand::Retry(args) => retry::run(args).await,
            QueueCommand::Discard(args) => discard::run(args).await,
            QueueCommand::Export(args) => export::run(args).await,
        }
    })
}

/// What is listed and exported when nothing is said: first what somebody has to look at.
const CURRENT: [Standing; 3] = [Standing::Dead, Standing::Rejected, Standing::Waiting];

/// Where the queue is. No other setting is needed to look at it.
fn database() -> anyhow::Result<DatabaseUrl> {
    config_or_stand_ins().map(|(config, _)| config.database_url)
}

async fn reader() -> anyhow::Result<Reader> {
    Ok(Reader::open(database()?.sqlite_path()).await?)
}

/// The numbers of what stands there, at most `limit`.
async fn numbers(reader: &Reader, standing: Standing, limit: u64) -> Result<Vec<ItemId>, QueueError> {
    let Some(state) = state_of(standing) else {
        let rejected = reader.rejected_summaries(limit).await?;
        return Ok(rejected.into_iter().map(|webhook| ItemId::Rejected(webhook.id)).collect());
    };
    Ok(reader.ids(state, limit).await?.into_iter().map(ItemId::Event).collect())
}

/// The state of the events that stand there; `None` for what is no event.
fn state_of(standing: Standing) -> Option<State> {
    match standing {
        Standing::Waiting => Some(State::Waiting),
        Standing::Dead => Some(State::Dead),
        Standing::Delivered => Some(State::Delivered),
        Standing::Rejected => None,
    }
}

/// These states, each once, or those that are meant when none is named.
fn states_or(named: &[Standing], default: &[Standing]) -> Vec<Standing> {
    let mut states = Vec::new();
    for state in if named.is_empty() { default } else { named } {
        if !states.contains(state) {
            states.push(*state);
        }
    }
    states
}
