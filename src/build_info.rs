//! The version of the program.

use std::fmt;

/// A build of this crate; `Display` writes `0.1.0 (e1b89d8)`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct BuildInfo {
    /// The version of the crate.
    pub version: &'static str,
    /// The commit it was built from, in seven hexadecimal digits; `None` where neither a checkout nor `SOURCE_COMMIT`
    /// named it at build time. Uncommitted changes do not show.
    pub commit: Option<&'static str>,
}

impl BuildInfo {
    /// The build that is running.
    #[must_use]
    pub const fn current() -> Self {
        Self { version: env!("CARGO_PKG_VERSION"), commit: option_env!("BUILD_COMMIT") }
    }
}

impl fmt::Display for BuildInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.version)?;
        self.commit.map_or(Ok(()), |commit| write!(f, " ({commit})"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_build_shows_its_commit_where_it_is_known() {
        let build = BuildInfo { version: "0.1.0", commit: Some("e1b89d8") };
        assert_eq!(build.to_string(), "0.1.0 (e1b89d8)");
        assert_eq!(BuildInfo { commit: None, ..build }.to_string(), "0.1.0");
    }
}
