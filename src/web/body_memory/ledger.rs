//! Who holds how much, and who goes when there is no room. Pure but for those who are told.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;

use super::SMALL;

/// After so long a proven body that has not come whole goes when another proven one needs its room: Sentry gives up after 5
/// seconds at most.
const SLOW: Duration = Duration::from_secs(5);

/// All bodies and what they hold.
#[derive(Debug)]
pub(super) struct Ledger {
    /// What all bodies may hold together, in bytes.
    total: usize,
    /// What those that are not small may hold of it, in bytes.
    large: usize,
    /// By age: numbers rise.
    bodies: BTreeMap<u64, Body>,
    held: usize,
    held_large: usize,
    /// What proven bodies wait for, which no other may take meanwhile.
    claimed: usize,
    next: u64,
}

#[derive(Debug)]
struct Body {
    bytes: usize,
    claimed: usize,
    proven: bool,
    /// Since when it comes; `None` once it is there.
    reading_since: Option<Duration>,
    /// Whether it has been told to go. Its bytes count until it has gone.
    is_evicted: bool,
    evicted: Arc<Notify>,
}

/// Whether bytes were taken.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Taken {
    /// They were.
    Yes,
    /// There is no room yet. Whoever had to go for it has been told.
    NotYet,
    /// The body itself has to go.
    Evicted,
}

impl Body {
    fn large_bytes(&self) -> usize {
        if self.bytes > SMALL { self.bytes } else { 0 }
    }
}

impl Ledger {
    /// Bodies that are not small may hold `large` bytes, and all together `small` bytes more.
    pub(super) fn new(small: usize, large: usize) -> Self {
        let total = small.saturating_add(large);
        Self { total, large, bodies: BTreeMap::new(), held: 0, held_large: 0, claimed: 0, next: 0 }
    }

    /// A body that begins to come at `now`. `evicted` is notified when it has to go.
    pub(super) fn open(&mut self, proven: bool, now: Duration, evicted: Arc<Notify>) -> u64 {
        let id = self.next;
        self.next += 1;
        let body = Body { bytes: 0, claimed: 0, proven, reading_since: Some(now), is_evicted: false, evicted };
        self.bodies.insert(id, body);
        id
    }

    /// Takes `bytes` more for a body at `now`, or tells others to go for it.
    pub(super) fn take(&mut self, id: u64, bytes: usize, now: Duration) -> Taken {
        let Some(body) = self.bodies.get_mut(&id).filter(|body| !body.is_evicted) else { return Taken::Evicted };
        self.claimed -= std::mem::take(&mut body.claimed);
        let (before, proven) = (body.large_bytes(), body.proven);
        let after = body.bytes.saturating_add(bytes);
        let large = if after > SMALL { after - before } else { 0 };
        let claimed = if proven { 0 } else { self.claimed };
        let wanted = Wanted { bytes, large, claimed };

        if self.fits(&wanted, 0, 0) {
            if let Some(body) = self.bodies.get_mut(&id) {
                body.bytes = after;
            }
            self.held += bytes;
            self.held_large += large;
            return Taken::Yes;
        }
        if let Some(victims) = self.victims(&wanted, proven, now) {
            if victims.contains(&id) {
                self.evict(id);
                return Taken::Evicted;
            }
            for victim in victims {
                self.evict(victim);
            }
        }
        if proven && let Some(body) = self.bodies.get_mut(&id) {
            body.claimed = large;
            self.claimed += large;
        }
        Taken::NotYet
    }

    /// Whether `wanted` fits once `leaving` bytes, `leaving_large` of them of large bodies, have been given back.
    fn fits(&self, wanted: &Wanted, leaving: usize, leaving_large: usize) -> bool {
        let all = self.held - leaving + wanted.bytes <= self.total;
        let large = (self.held_large - leaving_large).saturating_add(wanted.large).saturating_add(wanted.claimed);
        all && (wanted.large == 0 || large <= self.large)
    }

