//! `queue discard`: deletes for ever, after asking.

use std::collections::HashSet;
use std::io::{self, BufRead, IsTerminal, Write, stdin, stdout};

use anyhow::Context;

use super::retry::sorted;
use super::{database, numbers, state_of, states_or};
use crate::cli::{QueueDiscardArgs, Standing};
use crate::commands::{Misuse, say};
use crate::exit::Exit;
use crate::queue::{Editor, EventId, ItemId, RejectedId, State};

/// What `--all` means when nothing else is said: what waits is on its way, and history goes by itself.
const UNWANTED: [Standing; 2] = [Standing::Dead, Standing::Rejected];

/// What is to be deleted.
#[derive(Debug, Default)]
struct Doomed {
    events: Vec<(State, Vec<EventId>)>,
    webhooks: Vec<RejectedId>,
}

pub(super) async fn run(args: &QueueDiscardArgs) -> anyhow::Result<Exit> {
    let mut editor = Editor::open(database()?.sqlite_path()).await?;
    let mut doomed = Doomed::default();
    let mut well = true;
    if args.all {
        for standing in states_or(&args.states, &UNWANTED) {
            let ids = numbers(editor.reader(), standing, u64::MAX).await?;
            let (events, mut webhooks) = sorted(&ids);
            doomed.webhooks.append(&mut webhooks);
            doomed.events.extend(state_of(standing).map(|state| (state, events)));
        }
    } else {
        well = doomed.find(&editor, &args.ids).await?;
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
        if !agrees(&doomed.question(), &mut stdin().lock(), &mut io::stderr())? {
            say("nothing was discarded");
            return Ok(Exit::Failed);
        }
    }
    let gone = doomed.delete(&mut editor).await?;
    writeln!(stdout(), "{gone} discarded")?;
    editor.close().await?;
    if gone < total {
        say(&format!("{} changed meanwhile and are left as they are", total - gone));
    }
    Ok(Exit::of(well && gone == total))
}

impl Doomed {
    /// Looks up where these stand, for only what stands there still may be deleted later. False when one is missing.
    async fn find(&mut self, editor: &Editor, ids: &[ItemId]) -> anyhow::Result<bool> {
        let (events, webhooks) = sorted(ids);
        let found = editor.reader().summaries(&events).await?;
        for state in [State::Waiting, State::Dead, State::Delivered] {
            let there: Vec<_> = found.iter().filter(|event| event.state == state).map(|event| event.id).collect();
            if !there.is_empty() {
                self.events.push((state, there));
            }
        }
        let rejected = editor.reader().rejected_summaries(u64::MAX).await?;
        let rejected: HashSet<_> = rejected.iter().map(|webhook| webhook.id).collect();
        let (webhooks, strangers): (Vec<_>, Vec<_>) = webhooks.into_iter().partition(|id| rejected.contains(id));
        self.webhooks = webhooks;
        let found: HashSet<_> = found.iter().map(|event| event.id).collect();
        let missing = events.iter().filter(|id| !found.contains(id)).map(|id| ItemId::Event(*id));
        let missing: Vec<_> = missing.chain(strangers.into_iter().map(ItemId::Rejected)).collect();
        for id in &missing {
            say(&format!("{id}: the queue has nothing with this number"));
        }
        Ok(missing.is_empty())
    }

    fn total(&self) -> usize {
        self.events.iter().map(|(_, ids)| ids.len()).sum::<usize>() + self.webhooks.len()
    }

    fn question(&self) -> String {
        let events = self.events.iter().filter(|(_, ids)| !ids.is_empty());
        let mut parts: Vec<_> = events.map(|(state, ids)| format!("{} {state}", ids.len())).collect();
        if !self.webhooks.is_empty() {
            parts.push(format!("{} rejected", self.webhooks.len()));
        }
        format!("Discard {} for ever? [y/N] ", parts.join(", "))
    }

    async fn delete(&self, editor: &mut Editor) -> anyhow::Result<usize> {
        let mut gone = 0;
        for (state, ids) in &self.events {
            gone += editor.discard(*state, ids).await?.len();
        }
        for id in &self.webhooks {
            gone += usize::from(editor.discard_rejected(*id).await?);
        }
        Ok(gone)
    }
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

    #[test]
    fn only_a_yes_is_a_yes() {
        let doomed = Doomed {
            events: vec![(State::Waiting, Vec::new()), (State::Dead, vec![EventId::new(1), EventId::new(2)])],
            webhooks: vec![RejectedId::new(1)],
        };
        assert_eq!(doomed.total(), 3);
        for (answer, agreed) in
            [("y\n", true), (" YES \n", true), ("n\n", false), ("\n", false), ("", false), ("yeah\n", false)]
        {
            let mut asked = Vec::new();
            assert_eq!(agrees(&doomed.question(), &mut answer.as_bytes(), &mut asked).unwrap(), agreed, "{answer:?}");
            assert_eq!(asked, b"Discard 2 dead, 1 rejected for ever? [y/N] ");
        }
    }
}
