//! Ids: text in most bodies, numbers in some.

use super::lenient::Shape;
use crate::alert::IssueId;

/// An id that can name an incident: text in every version of the plugin, but an integer is as good.
#[derive(Clone, Debug, PartialEq)]
pub struct Id(pub IssueId);

impl Shape for Id {
    fn of_text(text: &str) -> Option<Self> {
        // Without a letter or digit it would be a blank incident key.
        IssueId::new(text).filter(|id| id.as_str().contains(char::is_alphanumeric)).map(Self)
    }

    fn of_integer(value: i128) -> Option<Self> {
        Self::of_text(&value.to_string())
    }

    fn of_float(value: f64) -> Option<Self> {
        if value.fract() == 0.0 { Self::of_text(&value.to_string()) } else { None }
    }
}
