//! `queue`: inspect and change waiting events, dead letters and rejected webhooks, with or without a running bridge.

mod read;

use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, IsTerminal, Write, stdin};
use std::path::Path;
use std::{fs, io};

use anyhow::Context;
use read::{create, database, event_state, numbers, states_or};

use super::environment::{UsageError, block_on, config_with_placeholders, out, say};
use crate::cli::{ItemState, QueueCommand, QueueDiscardArgs, QueueExportArgs, QueueRetryArgs};
use crate::exit_code::ExitCode;
use crate::ingest::Ingest;
use crate::printable::line;
use crate::queue::admin::retry::{reprocess, requeue};
use crate::queue::admin::{Deletion, ResolvedTriggers, Retried, sorted};
use crate::queue::{Editor, ItemId, State, transfer};

/// The setting without which a rejected webhook has no service key to go to.
const KEY: &str = "BRIDGE_PAGERDUTY_SERVICE_KEY";

/// Runs a subcommand.
pub(super) fn run(command: &QueueCommand) -> anyhow::Result<ExitCode> {
    block_on(async {
        match command {
            QueueCommand::List(args) => read::list(args).await,
            QueueCommand::Show(args) => read::show(args).await,
            QueueCommand::Retry(args) => retry(args).await,
            QueueCommand::Discard(args) => discard(args).await,
            QueueCommand::Export(args) if args.complete => export_all(args).await,
            QueueCommand::Export(args) => read::export(args).await,
            QueueCommand::Import { from } => import(from).await,
        }
    })
}

async fn retry(args: &QueueRetryArgs) -> anyhow::Result<ExitCode> {
    let (config, missing) = config_with_placeholders()?;
    let mut editor = Editor::open(config.database()).await?;
    let ids = if args.all {
        let mut ids = numbers(editor.reader(), ItemState::Dead, u64::MAX).await?;
        ids.append(&mut numbers(editor.reader(), ItemState::Rejected, u64::MAX).await?);
        ids
    } else {
        args.ids.clone()
    };
    let (events, webhooks) = sorted(&ids);
    if !webhooks.is_empty() && missing.contains(&KEY) {
        return Err(UsageError(format!(
            "{KEY} is not set, so rejected webhooks cannot be mapped: set it as for the bridge"
        ))
        .into());
    }

    let mut out = out();
    let mut all_done = true;
    let resolved = if args.force { ResolvedTriggers::Requeue } else { ResolvedTriggers::Skip };
    for (id, outcome) in requeue(&mut editor, &events, resolved).await? {
        all_done &= outcome.is_well();
        print_retried(ItemId::Event(id), &outcome, &mut out)?;
    }
    let ingest = Ingest::from(&config);
    for id in webhooks {
        // Printed one by one, so that what was done before an error is known.
        let outcome = reprocess(&mut editor, &ingest, id).await?;
        all_done &= outcome.is_well();
        print_retried(ItemId::Rejected(id), &outcome, &mut out)?;
    }
    if ids.is_empty() {
        say("there are no dead letters and no rejected webhooks");
    }
    editor.close().await?;
    Ok(ExitCode::of(all_done))
}

/// Writes what was done to standard output, and what was not to standard error.
fn print_retried(id: ItemId, outcome: &Retried, out: &mut impl Write) -> anyhow::Result<()> {
    match outcome {
        Retried::Requeued => writeln!(out, "{id}: requeued")?,
        Retried::ResolvedSince => say(&format!(
            "{id}: not retried, because its incident was resolved since and this event would open it again; --force retries it \
             anyway"
        )),
        Retried::TriggeredSince => say(&format!(
            "{id}: not retried, because its incident was triggered again since and it would resolve that; discard it"
        )),
        Retried::NotADeadLetter(State::Delivered) => {
            say(&format!("{id}: already delivered; only dead letters can be retried"));
        }
        Retried::NotADeadLetter(state) => say(&format!("{id}: {state}; only dead letters can be retried")),
        Retried::NotFound => {
            let kind = if matches!(id, ItemId::Event(_)) { "event" } else { "rejected webhook" };
            say(&format!("{id}: the queue has no such {kind}"));
        }
        Retried::Queued { incident_key, events } => {
            for event in events {
                writeln!(out, "{id}: queued as event {event} of incident {}", line(&incident_key.to_string()))?;
            }
        }
        Retried::Ignored(reason) => writeln!(out, "{id}: ignored and deleted: {}", line(&reason.to_string()))?,
        Retried::NothingOpen(incident_key) => {
            let incident = incident_key.to_string();
            writeln!(out, "{id}: ignored and deleted: nothing is open for incident {}", line(&incident))?;
        }
        Retried::StillRejected(rejection) => say(&format!("{id}: is still rejected: {rejection}")),
        Retried::Changed => say(&format!("{id}: changed in the meantime; try again")),
    }
    Ok(())
}

