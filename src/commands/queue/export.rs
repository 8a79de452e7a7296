//! `queue export`: everything, with service keys and bodies, one JSON object a line.

use std::fs::OpenOptions;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::Context;

use super::show::whole;
use super::{CURRENT, numbers, reader, states_or};
use crate::cli::{QueueExportArgs, Standing};
use crate::commands::{Misuse, out, say};
use crate::exit::Exit;
use crate::printable;
use crate::queue::Reader;
use crate::row::Keys;

pub(super) async fn run(args: &QueueExportArgs) -> anyhow::Result<Exit> {
    let reader = reader().await?;
    let states = states_or(&args.states, &CURRENT);
    let number = if args.to == Path::new("-") {
        write(&reader, &states, out()).await?
    } else {
        let name = args.to.display();
        let file = match create(&args.to) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                return Err(Misuse(format!("{name} is there already; name a new file")).into());
            }
            Err(error) => return Err(error).with_context(|| format!("{name} cannot be created")),
        };
        let number = write(&reader, &states, BufWriter::new(&file)).await?;
        file.sync_all().with_context(|| format!("{name} cannot be written"))?;
        number
    };
    say(&format!("{number} exported"));
    reader.close().await;
    Ok(Exit::Done)
}

/// A new file for the owner alone, because service keys stand in it. One that is there could be somebody else's.
fn create(path: &Path) -> io::Result<std::fs::File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    options.open(path)
}

async fn write(reader: &Reader, states: &[Standing], mut out: impl Write) -> anyhow::Result<u64> {
    let mut number = 0;
    for &standing in states {
        for id in numbers(reader, standing, u64::MAX).await? {
            // What a running bridge has moved elsewhere meanwhile is told as it stands now.
            if let Some(whole) = whole(reader, id, Keys::Whole).await? {
                writeln!(out, "{}", printable::json(&serde_json::to_string(&whole)?))?;
                number += 1;
            }
        }
    }
    out.flush()?;
    Ok(number)
}
