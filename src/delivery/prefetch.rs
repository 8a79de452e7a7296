//! Which part of the waiting events of one service key is loaded.

use crate::queue::EventId;

/// How far the queue was read, and whether to read on.
#[derive(Debug, Default)]
pub(super) struct Prefetch {
    /// The waiting events up to this one are loaded. Ids only grow, so this distinguishes known events from new ones.
    read_to: Option<EventId>,
    /// The queue may hold newer events.
    has_more: bool,
    load: Load,
    /// Pages up to this event are read again, whether there is room or not: most of their events are loaded already.
    reread_to: Option<EventId>,
}

/// The page that is being read.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Load {
    #[default]
    None,
    InProgress,
    /// It may lack an event that arrived meanwhile.
    Incomplete,
    /// Everything has to be read again after it.
    Outdated,
}

impl Prefetch {
    /// Reads on, because the queue may hold newer events that were not announced.
    pub(super) fn read_on(&mut self) {
        self.has_more = true;
        // The page may have been read before they arrived.
        if self.load == Load::InProgress {
            self.load = Load::Incomplete;
        }
    }

    /// Reads everything again, because events that were not announced may be anywhere in the queue.
    pub(super) fn reread(&mut self) {
        self.has_more = true;
        if self.load == Load::None {
            self.reread_to = self.reread_to.max(self.read_to.take());
        } else {
            self.load = Load::Outdated;
        }
    }

    /// Whether a page is being read.
    pub(super) fn is_loading(&self) -> bool {
        self.load != Load::None
    }

    /// Whether a [`reread`](Self::reread) is not complete yet.
    pub(super) fn is_rereading(&self) -> bool {
        self.reread_to.is_some() || self.load == Load::Outdated
    }

    /// Whether to hold an event that was just committed. If not, a later page contains it, or an earlier page did.
    pub(super) fn accepts(&mut self, id: EventId, is_full: bool) -> bool {
        if self.read_to >= Some(id) {
            return false;
        }
        if self.has_more || is_full {
            self.read_on();
            return false;
        }
        self.read_to = Some(id);
        true
    }

    /// Whether a page should be read now, after [`read_to`](Self::read_to). If so, it counts as being read from then on.
    pub(super) fn wants_page(&mut self, has_room: bool) -> bool {
        let wanted = self.has_more && self.load == Load::None && (has_room || self.reread_to.is_some());
        if wanted {
            self.load = Load::InProgress;
        }
        wanted
    }

    /// Returns the event after which the next page begins.
    pub(super) fn read_to(&self) -> Option<EventId> {
        self.read_to
    }

    /// Records that a page was read up to `end`. `is_last`: whether the queue had nothing newer at that moment.
    pub(super) fn loaded(&mut self, end: Option<EventId>, is_last: bool) {
        let load = std::mem::take(&mut self.load);
        self.read_to = self.read_to.max(end);
        self.has_more = !is_last || load == Load::Incomplete;
        if is_last || self.read_to >= self.reread_to {
            self.reread_to = None;
        }
        if load == Load::Outdated {
            self.reread();
        }
    }

    /// Records that the page could not be read; it will be requested again.
    pub(super) fn not_loaded(&mut self) {
        if std::mem::take(&mut self.load) == Load::Outdated {
            self.reread();
        }
    }
}
