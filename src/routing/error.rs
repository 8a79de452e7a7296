//! What may be wrong with a line of routes.

use thiserror::Error;

use crate::pagerduty::keys::ServiceKeyError;

/// A line that is no route; never repeats what may be a key.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("line {line} {fault}")]
pub struct RouteError {
    /// The number of the line, counted as in [`Route::number`](super::Route::number).
    pub line: usize,
    /// What is wrong with it.
    pub fault: RouteFault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RouteFault {
    /// Another number of fields than 3.
    #[error(
        "has {0} field{s}, but a route has 3: `tag,value,KEY` (a value that holds `,` or `;` goes in double quotes)",
        s = if *.0 == 1 { "" } else { "s" }
    )]
    Fields(usize),
    /// Nothing before the first comma.
    #[error("names no tag before its first comma")]
    NoName,
    /// Nothing between the commas: Sentry keeps no empty tags, so it could never match.
    #[error("has no value between its commas, so it would never match")]
    NoValue,
    /// The third field is no integration key.
    #[error("ends in a key that {0}")]
    Key(#[from] ServiceKeyError),
    /// A field that begins with `"` and does not end.
    #[error("opens a double quote that is never closed")]
    OpenQuote,
}
