//! Held webhooks: those with a well-formed signature that no known secret made. Sentry shows a new Client Secret only
//! after the old one has become invalid. So the webhooks that it sends until the bridge knows the new one are kept, and
//! admitted once a secret verifies them.
//!
//! Nothing proves who sent them. So their number and size are limited, each network has only a share of the room, and a
//! held webhook is never deleted to make room for a later one: a sender of a million webhooks takes no room from others.
//! Bridges that share a queue learn what the others hold when they count again, every ten seconds; until then each may fill
//! the room that was free.

use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::sync::{RwLock, RwLockReadGuard};

use crate::sentry::Webhook;

/// How long a webhook is held at most.
pub const KEEP_HELD: TimeDelta = TimeDelta::hours(24);

/// The maximum number of held webhooks that came with a valid token, and also the maximum number of all others.
pub const MAX_HELD: u64 = 4_000;

/// The maximum total size, in bytes, of the bodies of held webhooks that came with a valid token, and also of all others.
pub const MAX_HELD_BYTES: u64 = 64 * 1024 * 1024;

/// One network may take one of this many parts of the room for webhooks without a token: a quarter.
const NETWORKS: u64 = 4;

/// The number of a held webhook. No number is used twice, and they grow in the order in which the webhooks came.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HeldId(i64);

impl HeldId {
    /// The held webhook with this number.
    #[must_use]
    pub fn new(number: i64) -> Self {
        Self(number)
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> i64 {
        self.0
    }
}

impl fmt::Display for HeldId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The sender whose share of the room a held webhook takes.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum HeldSender {
    /// A sender with a valid webhook token.
    Token,
    /// Any other sender in this network: an IPv4 address, or a /64 of IPv6.
    Network(IpAddr),
}

/// A held webhook, with everything that is needed to verify and admit it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct HeldWebhook {
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// The sender whose share of the room it takes.
    pub sender: HeldSender,
    /// Its header `Sentry-Hook-Signature`.
    pub signature: [u8; 32],
    /// Its header `Sentry-Hook-Resource`.
    pub resource: Option<String>,
    /// Its header `Idempotency-Key`.
    pub idempotency_key: Option<String>,
    /// Its header `Sentry-Hook-Timestamp`.
    pub sent_at: Option<DateTime<Utc>>,
    /// Its body, byte for byte.
    pub body: Vec<u8>,
}

impl HeldWebhook {
    /// The webhook as it came, now that a secret verifies its signature.
    #[must_use]
    pub fn verified(&self) -> Webhook<'_> {
        Webhook {
            resource: self.resource.as_deref(),
            has_app_signature: false,
            idempotency_key: self.idempotency_key.as_deref(),
            sent_at: self.sent_at,
            body: &self.body,
            is_signature_verified: true,
            received_at: self.received_at,
        }
    }
}

/// A held webhook without its body.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct HeldSummary {
    /// Its number.
    pub id: HeldId,
    /// When it came.
    pub received_at: DateTime<Utc>,
    /// The sender whose share of the room it takes.
    pub sender: HeldSender,
    /// How long its body is, in bytes.
    pub size: u64,
}

impl HeldSummary {
    /// Whether it came more than [`KEEP_HELD`] before `now`, or more than that after `now`, which means that the clock
    /// was set back since.
    #[must_use]
    pub fn is_expired(&self, now: DateTime<Utc>) -> bool {
        (now - self.received_at).abs() > KEEP_HELD
    }
}

/// The number of webhooks and the total size of their bodies.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
struct Usage {
    number: u64,
    bytes: u64,
}

impl Usage {
    fn add(&mut self, size: u64) {
        self.number += 1;
        self.bytes += size;
    }

    fn remove(&mut self, size: u64) {
        self.number = self.number.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(size);
    }

    /// Whether one more webhook of this size fits into one `parts`th of the room.
    fn has_room(self, size: u64, parts: u64) -> bool {
        self.number < MAX_HELD / parts && self.bytes.saturating_add(size) <= MAX_HELD_BYTES / parts
    }
}

/// How much of the room each sender takes. Pure.
#[derive(Debug, Default)]
struct UsageBySender {
    by_sender: HashMap<HeldSender, Usage>,
    /// The room that all networks take together.
    networks: Usage,
}

impl UsageBySender {
    fn count(&mut self, sender: HeldSender, size: u64) {
        self.by_sender.entry(sender).or_default().add(size);
        if sender != HeldSender::Token {
            self.networks.add(size);
        }
    }

    fn has_room(&self, sender: HeldSender, size: u64) -> bool {
        let own = self.by_sender.get(&sender).copied().unwrap_or_default();
        match sender {
            HeldSender::Token => own.has_room(size, 1),
            HeldSender::Network(_) => own.has_room(size, NETWORKS) && self.networks.has_room(size, 1),
        }
    }

    fn reserve(&mut self, sender: HeldSender, size: u64) -> bool {
        let has_room = self.has_room(sender, size);
        if has_room {
            self.count(sender, size);
        }
        has_room
    }

    /// Gives back room that was taken and is not needed.
    fn give_back(&mut self, sender: HeldSender, size: u64) {
        if let Some(usage) = self.by_sender.get_mut(&sender) {
            usage.remove(size);
            if usage.number == 0 {
                self.by_sender.remove(&sender);
            }
        }
        if sender != HeldSender::Token {
            self.networks.remove(size);
        }
    }

    /// Replaces all counts with those of the stored webhooks.
    fn recount(&mut self, stored: &[HeldSummary]) {
        *self = Self::default();
        for held in stored {
            self.count(held.sender, held.size);
        }
    }
}

