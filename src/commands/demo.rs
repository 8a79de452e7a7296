//! demo
use crate::{cli::DemoArgs, exit::Exit};
/// x
pub fn run(_: &DemoArgs) -> anyhow::Result<Exit> { Ok(Exit::Done) }
