//! Admits held webhooks once a secret verifies them, in the order in which they were received.

use chrono::{DateTime, Utc};
use log::warn;

use super::Editor;
use super::retry::decide;
use crate::config::SigningSecret;
use crate::ingest::{Decision, IgnoreReason, Ingest};
use crate::queue::held::HeldSummary;
use crate::queue::{CanaryChange, EnqueueRequest, Enqueued, HeldId, Queue, QueueError, RejectedWebhook};
use crate::sentry::signature::Signature;

/// How many webhooks one commit admits at most, so that a running bridge never waits long for it.
const CHUNK: usize = 100;

/// How many bytes of bodies one commit holds in memory at most; the last body may exceed it.
const CHUNK_BYTES: u64 = 8 * 1024 * 1024;

/// The outcome of admitting held webhooks, as counts.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Admitted {
    /// Webhooks that became events or were folded into waiting ones.
    pub queued: u64,
    /// Webhooks that repeat another webhook or ask for nothing.
    pub ignored: u64,
    /// Webhooks that cannot be understood and are kept as rejected webhooks.
    pub rejected: u64,
    /// Webhooks that are still held.
    pub held: u64,
}

impl Admitted {
    /// The number of webhooks that were verified.
    #[must_use]
    pub fn verified(&self) -> u64 {
        self.queued + self.ignored + self.rejected
    }
}

/// Admits the webhooks of `held` that any of `secrets` verifies. Webhooks that another process admits at the same time
/// are left to that process.
pub(super) async fn admit(
    editor: &mut Editor,
    queue: &Queue,
    ingest: &Ingest,
    secrets: &[SigningSecret],
    held: &[HeldSummary],
) -> Result<Admitted, QueueError> {
    let mut admitted = Admitted::default();
    let (mut webhooks, mut bytes) = (Vec::new(), 0);
    for summary in held {
        let webhook = match editor.reader().held(summary.id).await {
            Ok(Some(webhook)) => webhook,
            Ok(None) => continue,
            Err(error) if error.is_damage() => {
                warn!("the held webhook {} cannot be read and stays held: {error}", summary.id);
                admitted.held += 1;
                continue;
            }
            Err(error) => return Err(error),
        };
        if !Signature::from_bytes(webhook.signature).is_by(secrets, &webhook.body) {
            admitted.held += 1;
            continue;
        }
        let verified = webhook.verified();
        let decision = decide(editor.reader(), ingest, &verified).await?;
        let enqueue = match decision {
            Decision::Enqueue(enqueue) => Some(enqueue),
            Decision::Ignored(reason) => {
                if let IgnoreReason::Canary(Some(id)) = reason {
                    // Committed before the held webhook is deleted, as below; the second time changes nothing.
                    queue.record_canary(CanaryChange::Returned { id, at: webhook.received_at }).await?;
                }
                admitted.ignored += 1;
                None
            }
            Decision::Rejected(rejection) => {
                // Committed before the held webhook is deleted: after a crash in between it is kept twice, but never
                // lost.
                queue.reject(RejectedWebhook::new(&verified, &rejection)).await?;
                admitted.rejected += 1;
                None
            }
        };
        webhooks.push((summary.id, enqueue));
        bytes += summary.size;
        if webhooks.len() >= CHUNK || bytes >= CHUNK_BYTES {
            commit(editor, std::mem::take(&mut webhooks), &mut admitted).await?;
            bytes = 0;
        }
    }
    commit(editor, webhooks, &mut admitted).await?;
    Ok(admitted)
}

/// Admits `webhooks`, each with what it becomes, if it becomes anything, and counts the outcomes.
async fn commit(
    editor: &mut Editor,
    webhooks: Vec<(HeldId, Option<Box<EnqueueRequest>>)>,
    admitted: &mut Admitted,
) -> Result<(), QueueError> {
    if webhooks.is_empty() {
        return Ok(());
    }
    let mut outcomes = try_admit(editor, &webhooks).await?;
    if outcomes.is_none() {
        // Another bridge has admitted or deleted one of them. The others may not be among those that it admits.
        for webhook in webhooks.chunks(1) {
            outcomes.get_or_insert_default().extend(try_admit(editor, webhook).await?.into_iter().flatten());
        }
    }
    for outcome in outcomes.unwrap_or_default() {
        match outcome {
            Enqueued::Queued(_) => admitted.queued += 1,
            Enqueued::Ignored(_) => admitted.ignored += 1,
        }
    }
    Ok(())
}

/// Admits all of `webhooks`, or none of them if one is no longer held: then it returns `None`.
async fn try_admit(
    editor: &mut Editor,
    webhooks: &[(HeldId, Option<Box<EnqueueRequest>>)],
) -> Result<Option<Vec<Enqueued>>, QueueError> {
    let ids: Vec<_> = webhooks.iter().map(|(id, _)| *id).collect();
    editor.admit_held(&ids, webhooks.iter().filter_map(|(_, enqueue)| enqueue.as_deref()).collect()).await
}

/// Deletes the webhooks of `held` that have expired at `now`. Returns how many were deleted.
pub(super) async fn expire(editor: &mut Editor, held: &[HeldSummary], now: DateTime<Utc>) -> Result<u64, QueueError> {
    let expired: Vec<_> = held.iter().filter(|held| held.is_expired(now)).map(|held| held.id).collect();
    let mut deleted = 0;
    for ids in expired.chunks(CHUNK) {
        // If another bridge has just admitted or deleted one of them, the whole chunk is left to the next run.
        if editor.discard_held(ids).await? {
            deleted += ids.len() as u64;
        }
    }
    Ok(deleted)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue::decide::tests::{at, enqueue};
    use crate::queue::{HeldSender, HeldWebhook};

    #[tokio::test]
    async fn what_is_left_of_a_chunk_that_another_bridge_has_begun_is_admitted() {
        let directory = tempfile::tempdir().unwrap();
        let queue = Queue::open(directory.path().join("bridge.db").as_path()).await.unwrap();
        for second in 0..3 {
            let held = HeldWebhook {
                received_at: at(second),
                sender: HeldSender::Token,
                signature: [7; 32],
                resource: None,
                idempotency_key: None,
                sent_at: None,
                body: b"{}".to_vec(),
            };
            assert!(queue.hold(held).await.unwrap());
        }
        let ids: Vec<_> = queue.recount_held().await.unwrap().into_iter().map(|held| held.id).collect();
        let mut editor = queue.editor().await.unwrap();
        let enqueues = [Some(Box::new(enqueue("t1", 0))), None, Some(Box::new(enqueue("t3", 2)))];
        let webhooks = ids.iter().copied().zip(enqueues).collect();
        assert!(editor.discard_held(&ids[..1]).await.unwrap());

        let mut admitted = Admitted::default();
        commit(&mut editor, webhooks, &mut admitted).await.unwrap();
        assert_eq!(admitted.queued, 1);
        assert_eq!(queue.recount_held().await.unwrap(), []);
        editor.close().await.unwrap();
        queue.close().await.unwrap();
    }
}
