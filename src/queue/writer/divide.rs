//! A commit that fails by damaged content is divided, so that only what touches the damage fails.
//!
//! One damaged page must not refuse the alerts that happen to share a commit with whatever needs that page. Halves of
//! halves are tried: one such command among 512 costs about twenty commits.

use log::{Level, log};

use super::{Batch, Begin, Carried, Command, Engine, Round};
use crate::logging::throttle;

impl Round {
    /// What is to be committed by itself after all of it together failed by damaged content, in its order; nothing where
    /// it is a single command.
    pub(super) fn divided(self) -> Vec<Self> {
        let mut commands = self.into_commands();
        if commands.len() < 2 {
            return commands.into_iter().map(Self::of_one).collect();
        }
        let second = commands.split_off(commands.len() / 2);
        [commands, second].into_iter().map(Self::of).collect()
    }

    pub(super) fn commands(&self) -> usize {
        let Self { receiving, repeating, settling, beginning, rejecting, probing, .. } = self;
        let told = receiving.len() + repeating.len() + settling.len() + beginning.len();
        told + rejecting.len() + probing.len()
    }

    fn of(commands: Vec<Command>) -> Self {
        let mut round = Self::default();
        for command in commands {
            round.add(command);
        }
        round
    }

    fn of_one(command: Command) -> Self {
        Self::of(vec![command])
    }

    /// In the order in which a batch is written.
    fn into_commands(self) -> Vec<Command> {
        let Batch { incoming, settlements, begins, rejected, .. } = self.batch;
        let receive = |(incoming, reply)| Command::Receive { incoming: Box::new(incoming), reply };
        let mut commands: Vec<_> = incoming.into_iter().zip(self.receiving).map(receive).collect();
        // Whatever they repeat may fail now, and then it is their turn.
        commands.extend(self.repeating.into_iter().map(receive));
        commands.extend(
            settlements.into_iter().zip(self.settling).map(|((id, settlement, at), reply)| Command::Settle {
                id,
                settlement,
                at,
                reply,
            }),
        );
        let begins = begins.into_iter().zip(self.beginning);
        commands.extend(begins.map(|(begin, reply): (Begin, _)| Command::Begin { begin, reply }));
        let rejected = rejected.into_iter().zip(self.rejecting);
        commands.extend(rejected.map(|(rejected, reply)| Command::Reject { rejected, reply }));
        commands.extend(self.probing.into_iter().map(|reply| Command::Probe { reply }));
        commands
    }
}

impl Carried {
    /// Writes what is owed one by one, and remembers the events whose marks damage does not let be written. Says whether nothing is
    /// owed any more.
    pub(super) async fn pay(&mut self, engine: &mut Engine) -> bool {
        for mark in std::mem::take(&mut self.owed) {
            match engine.commit(Batch { owed: vec![mark], ..Batch::default() }).await {
                Ok(_) => {}
                Err(error) if error.is_of_content() => {
                    let line = throttle::line("attempts were not recorded as begun", Level::Error);
                    log!(line.level, event = mark.0.get(); "an attempt that was made cannot be marked: {error}{line}");
                    self.unmarkable.insert(mark.0);
                }
                Err(_) => self.owed.push(mark),
            }
        }
        self.owed.is_empty()
    }
}
