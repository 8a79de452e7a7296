//! Which part of the waiting events of one service key is held in memory.

use crate::queue::EventId;

/// How far the queue was read, and whether to read on.
#[derive(Debug, Default)]
pub(super) struct Prefetch {
    /// What waits up to this event is held. Ids grow, so this tells known events from new ones.
    read_to: Option<EventId>,
    /// The queue may hold newer events.
    has_more: bool,
    load: Load,
    /// Up to here pages are read again, whether there is room or not: most of what they hold is held already.
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
    /// The queue may hold newer events that were not announced.
    pub(super) fn read_on(&mut self) {
        self.has_more = true;
        // The page may have been read before they arrived.
        if self.load == Load::InProgress {
            self.load = Load::Incomplete;
        }
    }

    /// The queue may hold events anywhere that were not announced.
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

    /// Whether what [`reread`](Self::reread) asked for is not complete yet.
    pub(super) fn is_rereading(&self) -> bool {
        self.reread_to.is_some() || self.load == Load::Outdated
    }

    /// Whether to take in an event that was just committed; otherwise a later page brings it, or an earlier one did.
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

    /// Whether a page should be read now, after [`read_to`](Self::read_to); it counts as being read then.
    pub(super) fn wants_page(&mut self, has_room: bool) -> bool {
        let wanted = self.has_more && self.load == Load::None && (has_room || self.reread_to.is_some());
        if wanted {
            self.load = Load::InProgress;
        }
        wanted
    }

    /// The next page begins after this event.
    pub(super) fn read_to(&self) -> Option<EventId> {
        self.read_to
    }

    /// A page was read up to `end`; `last`: the queue held nothing newer at that moment.
    pub(super) fn loaded(&mut self, end: Option<EventId>, last: bool) {
        let load = std::mem::take(&mut self.load);
        self.read_to = self.read_to.max(end);
        self.has_more = !last || load == Load::Incomplete;
        if last || self.read_to >= self.reread_to {
            self.reread_to = None;
        }
        if load == Load::Outdated {
            self.reread();
        }
    }

    /// The page could not be read; it is asked for again.
    pub(super) fn not_loaded(&mut self) {
        if std::mem::take(&mut self.load) == Load::Outdated {
            self.reread();
        }
    }
}
