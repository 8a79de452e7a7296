//! Whether the SQLite that the program was built with keeps what it has committed.

use crate::queue::QueueError;

/// SQLite counts versions this way: 3.51.3 is 3,051,003.
type Number = u32;

/// Refuses a version of SQLite that may lose commits. The bundled one does not, but a build can be configured to use
/// the system's.
pub(super) fn check() -> Result<(), QueueError> {
    let version = rusqlite::version();
    if number_of(version).is_some_and(keeps_commits) { Ok(()) } else { Err(unsafe_version(version)) }
}

fn unsafe_version(version: &str) -> QueueError {
    QueueError::Unsafe {
        reason: format!(
            "this program was built with SQLite {version}, which can lose what it has committed (its \"WAL-reset bug\", \
             fixed in 3.51.3)"
        ),
        advice: "build it with the SQLite it brings along: without LIBSQLITE3_SYS_USE_PKG_CONFIG",
    }
}

/// Whether a version is free of the "WAL-reset bug": if one connection commits just as another writes the log into the
/// file, as the command `queue` and the bridge may do, committed pages can be missing from the file permanently.
///
/// Source: SQLite's page "Write-Ahead Logging", section "The WAL-Reset Bug".
fn keeps_commits(number: Number) -> bool {
    matches!(number, 3_044_006..3_045_000 | 3_050_007..3_051_000 | 3_051_003..)
}

fn number_of(version: &str) -> Option<Number> {
    let mut parts = version.split('.').map(|part| part.parse::<Number>().ok());
    Some(parts.next()?? * 1_000_000 + parts.next()?? * 1_000 + parts.next()??)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn is_taken(version: &str) -> bool {
        number_of(version).is_some_and(keeps_commits)
    }

    #[test]
    fn only_versions_that_keep_commits_are_taken() {
        for version in ["3.44.6", "3.44.99", "3.50.7", "3.51.3", "3.53.0", "4.0.0"] {
            assert!(is_taken(version), "{version}");
        }
        for version in ["3.40.1", "3.44.5", "3.45.0", "3.50.6", "3.51.0", "3.51.2", "3.51", "unknown", ""] {
            assert!(!is_taken(version), "{version}");
        }
    }
}
