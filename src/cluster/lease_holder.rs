//! Which leases one bridge requests, and when it may send. Pure: states of the database and moments of the bridge's own
//! clock come in, changes and rights go out. A moment is the time since that clock began; it never goes back.
//!
//! - A bridge sends under a lease only while at least the timeout of an attempt and a margin remain of the lease. The
//!   remaining time is measured by the bridge's own monotonic clock, from before the statement was sent that returned the
//!   end of the lease, so it is never longer than by the database's clock.
//! - A bridge that takes a lease that ended without a release waits for the timeout of an attempt and the margin before it
//!   sends: the previous owner may have been stopped just after it looked at its clock, or its clock may have stood still.
//! - A lease is released only when none of its attempts is in flight and the wait for the attempts of the previous owner
//!   is over; otherwise it is ended, so that the next owner waits.
//! - Keys are shared evenly. A bridge that has too many gives up the last ones, so that as few as possible move.
//! - A bridge that reports that it does not reach PagerDuty gets no keys while another bridge does not report the same.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use chrono::TimeDelta;

use crate::pagerduty::OutcomeKind;
use crate::queue::leases::{BridgeId, Fence, LeaseChanges, LeaseName, LeaseRow, LeaseState};

/// How many attempts in a row have to fail on the way to PagerDuty, over at least [`FAILING`].
const FAILURES: u32 = 5;

/// How long attempts have to fail, so that a short disturbance moves no keys.
const FAILING: Duration = Duration::from_secs(30);

/// How long after the last failure PagerDuty counts as not reached.
const RETRY: Duration = Duration::from_mins(5);

/// The durations of the protocol.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Timing {
    /// How long a lease lasts; it is renewed when a third of it is over.
    pub lease: Duration,
    /// The longest that one attempt takes.
    pub attempt: Duration,
    /// The additional time that has to remain of a lease, in case the database's clock is faster or the process is held
    /// up.
    pub margin: Duration,
}

impl Timing {
    /// Returns the durations for attempts that take at most `attempt` (`BRIDGE_PAGERDUTY_TIMEOUT`): after a third of a
    /// lease is over, there is still time for an attempt and for several tries to renew.
    #[must_use]
    pub fn new(attempt: Duration) -> Self {
        let margin = Duration::from_secs(3);
        Self { lease: (2 * (attempt + margin)).max(Duration::from_secs(15)), attempt, margin }
    }

    /// Returns how long a bridge may go unseen before it gets no more keys.
    #[must_use]
    pub fn alive(&self) -> TimeDelta {
        TimeDelta::from_std(self.lease / 2).unwrap_or(TimeDelta::MAX)
    }
}

/// The bridge's part in the protocol.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct LeaseHolder {
    me: BridgeId,
    timing: Timing,
    owned: BTreeMap<LeaseName, OwnedLease>,
    state: Option<LeaseState>,
    /// The leases in the last changes that were free when they were requested, so that there is no attempt to wait for.
    released: BTreeSet<LeaseName>,
    is_leaving: bool,
}

/// A lease of this bridge.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct OwnedLease {
    number: i64,
    /// The end of the lease, by the bridge's own clock.
    until: Duration,
    /// Nothing is sent before this moment.
    send_from: Duration,
    /// Whether the lease is given up as soon as none of its attempts is in flight.
    is_given_up: bool,
}

/// A right to send, and until when an attempt may begin under it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct SendRight {
    /// The fence that every beginning and settlement of an attempt carries.
    pub fence: Fence,
    /// No attempt begins after this moment of the bridge's own clock.
    pub send_until: Duration,
}

impl LeaseHolder {
    /// A bridge that has no leases yet.
    #[must_use]
    pub fn new(me: BridgeId, timing: Timing) -> Self {
        Self { me, timing, owned: BTreeMap::new(), state: None, released: BTreeSet::new(), is_leaving: false }
    }

    /// Returns the id of the bridge.
    #[must_use]
    pub fn id(&self) -> BridgeId {
        self.me
    }

    /// Starts to give up all leases, because the bridge is about to stop.
    pub fn leave(&mut self) {
        self.is_leaving = true;
    }

    /// Whether it is about to stop.
    #[must_use]
    pub fn is_leaving(&self) -> bool {
        self.is_leaving
    }

    /// Whether all leases are given up.
    #[must_use]
    pub fn has_left(&self) -> bool {
        self.is_leaving && self.owned.is_empty()
    }