/// What `--all` means by default: waiting events are still to be delivered, and delivered events are pruned anyway.
const DISCARDED_BY_DEFAULT: [ItemState; 2] = [ItemState::Dead, ItemState::Rejected];

async fn discard(args: &QueueDiscardArgs) -> anyhow::Result<ExitCode> {
    let mut editor = Editor::open(database()?).await?;
    let mut deletion = Deletion::default();
    let mut all_done = true;
    if args.all {
        for state in states_or(&args.states, &DISCARDED_BY_DEFAULT) {
            let ids = numbers(editor.reader(), state, u64::MAX).await?;
            let (events, webhooks) = sorted(&ids);
            deletion.add_webhooks(webhooks);
            if let Some(state) = event_state(state) {
                deletion.add_events(state, events);
            }
        }
    } else {
        let missing;
        (deletion, missing) = Deletion::find(editor.reader(), &args.ids).await?;
        for id in &missing {
            say(&format!("{id}: the queue has nothing with this number"));
        }
        all_done = missing.is_empty();
    }
    let total = deletion.total();
    if total == 0 {
        say("there is nothing to discard");
        return Ok(ExitCode::of(all_done));
    }
    if !args.yes {
        if !stdin().is_terminal() {
            return Err(UsageError(
                "standard input is not a terminal: pass --yes to discard without confirmation".to_owned(),
            )
            .into());
        }
        if !confirm(&question(&deletion), &mut stdin().lock(), &mut io::stderr())? {
            say("nothing was discarded");
            return Ok(ExitCode::Failed);
        }
    }
    let gone = deletion.delete(&mut editor).await?.len();
    writeln!(out(), "{gone} discarded")?;
    editor.close().await?;
    if gone < total {
        say(&format!("{} changed in the meantime and were not discarded", total - gone));
    }
    Ok(ExitCode::of(all_done && gone == total))
}

fn question(deletion: &Deletion) -> String {
    let mut parts: Vec<_> = deletion.events().iter().map(|(state, ids)| format!("{} {state}", ids.len())).collect();
    if !deletion.webhooks().is_empty() {
        parts.push(format!("{} rejected", deletion.webhooks().len()));
    }
    format!("Discard {} permanently? [y/N] ", parts.join(", "))
}

/// Asks the question, and accepts only `y` or `yes` as consent.
fn confirm(question: &str, answers: &mut impl BufRead, out: &mut impl Write) -> anyhow::Result<bool> {
    write!(out, "{question}").and_then(|()| out.flush()).context("the question cannot be printed")?;
    let mut answer = String::new();
    answers.read_line(&mut answer).context("the answer cannot be read")?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

/// `queue export --complete`: writes a whole queue, for another database.
async fn export_all(args: &QueueExportArgs) -> anyhow::Result<ExitCode> {
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

/// `queue import`: fills an empty database with what `export --complete` wrote.
async fn import(path: &Path) -> anyhow::Result<ExitCode> {
    let config = database()?;
    let rows = if path == Path::new("-") {
        transfer::import(&config, &mut BufReader::new(io::stdin())).await?
    } else {
        let file = File::open(path).with_context(|| format!("{} cannot be read", path.display()))?;
        transfer::import(&config, &mut BufReader::new(file)).await?
    };
    say(&format!("{rows} rows imported"));
    Ok(ExitCode::Done)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{EventId, RejectedId, State};

    #[test]
    fn only_a_yes_is_a_yes() {
        let mut deletion = Deletion::default();
        deletion.add_events(State::Waiting, Vec::new());
        deletion.add_events(State::Dead, vec![EventId::new(1), EventId::new(2)]);
        deletion.add_webhooks(vec![RejectedId::new(1)]);
        assert_eq!(deletion.total(), 3);
        for (answer, agreed) in
            [("y\n", true), (" YES \n", true), ("n\n", false), ("\n", false), ("", false), ("yeah\n", false)]
        {
            let mut asked = Vec::new();
            assert_eq!(
                confirm(&question(&deletion), &mut answer.as_bytes(), &mut asked).unwrap(),
                agreed,
                "{answer:?}"
            );
            assert_eq!(asked, b"Discard 2 dead, 1 rejected permanently? [y/N] ");
        }
    }
}
