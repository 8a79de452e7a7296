//! What had to be cut off an event, told in sentences.

use std::fmt;

use super::{CutLine, Description, WireEvent};

/// One thing that PagerDuty is not sent because it would not take it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Cut {
    /// The description was too long.
    Description(CutLine),
    /// An address was left out, because half an address leads nowhere.
    Address {
        /// The member it stood in.
        member: &'static str,
        /// How long it was, in bytes.
        length: usize,
    },
    /// The outermost calls of the stack were left out.
    Frames {
        /// How many are left.
        kept: usize,
        /// How many there were.
        of: usize,
    },
    /// Long texts in a detail were shortened.
    Texts {
        /// The detail.
        member: String,
        /// How many texts of it.
        count: usize,
        /// To how many characters.
        limit: usize,
    },
    /// The later entries of a detail were left out.
    Entries {
        /// The detail.
        member: String,
        /// How many are left.
        kept: usize,
        /// How many there were.
        of: usize,
    },
}

impl fmt::Display for Cut {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let body = WireEvent::MAX_BYTES;
        match self {
            Self::Description(CutLine { length, kept, kept_utf16 }) => {
                let limit = Description::MAX_LENGTH;
                write!(f, "description: cut from {length} to {kept} characters, ")?;
                if kept_utf16 == kept {
                    f.write_str("which is all PagerDuty takes")
                } else {
                    write!(
                        f,
                        "which are {kept_utf16} in UTF-16: PagerDuty takes {limit} and does not say how it counts them"
                    )
                }
            }
            Self::Address { member, length } => {
                let limit = WireEvent::MAX_ADDRESS;
                write!(f, "{member}: left out, because an address of {length} bytes (more than {limit}) leads nowhere")
            }
            Self::Frames { kept: 0, of } => {
                write!(f, "details.frames: all {of} left out, for a body of at most {body} bytes")
            }
            Self::Frames { kept, of } => {
                write!(f, "details.frames: only the innermost {kept} of {of} kept, for a body of at most {body} bytes")
            }
            Self::Texts { member, count, limit } => {
                let texts = if *count == 1 { "1 text" } else { &format!("{count} texts") };
                write!(f, "details.{member}: {texts} cut to {limit} characters, for a body of at most {body} bytes")
            }
            Self::Entries { member, kept, of } => {
                write!(f, "details.{member}: only the first {kept} of {of} kept, for a body of at most {body} bytes")
            }
        }
    }
}
