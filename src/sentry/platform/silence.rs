//! Webhooks that ask for nothing.

use std::fmt;

use super::Resource;

/// Why a webhook of the integration platform asks for nothing; `Display` is a sentence.
///
/// None of them is an error: Sentry adds resources and actions under subscriptions that are there already.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Silence {
    /// The resource has nothing to do with incidents.
    Unused(Resource),
    /// The resource is of another version of Sentry.
    UnknownResource,
    /// The action is of another version of Sentry.
    UnknownAction(Resource),
    /// Somebody archived the issue, which says nothing about whether it is over.
    Archived,
    /// Sentry only asks whether anybody listens, as it does before it saves an integration.
    Validation,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unused(resource) => {
                write!(f, "webhooks about the resource `{}` do nothing to incidents", resource.name())
            }
            Self::UnknownResource => f.write_str("this version does not know what this webhook is about"),
            Self::UnknownAction(resource) => {
                write!(f, "this version does not know this action of the resource `{}`", resource.name())
            }
            Self::Archived => f.write_str("an issue that is ignored or archived does nothing to its incident"),
            Self::Validation => f.write_str("this is a validation request: Sentry asks whether anybody listens"),
        }
    }
}
