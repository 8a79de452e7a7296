//! What can be wrong with settings, as sentences for the person who starts the bridge.

use std::convert::Infallible;
use std::fmt;

use thiserror::Error;

use crate::pagerduty::TemplateError;
use crate::pagerduty::keys::ServiceKeyError;
use crate::routing::RouteError;

/// Everything that is wrong with the configuration, so that one start reports all of it. `Display` writes one sentence
/// per line.
#[derive(Debug, Error)]
pub struct ConfigError {
    problems: Vec<Problem>,
}

impl ConfigError {
    pub(super) fn new(problems: Vec<Problem>) -> Self {
        Self { problems }
    }

    /// The problems; never empty.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        &self.problems
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, problem) in self.problems.iter().enumerate() {
            if place > 0 {
                f.write_str("\n")?;
            }
            write!(f, "{problem}")?;
        }
        Ok(())
    }
}

/// One problem of the configuration. Never contains the value of a setting that may be a secret.
#[derive(Debug, Error)]
pub enum Problem {
    /// A required setting is missing.
    #[error("{name} is not set: {remedy}")]
    Missing {
        /// The setting.
        name: &'static str,
        /// Why it is required and where it comes from.
        remedy: &'static str,
    },
    /// No setting has this name.
    #[error("{name} is an unknown setting; did you mean {nearest}?{}", service_link(.name))]
    Unknown {
        /// The name that was set.
        name: String,
        /// The most similar known name.
        nearest: String,
    },
    /// A value that is not valid UTF-8.
    #[error("{name} is not valid UTF-8")]
    NotText {
        /// The variable.
        name: String,
        /// The setting it gives.
        setting: &'static str,
    },
    /// A setting is given both directly and by a file.
    #[error("{name} and {name}_FILE are both set: keep one of them")]
    Both {
        /// The setting.
        name: &'static str,
    },
    /// The file of a setting cannot be read.
    #[error("{name}_FILE names {file}, which cannot be read: {why}")]
    File {
        /// The setting.
        name: &'static str,
        /// The path, or a placeholder where it might be the secret itself.
        file: String,
        /// The error of the operating system.
        why: String,
    },
    /// The file of a setting is empty, for example because it has not been written yet.
    #[error("{name}_FILE names {file}, which is empty")]
    EmptyFile {
        /// The setting.
        name: &'static str,
        /// The path, or a placeholder where it might be the secret itself.
        file: String,
    },
    /// `.env` exists but cannot be read.
    #[error("`.env` exists but cannot be read: {0}")]
    Dotenv(String),
    /// `.env` has a line that is not `NAME=value`.
    #[error(
        "`.env` has no `NAME=value` on line {0}: put a value with spaces, `#`, `$` or quotes in single quotes, and \
         close every quote"
    )]
    DotenvLine(usize),
    /// `.env` sets a name twice.
    #[error("`.env` sets {0} twice: keep one of them")]
    DotenvTwice(String),
    /// A value that is not valid.
    #[error("{name} {sentence}")]
    Value {
        /// The setting.
        name: &'static str,
        /// What is wrong with it: one sentence of a [`ValueError`].
        sentence: String,
    },
    /// `envy` rejected settings that passed every check above, which is a bug in the bridge.
    #[error("the settings cannot be read: {0}")]
    Envy(#[from] envy::Error),
}

/// What is wrong with a value, in sentences that follow the setting's name: one, or one for each wrong line. Never contains a
/// value that may be a secret.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("{}", .0.join("\n"))]
pub struct ValueError(Vec<String>);

impl ValueError {
    pub(super) fn new(sentence: impl Into<String>) -> Self {
        Self(vec![sentence.into()])
    }

    pub(super) fn into_sentences(self) -> Vec<String> {
        self.0
    }
}

impl From<ServiceKeyError> for ValueError {
    fn from(error: ServiceKeyError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<TemplateError> for ValueError {
    fn from(error: TemplateError) -> Self {
        Self::new(error.to_string())
    }
}

impl From<Vec<RouteError>> for ValueError {
    fn from(errors: Vec<RouteError>) -> Self {
        Self(errors.iter().map(ToString::to_string).collect())
    }
}

/// Some parsers accept any text and never fail.
impl From<Infallible> for ValueError {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

impl Problem {
    /// Whether it concerns this setting, given directly or by a file.
    pub(super) fn concerns(&self, setting: &str) -> bool {
        match self {
            Self::Missing { name, .. }
            | Self::Both { name }
            | Self::File { name, .. }
            | Self::EmptyFile { name, .. }
            | Self::Value { name, .. }
            | Self::NotText { setting: name, .. } => *name == setting,
            Self::Unknown { .. } | Self::Dotenv(_) | Self::DotenvLine(_) | Self::DotenvTwice(_) | Self::Envy(_) => {
                false
            }
        }
    }
}

/// Returns a hint for people whose Kubernetes Service is called `bridge`: Kubernetes then sets `BRIDGE_SERVICE_HOST`,
/// `BRIDGE_PORT` and more in every container of its namespace, which looks like a misspelt setting.
fn service_link(name: &str) -> &'static str {
    let is_link = ["_SERVICE_HOST", "_SERVICE_PORT", "_PORT_"].iter().any(|part| name.contains(part));
    if is_link || name.ends_with("_PORT") {
        " (Kubernetes sets such variables for a Service whose name begins with `bridge`: set `enableServiceLinks: false` in the pod)"
    } else {
        ""
    }
}