/// The room for held webhooks; clones share it. It is checked before anything is written, so that a webhook for which
/// there is no room costs neither a commit nor a place in the writer's queue.
#[derive(Clone, Debug, Default)]
pub(super) struct HeldCapacity {
    usage: Arc<Mutex<UsageBySender>>,
    /// Locked for reading while a webhook is committed, and for writing while the stored webhooks are read and counted: a
    /// webhook that is committed in between would be in neither the result nor the count.
    commits: Arc<RwLock<()>>,
}

impl HeldCapacity {
    /// Takes room for a webhook whose body has `size` bytes; returns `None` if there is none. Waits while webhooks are
    /// counted.
    pub(super) async fn reserve(&self, sender: HeldSender, size: u64) -> Option<HeldReservation<'_>> {
        let commits = self.commits.read().await;
        let is_reserved = self.usage().reserve(sender, size);
        // Not `then_some`: it would always create a reservation, which gives room back when it is dropped.
        is_reserved.then(|| HeldReservation { capacity: self, sender, size, is_held: false, _commits: commits })
    }

    /// Reads the stored webhooks and counts them, while nothing is committed.
    pub(super) async fn recount<E>(
        &self,
        stored: impl Future<Output = Result<Vec<HeldSummary>, E>>,
    ) -> Result<Vec<HeldSummary>, E> {
        let _alone = self.commits.write().await;
        let stored = stored.await?;
        self.usage().recount(&stored);
        Ok(stored)
    }

    fn usage(&self) -> MutexGuard<'_, UsageBySender> {
        self.usage.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room that is given back when this is dropped, unless the webhook is held by then.
#[derive(Debug)]
pub(super) struct HeldReservation<'r> {
    capacity: &'r HeldCapacity,
    sender: HeldSender,
    size: u64,
    is_held: bool,
    _commits: RwLockReadGuard<'r, ()>,
}

impl HeldReservation<'_> {
    /// Keeps the room, because the webhook is committed.
    pub(super) fn keep(mut self) {
        self.is_held = true;
    }
}

impl Drop for HeldReservation<'_> {
    fn drop(&mut self) {
        if !self.is_held {
            self.capacity.usage().give_back(self.sender, self.size);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use futures_util::future::join;

    use super::*;

    fn network(number: u32) -> HeldSender {
        HeldSender::Network(IpAddr::V4(number.into()))
    }

    /// How many of this size a sender can have held.
    async fn holds(capacity: &HeldCapacity, sender: HeldSender, size: u64) -> u64 {
        let mut held = 0;
        while let Some(reservation) = capacity.reserve(sender, size).await {
            reservation.keep();
            held += 1;
        }
        held
    }

    #[tokio::test]
    async fn a_network_has_a_quarter_of_the_room_in_number_and_in_bytes() {
        assert_eq!(holds(&HeldCapacity::default(), network(1), 100).await, MAX_HELD / 4);
        assert_eq!(holds(&HeldCapacity::default(), network(1), 1024 * 1024).await, 16);
        assert_eq!(holds(&HeldCapacity::default(), network(1), 16 * 1024 * 1024 + 1).await, 0);
    }

    #[tokio::test]
    async fn networks_together_have_all_of_it_and_take_none_from_those_with_a_token() {
        let capacity = HeldCapacity::default();
        let mut all = 0;
        for number in 0..100_000 {
            all += holds(&capacity, network(number), 100).await;
        }
        assert_eq!(all, MAX_HELD);
        assert!(capacity.usage().by_sender.len() <= 4, "who has nothing held takes no memory");
        assert_eq!(holds(&capacity, HeldSender::Token, 100).await, MAX_HELD);
    }

    #[tokio::test]
    async fn what_is_not_committed_gives_its_room_back() {
        let capacity = HeldCapacity::default();
        for _ in 0..2 * MAX_HELD {
            drop(capacity.reserve(network(1), 100).await.unwrap());
        }
        assert_eq!(capacity.usage().by_sender.len(), 0);
        assert_eq!(capacity.usage().networks, Usage::default());
        assert_eq!(holds(&capacity, network(1), 100).await, MAX_HELD / 4);
    }

    #[tokio::test]
    async fn counting_again_forgets_what_is_gone_and_misses_nothing_that_is_committed_meanwhile() {
        let capacity = HeldCapacity::default();
        assert_eq!(holds(&capacity, network(1), 100).await, MAX_HELD / 4);
        let under_way = capacity.reserve(network(1), 100).await;
        assert!(under_way.is_none(), "there is no more room");
        capacity.recount(async { Ok::<_, ()>(Vec::new()) }).await.unwrap();
        assert_eq!(capacity.usage().networks, Usage::default());

        let under_way = capacity.reserve(network(1), 100).await.unwrap();
        let is_read = Cell::new(false);
        let read = async {
            is_read.set(true);
            let (id, received_at) = (HeldId::new(1), DateTime::UNIX_EPOCH);
            Ok::<_, ()>(vec![HeldSummary { id, received_at, sender: network(1), size: 100 }])
        };
        let committed = async {
            // The count has begun by now.
            assert!(!is_read.get(), "what is committed next would be in neither");
            under_way.keep();
        };
        assert_eq!(join(capacity.recount(read), committed).await.0.unwrap().len(), 1);
        assert_eq!(capacity.usage().networks, Usage { number: 1, bytes: 100 });
    }

    #[test]
    fn a_day_is_the_longest_whatever_the_clock_does() {
        let held =
            HeldSummary { id: HeldId::new(1), received_at: DateTime::UNIX_EPOCH, sender: HeldSender::Token, size: 1 };
        for (hours, expected) in [(0, false), (24, false), (25, true), (-1, false), (-25, true)] {
            assert_eq!(held.is_expired(DateTime::UNIX_EPOCH + TimeDelta::hours(hours)), expected, "{hours}");
        }
    }
}
