//! Which part of a list is asked for. Pure.

use std::borrow::Cow;

use url::form_urlencoded;

use super::Failure;
use crate::queue::{EventId, ItemId, RejectedId, State};

/// How many are told when nothing is said, and at most.
const USUAL: u32 = 100;
const MOST: u32 = 500;

/// The parameters of a list.
#[derive(Debug, Eq, PartialEq)]
pub(super) struct Page {
    /// Only events in this state.
    pub(super) state: Option<State>,
    /// The last one of the page before.
    pub(super) after: Option<ItemId>,
    pub(super) limit: u32,
}

impl Page {
    /// Reads the query of an address; `names` may stand there.
    pub(super) fn parse(query: &str, names: &[&str]) -> Result<Self, Failure> {
        let mut page = Self { state: None, after: None, limit: USUAL };
        for (name, value) in parameters(query, names)? {
            match &*name {
                "state" => page.state = Some(state(&value)?),
                "after" => {
                    page.after = Some(value.parse().map_err(|error| Failure::bad(format!("after: {error}")))?);
                }
                _ => {
                    let limit = value.parse().ok().filter(|limit| (1..=MOST).contains(limit));
                    page.limit = limit.ok_or_else(|| Failure::bad(format!("limit may be from 1 to {MOST}")))?;
                }
            }
        }
        Ok(page)
    }

    pub(super) fn after_event(&self) -> Result<Option<EventId>, Failure> {
        match self.after {
            Some(ItemId::Rejected(_)) => Err(Failure::bad("after: events are numbered like `7`")),
            Some(ItemId::Event(id)) => Ok(Some(id)),
            None => Ok(None),
        }
    }

    pub(super) fn after_rejected(&self) -> Result<Option<RejectedId>, Failure> {
        match self.after {
            Some(ItemId::Event(_)) => Err(Failure::bad("after: rejected webhooks are numbered like `r7`")),
            Some(ItemId::Rejected(id)) => Ok(Some(id)),
            None => Ok(None),
        }
    }
}

/// The name of a parameter and its value.
type Parameter<'a> = (Cow<'a, str>, Cow<'a, str>);

/// The parameters of a query, which may be these. A name that is misspelt must not select everything.
pub(super) fn parameters<'a>(query: &'a str, names: &[&str]) -> Result<Vec<Parameter<'a>>, Failure> {
    let parameters: Vec<_> = form_urlencoded::parse(query.as_bytes()).collect();
    match parameters.iter().find(|(name, _)| !names.contains(&&**name)) {
        Some(_) if names.is_empty() => Err(Failure::bad("this address has no parameters")),
        Some(_) => Err(Failure::bad(format!("the parameters here are {}", names.join(", ")))),
        None => Ok(parameters),
    }
}

/// One of the states.
pub(super) fn state(word: &str) -> Result<State, Failure> {
    State::parse(word).ok_or_else(|| Failure::bad("state is one of waiting, dead, delivered"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NAMES: [&str; 3] = ["state", "after", "limit"];

    #[test]
    fn a_page_is_named_by_state_place_and_length() {
        let page = |query| Page::parse(query, &NAMES).unwrap();
        assert_eq!(page(""), Page { state: None, after: None, limit: 100 });
        let after = Some(ItemId::Event(EventId::new(7)));
        assert_eq!(page("state=dead&after=7&limit=500"), Page { state: Some(State::Dead), after, limit: 500 });
        assert!(page("after=r7").after_event().is_err() && page("after=r7").after_rejected().unwrap().is_some());
        assert!(page("after=7").after_rejected().is_err());
    }

    #[test]
    fn what_is_misspelt_selects_nothing() {
        for query in ["state=rejected", "after=-1", "limit=0", "limit=501", "limit=x", "stat=dead", "state", "%ff=1"] {
            let failure = Page::parse(query, &NAMES).unwrap_err();
            assert_eq!(failure.status, 400, "{query}");
        }
        assert!(Page::parse("state=dead", &NAMES[1..]).is_err());
    }
}
