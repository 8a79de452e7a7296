//! The program's rules, applied to numbers that stand for values. All members, tables, changes and views are stored in one
//! place, and a state of the search holds only their numbers: it takes a few bytes, and each rule runs only once for the
//! same arguments.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use sentry_pagerduty_bridge::cluster::member::{Member, Timing};
use sentry_pagerduty_bridge::pagerduty::ServiceKey;
use sentry_pagerduty_bridge::queue::leases::{
    BridgeId, BridgeInfo, Fence, LeaseChanges, LeaseName, LeaseTable, LeaseView,
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
pub enum Rule {
    /// The database compares the fence when an attempt begins and ends.
    Fence,
    /// A bridge that takes a lease that ended without a release waits before it sends.
    Wait,
    /// A bridge sends only while its own clock says that enough is left of the lease.
    Clock,
}

/// The number of a member, a table, a set of changes or a view.
pub type Number = u32;

/// The rules, and all values that were met so far.
#[derive(Debug)]
pub struct Rules {
    keys: [ServiceKey; KEYS],
    names: [LeaseName; KEYS],
    left_out: Option<Rule>,
    met: Mutex<Met>,
}

/// The arguments of [`Rules::apply`]: the table, the bridge, whether it is leaving, the changes, the keys with waiting
/// events, and the time.
type Application = (Number, usize, bool, Number, [bool; KEYS], u8);

#[derive(Debug, Default)]
struct Met {
    members: Values<Member>,
    tables: Values<LeaseTable>,
    changes: Values<LeaseChanges>,
    views: Values<LeaseView>,
    asked: HashMap<(Number, u8, [bool; KEYS]), (Number, Number)>,
    applied: HashMap<Application, (Number, Number)>,
    answered: HashMap<(Number, Number, Number, u8), Number>,
    rights: HashMap<(Number, u8), [Option<u8>; KEYS]>,
}

/// Values, each with its number.
#[derive(Debug)]
struct Values<T> {
    all: Vec<T>,
    numbers: HashMap<T, Number>,
}

impl<T> Default for Values<T> {
    fn default() -> Self {
        Self { all: Vec::new(), numbers: HashMap::new() }
    }
}

impl<T: Clone + Eq + Hash> Values<T> {
    fn number(&mut self, value: T) -> Number {
        if let Some(number) = self.numbers.get(&value) {
            return *number;
        }
        let number = Number::try_from(self.all.len()).unwrap_or(Number::MAX);
        self.all.push(value.clone());
        self.numbers.insert(value, number);
        number
    }

    fn get(&self, number: Number) -> &T {
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

impl Rules {
    /// Returns all rules except the one that is left out, if any.
    ///
    /// # Panics
    ///
    /// Never: the service keys are valid.
    #[must_use]
    #[expect(clippy::expect_used, reason = "the service keys are constants")]
    pub fn without(left_out: Option<Rule>) -> Self {
        let key = |number: usize| ServiceKey::parse(&format!("{number:032}")).expect("a service key");
        let keys = [key(0), key(1)];
        let names = keys.clone().map(LeaseName::Key);
        Self { keys, names, left_out, met: Mutex::default() }
    }

    fn met(&self) -> MutexGuard<'_, Met> {
        self.met.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The time on the clock of a bridge that stood still for `behind` steps.
    #[must_use]
    pub fn clock(now: u8, behind: u8) -> u8 {
        CLOCK + now - behind
    }

    /// The number of a bridge without leases.
    #[must_use]
    pub fn member(&self, bridge: usize) -> Number {
        self.met().members.number(Member::new(id(bridge), TIMING))
    }

    /// The number of a table without leases.
    #[must_use]
    pub fn table(&self) -> Number {
        self.met().tables.number(LeaseTable::default())
    }

    /// Makes a bridge start to leave, and returns its new number.
    #[must_use]
    pub fn leave(&self, member: Number) -> Number {
        let mut met = self.met();
        let mut member = met.members.get(member).clone();
        member.leave();
        met.members.number(member)
    }

    /// Whether a bridge is about to stop.
    #[must_use]
    pub fn is_leaving(&self, member: Number) -> bool {
        self.met().members.get(member).is_leaving()
    }

    /// Whether a bridge has given up all leases and will not take one again.
    #[must_use]
    pub fn has_left(&self, member: Number) -> bool {
        self.met().members.get(member).has_left()
    }

    /// Lets a bridge ask for changes. Returns the bridge after that, and the changes. `busy`: the keys with attempts in
    /// flight.
    #[must_use]
    pub fn ask(&self, member: Number, clock: u8, busy: [bool; KEYS]) -> (Number, Number) {
        let mut met = self.met();
        let question = (member, clock, busy);
        if let Some(known) = met.asked.get(&question) {
            return *known;
        }
        let mut member = met.members.get(member).clone();
        let is_busy = |name: &LeaseName| (0..KEYS).any(|key| busy[key] && self.names[key] == *name);
        let changes = member.changes(moment(clock), is_busy);
        let answer = (met.members.number(member), met.changes.number(changes));
        met.asked.insert(question, answer);
        answer
    }

    /// Makes changes in the database when its clock shows `now`. Returns the table and the view. `waiting`: the keys with
    /// waiting events.
    #[must_use]
    pub fn apply(
        &self,
        table: Number,
        (bridge, is_leaving): (usize, bool),
        changes: Number,
        waiting: [bool; KEYS],
        now: u8,
    ) -> (Number, Number) {
        let mut met = self.met();
        let question = (table, bridge, is_leaving, changes, waiting, now);
        if let Some(known) = met.applied.get(&question) {
            return *known;
        }
        let mut table = met.tables.get(table).clone();
        let keys: Vec<_> = (0..KEYS).filter(|key| waiting[*key]).map(|key| self.keys[key].clone()).collect();
        let utc = DateTime::<Utc>::UNIX_EPOCH + moment(now);
        let changes = met.changes.get(changes).clone();
        let view = table.exchange(&info(bridge, is_leaving), &changes, TIMING.lease, &keys, utc);
        let answer = (met.tables.number(table), met.views.number(view));
        met.applied.insert(question, answer);
        answer
    }

    /// Returns a bridge after the answer of the database, which comes within the step.
    #[must_use]
    pub fn answer(&self, member: Number, changes: Number, view: Number, clock: u8) -> Number {
        let mut met = self.met();
        let question = (member, changes, view, clock);
        if let Some(known) = met.answered.get(&question) {
            return *known;
        }
        let mut member = met.members.get(member).clone();
        let now = moment(clock);
        // Without the wait, a bridge may send at the same moment at which it takes a lease.
        let answered_at = if self.left_out == Some(Rule::Wait) { now.saturating_sub(STEP) } else { now };
        member.answered(now, met.changes.get(changes), met.views.get(view).clone(), answered_at);
        let answer = met.members.number(member);
        met.answered.insert(question, answer);
        answer
    }

    /// The numbers of the leases under which a bridge may send now.
    #[must_use]
    pub fn rights(&self, member: Number, clock: u8) -> [Option<u8>; KEYS] {
        let mut met = self.met();
        if let Some(known) = met.rights.get(&(member, clock)) {
            return *known;
        }
        let found = met.members.get(member);
        let fence = |name: &LeaseName| {
            if self.left_out == Some(Rule::Clock) {
                return found.held().find(|(held, _)| *held == name).map(|(_, fence)| fence);
            }
            found.right(name, moment(clock)).map(|right| right.fence)
        };
        let number = |name| fence(name).and_then(|fence| u8::try_from(fence.number).ok());
        let rights = self.names.each_ref().map(number);
        met.rights.insert((member, clock), rights);
        rights
    }

    /// Whether the database lets an attempt with this lease number begin or end.
    #[must_use]
    pub fn allows(&self, table: Number, key: usize, bridge: usize, number: u8) -> bool {
        if self.left_out == Some(Rule::Fence) {
            return true;
        }
        let fence = Fence { number: i64::from(number), owner: id(bridge) };
        self.met().tables.get(table).allows(&self.names[key], fence)
    }

    /// How many different members, tables and views were met.
    #[must_use]
    pub fn values(&self) -> [usize; 3] {
        let met = self.met();
        [met.members.all.len(), met.tables.all.len(), met.views.all.len()]
    }
}
