//! The program's rules, applied to numbers that stand for values. All members, tables, changes and views are stored in one
//! place, and a state of the search holds only their numbers: it takes a few bytes, and each rule runs only once for the
//! same arguments.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sentry_pagerduty_bridge::cluster::lease_holder::{LeaseHolder, Timing};
use sentry_pagerduty_bridge::pagerduty::ServiceKey;
use sentry_pagerduty_bridge::queue::leases::{
    BridgeId, BridgeInfo, Fence, LeaseChanges, LeaseName, LeaseState, LeaseTable,
};

/// How many service keys there are.
pub const KEYS: usize = 2;

/// How long one step takes.
const STEP: Duration = Duration::from_secs(1);

/// An attempt takes less than a step. There is no margin: a margin is for a bridge that is held up between checking its
/// clock and sending the request, which are one action here.
const TIMING: Timing = Timing { lease: Duration::from_secs(3), attempt: STEP, margin: Duration::ZERO };

/// The time on a bridge's own clock when the model starts, in steps.
const CLOCK: u8 = 10;

/// A rule that can be left out, to show that the search then finds a violation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LeaseRule {
    /// The database compares the fence when an attempt begins and ends.
    Fence,
    /// A bridge that takes a lease that ended without a release waits before it sends.
    Wait,
    /// A bridge sends only while its own clock says that enough is left of the lease.
    Clock,
}

/// The number of a member, a table, a set of changes or a view.
pub type ValueId = u32;

/// The rules, and all values that were met so far.
#[derive(Debug)]
pub struct LeaseRules {
    keys: [ServiceKey; KEYS],
    names: [LeaseName; KEYS],
    left_out: Option<LeaseRule>,
    seen: Mutex<SeenValues>,
}

/// The arguments of [`LeaseRules::apply`]: the table, the bridge, whether it is leaving, the changes, the keys with waiting
/// events, and the time.
type ApplyArguments = (ValueId, usize, bool, ValueId, [bool; KEYS], u8);

/// The values that were met so far, and the results of the rules for them, by their arguments.
#[derive(Debug, Default)]
struct SeenValues {
    members: ValueTable<LeaseHolder>,
    tables: ValueTable<LeaseTable>,
    changes: ValueTable<LeaseChanges>,
    views: ValueTable<LeaseState>,
    asked: HashMap<(ValueId, u8, [bool; KEYS]), (ValueId, ValueId)>,
    applied: HashMap<ApplyArguments, (ValueId, ValueId)>,
    answered: HashMap<(ValueId, ValueId, ValueId, u8), ValueId>,
    rights: HashMap<(ValueId, u8), [Option<u8>; KEYS]>,
}

/// Values, each with its number.
#[derive(Debug)]
struct ValueTable<T> {
    all: Vec<T>,
    numbers: HashMap<T, ValueId>,
}