    /// Returns the right under which attempts may begin now, if there is one.
    #[must_use]
    pub fn right(&self, name: &LeaseName, now: Duration) -> Option<SendRight> {
        let found = self.active(now).find(|(active, _)| *active == name);
        found.map(|(_, right)| right).filter(|right| now <= right.send_until)
    }

    /// Returns the leases under which this bridge delivers, even if too little time remains to send: it keeps what it
    /// knows of the keys.
    pub fn active(&self, now: Duration) -> impl Iterator<Item = (&LeaseName, SendRight)> {
        let active = self.owned.iter().filter(move |(_, lease)| !lease.is_given_up && lease.send_from <= now);
        active.map(|(name, lease)| {
            let fence = Fence { number: lease.number, owner: self.me };
            (
                name,
                SendRight { fence, send_until: lease.until.saturating_sub(self.timing.attempt + self.timing.margin) },
            )
        })
    }

    /// Returns the fences of the leases that this bridge has, whether it may send under them now or not.
    pub fn owned(&self) -> impl Iterator<Item = (&LeaseName, Fence)> {
        self.owned.iter().map(|(name, lease)| (name, Fence { number: lease.number, owner: self.me }))
    }

    /// Returns the changes of leases to request now. `is_busy` returns whether an attempt of a lease is in flight. Leases
    /// that the changes release or end are no longer owned, whatever becomes of the changes.
    pub fn changes(&mut self, now: Duration, is_busy: impl Fn(&LeaseName) -> bool) -> LeaseChanges {
        let mut changes = LeaseChanges::default();
        self.released.clear();
        let Some(state) = self.state.take() else { return changes };
        let (quota, rank) = self.quota(&state);
        self.give_up(quota);
        let given_up: Vec<_> = self
            .owned
            .iter()
            .filter(|(name, lease)| lease.is_given_up && !is_busy(name))
            .map(|(n, _)| n.clone())
            .collect();
        for name in given_up {
            let Some(lease) = self.owned.remove(&name) else { continue };
            let was_waited_for = lease.send_from <= now;
            let list = if was_waited_for { &mut changes.release } else { &mut changes.end };
            list.push((name, lease.number));
        }
        let kept = self.owned.iter().filter(|(_, lease)| lease.until < now + self.timing.lease * 2 / 3);
        changes.renew = kept.map(|(name, lease)| (name.clone(), lease.number)).collect();
        if !self.is_leaving {
            self.take(&state, quota, rank, &mut changes);
        }
        changes.leave = self.has_left();
        self.state = Some(state);
        changes
    }

    /// Applies the database's answer to `changes`. They were sent at `asked_at`, and it is `now`, both by the bridge's own
    /// clock.
    pub fn answered(&mut self, asked_at: Duration, changes: &LeaseChanges, state: LeaseState, now: Duration) {
        let rows: BTreeMap<_, _> = state.leases.iter().map(|row| (&row.name, row)).collect();
        let until = |row: &LeaseRow| {
            let left = (row.until - state.now).to_std().unwrap_or_default();
            asked_at + left.min(self.timing.lease)
        };
        self.owned.retain(|name, lease| {
            let row = rows.get(name).filter(|row| row.owner == Some(self.me) && row.number == lease.number);
            lease.until = row.map_or(lease.until, |row| until(row));
            row.is_some()
        });
        let taken = changes.take.iter().map(|(name, number)| (name, number + 1));
        let created = changes.create.iter().map(|name| (name, 1));
        for (name, number) in taken.chain(created) {
            let Some(row) = rows.get(name).filter(|row| row.owner == Some(self.me) && row.number == number) else {
                continue;
            };
            let is_new = number == 1 || self.released.contains(name);
            let send_from = if is_new { now } else { now + self.timing.attempt + self.timing.margin };
            let lease = OwnedLease { number, until: until(row), send_from, is_given_up: false };
            self.owned.insert(name.clone(), lease);
        }
        self.state = Some(state);
    }

