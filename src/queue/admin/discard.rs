//! Permanently deletes events and rejected webhooks.

use std::collections::HashSet;

use super::{Editor, sorted};
use crate::queue::{EventId, ItemId, QueueError, Reader, RejectedId, State};

/// The outcome of deleting an event or a rejected webhook.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Discarded {
    /// It was deleted.
    Gone,
    /// It was left as it is, because it changed meanwhile or is not in the requested state.
    Changed,
    /// The queue has no event or rejected webhook with this number.
    NotFound,
}

/// The events and rejected webhooks to delete. Each event has the state in which it was seen, and is deleted only if it
/// is still in that state.
#[derive(Debug, Default)]
pub struct Deletion {
    events: Vec<(State, Vec<EventId>)>,
    webhooks: Vec<RejectedId>,
}

impl Deletion {
    /// Looks up the states of `ids`. Also returns the ids that the queue does not have.
    ///
    /// # Errors
    ///
    /// When the database cannot be read.
    pub async fn find(reader: &Reader, ids: &[ItemId]) -> Result<(Self, Vec<ItemId>), QueueError> {
        let (events, webhooks) = sorted(ids);
        let mut deletion = Self::default();
        let found = reader.summaries(&events).await?;
        for state in [State::Waiting, State::Dead, State::Delivered] {
            let there: Vec<_> = found.iter().filter(|event| event.state == state).map(|event| event.id).collect();
            deletion.add_events(state, there);
        }
        let rejected: HashSet<_> = if webhooks.is_empty() {
            HashSet::new()
        } else {
            reader.rejected_summaries(u64::MAX).await?.iter().map(|webhook| webhook.id).collect()
        };
        let (webhooks, strangers): (Vec<_>, Vec<_>) = webhooks.into_iter().partition(|id| rejected.contains(id));
        deletion.add_webhooks(webhooks);
        let mut found: HashSet<_> = found.iter().map(|event| event.id).collect();
        let missing: Vec<_> = events.iter().copied().filter(|id| !found.contains(id)).collect();
        // An event that cannot be read can still be deleted, unless its page is damaged.
        let unreadable = reader.still_waiting(&missing).await?;
        found.extend(&unreadable);
        deletion.add_events(State::Waiting, unreadable);
        let missing = events.into_iter().filter(|id| !found.contains(id)).map(ItemId::Event);
        Ok((deletion, missing.chain(strangers.into_iter().map(ItemId::Rejected)).collect()))
    }

    /// Adds events that are in `state`.
    pub fn add_events(&mut self, state: State, ids: Vec<EventId>) {
        if !ids.is_empty() {
            self.events.push((state, ids));
        }
    }

    /// Adds rejected webhooks.
    pub fn add_webhooks(&mut self, mut ids: Vec<RejectedId>) {
        self.webhooks.append(&mut ids);
    }

    /// The events, grouped by the state in which they were seen. No list is empty.
    #[must_use]
    pub fn events(&self) -> &[(State, Vec<EventId>)] {
        &self.events
    }

    /// The rejected webhooks.
    #[must_use]
    pub fn webhooks(&self) -> &[RejectedId] {
        &self.webhooks
    }

    /// The number of events and rejected webhooks.
    #[must_use]
    pub fn total(&self) -> usize {
        self.events.iter().map(|(_, ids)| ids.len()).sum::<usize>() + self.webhooks.len()
    }

    /// Deletes the rejected webhooks, and the events that are still in the state in which they were seen. Returns what
    /// was deleted.
    ///
    /// # Errors
    ///
    /// When not all of it could be committed.
    pub async fn delete(&self, editor: &mut Editor) -> Result<Vec<ItemId>, QueueError> {
        let mut gone = Vec::new();
        for (state, ids) in &self.events {
            gone.extend(editor.discard(*state, ids).await?.into_iter().map(ItemId::Event));
        }
        for id in &self.webhooks {
            if editor.discard_rejected(*id).await? {
                gone.push(ItemId::Rejected(*id));
            }
        }
        Ok(gone)
    }
}

/// Deletes `ids`. If `only` is given, an event is deleted only if it is in that state.
///
/// # Errors
///
/// When not all of it could be committed.
pub async fn discard(
    editor: &mut Editor,
    ids: &[ItemId],
    only: Option<State>,
) -> Result<Vec<(ItemId, Discarded)>, QueueError> {
    let (mut deletion, missing) = Deletion::find(editor.reader(), ids).await?;
    deletion.events.retain(|(state, _)| only.is_none_or(|only| *state == only));
    let gone: HashSet<_> = deletion.delete(editor).await?.into_iter().collect();
    let missing: HashSet<_> = missing.into_iter().collect();
    let outcome = |id: &ItemId| match id {
        id if gone.contains(id) => Discarded::Gone,
        id if missing.contains(id) => Discarded::NotFound,
        _ => Discarded::Changed,
    };
    let (events, webhooks) = sorted(ids);
    let ids = events.into_iter().map(ItemId::Event).chain(webhooks.into_iter().map(ItemId::Rejected));
    Ok(ids.map(|id| (id, outcome(&id))).collect())
}
