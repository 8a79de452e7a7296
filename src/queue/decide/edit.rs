//! Changes that people make while a bridge is running.

use chrono::{DateTime, Utc};

use super::Decider;
use crate::pagerduty::EventType;
use crate::queue::store::{Dependencies, EventToEdit};
use crate::queue::{EventId, HeldId, RejectedId, ResolvedTriggers, State};

/// A requested change.
#[derive(Clone, Copy, Debug)]
pub(in crate::queue) enum Edit<'b> {
    /// Requeue dead letters at their places.
    Requeue { ids: &'b [EventId], at: DateTime<Utc>, resolved: ResolvedTriggers },
    /// Delete the events that are in this state.
    Discard { ids: &'b [EventId], state: State },
    /// Delete a rejected webhook. If it no longer exists, nothing of the batch is done: someone else has enqueued what
    /// it became.
    DiscardRejected(RejectedId),
    /// Store the reason for which a webhook was rejected again.
    RejectAgain(RejectedId, &'b str),
    /// Delete held webhooks. If one of them no longer exists, nothing of the batch is done, as above.
    DiscardHeld(&'b [HeldId]),
}

impl Edit<'_> {
    /// The rows that the change depends on.
    pub(super) fn dependencies(self) -> Dependencies {
        match self {
            Self::Requeue { ids, .. } | Self::Discard { ids, .. } => {
                Dependencies { to_edit: sorted(ids), ..Dependencies::default() }
            }
            Self::DiscardRejected(id) | Self::RejectAgain(id, _) => {
                Dependencies { rejected: vec![id], ..Dependencies::default() }
            }
            Self::DiscardHeld(ids) => Dependencies { held: sorted(ids), ..Dependencies::default() },
        }
    }
}

/// Sorts the ids and removes duplicates.
fn sorted<T: Copy + Ord>(ids: &[T]) -> Vec<T> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids.dedup();
    ids
}

impl<'b> Decider<'b> {
    /// Plans a change for the rows that it still applies to. Returns whether the batch continues.
    pub(super) fn edit(&mut self, edit: Edit<'b>) -> bool {
        let known = self.known;
        match edit {
            Edit::Requeue { at, resolved, .. } => {
                let requeued = known.to_edit.iter().filter(|(id, event)| event.may_be_requeued(**id, resolved));
                self.plan.requeued = requeued.map(|(id, _)| (*id, at)).collect();
                self.plan.requeued.sort_unstable();
            }
            Edit::Discard { state, .. } => {
                let mut discarded: Vec<_> = known.to_edit.iter().filter(|(_, event)| event.state == state).collect();
                discarded.sort_unstable_by_key(|(id, _)| **id);
                for (id, event) in discarded {
                    self.discard(*id, event);
                }
            }
            Edit::DiscardRejected(id) => {
                if !known.rejected.contains(&id) {
                    return false;
                }
                self.plan.forget_rejected.push(id);
            }
            Edit::RejectAgain(id, reason) => {
                self.plan.reasons.extend(known.rejected.contains(&id).then_some((id, reason)));
            }
            Edit::DiscardHeld(ids) => {
                if !ids.iter().all(|id| known.held.contains(id)) {
                    return false;
                }
                self.plan.forget_held = sorted(ids);
            }
        }
        true
    }

    /// Deletes an event. The rate limiter still counts its attempts. PagerDuty may have accepted a waiting trigger that
    /// was attempted, so its incident counts as open, and its resolve is still sent.
    fn discard(&mut self, id: EventId, event: &'b EventToEdit) {
        self.plan.discarded.push(id);
        let (Some(queue), Some(last_at)) = (&event.queue, event.last_attempt_at) else { return };
        self.plan.discarded_attempts.push((&queue.service_key, last_at, event.attempts));
        if event.state == State::Waiting && event.event_type == Some(EventType::Trigger) {
            self.record_opened(queue, id, last_at, event);
        }
    }
}

impl EventToEdit {
    /// Whether it is a dead letter that may wait again at its place. A resolve may not if its incident was triggered
    /// again: it would close the incident that is open now. Nor may a trigger whose incident was resolved since, unless
    /// `resolved` says so: it would open the incident again.
    fn may_be_requeued(&self, id: EventId, resolved: ResolvedTriggers) -> bool {
        // Event numbers show which came first, whatever the clock showed. Earlier versions stored no event number for
        // an incident.
        let is_open_since = self.opened.is_some_and(|(opener, at)| match opener {
            Some(opener) => opener > id,
            None => self.finished_at.is_some_and(|finished_at| at > finished_at),
        });
        let would_close = self.event_type == Some(EventType::Resolve) && (self.trigger_waits || is_open_since);
        self.state == State::Dead
            && (resolved == ResolvedTriggers::Requeue || self.resolved_at.is_none())
            && !would_close
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pagerduty::{ApiSet, ApiVersion};
    use crate::queue::decide::dedup_window::DedupWindow;
    use crate::queue::decide::tests::{KEY, at, enqueue, incident, key};
    use crate::queue::decide::{Batch, decide, dependencies};
    use crate::queue::store::{IncidentQueueKey, Known};

    fn id(number: i64) -> EventId {
        EventId::new(number)
    }

    /// A dead letter that was attempted twice, last at second 3, and ended at second 5.
    fn dead(event_type: EventType) -> EventToEdit {
        EventToEdit {
            state: State::Dead,
            queue: Some(IncidentQueueKey { incident_key: incident("1"), service_key: key(KEY) }),
            api: ApiVersion::V1,
            event_type: Some(event_type),
            sentry_at: Some(at(1)),
            attempts: 2,
            last_attempt_at: Some(at(3)),
            finished_at: Some(at(5)),
            resolved_at: None,
            trigger_waits: false,
            opened: None,
            open_apis: ApiSet::default(),
        }
    }

    fn known(events: impl IntoIterator<Item = (i64, EventToEdit)>) -> Known {
        let to_edit = events.into_iter().map(|(number, event)| (id(number), event)).collect();
        Known { to_edit, ..Known::default() }
    }

    #[test]
    fn a_dead_letter_waits_again_unless_that_would_close_or_open_its_incident_wrongly() {
        let (trigger, resolve) = (dead(EventType::Trigger), dead(EventType::Resolve));
        let opened = |opener: Option<i64>, second| Some((opener.map(id), at(second)));
        let table = [
            ("a trigger", trigger.clone(), true, true),
            ("what waits", EventToEdit { state: State::Waiting, ..trigger.clone() }, false, false),
            ("what was delivered", EventToEdit { state: State::Delivered, ..trigger.clone() }, false, false),
            ("a resolved trigger", EventToEdit { resolved_at: Some(at(9)), ..trigger.clone() }, false, true),
            ("a trigger before another", EventToEdit { trigger_waits: true, ..trigger.clone() }, true, true),
            ("a trigger that is open", EventToEdit { opened: opened(Some(8), 9), ..trigger.clone() }, true, true),
            ("a resolve", resolve.clone(), true, true),
            ("a resolve before a trigger", EventToEdit { trigger_waits: true, ..resolve.clone() }, false, false),
            // The event numbers count, and not the clock.
            ("opened before", EventToEdit { opened: opened(Some(6), 9), ..resolve.clone() }, true, true),
            ("opened since", EventToEdit { opened: opened(Some(8), 1), ..resolve.clone() }, false, false),
            // An earlier version stored no event number.
            ("opened earlier", EventToEdit { opened: opened(None, 4), ..resolve.clone() }, true, true),
            ("opened later", EventToEdit { opened: opened(None, 6), ..resolve.clone() }, false, false),
            ("no end", EventToEdit { opened: opened(None, 6), finished_at: None, ..resolve.clone() }, true, true),
            ("unreadable", EventToEdit { queue: None, event_type: None, ..resolve }, true, true),
        ];
        for (name, event, expected, insisting) in table {
            let known = known([(7, event)]);
            for (resolved, expected) in [(ResolvedTriggers::Skip, expected), (ResolvedTriggers::Requeue, insisting)] {
                let edit = Edit::Requeue { ids: &[id(7)], at: at(10), resolved };
                let batch = Batch { edit: Some(edit), ..Batch::default() };
                let requeued = decide(&batch, &known, &DedupWindow::default()).plan.requeued;
                let expected = Vec::from_iter(expected.then_some((id(7), at(10))));
                assert_eq!(requeued, expected, "{name}, resolved ones: {resolved:?}");
            }
        }
    }

    #[test]
    fn the_attempts_of_what_is_discarded_still_count_and_a_trigger_that_pagerduty_may_have_is_open() {
        let waiting = EventToEdit { state: State::Waiting, finished_at: None, ..dead(EventType::Trigger) };
        let later = EventToEdit { last_attempt_at: Some(at(2)), sentry_at: None, ..waiting.clone() };
        let unattempted = EventToEdit { attempts: 0, last_attempt_at: None, ..waiting.clone() };
        let resolve = EventToEdit { event_type: Some(EventType::Resolve), ..waiting.clone() };
        let unreadable = EventToEdit { queue: None, ..waiting.clone() };
        let other = EventToEdit { state: State::Delivered, ..waiting.clone() };
        let (ids, service_key) = ([id(9), id(4), id(4)], key(KEY));
        let attempts = |attempts: &[(i64, u32)]| -> Vec<_> {
            attempts.iter().map(|(second, attempts)| (&service_key, at(*second), *attempts)).collect::<Vec<_>>()
        };
        let table = [
            (State::Waiting, known([(4, waiting.clone())]), vec![4], attempts(&[(3, 2)]), Some((4, 3, Some(1)))),
            (
                State::Waiting,
                known([(9, later), (4, waiting)]),
                vec![4, 9],
                attempts(&[(3, 2), (2, 2)]),
                Some((9, 3, Some(1))),
            ),
            (State::Waiting, known([(4, unattempted), (9, other)]), vec![4], vec![], None),
            (State::Waiting, known([(4, resolve)]), vec![4], attempts(&[(3, 2)]), None),
            (State::Waiting, known([(4, unreadable)]), vec![4], vec![], None),
            (State::Dead, known([(4, dead(EventType::Trigger))]), vec![4], attempts(&[(3, 2)]), None),
        ];
        for (state, known, gone, attempts, opened) in table {
            let batch = Batch { edit: Some(Edit::Discard { ids: &ids, state }), ..Batch::default() };
            assert_eq!(dependencies(&batch).to_edit, [id(4), id(9)]);
            let plan = decide(&batch, &known, &DedupWindow::default()).plan;
            assert_eq!(plan.discarded, gone.into_iter().map(id).collect::<Vec<_>>(), "{known:?}");
            assert_eq!(plan.discarded_attempts, attempts, "{known:?}");
            let updates = plan.incidents.iter().map(|update| {
                assert!(update.is_open);
                (update.event_id.get(), update.changed_at, update.sentry_at)
            });
            let opened =
                opened.map(|(opener, changed, sentry): (i64, i64, Option<i64>)| (opener, at(changed), sentry.map(at)));
            assert_eq!(updates.collect::<Vec<_>>(), Vec::from_iter(opened), "{known:?}");
        }
    }

    #[test]
    fn what_a_rejected_webhook_became_is_enqueued_only_while_that_is_there() {
        let (webhook, enqueue) = (RejectedId::new(3), enqueue("t1", 0));
        let edit = Some(Edit::DiscardRejected(webhook));
        let batch = Batch { edit, enqueues: vec![&enqueue], is_late: true, ..Batch::default() };
        assert_eq!(dependencies(&batch).rejected, [webhook]);
        let gone = Known::default();
        let decided = decide(&batch, &gone, &DedupWindow::default());
        assert_eq!((decided.enqueued.len(), decided.plan.rows.len(), decided.plan.forget_rejected.len()), (0, 0, 0));
        let there = Known { rejected: [webhook].into(), ..Known::default() };
        let decided = decide(&batch, &there, &DedupWindow::default());
        assert_eq!((decided.enqueued.len(), decided.plan.rows.len()), (1, 1));
        assert_eq!(decided.plan.forget_rejected, [webhook]);

        let batch = Batch { edit: Some(Edit::RejectAgain(webhook, "no issue")), ..Batch::default() };
        assert_eq!(decide(&batch, &there, &DedupWindow::default()).plan.reasons, [(webhook, "no issue")]);
        assert!(decide(&batch, &gone, &DedupWindow::default()).plan.reasons.is_empty());
    }

    #[test]
    fn what_held_webhooks_became_is_enqueued_only_while_all_of_them_are_there() {
        let (first, second, enqueue) = (HeldId::new(3), HeldId::new(5), enqueue("t1", 0));
        let ids = [second, first];
        let edit = Some(Edit::DiscardHeld(&ids));
        let batch = Batch { edit, enqueues: vec![&enqueue], is_late: true, ..Batch::default() };
        assert_eq!(dependencies(&batch).held, [first, second]);
        for (there, admitted) in [(vec![], 0), (vec![first], 0), (vec![first, second], 1)] {
            let known = Known { held: there.into_iter().collect(), ..Known::default() };
            let decided = decide(&batch, &known, &DedupWindow::default());
            assert_eq!((decided.enqueued.len(), decided.plan.rows.len()), (admitted, admitted), "{known:?}");
            assert_eq!(decided.plan.forget_held.len(), 2 * admitted, "{known:?}");
        }
    }
}
