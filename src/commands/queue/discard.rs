//! `queue discard`: deletes for ever, after asking.

use std::io::{self, BufRead, IsTerminal, Write, stdin};

use anyhow::Context;

use super::{database, numbers, state_of, states_or};
use crate::cli::{QueueDiscardArgs, Standing};
use crate::commands::{Misuse, out, say};
use crate::exit::Exit;
use crate::queue::Editor;
use crate::queue::admin::{Deletion, sorted};

/// What `--all` means when nothing else is said: what waits is on its way, and history goes by itself.
const UNWANTED: [Standing; 2] = [Standing::Dead, Standing::Rejected];

pub(super) async fn run(args: &QueueDiscardArgs) -> anyhow::Result<Exit> {
    let mut editor = Editor::open(database()?.sqlite_path()).await?;
    let mut doomed = Deletion::default();
    let mut well = true;
    if args.all {
        for standing in states_or(&args.states, &UNWANTED) {
            let ids = numbers(editor.reader(), standing, u64::MAX).await?;
            let (events, webhooks) = sorted(&ids);
            doomed.add_webhooks(webhooks);
            if let Some(state) = state_of(standing) {
                doomed.add_events(state, events);
            }
        }
    } else {
        let missing;
        (doomed, missing) = Deletion::find(editor.reader(), &args.ids).await?;
        for id in &missing {
            say(&format!("{id}: the queue has nothing with this number"));
        }
        well = missing.is_empty();
    }
    let total = doomed.total();
    if total == 0 {
        say("there is nothing to discard");
        return Ok(Exit::of(well));
    }
    if !args.yes {
        if !stdin().is_terminal() {
            return Err(Misuse("nobody can be asked here: say --yes to discard without being asked".to_owned()).into());
        }
        if !agrees(&question(&doomed), &mut stdin().lock(), &mut io::stderr())? {
            say("nothing was discarded");
            return Ok(Exit::Failed);
        }
    }
    let gone = doomed.delete(&mut editor).await?.len();
    writeln!(out(), "{gone} discarded")?;
    editor.close().await?;
    if gone < total {
        say(&format!("{} changed meanwhile and are left as they are", total - gone));
    }
    Ok(Exit::of(well && gone == total))
}

fn question(doomed: &Deletion) -> String {
    let mut parts: Vec<_> = doomed.events().iter().map(|(state, ids)| format!("{} {state}", ids.len())).collect();
    if !doomed.webhooks().is_empty() {
        parts.push(format!("{} rejected", doomed.webhooks().len()));
    }
    format!("Discard {} for ever? [y/N] ", parts.join(", "))
}

/// Asks, and takes nothing but a yes for one.
fn agrees(question: &str, answers: &mut impl BufRead, out: &mut impl Write) -> anyhow::Result<bool> {
    write!(out, "{question}").and_then(|()| out.flush()).context("nobody can be asked")?;
    let mut answer = String::new();
    answers.read_line(&mut answer).context("the answer cannot be read")?;
    Ok(["y", "yes"].contains(&answer.trim().to_lowercase().as_str()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::{EventId, RejectedId, State};

    #[test]
    fn only_a_yes_is_a_yes() {
        let mut doomed = Deletion::default();
        doomed.add_events(State::Waiting, Vec::new());
        doomed.add_events(State::Dead, vec![EventId::new(1), EventId::new(2)]);
        doomed.add_webhooks(vec![RejectedId::new(1)]);
        assert_eq!(doomed.total(), 3);
        for (answer, agreed) in
            [("y\n", true), (" YES \n", true), ("n\n", false), ("\n", false), ("", false), ("yeah\n", false)]
        {
            let mut asked = Vec::new();
            assert_eq!(agrees(&question(&doomed), &mut answer.as_bytes(), &mut asked).unwrap(), agreed, "{answer:?}");
            assert_eq!(asked, b"Discard 2 dead, 1 rejected for ever? [y/N] ");
        }
    }
}
