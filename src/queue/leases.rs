//! Leases: which bridge delivers for which service key, where several bridges share a queue.
//!
//! A lease is a row with an owner, an end by the database's clock, and a number that grows with every change of owner.
//! Owner and number together are the [`Fence`]: every beginning and every settlement of an attempt carries it, and is
//! discarded if the row has another owner or number by then. Which changes a bridge asks for, and when it may send, is
//! decided in `cluster`.
//!
//! - [`LeaseStore`]: the operations of a storage engine; one call is one transaction
//! - [`LeaseTable`]: the same in memory, as simple as possible: tests compare engines with it

use std::collections::BTreeMap;
use std::fmt::{self, Debug, Display, Formatter};
use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::QueueError;
use crate::pagerduty::ServiceKey;

/// How long the rows of bridges that are gone are kept, so that people can see which one stopped.
pub const KEEP_BRIDGES: Duration = Duration::from_hours(1);

/// The id of one run of a bridge: a random UUID. A bridge that is restarted gets another one.
#[derive(Clone, Copy, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct BridgeId(u128);

impl BridgeId {
    /// Creates a new id (UUID version 4).
    #[must_use]
    pub fn random() -> Self {
        let random: u128 = rand::random();
        Self(random & !(0xf << 76) & !(0b11 << 62) | (4 << 76) | (0b10 << 62))
    }

    /// The id with this number.
    #[must_use]
    pub const fn new(number: u128) -> Self {
        Self(number)
    }

    /// Parses an id that `Display` wrote.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        u128::from_str_radix(&text.replace('-', ""), 16).ok().map(Self)
    }

    /// The UUID as a number.
    #[must_use]
    pub const fn get(self) -> u128 {
        self.0
    }
}

impl Display for BridgeId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let hex = format!("{:032x}", self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

impl Debug for BridgeId {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        Display::fmt(self, f)
    }
}

/// The right to deliver for a service key, as the database has it: an attempt can be begun or settled with it only while
/// the lease still has this owner and this number.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct Fence {
    /// Grows with every change of owner.
    pub number: i64,
    /// The owner.
    pub owner: BridgeId,
}

/// What a lease is for.
#[derive(Clone, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum LeaseName {
    /// The deliveries of a service key.
    Key(ServiceKey),
    /// The leadership: the tasks that one bridge does for all, such as retention and alarms.
    Leader,
}

impl LeaseName {
    /// The name of the row: the whole service key or, for the leader, `periodic`, which is not a service key.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            Self::Key(key) => key.expose(),
            Self::Leader => "periodic",
        }
    }

    /// The service key, if the lease is for one.
    #[must_use]
    pub fn key(&self) -> Option<&ServiceKey> {
        match self {
            Self::Key(key) => Some(key),
            Self::Leader => None,
        }
    }

    /// Parses the name of a row; returns `None` if it is neither a service key nor `periodic`.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if name == "periodic" { Some(Self::Leader) } else { ServiceKey::parse(name).ok().map(Self::Key) }
    }
}

/// What a bridge tells the others about itself.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct BridgeInfo {
    /// The id of the run.
    pub id: BridgeId,
    /// The host's name.
    pub name: String,
    /// Its version and commit.
    pub version: String,
    /// The hash of its settings.
    pub fingerprint: String,
    /// Whether it is about to stop, so that others take its keys.
    pub is_leaving: bool,
    /// Whether its attempts reach PagerDuty, as far as it knows.
    pub reaches_pagerduty: bool,
}

/// The row of a bridge.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct BridgeRow {
    /// The bridge's own description.
    pub info: BridgeInfo,
    /// When the bridge last wrote its row, by the database's clock.
    pub last_seen: DateTime<Utc>,
}

/// The row of a lease.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct LeaseRow {
    /// What it is for.
    pub name: LeaseName,
    /// The bridge that holds it, or that held it until it ended without a release; `None`: released.
    pub owner: Option<BridgeId>,
    /// Grows with every change of owner.
    pub number: i64,
    /// When it ends, by the database's clock.
    pub until: DateTime<Utc>,
}

