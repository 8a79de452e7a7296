//! What can be asked of `/api`: the one table of its paths and methods.

use actix_web::http::Method;

/// Something that can be asked.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Operation {
    /// The description of all this.
    OpenApi,
    /// How the bridge fares.
    Status,
    /// What happened in the last 24 hours.
    Activity,
    /// A page of events.
    Events,
    /// All about an event.
    Event,
    /// Deletes an event.
    DiscardEvent,
    /// Puts a dead letter back in line.
    RetryEvent,
    /// A page of rejected webhooks.
    AllRejected,
    /// All about a rejected webhook.
    Rejected,
    /// Deletes a rejected webhook.
    DiscardRejected,
    /// Reads a rejected webhook anew.
    RetryRejected,
    /// Tries many again.
    Retry,
    /// Deletes many.
    Discard,
}

impl Operation {
    /// Every one, those of one path together.
    pub const ALL: [Self; 13] = [
        Self::OpenApi,
        Self::Status,
        Self::Activity,
        Self::Events,
        Self::Event,
        Self::DiscardEvent,
        Self::RetryEvent,
        Self::AllRejected,
        Self::Rejected,
        Self::DiscardRejected,
        Self::RetryRejected,
        Self::Retry,
        Self::Discard,
    ];

    /// Where it is asked.
    #[must_use]
    pub fn path(self) -> &'static str {
        match self {
            Self::OpenApi => "/api/openapi.json",
            Self::Status => "/api/status",
            Self::Activity => "/api/activity",
            Self::Events => "/api/events",
            Self::Event | Self::DiscardEvent => "/api/events/{id}",
            Self::RetryEvent => "/api/events/{id}/retry",
            Self::AllRejected => "/api/rejected",
            Self::Rejected | Self::DiscardRejected => "/api/rejected/{id}",
            Self::RetryRejected => "/api/rejected/{id}/retry",
            Self::Retry => "/api/retry",
            Self::Discard => "/api/discard",
        }
    }

    /// By which method: whatever changes something is no GET.
    #[must_use]
    pub fn method(self) -> Method {
        match self {
            Self::OpenApi
            | Self::Status
            | Self::Activity
            | Self::Events
            | Self::Event
            | Self::AllRejected
            | Self::Rejected => Method::GET,
            Self::DiscardEvent | Self::DiscardRejected => Method::DELETE,
            Self::RetryEvent | Self::RetryRejected | Self::Retry | Self::Discard => Method::POST,
        }
    }
}

/// Every path, once.
pub(super) fn paths() -> Vec<&'static str> {
    let mut paths: Vec<_> = Operation::ALL.map(Operation::path).to_vec();
    paths.dedup();
    paths
}

/// The methods of a path, as the header `Allow` lists them.
pub(super) fn methods(path: &str) -> String {
    let methods = Operation::ALL.into_iter().filter(|operation| operation.path() == path);
    methods.map(|operation| operation.method().to_string()).collect::<Vec<_>>().join(", ")
}
