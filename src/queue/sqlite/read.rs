//! Stub.
#![allow(missing_docs, clippy::unused_async, clippy::todo)]
use super::super::*;
use crate::pagerduty::ServiceKey;

#[derive(Clone, Debug)]
pub(in crate::queue) struct Reads {}
impl Reads {
    pub(in crate::queue) async fn open(_: &Path) -> Result<Self, QueueError> { todo!() }
    pub(in crate::queue) async fn close(&self) { todo!() }
    pub(in crate::queue) async fn keys_waiting(&self) -> Result<Vec<ServiceKey>, QueueError> { todo!() }
    pub(in crate::queue) async fn waiting(&self, _: &ServiceKey, _: Option<EventId>, _: u32) -> Result<Vec<WaitingEvent>, QueueError> { todo!() }
    pub(in crate::queue) async fn attempts_since(&self, _: DateTime<Utc>) -> Result<Vec<(ServiceKey, DateTime<Utc>)>, QueueError> { todo!() }
    pub(in crate::queue) async fn counts(&self) -> Result<Counts, QueueError> { todo!() }
    pub(in crate::queue) async fn get(&self, _: EventId) -> Result<Option<Record>, QueueError> { todo!() }
}