impl<T> Default for ValueTable<T> {
    fn default() -> Self {
        Self { all: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> ValueTable<T> {
    fn number(&mut self, value: T) -> ValueId {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = ValueId::try_from(self.all.len()).unwrap_or(ValueId::MAX);
        self.all.push(value.clone());
        self.numbers.insert(value, number);
        number
    }

    fn get(&self, number: ValueId) -> &T {
        &self.all[number as usize]
    }
}

fn moment(clock: u8) -> Duration {
    STEP * u32::from(clock)
}

fn id(bridge: usize) -> BridgeId {
    BridgeId::new(bridge as u128)
}

fn info(bridge: usize, is_leaving: bool) -> BridgeInfo {
    BridgeInfo {
        id: id(bridge),
        name: String::new(),
        version: String::new(),
        fingerprint: String::new(),
        is_leaving,
        reaches_pagerduty: true,
    }
}

impl LeaseRules {
    /// Returns all rules except the one that is left out, if any.
    ///
    /// # Panics
    ///
    /// Never: the service keys are valid.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the service keys are constants")]
    pub fn without(left_out: Option<LeaseRule>) -> Self {
        let key = |number: usize| ServiceKey::parse(&format!("{number:032}")).expect("a service key");
        let keys = [key(0), key(1)];
        let names = keys.clone().map(LeaseName::Key);
        Self { keys, names, left_out, seen: Mutex::default() }
    }

    fn seen(&self) -> MutexGuard<'_, SeenValues> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time on the clock of a bridge that stood still for `behind` steps.
    #[must_use]
    pub fn clock(now: u8, behind: u8) -> u8 {
        CLOCK + now - behind
    }

    /// The number of a bridge without leases.
    #[must_use]
    pub fn member(&self, bridge: usize) -> ValueId {
        self.seen().members.number(LeaseHolder::new(id(bridge), TIMING))
    }

    /// The number of a table without leases.
    #[must_use]
    pub fn table(&self) -> ValueId {
        self.seen().tables.number(LeaseTable::default())
    }

    /// Makes a bridge start to leave, and returns its new number.
    #[must_use]
    pub fn leave(&self, member: ValueId) -> ValueId {
        let mut seen = self.seen();
        let mut member = seen.members.get(member).clone();
        member.leave();
        seen.members.number(member)
    }

    /// Whether a bridge is about to stop.
    #[must_use]
    pub fn is_leaving(&self, member: ValueId) -> bool {
        self.seen().members.get(member).is_leaving()
    }

    /// Whether a bridge has given up all leases and will not take one again.
    #[must_use]
    pub fn has_left(&self, member: ValueId) -> bool {
        self.seen().members.get(member).has_left()
    }

    /// Lets a bridge ask for changes. Returns the bridge after that, and the changes. `busy`: the keys with attempts in
    /// flight.
    #[must_use]
    pub fn ask(&self, member: ValueId, clock: u8, busy: [bool; KEYS]) -> (ValueId, ValueId) {
        let mut seen = self.seen();
        let question = (member, clock, busy);
        if let Some(known) = seen.asked.get(&question) {
            return *known;
        }
        let mut member = seen.members.get(member).clone();
        let is_busy = |name: &LeaseName| (0..KEYS).any(|key| busy[key] && self.names[key] == *name);
        let changes = member.changes(moment(clock), is_busy);
        let answer = (seen.members.number(member), seen.changes.number(changes));
        seen.asked.insert(question, answer);
        answer
    }

    /// Makes changes in the database when its clock shows `now`. Returns the table and the view. `waiting`: the keys with
    /// waiting events.
    #[must_use]
    pub fn apply(
        &self,
        table: ValueId,
        (bridge, is_leaving): (usize, bool),
        changes: ValueId,
        waiting: [bool; KEYS],
        now: u8,
    ) -> (ValueId, ValueId) {
        let mut seen = self.seen();
        let question = (table, bridge, is_leaving, changes, waiting, now);
        if let Some(known) = seen.applied.get(&question) {
            return *known;
        }
        let mut table = seen.tables.get(table).clone();
        let keys: Vec<_> = (0..KEYS).filter(|key| waiting[*key]).map(|key| self.keys[key].clone()).collect();
        let utc = DateTime::<Utc>::UNIX_EPOCH + moment(now);
        let changes = seen.changes.get(changes).clone();
        let view = table.exchange(&info(bridge, is_leaving), &changes, TIMING.lease, &keys, utc);
        let answer = (seen.tables.number(table), seen.views.number(view));
        seen.applied.insert(question, answer);
        answer
    }

    /// Returns a bridge after the answer of the database, which comes within the step.
    #[must_use]
    pub fn answer(&self, member: ValueId, changes: ValueId, view: ValueId, clock: u8) -> ValueId {
        let mut seen = self.seen();
        let question = (member, changes, view, clock);
        if let Some(known) = seen.answered.get(&question) {
            return *known;
        }
        let mut member = seen.members.get(member).clone();
        let now = moment(clock);
        // Without the wait, a bridge may send at the same moment at which it takes a lease.
        let answered_at = if self.left_out == Some(LeaseRule::Wait) { now.saturating_sub(STEP) } else { now };
        member.answered(now, seen.changes.get(changes), seen.views.get(view).clone(), answered_at);
        let answer = seen.members.number(member);
        seen.answered.insert(question, answer);
        answer
    }

    /// The numbers of the leases under which a bridge may send now.
    #[must_use]
    pub fn rights(&self, member: ValueId, clock: u8) -> [Option<u8>; KEYS] {
        let mut seen = self.seen();
        if let Some(known) = seen.rights.get(&(member, clock)) {
            return *known;
        }
        let found = seen.members.get(member);
        let fence = |name: &LeaseName| {
            if self.left_out == Some(LeaseRule::Clock) {
                return found.owned().find(|(owned, _)| *owned == name).map(|(_, fence)| fence);
            }
            found.right(name, moment(clock)).map(|right| right.fence)
        };
        let number = |name| fence(name).and_then(|fence| u8::try_from(fence.number).ok());
        let rights = self.names.each_ref().map(number);
        seen.rights.insert((member, clock), rights);
        rights
    }

    /// Whether the database lets an attempt with this lease number begin or end.
    #[must_use]
    pub fn allows(&self, table: ValueId, key: usize, bridge: usize, number: u8) -> bool {
        if self.left_out == Some(LeaseRule::Fence) {
            return true;
        }
        let fence = Fence { number: i64::from(number), owner: id(bridge) };
        self.seen().tables.get(table).allows(&self.names[key], fence)
    }

    /// How many different members, tables and views were seen.
    #[must_use]
    pub fn values(&self) -> [usize; 3] {
        let seen = self.seen();
        [seen.members.all.len(), seen.tables.all.len(), seen.views.all.len()]
    }
}
