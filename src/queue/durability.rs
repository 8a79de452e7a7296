//! What a committed alert survives, for `check`, the status page and `/api`.

use std::fmt;

use serde::Serialize;

/// What an alert survives once it is answered with 202, and the settings of the database from which that follows.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Durability {
    /// What it survives.
    pub survives: Survives,
    /// The settings, by their names in the database.
    pub settings: Vec<(&'static str, String)>,
}

/// What a committed alert survives.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Survives {
    /// Only the end of the bridge's process: a crash of the database's machine may lose the alert.
    Nothing,
    /// A crash of the database's machine, but not the loss of its disk.
    Crash,
    /// The loss of the database's machine: another machine stores the alert as well.
    Loss,
}

impl fmt::Display for Survives {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Nothing => "a crash of the database's machine may lose alerts that were answered with 202",
            Self::Crash => {
                "an alert that was answered with 202 survives a crash of the database's machine, but not the loss of its disk"
            }
            Self::Loss => "an alert that was answered with 202 survives the loss of the database's machine",
        })
    }
}

impl fmt::Display for Durability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (", self.survives)?;
        for (place, (name, value)) in self.settings.iter().enumerate() {
            let separator = if place == 0 { "" } else { ", " };
            let value = if value.is_empty() { "''" } else { value };
            write!(f, "{separator}{name}={value}")?;
        }
        f.write_str(")")
    }
}
