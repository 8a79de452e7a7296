//! The limit of file descriptors, which files and connections share.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Below this limit, a single host can exhaust the file descriptors with its connections.
pub const FEW: u64 = 4096;

/// The limit that is requested. A descriptor takes memory only while it is open.
const WANTED: u64 = 65_536;

/// How many are reserved for the database, connections to PagerDuty and the runtime.
const RESERVED: u64 = 256;

/// The current limit of this process; `u64::MAX` if there is none.
#[must_use]
pub fn limit() -> u64 {
    getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX)
}

/// Raises the limit as far as needed and permitted, and returns it. Many systems start a process with 1,024 and let it
/// raise the limit by itself.
#[must_use]
pub fn raise_limit() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let wanted = maximum.unwrap_or(u64::MAX).min(WANTED);
    if current.is_some_and(|current| current < wanted) {
        // If that is forbidden, the limit stays as it is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
    limit()
}

/// How many connections the web server may accept under this limit.
#[must_use]
pub fn connections(limit: u64) -> usize {
    let reserved = RESERVED.min(limit / 2);
    usize::try_from(limit - reserved).unwrap_or(usize::MAX)
}

/// What an operator should know and do about a limit below [`FEW`].
#[must_use]
pub fn too_few(limit: u64) -> String {
    format!(
        "at most {limit} open files, {} of them connections of clients: a single host can take them all and block \
         alerts; raise the limit to {WANTED}, with LimitNOFILE in a systemd unit, or `ulimit -n` before the start",
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