/// The changes that a bridge asks for. Each is made only if the row of the lease still allows it; the state shows which
/// were made.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct LeaseChanges {
    /// Extend these leases, so that they end one lease duration from now, if the owner is this bridge and the number
    /// matches.
    pub renew: Vec<(LeaseName, i64)>,
    /// Become the owner of these leases, with the next number, if the number still matches and the lease is released, has
    /// ended, or is this bridge's own.
    pub take: Vec<(LeaseName, i64)>,
    /// Create the rows of these leases, with this bridge as the owner and the number 1, where there is no row yet.
    pub create: Vec<LeaseName>,
    /// Release these leases, if the owner is this bridge and the number matches: no attempt is in flight.
    pub release: Vec<(LeaseName, i64)>,
    /// End these leases at once without a release, if the owner is this bridge and the number matches: an attempt may be
    /// in flight, so the next owner has to wait.
    pub end: Vec<(LeaseName, i64)>,
    /// Delete the row of this bridge: it has given up all leases, and commits nothing more.
    pub leave: bool,
}

impl LeaseChanges {
    /// Whether they change which bridge owns a lease, or let one end.
    #[must_use]
    pub fn moves(&self) -> bool {
        let Self { renew: _, take, create, release, end, leave: _ } = self;
        !(take.is_empty() && create.is_empty() && release.is_empty() && end.is_empty())
    }
}

/// The bridges and leases in the database, after the changes.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub struct LeaseState {
    /// The database's clock (`clock_timestamp()`), read within the statement that changed the rows or after it.
    pub now: DateTime<Utc>,
    /// All bridges that were seen within [`KEEP_BRIDGES`], in the order of their ids.
    pub bridges: Vec<BridgeRow>,
    /// All leases, in the order of their names.
    pub leases: Vec<LeaseRow>,
    /// Service keys with waiting events and without a lease, in their order.
    pub unleased: Vec<ServiceKey>,
}

/// Where leases are kept.
#[async_trait]
pub trait LeaseStore: Debug + Send + Sync {
    /// Records that this bridge is alive, makes the changes and reads all bridges and leases, in one transaction.
    /// `duration` is the duration of a lease.
    ///
    /// # Errors
    ///
    /// When the transaction is not known to be committed; it may have been, or may still be.
    async fn exchange(
        &self,
        me: &BridgeInfo,
        changes: &LeaseChanges,
        duration: Duration,
    ) -> Result<LeaseState, QueueError>;

    /// Tells the other bridges that events of these keys were committed. It is only a hint, and may get lost.
    ///
    /// # Errors
    ///
    /// When the hint could not be sent.
    async fn announce(&self, me: BridgeId, keys: &[ServiceKey]) -> Result<(), QueueError>;

    /// Waits for such hints from other bridges, and returns the service keys. An empty list means that hints may have
    /// been missed. Must not be polled by two tasks.
    ///
    /// # Errors
    ///
    /// When no hints can be received for now.
    async fn hints(&self, me: BridgeId) -> Result<Vec<ServiceKey>, QueueError>;
}

/// Bridges and leases in memory.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct LeaseTable {
    bridges: BTreeMap<BridgeId, BridgeRow>,
    leases: BTreeMap<LeaseName, LeaseRow>,
}

impl LeaseTable {
    /// As [`LeaseStore::exchange`], when the database's clock shows `now`; `waiting` are the service keys with waiting
    /// events.
    pub fn exchange(
        &mut self,
        me: &BridgeInfo,
        changes: &LeaseChanges,
        duration: Duration,
        waiting: &[ServiceKey],
        now: DateTime<Utc>,
    ) -> LeaseState {
        let until = now + TimeDelta::from_std(duration).unwrap_or(TimeDelta::MAX);
        let id = me.id;
        for (name, number) in &changes.renew {
            if let Some(lease) = self.own(id, name, *number) {
                lease.until = until;
            }
        }
        for (name, number) in &changes.take {
            let free = |lease: &&mut LeaseRow| lease.owner.is_none_or(|owner| owner == id) || lease.until <= now;
            if let Some(lease) = self.leases.get_mut(name).filter(|lease| lease.number == *number).filter(free) {
                *lease = LeaseRow { name: name.clone(), owner: Some(id), number: number + 1, until };
            }
        }
        for name in &changes.create {
            let lease = LeaseRow { name: name.clone(), owner: Some(id), number: 1, until };
            self.leases.entry(name.clone()).or_insert(lease);
        }
        for (name, number) in &changes.release {
            if let Some(lease) = self.own(id, name, *number) {
                (lease.owner, lease.until) = (None, now);
            }
        }
        for (name, number) in &changes.end {
            if let Some(lease) = self.own(id, name, *number) {
                lease.until = lease.until.min(now);
            }
        }
        if changes.leave {
            self.bridges.remove(&id);
        } else {
            self.bridges.insert(id, BridgeRow { info: me.clone(), last_seen: now });
        }
        let oldest = now - TimeDelta::from_std(KEEP_BRIDGES).unwrap_or(TimeDelta::MAX);
        self.bridges.retain(|_, bridge| bridge.last_seen >= oldest);
        self.state(waiting, now)
    }

