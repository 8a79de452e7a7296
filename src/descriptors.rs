//! How many files, connections among them, this process may have open at once.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Fewer are called few: a single host can have as many connections open.
pub const FEW: u64 = 4096;

/// As many as are asked for where they may be had. Each takes memory of the system's only when it is used.
const WANTED: u64 = 65_536;

/// How many are kept for the database, for connections to PagerDuty and for what the threads need.
const RESERVED: u64 = 256;

/// How many this process may have open now; more than anybody needs where there is no limit.
#[must_use]
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the limit as far as this process may and needs, and returns what it is then. Many systems let a process raise it
/// by itself from 1,024, which programs with `select` once needed.
#[must_use]
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(u64::MAX).min(WANTED);
    if current.is_some_and(|current| current < wanted) {
        // Where that is forbidden the limit stays as it is, and is heeded.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
    limit()
}

/// How many connections the web server may take under this limit, so that what it takes them for has files, too.
#[must_use]
pub fn connections(limit: u64) -> usize {
    let reserved = RESERVED.min(limit / 2);
    usize::try_from(limit - reserved).unwrap_or(usize::MAX)
}

/// What to do where there are [`FEW`].
#[must_use]
pub fn too_few(limit: u64) -> String {
    format!(
        "at most {limit} at once, {} of them connections of clients: one host can take them all and keep alerts out; allow \
         {WANTED}, with LimitNOFILE in a systemd unit, or `ulimit -n` before the start",
        connections(limit)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_never_get_all_that_may_be_open() {
        assert_eq!(connections(65_536), 65_280);
        assert_eq!(connections(1024), 768);
        assert_eq!(connections(64), 32);
        assert!(limit() > connections(limit()) as u64);
    }
}
