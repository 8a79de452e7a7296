//! How much memory each body holds, and which bodies are evicted when there is not enough. Pure, except that it notifies
//! evicted bodies.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::SMALL;

/// An authenticated body that is incomplete after this time is evicted when another authenticated body needs its memory:
/// Sentry gives up after 5 seconds at most.
const SLOW: Duration = Duration::from_secs(5);

/// All bodies and what they hold.
#[derive(Debug)]
pub(super) struct BodyLedger {
    /// The most that all bodies together may hold, in bytes.
    total: usize,
    /// The part of it that bodies larger than [`SMALL`] may hold, in bytes.
    large: usize,
    /// In order of age, because the numbers only increase.
    bodies: BTreeMap<u64, BodyEntry>,
    held: usize,
    held_large: usize,
    /// The memory for large bodies that authenticated bodies wait for, in bytes. Unauthenticated bodies may not take it
    /// meanwhile.
    claimed: usize,
    next: u64,
}

#[derive(Debug)]
struct BodyEntry {
    bytes: usize,
    claimed: usize,
    authenticated: bool,
    /// When the reading of the body began; `None` once it is complete.
    reading_since: Option<Duration>,
    /// Whether it was evicted. Its bytes count until it is closed.
    is_evicted: bool,
    evicted: Arc<Notify>,
}

/// Whether a body may hold more bytes.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Grant {
    /// They are reserved.
    Granted,
    /// There is not enough memory yet. Others were evicted for it where that helps.
    NotYet,
    /// The body itself is evicted.
    Evicted,
}

impl BodyEntry {
    fn large_bytes(&self) -> usize {
        if self.bytes > SMALL { self.bytes } else { 0 }
    }
}

impl BodyLedger {
    /// Bodies that are not small may hold `large` bytes, and all together `small` bytes more.
    pub(super) fn new(small: usize, large: usize) -> Self {
        let total = small.saturating_add(large);
        Self { total, large, bodies: BTreeMap::new(), held: 0, held_large: 0, claimed: 0, next: 0 }
    }

    /// Adds a body that is read from `now` on. `evicted` is notified when it is evicted.
    pub(super) fn open(&mut self, authenticated: bool, now: Duration, evicted: Arc<Notify>) -> u64 {
        let id = self.next;
        self.next += 1;
        let body =
            BodyEntry { bytes: 0, claimed: 0, authenticated, reading_since: Some(now), is_evicted: false, evicted };
        self.bodies.insert(id, body);
        id
    }

    /// Reserves `bytes` more for a body at `now`, or evicts other bodies to make room for it.
    pub(super) fn take(&mut self, id: u64, bytes: usize, now: Duration) -> Grant {
        let Some(body) = self.bodies.get_mut(&id).filter(|body| !body.is_evicted) else { return Grant::Evicted };
        self.claimed -= std::mem::take(&mut body.claimed);
        let (before, authenticated) = (body.large_bytes(), body.authenticated);
        let after = body.bytes.saturating_add(bytes);
        let large = if after > SMALL { after - before } else { 0 };
        let claimed = if authenticated { 0 } else { self.claimed };
        let request = MemoryRequest { bytes, large, claimed };

        if self.fits(&request, 0, 0) {
            if let Some(body) = self.bodies.get_mut(&id) {
                body.bytes = after;
            }
            self.held += bytes;
            self.held_large += large;
            return Grant::Granted;
        }
        if let Some(victims) = self.victims(&request, authenticated, now) {
            if victims.contains(&id) {
                self.evict(id);
                return Grant::Evicted;
            }
            for victim in victims {
                self.evict(victim);
            }
        }
        if authenticated && let Some(body) = self.bodies.get_mut(&id) {
            body.claimed = large;
            self.claimed += large;
        }
        Grant::NotYet
    }

    /// Whether `request` fits once `leaving` bytes are released, `leaving_large` of which are held by large bodies.
    fn fits(&self, request: &MemoryRequest, leaving: usize, leaving_large: usize) -> bool {
        let all = self.held - leaving + request.bytes <= self.total;
        let large = (self.held_large - leaving_large).saturating_add(request.large).saturating_add(request.claimed);
        all && (request.large == 0 || large <= self.large)
    }

