//! The program's exit codes.

use std::process;

/// How a command ended, as scripts see it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[repr(u8)]
pub enum ExitCode {
    /// Done. 0
    Done = 0,
    /// Something failed. 1
    Failed = 1,
    /// Wrong usage or settings; nothing was done. 2
    Usage = 2,
}

impl ExitCode {
    /// [`Done`](Self::Done) when `good`, [`Failed`](Self::Failed) otherwise.
    #[must_use]
    pub fn of(good: bool) -> Self {
        if good { Self::Done } else { Self::Failed }
    }
}

impl From<ExitCode> for process::ExitCode {
    fn from(code: ExitCode) -> Self {
        Self::from(code as u8)
    }
}