    /// Who has to go, besides those who have been told already, so that it fits; `None` when that would not help.
    fn victims(&self, wanted: &Wanted, for_proven: bool, now: Duration) -> Option<Vec<u64>> {
        let told = self.bodies.values().filter(|body| body.is_evicted);
        let (mut leaving, mut leaving_large) =
            told.fold((0, 0), |(all, large), body| (all + body.bytes, large + body.large_bytes()));
        let is_slow = |body: &Body| body.reading_since.is_some_and(|since| now.saturating_sub(since) > SLOW);
        // First whoever has proven nothing, the oldest first, then whoever is too slow for Sentry to wait.
        let unproven = self.bodies.iter().filter(|(_, body)| !body.proven);
        let slow = self.bodies.iter().filter(|(_, body)| body.proven && for_proven && is_slow(body));
        let mut candidates = unproven.chain(slow).filter(|(_, body)| !body.is_evicted && body.bytes > 0);
        let mut victims = Vec::new();
        while !self.fits(wanted, leaving, leaving_large) {
            let is_all_crowded = self.held - leaving + wanted.bytes > self.total;
            let (id, body) = candidates.find(|(_, body)| is_all_crowded || body.bytes > SMALL)?;
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

    /// The whole body has come.
    pub(super) fn complete(&mut self, id: u64) {
        if let Some(body) = self.bodies.get_mut(&id) {
            body.reading_since = None;
        }
    }

    /// A body that had to go meanwhile stays: all of it has come.
    pub(super) fn prove(&mut self, id: u64) {
        if let Some(body) = self.bodies.get_mut(&id) {
            body.proven = true;
            body.is_evicted = false;
        }
    }

    /// Gives back all that a body holds; whether that was anything.
    pub(super) fn close(&mut self, id: u64) -> bool {
        let Some(body) = self.bodies.remove(&id) else { return false };
        self.held -= body.bytes;
        self.held_large -= body.large_bytes();
        self.claimed -= body.claimed;
        body.bytes > 0 || body.claimed > 0
    }
}

/// What somebody asks for.
struct Wanted {
    /// In bytes.
    bytes: usize,
    /// By how much it lets large bodies grow.
    large: usize,
    /// What others wait for that go first.
    claimed: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: usize = 1024 * 1024;
    const START: Duration = Duration::ZERO;

    /// Room for ten MiB of large bodies and one MiB more.
    fn ledger() -> Ledger {
        Ledger::new(MIB, 10 * MIB)
    }

    fn open(ledger: &mut Ledger, proven: bool) -> u64 {
        ledger.open(proven, START, Arc::default())
    }

    fn holding(ledger: &mut Ledger, proven: bool, bytes: usize) -> u64 {
        let id = open(ledger, proven);
        assert_eq!(ledger.take(id, bytes, START), Taken::Yes);
        id
    }

    fn evicted(ledger: &Ledger) -> Vec<u64> {
        ledger.bodies.iter().filter(|(_, body)| body.is_evicted).map(|(id, _)| *id).collect()
    }

    #[test]
    fn the_oldest_stranger_goes_and_never_the_newcomer() {
        let ledger = &mut ledger();
        let strangers: Vec<_> = (0..5).map(|_| holding(ledger, false, 2 * MIB)).collect();
        let newcomer = open(ledger, false);
        assert_eq!(ledger.take(newcomer, 3 * MIB, START), Taken::NotYet);
        assert_eq!(evicted(ledger), strangers[..2]);
        assert_eq!(ledger.take(newcomer, 3 * MIB, START), Taken::NotYet);
        assert_eq!(evicted(ledger), strangers[..2], "nobody else goes while those are on their way");
        assert_eq!(ledger.take(strangers[0], 1, START), Taken::Evicted);
        assert!(ledger.close(strangers[0]) && ledger.close(strangers[1]));
        assert_eq!(ledger.take(newcomer, 3 * MIB, START), Taken::Yes);
        // Who grows and is the oldest goes itself.
        assert_eq!(ledger.take(strangers[2], MIB, START), Taken::Yes);
        assert_eq!(ledger.take(strangers[2], MIB, START), Taken::Evicted);
    }

    #[test]
    fn proven_bodies_stay_whoever_comes_and_nobody_goes_in_vain() {
        let ledger = &mut ledger();
        holding(ledger, true, 7 * MIB);
        let stranger = holding(ledger, false, 2 * MIB);
        for proven in [false, true] {
            let newcomer = open(ledger, proven);
            assert_eq!(ledger.take(newcomer, 5 * MIB, START), Taken::NotYet);
            assert!(evicted(ledger).is_empty(), "it would not be enough");
            ledger.close(newcomer);
        }
        ledger.prove(stranger);
        let newcomer = open(ledger, true);
        assert_eq!(ledger.take(newcomer, 2 * MIB, START), Taken::NotYet);
        assert!(evicted(ledger).is_empty(), "who has proven it stays");
    }

    #[test]
    fn small_bodies_have_room_of_their_own_and_the_oldest_strangers_among_them_go() {
        let ledger = &mut ledger();
        holding(ledger, true, 10 * MIB);
        let small: Vec<_> = (0..MIB / SMALL).map(|_| holding(ledger, false, SMALL)).collect();
        let newcomer = open(ledger, false);
        assert_eq!(ledger.take(newcomer, SMALL, START), Taken::NotYet);
        assert_eq!(evicted(ledger), small[..1]);
        assert!(ledger.close(small[0]));
        assert_eq!(ledger.take(newcomer, SMALL, START), Taken::Yes);
        // What outgrows that room has to find another.
        assert_eq!(ledger.take(newcomer, 1, START), Taken::NotYet);
    }

    #[test]
    fn slow_bodies_go_when_a_proven_one_needs_room_and_not_before() {
        let ledger = &mut ledger();
        let (slow, there) = (holding(ledger, true, 5 * MIB), holding(ledger, true, 5 * MIB));
        ledger.complete(there);
        let (newcomer, stranger) = (open(ledger, true), open(ledger, false));
        assert_eq!(ledger.take(newcomer, MIB, SLOW), Taken::NotYet);
        assert_eq!(ledger.take(stranger, MIB, 2 * SLOW), Taken::NotYet);
        assert!(evicted(ledger).is_empty());
        assert_eq!(ledger.take(newcomer, MIB, 2 * SLOW), Taken::NotYet);
        assert_eq!(evicted(ledger), [slow]);
    }

    #[test]
    fn no_stranger_takes_what_a_proven_body_waits_for() {
        let ledger = &mut ledger();
        let (one, other) = (holding(ledger, true, 5 * MIB), holding(ledger, true, 5 * MIB));
        let (waiting, stranger) = (open(ledger, true), open(ledger, false));
        assert_eq!(ledger.take(waiting, 8 * MIB, START), Taken::NotYet);
        ledger.close(one);
        assert_eq!(ledger.take(stranger, 2 * MIB, START), Taken::NotYet);
        ledger.close(other);
        assert_eq!(ledger.take(stranger, 2 * MIB, START), Taken::Yes);
        assert_eq!(ledger.take(waiting, 8 * MIB, START), Taken::Yes);
        assert_eq!((ledger.held, ledger.held_large, ledger.claimed), (10 * MIB, 10 * MIB, 0));
        ledger.close(waiting);
        ledger.close(stranger);
        assert_eq!((ledger.held, ledger.held_large, ledger.bodies.len()), (0, 0, 0));
    }
}
