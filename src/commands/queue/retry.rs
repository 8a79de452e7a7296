//! `queue retry`: dead letters go back to their places in line, rejected webhooks are mapped by this version.

use std::io::Write;

use super::numbers;
use crate::cli::{QueueRetryArgs, Standing};
use crate::commands::{Misuse, config_or_stand_ins, out, say};
use crate::exit::Exit;
use crate::ingest::Ingest;
use crate::printable::line;
use crate::queue::admin::retry::{remap, revive};
use crate::queue::admin::{Resolved, Retried, sorted};
use crate::queue::{Editor, ItemId};

/// The settings without which a rejected webhook could not be given to anybody.
const KEY: &str = "BRIDGE_PAGERDUTY_SERVICE_KEY";

pub(super) async fn run(args: &QueueRetryArgs) -> anyhow::Result<Exit> {
    let (config, missing) = config_or_stand_ins()?;
    let mut editor = Editor::open(config.database_url.sqlite_path()).await?;
    let ids = if args.all {
        let mut ids = numbers(editor.reader(), Standing::Dead, u64::MAX).await?;
        ids.append(&mut numbers(editor.reader(), Standing::Rejected, u64::MAX).await?);
        ids
    } else {
        args.ids.clone()
    };
    let (events, webhooks) = sorted(&ids);
    if !webhooks.is_empty() && missing.contains(&KEY) {
        return Err(Misuse(format!(
            "{KEY} is not set, so rejected webhooks cannot be mapped: set what the bridge has"
        ))
        .into());
    }

    let mut out = out();
    let mut well = true;
    let resolved = if args.force { Resolved::Sent } else { Resolved::Kept };
    for (id, outcome) in revive(&mut editor, &events, resolved).await? {
        well &= outcome.is_well();
        tell(ItemId::Event(id), &outcome, &mut out)?;
    }
    let ingest = Ingest::of(&config);
    for id in webhooks {
        // Told one by one, so that what was done before an error is known.
        let outcome = remap(&mut editor, &ingest, id).await?;
        well &= outcome.is_well();
        tell(ItemId::Rejected(id), &outcome, &mut out)?;
    }
    if ids.is_empty() {
        say("nothing is dead and nothing was rejected");
    }
    editor.close().await?;
    Ok(Exit::of(well))
}

/// A line for what was done, or a word on standard error for what was not.
fn tell(id: ItemId, outcome: &Retried, out: &mut impl Write) -> anyhow::Result<()> {
    match outcome {
        Retried::WaitsAgain => writeln!(out, "{id}: waits again")?,
        Retried::ResolvedSince => say(&format!(
            "{id}: is left as it is, because its incident was resolved since, and it would open it again; --force sends it \
             all the same"
        )),
        Retried::NoDeadLetter(state) => say(&format!("{id}: is no dead letter, but {state}")),
        Retried::TriggeredAnew => say(&format!(
            "{id}: is not sent, because its incident was triggered anew since and would be closed by it; discard it"
        )),
        Retried::NotThere => {
            let kind = if matches!(id, ItemId::Event(_)) { "event" } else { "rejected webhook" };
            say(&format!("{id}: the queue has no such {kind}"));
        }
        Retried::Queued { incident_key, events } => {
            for event in events {
                writeln!(out, "{id}: waits as event {event} of incident {}", line(&incident_key.to_string()))?;
            }
        }
        Retried::Ignored(reason) => writeln!(out, "{id}: is ignored, and gone: {}", line(&reason.to_string()))?,
        Retried::NothingOpen(incident_key) => {
            let incident = incident_key.to_string();
            writeln!(out, "{id}: is ignored, and gone: nothing is open for incident {}", line(&incident))?;
        }
        Retried::StillRejected(rejection) => say(&format!("{id}: is rejected still: {rejection}")),
        Retried::Outrun => say(&format!("{id}: somebody else was faster")),
    }
    Ok(())
}
