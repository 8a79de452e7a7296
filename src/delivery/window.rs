//! Which part of the queue's events one service key holds in memory.

use crate::queue::EventId;

/// How far the queue was read, and whether to read on.
#[derive(Debug, Default)]
pub(super) struct Window {
    /// What waits up to this event is held; ids grow, so this tells known events from new ones.
    read_to: Option<EventId>,
    /// There may be newer events in the queue.
    more: bool,
    page: Page,
    /// Up to here pages are read again, whether there is room or not: what they hold is known for the most part.
    again_to: Option<EventId>,
}

#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
enum Page {
    #[default]
    None,
    /// One is being read.
    UnderWay,
    /// One is being read that may lack an event which arrived meanwhile.
    Lacking,
    /// One is being read, and then all is to be read anew.
    Outdated,
}

impl Window {
    /// The queue may hold newer events that nobody told of.
    pub(super) fn look_on(&mut self) {
        self.more = true;
        // One that is being read may have been read before they came.
        if self.page == Page::UnderWay {
            self.page = Page::Lacking;
        }
    }

    /// The queue may hold events anywhere that nobody told of.
    pub(super) fn look_anew(&mut self) {
        self.more = true;
        if self.page == Page::None {
            self.again_to = self.again_to.max(self.read_to.take());
        } else {
            self.page = Page::Outdated;
        }
    }

    /// Whether a page is being read.
    pub(super) fn is_being_read(&self) -> bool {
        self.page != Page::None
    }

    /// Whether it is being found out what [`look_anew`](Self::look_anew) was called for.
    pub(super) fn is_read_anew(&self) -> bool {
        self.again_to.is_some() || self.page == Page::Outdated
    }

    /// Whether to take in an event that was just committed; otherwise a later page brings it, or an earlier one did.
    pub(super) fn takes(&mut self, id: EventId, full: bool) -> bool {
        if self.read_to >= Some(id) {
            return false;
        }
        if self.more || full {
            self.look_on();
            return false;
        }
        self.read_to = Some(id);
        true
    }

    /// Whether a page should be read now, behind [`Window::read_to`]; it is counted as being read then.
    pub(super) fn wants_page(&mut self, room: bool) -> bool {
        let wanted = self.more && self.page == Page::None && (room || self.again_to.is_some());
        if wanted {
            self.page = Page::UnderWay;
        }
        wanted
    }

    /// The event behind which the next page begins.
    pub(super) fn read_to(&self) -> Option<EventId> {
        self.read_to
    }

    /// A page was read up to `end`; `last` says that the queue held nothing newer at that moment.
    pub(super) fn loaded(&mut self, end: Option<EventId>, last: bool) {
        let page = std::mem::take(&mut self.page);
        self.read_to = self.read_to.max(end);
        self.more = !last || page == Page::Lacking;
        if last || self.read_to >= self.again_to {
            self.again_to = None;
        }
        if page == Page::Outdated {
            self.look_anew();
        }
    }

    /// The page could not be read; it is asked for again.
    pub(super) fn not_loaded(&mut self) {
        if std::mem::take(&mut self.page) == Page::Outdated {
            self.look_anew();
        }
    }
}
