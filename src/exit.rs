//! The program's exit codes.

use std::process::ExitCode;

/// How a command ended, as scripts see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Exit {
    /// Done. 0
    Done,
    /// Something failed. 1
    Failed,
    /// Wrong usage or settings; nothing was begun. 2
    Usage,
}

impl Exit {
    /// The number the system is told.
    #[must_use]
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::Failed => 1,
            Self::Usage => 2,
        }
    }

    /// Done when `good`, failed otherwise.
    #[must_use]
    pub fn of(good: bool) -> Self {
        if good { Self::Done } else { Self::Failed }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