    /// Returns how many keys this bridge should have, and its place among the bridges that get some.
    fn quota(&self, state: &LeaseState) -> (usize, usize) {
        if self.is_leaving {
            return (0, 0);
        }
        let seen = |last_seen| last_seen > state.now - self.timing.alive();
        let alive = || state.bridges.iter().filter(|row| !row.info.is_leaving && seen(row.last_seen));
        let some_reach = alive().any(|row| row.info.reaches_pagerduty);
        let mut counts: BTreeMap<_, _> =
            alive().filter(|row| row.info.reaches_pagerduty || !some_reach).map(|row| (row.info.id, 0_usize)).collect();
        let keys = || state.leases.iter().filter(|row| row.name != LeaseName::Leader);
        for row in keys().filter(|row| row.until > state.now) {
            if let Some(count) = row.owner.and_then(|owner| counts.get_mut(&owner)) {
                *count += 1;
            }
        }
        let mut order: Vec<_> = counts.into_iter().collect();
        order.sort_unstable_by_key(|(id, count)| (std::cmp::Reverse(*count), *id));
        let Some(rank) = order.iter().position(|(id, _)| *id == self.me) else { return (0, 0) };
        let all = keys().count() + state.unleased.len();
        (all / order.len() + usize::from(rank < all % order.len()), rank)
    }

    /// Marks the last keys beyond the quota as given up, and unmarks the others.
    fn give_up(&mut self, quota: usize) {
        let mut kept = 0;
        for (name, lease) in &mut self.owned {
            lease.is_given_up = match name {
                LeaseName::Leader => self.is_leaving,
                LeaseName::Key(_) => {
                    kept += 1;
                    kept > quota
                }
            };
        }
    }

    /// Takes what is free, up to the quota.
    fn take(&mut self, state: &LeaseState, quota: usize, rank: usize, changes: &mut LeaseChanges) {
        let is_free = |row: &&LeaseRow| {
            let has_none = row.owner.is_none() || row.until <= state.now;
            // A lease of this bridge that it does not know of, because the answer was lost. It gets a new number, so that
            // an earlier statement, which may still arrive, has no effect on it.
            let is_lost = row.owner == Some(self.me);
            (has_none || is_lost) && !self.owned.contains_key(&row.name)
        };
        let released_now =
            |name: &LeaseName| changes.release.iter().chain(&changes.end).any(|(given, _)| given == name);
        let free = state.leases.iter().filter(is_free).filter(|row| !released_now(&row.name));
        let mut candidates: Vec<_> = free.map(|row| (row.name.clone(), Some(row))).collect();
        candidates.extend(state.unleased.iter().map(|key| (LeaseName::Key(key.clone()), None)));
        if state.leases.iter().all(|row| row.name != LeaseName::Leader) {
            candidates.push((LeaseName::Leader, None));
        }
        let (keys, periodic): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|(name, _)| *name != LeaseName::Leader);
        let has = self.owned.keys().filter(|name| **name != LeaseName::Leader).count();
        let wanted = quota.saturating_sub(has).min(keys.len());
        // Bridges that look at the same moment begin at different places.
        let own = keys.iter().cycle().skip(rank * wanted).take(wanted);
        for (name, row) in own.chain(&periodic) {
            match row {
                Some(row) => {
                    if row.owner.is_none() {
                        self.released.insert(name.clone());
                    }
                    changes.take.push((name.clone(), row.number));
                }
                None => changes.create.push(name.clone()),
            }
        }
        changes.take.sort_unstable();
        changes.create.sort_unstable();
    }
}

/// Whether the attempts of this bridge reach PagerDuty, by how the last ones ended.
///
/// Without keys a bridge makes no attempts. After a while it therefore assumes that PagerDuty may be reachable again, and
/// finds out with the keys that it then gets.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Reachability {
    failures: u32,
    failing_since: Duration,
    unreached_since: Option<Duration>,
}

impl Reachability {
    /// An attempt ended.
    pub(super) fn ended(&mut self, kind: OutcomeKind, now: Duration) {
        match kind {
            OutcomeKind::NetworkError | OutcomeKind::Dropped | OutcomeKind::Timeout | OutcomeKind::Untrusted => {
                if self.failures == 0 {
                    self.failing_since = now;
                }
                self.failures = self.failures.saturating_add(1);
                if self.failures >= FAILURES && now.saturating_sub(self.failing_since) >= FAILING {
                    self.unreached_since = Some(now);
                }
            }
            OutcomeKind::Delivered | OutcomeKind::Throttled | OutcomeKind::Refused | OutcomeKind::ServerError => {
                *self = Self::default();
            }
        }
    }

    /// Whether PagerDuty is reached, as far as is known.
    pub(super) fn is_reached(&self, now: Duration) -> bool {
        self.unreached_since.is_none_or(|since| now.saturating_sub(since) >= RETRY)
    }
}

#[cfg(test)]
mod tests;
