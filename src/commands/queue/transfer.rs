//! `queue export --complete` and `queue import`: a whole queue moves to another database.

use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter};
use std::path::Path;

use anyhow::Context;

use super::read::{create, database};
use crate::cli::{QueueExportArgs, QueueImportArgs};
use crate::commands::environment::{out, say};
use crate::exit_code::ExitCode;
use crate::queue::transfer;

pub(super) async fn export(args: &QueueExportArgs) -> anyhow::Result<ExitCode> {
    let config = database()?;
    let rows = if args.to == Path::new("-") {
        transfer::export(&config, &mut out()).await?
    } else {
        let file = create(&args.to)?;
        match transfer::export(&config, &mut BufWriter::new(&file)).await {
            Ok(rows) => {
                file.sync_all().with_context(|| format!("{} cannot be written", args.to.display()))?;
                rows
            }
            Err(error) => {
                // A partial export is useless, and the file would be in the way of the next attempt.
                let _ = fs::remove_file(&args.to);
                return Err(error.into());
            }
        }
    };
    say(&format!("{rows} rows exported; import them into the other database before a bridge runs on either"));
    Ok(ExitCode::Done)
}

pub(super) async fn import(args: &QueueImportArgs) -> anyhow::Result<ExitCode> {
    let config = database()?;
    let rows = if args.from == Path::new("-") {
        transfer::import(&config, &mut BufReader::new(io::stdin())).await?
    } else {
        let file = File::open(&args.from).with_context(|| format!("{} cannot be read", args.from.display()))?;
        transfer::import(&config, &mut BufReader::new(file)).await?
    };
    say(&format!("{rows} rows imported"));
    Ok(ExitCode::Done)
}
