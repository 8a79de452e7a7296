//! Stub.
#![allow(clippy::unused_async, clippy::todo)]
use super::super::*;
use super::Reads;
use crate::queue::writer::{Batch, Committed};

#[derive(Debug)]
pub(in crate::queue) struct Engine {}
impl Engine {
    pub(in crate::queue) async fn open(_: &Path) -> Result<Self, QueueError> { todo!() }
    pub(in crate::queue) fn reads(&self) -> Reads { todo!() }
    pub(in crate::queue) async fn commit(&mut self, _: Batch) -> Result<Committed, QueueError> { todo!() }
    pub(in crate::queue) async fn close(self) -> Result<(), QueueError> { todo!() }
}