    /// Whether an operation with this fence is allowed.
    #[must_use]
    pub fn allows(&self, name: &LeaseName, fence: Fence) -> bool {
        self.leases.get(name).is_some_and(|lease| lease.owner == Some(fence.owner) && lease.number == fence.number)
    }

    fn own(&mut self, me: BridgeId, name: &LeaseName, number: i64) -> Option<&mut LeaseRow> {
        self.leases.get_mut(name).filter(|lease| lease.owner == Some(me) && lease.number == number)
    }

    pub(super) fn state(&self, waiting: &[ServiceKey], now: DateTime<Utc>) -> LeaseState {
        let unleased = waiting.iter().filter(|key| !self.leases.contains_key(&LeaseName::Key((*key).clone())));
        LeaseState {
            now,
            bridges: self.bridges.values().cloned().collect(),
            leases: self.leases.values().cloned().collect(),
            unleased: unleased.cloned().collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use rand::rngs::StdRng;
    use rand::{RngExt, SeedableRng};

    use super::*;

    const DURATION: Duration = Duration::from_secs(26);

    fn bridge(number: u128) -> BridgeInfo {
        BridgeInfo {
            id: BridgeId::new(number),
            name: format!("host-{number}"),
            version: "1".to_owned(),
            fingerprint: "f".to_owned(),
            is_leaving: false,
            reaches_pagerduty: true,
        }
    }

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
    }

    #[test]
    fn an_id_is_written_as_a_uuid_of_version_4() {
        let id = BridgeId::new(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef);
        assert_eq!(id.to_string(), "01234567-89ab-cdef-0123-456789abcdef");
        assert_eq!(BridgeId::parse(&id.to_string()), Some(id));
        for _ in 0..100 {
            let text = BridgeId::random().to_string();
            assert_eq!(text.as_bytes()[14], b'4', "{text}");
            assert!(b"89ab".contains(&text.as_bytes()[19]), "{text}");
        }
    }

    #[test]
    fn the_number_grows_with_every_change_of_owner_and_only_then() {
        let mut table = LeaseTable::default();
        let lease = || LeaseName::Leader;
        let (a, b) = (bridge(1), bridge(2));
        let mut ask = |me: &BridgeInfo, changes: LeaseChanges, seconds| {
            let state = table.exchange(me, &changes, DURATION, &[], at(seconds));
            let LeaseRow { owner, number, until, .. } = state.leases[0].clone();
            (owner.map(BridgeId::get), number, (until - at(0)).num_seconds())
        };
        let none = LeaseChanges::default;
        assert_eq!(ask(&a, LeaseChanges { create: vec![lease()], ..none() }, 0), (Some(1), 1, 26));
        assert_eq!(ask(&b, LeaseChanges { create: vec![lease()], ..none() }, 1), (Some(1), 1, 26), "it is there");
        assert_eq!(ask(&b, LeaseChanges { take: vec![(lease(), 1)], ..none() }, 1), (Some(1), 1, 26), "it is held");
        assert_eq!(ask(&b, LeaseChanges { renew: vec![(lease(), 1)], ..none() }, 1), (Some(1), 1, 26), "not b's");
        assert_eq!(ask(&a, LeaseChanges { renew: vec![(lease(), 1)], ..none() }, 9), (Some(1), 1, 35));
        assert_eq!(
            ask(&b, LeaseChanges { take: vec![(lease(), 2)], ..none() }, 36),
            (Some(1), 1, 35),
            "another number"
        );
        assert_eq!(ask(&b, LeaseChanges { take: vec![(lease(), 1)], ..none() }, 36), (Some(2), 2, 62), "it had ended");
        assert_eq!(ask(&a, LeaseChanges { release: vec![(lease(), 1)], ..none() }, 37), (Some(2), 2, 62), "not a's");
        assert_eq!(ask(&b, LeaseChanges { end: vec![(lease(), 2)], ..none() }, 38), (Some(2), 2, 38));
        assert_eq!(ask(&b, LeaseChanges { take: vec![(lease(), 2)], ..none() }, 38), (Some(2), 3, 64), "its own");
        assert_eq!(ask(&b, LeaseChanges { release: vec![(lease(), 3)], ..none() }, 39), (None, 3, 39));
        assert_eq!(ask(&a, LeaseChanges { take: vec![(lease(), 3)], ..none() }, 39), (Some(1), 4, 65));
    }

    #[test]
    fn a_fence_holds_for_one_owner_and_one_number() {
        let mut table = LeaseTable::default();
        let key = ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap();
        let lease = LeaseName::Key(key.clone());
        let state = table.exchange(&bridge(1), &LeaseChanges::default(), DURATION, std::slice::from_ref(&key), at(0));
        assert_eq!(state.unleased, [key]);
        let create = LeaseChanges { create: vec![lease.clone()], ..LeaseChanges::default() };
        assert_eq!(table.exchange(&bridge(1), &create, DURATION, &[], at(0)).unleased, []);
        let fence = |owner, number| Fence { owner: BridgeId::new(owner), number };
        assert!(table.allows(&lease, fence(1, 1)));
        assert!(!table.allows(&lease, fence(2, 1)) && !table.allows(&lease, fence(1, 2)));
        assert!(!table.allows(&LeaseName::Leader, fence(1, 1)));
    }

    /// Compares PostgreSQL with the table in memory. By PostgreSQL's clock no lease expires while this test runs.
    #[tokio::test]
    async fn postgresql_does_what_the_table_in_memory_does() {
        let database = temporary_postgres::PostgresCluster::shared().database().unwrap();
        let url = crate::config::DatabaseUrl::parse(&database).unwrap();
        let queue = crate::queue::Queue::open(url).await.unwrap();
        let store = queue.leases().unwrap();
        let mut table = LeaseTable::default();
        let key = |number: usize| LeaseName::Key(ServiceKey::parse(&format!("{number:032}")).unwrap());
        let names = [key(1), key(2), LeaseName::Leader];
        let mut random = StdRng::seed_from_u64(7);
        let mut moves = 0;
        for _ in 0..150 {
            let me = bridge(random.random_range(1..=3));
            let mut changes = LeaseChanges::default();
            for name in &names {
                let number = random.random_range(1..6);
                let asked = (
                    name.clone(),
                    table
                        .leases
                        .get(name)
                        .map_or(number, |lease| if random.random_bool(0.8) { lease.number } else { number }),
                );
                match random.random_range(0..6) {
                    0 => changes.renew.push(asked),
                    1 | 2 => changes.take.push(asked),
                    3 => changes.create.push(name.clone()),
                    4 => changes.release.push(asked),
                    _ => changes.end.push(asked),
                }
            }
            changes.leave = random.random_bool(0.1);
            let shown = |state: LeaseState| {
                let bridges: Vec<_> = state.bridges.into_iter().map(|row| row.info).collect();
                let leases: Vec<_> = state
                    .leases
                    .into_iter()
                    .map(|row| (row.name, row.owner, row.number, row.until > state.now))
                    .collect();
                (bridges, leases)
            };
            let found = store.exchange(&me, &changes, DURATION).await.unwrap();
            let expected = shown(table.exchange(&me, &changes, DURATION, &[], at(0)));
            moves += expected.1.len();
            assert_eq!(shown(found), expected, "{changes:?}");
        }
        assert!(moves > 300, "nothing happened");
        queue.close().await.unwrap();
    }

    #[test]
    fn bridges_that_are_gone_are_shown_for_an_hour() {
        let mut table = LeaseTable::default();
        let seen = |state: LeaseState| state.bridges.iter().map(|row| row.info.id.get()).collect::<Vec<_>>();
        let mut ask = |me, leave, seconds| {
            let changes = LeaseChanges { leave, ..LeaseChanges::default() };
            seen(table.exchange(&bridge(me), &changes, DURATION, &[], at(seconds)))
        };
        assert_eq!(ask(1, false, 0), [1]);
        assert_eq!(ask(2, false, 3600), [1, 2]);
        assert_eq!(ask(2, false, 3601), [2]);
        assert_eq!(ask(2, true, 3602), [] as [u128; 0]);
    }
}
