//! How severe an alert is, in the terms of the Events API v2.

use serde::Serialize;
use strum::{EnumString, IntoStaticStr, VariantNames};

use crate::alert::{Alert, Level};

/// PagerDuty's severities, worst first.
///
/// A service may notify by severity: `critical` and `error` then have high urgency, `warning` and `info` have low urgency,
/// which wakes nobody.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd, EnumString, IntoStaticStr, Serialize, VariantNames)]
#[serde(rename_all = "lowercase")]
#[strum(ascii_case_insensitive, serialize_all = "lowercase")]
pub enum Severity {
    /// `critical`
    Critical,
    /// `error`
    Error,
    /// `warning`
    Warning,
    /// `info`
    Info,
}

impl Severity {
    /// Their names, worst first.
    pub const NAMES: &[&str] = <Self as VariantNames>::VARIANTS;

    /// Its name in the API.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.into()
    }

    /// Parses the name, ignoring case.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        name.trim().parse().ok()
    }

    /// Whether a service that notifies by severity gives it low urgency, which wakes nobody.
    #[must_use]
    pub fn is_low_urgency(self) -> bool {
        matches!(self, Self::Warning | Self::Info)
    }

    /// The severity of an alert: that of its level, but at least `error` for an issue of high priority and at most `warning`
    /// for one of low priority.
    ///
    /// A level that is missing or not one of Sentry's own says nothing about the severity, so that is `error`, which has
    /// high urgency.
    #[must_use]
    pub fn of(alert: &Alert) -> Self {
        let of_level = match alert.level.as_deref().map(str::trim) {
            // Metric alerts have a level of their own.
            Some(level) if level.eq_ignore_ascii_case("critical") => Self::Critical,
            level => match level.and_then(Level::parse) {
                Some(Level::Fatal) => Self::Critical,
                Some(Level::Error) | None => Self::Error,
                Some(Level::Warning) => Self::Warning,
                Some(Level::Info | Level::Debug) => Self::Info,
            },
        };
        match alert.priority() {
            Some("high") => of_level.min(Self::Error),
            Some("low") => of_level.max(Self::Warning),
            _ => of_level,
        }
    }
}