    /// Returns the bodies to evict, in addition to those that are already evicted, so that `request` fits; `None` if that
    /// would not make enough room.
    fn victims(&self, request: &MemoryRequest, for_authenticated: bool, now: Duration) -> Option<Vec<u64>> {
        let evicted = self.bodies.values().filter(|body| body.is_evicted);
        let (mut leaving, mut leaving_large) =
            evicted.fold((0, 0), |(all, large), body| (all + body.bytes, large + body.large_bytes()));
        let is_slow = |body: &BodyEntry| body.reading_since.is_some_and(|since| now.saturating_sub(since) > SLOW);
        // First the unauthenticated bodies, oldest first; then authenticated bodies that take longer than Sentry waits.
        let unauthenticated = self.bodies.iter().filter(|(_, body)| !body.authenticated);
        let slow = self.bodies.iter().filter(|(_, body)| body.authenticated && for_authenticated && is_slow(body));
        let mut candidates = unauthenticated.chain(slow).filter(|(_, body)| !body.is_evicted && body.bytes > 0);
        let mut victims = Vec::new();
        while !self.fits(request, leaving, leaving_large) {
            let is_total_full = self.held - leaving + request.bytes > self.total;
            let (id, body) = candidates.find(|(_, body)| is_total_full || body.bytes > SMALL)?;
            leaving += body.bytes;
            leaving_large += body.large_bytes();
            victims.push(*id);
        }
        Some(victims)
    }

    fn evict(&mut self, id: u64) {
        if let Some(body) = self.bodies.get_mut(&id) {
            body.is_evicted = true;
            body.evicted.notify_one();
        }
    }

    /// Records that the whole body was received.
    pub(super) fn complete(&mut self, id: u64) {
        if let Some(body) = self.bodies.get_mut(&id) {
            body.reading_since = None;
        }
    }

    /// Marks a body as authenticated. If it was evicted meanwhile, the eviction is undone, because all of it was
    /// received.
    pub(super) fn mark_authenticated(&mut self, id: u64) {
        if let Some(body) = self.bodies.get_mut(&id) {
            body.authenticated = true;
            body.is_evicted = false;
        }
    }

    /// Releases everything that a body holds. Returns whether there was anything to release.
    pub(super) fn close(&mut self, id: u64) -> bool {
        let Some(body) = self.bodies.remove(&id) else { return false };
        self.held -= body.bytes;
        self.held_large -= body.large_bytes();
        self.claimed -= body.claimed;
        body.bytes > 0 || body.claimed > 0
    }
}

/// The memory to reserve.
struct MemoryRequest {
    /// The size in bytes.
    bytes: usize,
    /// How many bytes it adds to those that large bodies hold.
    large: usize,
    /// The bytes that other bodies wait for and that take precedence.
    claimed: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;
    const START: Duration = Duration::ZERO;

    /// Room for ten MiB of large bodies and one MiB more.
    fn ledger() -> BodyLedger {
        BodyLedger::new(MIB, 10 * MIB)
    }

    fn open(ledger: &mut BodyLedger, proven: bool) -> u64 {
        ledger.open(proven, START, Arc::default())
    }

    fn holding(ledger: &mut BodyLedger, proven: bool, bytes: usize) -> u64 {
        let id = open(ledger, proven);
        assert_eq!(ledger.take(id, bytes, START), Grant::Granted);
        id
    }

    fn evicted(ledger: &BodyLedger) -> Vec<u64> {
        ledger.bodies.iter().filter(|(_, body)| body.is_evicted).map(|(id, _)| *id).collect()
    }

