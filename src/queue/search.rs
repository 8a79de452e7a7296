//! A search for events by what people remember of them. No index can be used for it, so it goes back from the newest
//! event in steps, and stops after a second.

use std::time::{Duration, Instant};

use super::{EventId, QueueError, Reader, Summary};
use crate::pagerduty::ServiceKey;

/// What people search for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Search {
    /// Matches events whose description contains it, or whose incident key is it or ends with it, in upper or lower case.
    pub text: String,
    /// Also matches events that go to one of these integrations.
    pub service_keys: Vec<ServiceKey>,
}

/// Escapes the text for a LIKE pattern, in which it then matches only itself.
pub(super) fn like(text: &str) -> String {
    let mut pattern = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '%' | '_' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern
}

/// What was found.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Found {
    /// The events, newest first.
    pub events: Vec<Summary>,
    /// All events from this number on were searched; `None`: all events were.
    pub searched_to: Option<EventId>,
}

/// How many event numbers one statement searches.
const SEARCH_STEP: i64 = 20_000;

/// A search that takes longer stops and returns what it has found.
const SEARCH_TIME: Duration = Duration::from_secs(1);

impl Reader {
    /// Returns the newest events below `before` that match, newest first, at most `limit`. It takes about a second at
    /// most: if more events are left to search, the result says how far it came.
    ///
    /// # Errors
    ///
    /// When the queue cannot be read.
    pub async fn search(&self, search: &Search, before: Option<EventId>, limit: u32) -> Result<Found, QueueError> {
        let (began, mut found) = (Instant::now(), Found::default());
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let mut next = self.recent(before, 1).await?.first().map(|newest| newest.id.get());
        while let Some(newest) = next {
            if began.elapsed() > SEARCH_TIME {
                found.searched_to = Some(EventId::new(newest.saturating_add(1)));
                break;
            }
            let (from, before) = (newest.saturating_sub(SEARCH_STEP - 1), newest.saturating_add(1));
            let missing = u32::try_from(limit - found.events.len()).unwrap_or(u32::MAX);
            found.events.extend(self.matching(search, EventId::new(from), EventId::new(before), missing).await?);
            if found.events.len() >= limit {
                found.searched_to = found.events.last().map(|last| last.id);
                break;
            }
            next = self.recent(Some(EventId::new(from)), 1).await?.first().map(|event| event.id.get());
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_what_was_typed_and_nothing_else() {
        assert_eq!(like("100 % of a_b\\c"), "100 \\% of a\\_b\\\\c");
    }
}
