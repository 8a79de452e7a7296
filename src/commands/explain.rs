//! demo
use crate::{cli::ExplainArgs, exit::Exit};
/// x
pub fn run(_: &ExplainArgs) -> anyhow::Result<Exit> { Ok(Exit::Done) }