    #[test]
    fn the_oldest_stranger_goes_and_never_the_newcomer() {
        let ledger = &mut ledger();
        let strangers: Vec<_> = (0..5).map(|_| holding(ledger, false, 2 * MIB)).collect();
        let newcomer = open(ledger, false);
        assert_eq!(ledger.take(newcomer, 3 * MIB, START), Grant::NotYet);
        assert_eq!(evicted(ledger), strangers[..2]);
        assert_eq!(ledger.take(newcomer, 3 * MIB, START), Grant::NotYet);
        assert_eq!(evicted(ledger), strangers[..2], "nobody else goes while those are on their way");
        assert_eq!(ledger.take(strangers[0], 1, START), Grant::Evicted);
        assert!(ledger.close(strangers[0]) && ledger.close(strangers[1]));
        assert_eq!(ledger.take(newcomer, 3 * MIB, START), Grant::Granted);
        // A body that grows and is the oldest is evicted itself.
        assert_eq!(ledger.take(strangers[2], MIB, START), Grant::Granted);
        assert_eq!(ledger.take(strangers[2], MIB, START), Grant::Evicted);
    }

    #[test]
    fn proven_bodies_stay_whoever_comes_and_nobody_goes_in_vain() {
        let ledger = &mut ledger();
        holding(ledger, true, 7 * MIB);
        let stranger = holding(ledger, false, 2 * MIB);
        for proven in [false, true] {
            let newcomer = open(ledger, proven);
            assert_eq!(ledger.take(newcomer, 5 * MIB, START), Grant::NotYet);
            assert!(evicted(ledger).is_empty(), "it would not be enough");
            ledger.close(newcomer);
        }
        ledger.mark_authenticated(stranger);
        let newcomer = open(ledger, true);
        assert_eq!(ledger.take(newcomer, 2 * MIB, START), Grant::NotYet);
        assert!(evicted(ledger).is_empty(), "who has proven it stays");
    }

    #[test]
    fn small_bodies_have_room_of_their_own_and_the_oldest_strangers_among_them_go() {
        let ledger = &mut ledger();
        holding(ledger, true, 10 * MIB);
        let small: Vec<_> = (0..MIB / SMALL).map(|_| holding(ledger, false, SMALL)).collect();
        let newcomer = open(ledger, false);
        assert_eq!(ledger.take(newcomer, SMALL, START), Grant::NotYet);
        assert_eq!(evicted(ledger), small[..1]);
        assert!(ledger.close(small[0]));
        assert_eq!(ledger.take(newcomer, SMALL, START), Grant::Granted);
        // A body that outgrows the room for small bodies needs room among the large ones.
        assert_eq!(ledger.take(newcomer, 1, START), Grant::NotYet);
    }

    #[test]
    fn slow_bodies_go_when_a_proven_one_needs_room_and_not_before() {
        let ledger = &mut ledger();
        let (slow, there) = (holding(ledger, true, 5 * MIB), holding(ledger, true, 5 * MIB));
        ledger.complete(there);
        let (newcomer, stranger) = (open(ledger, true), open(ledger, false));
        assert_eq!(ledger.take(newcomer, MIB, SLOW), Grant::NotYet);
        assert_eq!(ledger.take(stranger, MIB, 2 * SLOW), Grant::NotYet);
        assert!(evicted(ledger).is_empty());
        assert_eq!(ledger.take(newcomer, MIB, 2 * SLOW), Grant::NotYet);
        assert_eq!(evicted(ledger), [slow]);
    }

    #[test]
    fn no_stranger_takes_what_a_proven_body_waits_for() {
        let ledger = &mut ledger();
        let (one, other) = (holding(ledger, true, 5 * MIB), holding(ledger, true, 5 * MIB));
        let (waiting, stranger) = (open(ledger, true), open(ledger, false));
        assert_eq!(ledger.take(waiting, 8 * MIB, START), Grant::NotYet);
        ledger.close(one);
        assert_eq!(ledger.take(stranger, 2 * MIB, START), Grant::NotYet);
        ledger.close(other);
        assert_eq!(ledger.take(stranger, 2 * MIB, START), Grant::Granted);
        assert_eq!(ledger.take(waiting, 8 * MIB, START), Grant::Granted);
        assert_eq!((ledger.held, ledger.held_large, ledger.claimed), (10 * MIB, 10 * MIB, 0));
        ledger.close(waiting);
        ledger.close(stranger);
        assert_eq!((ledger.held, ledger.held_large, ledger.bodies.len()), (0, 0, 0));
    }
}
