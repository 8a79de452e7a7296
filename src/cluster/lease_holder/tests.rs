use super::*;
use crate::pagerduty::ServiceKey;
use crate::queue::leases::{BridgeInfo, LeaseTable};
use chrono::{DateTime, Utc};

const ATTEMPT: Duration = Duration::from_secs(10);

fn key(number: usize) -> ServiceKey {
    ServiceKey::parse(&format!("{number:032}")).unwrap()
}

fn lease(number: usize) -> LeaseName {
    LeaseName::Key(key(number))
}

fn info(number: u128) -> BridgeInfo {
    BridgeInfo {
        id: BridgeId::new(number),
        name: String::new(),
        version: String::new(),
        fingerprint: String::new(),
        is_leaving: false,
        reaches_pagerduty: true,
    }
}

/// Bridges that share one table of leases. Their clocks all show the same second.
struct World {
    table: LeaseTable,
    keys: Vec<ServiceKey>,
    bridges: BTreeMap<u128, (BridgeInfo, LeaseHolder)>,
    busy: BTreeSet<LeaseName>,
}

impl World {
    fn new(keys: usize, bridges: &[u128]) -> Self {
        let keys = (0..keys).map(key).collect();
        let mut world = Self { table: LeaseTable::default(), keys, bridges: BTreeMap::new(), busy: BTreeSet::new() };
        for number in bridges {
            world.join(*number);
        }
        world
    }

    fn join(&mut self, number: u128) {
        let member = LeaseHolder::new(BridgeId::new(number), Timing::new(ATTEMPT));
        self.bridges.insert(number, (info(number), member));
    }

    fn member(&mut self, number: u128) -> &mut LeaseHolder {
        &mut self.bridges.get_mut(&number).unwrap().1
    }

    /// One bridge exchanges with the database.
    fn turn(&mut self, number: u128, second: u64) -> LeaseChanges {
        let (info, member) = self.bridges.get_mut(&number).unwrap();
        let now = Duration::from_secs(second);
        let changes = member.changes(now, |name| self.busy.contains(name));
        info.is_leaving = member.is_leaving;
        let utc = DateTime::<Utc>::UNIX_EPOCH + now;
        let view = self.table.exchange(info, &changes, member.timing.lease, &self.keys, utc);
        member.answered(now, &changes, view, now);
        changes
    }

    /// All bridges exchange once a second.
    fn run(&mut self, seconds: std::ops::Range<u64>) {
        for second in seconds {
            for number in self.bridges.keys().copied().collect::<Vec<_>>() {
                self.turn(number, second);
            }
        }
    }

    /// How many keys each bridge sends for.
    fn shares(&self, second: u64) -> Vec<usize> {
        let keys = |member: &LeaseHolder| {
            let now = Duration::from_secs(second);
            let sends = |name: &LeaseName| *name != LeaseName::Leader && member.right(name, now).is_some();
            member.active(now).filter(|(name, _)| sends(name)).count()
        };
        self.bridges.values().map(|(_, member)| keys(member)).collect()
    }

    fn leaders(&self, second: u64) -> usize {
        let leads = |member: &LeaseHolder| member.right(&LeaseName::Leader, Duration::from_secs(second)).is_some();
        self.bridges.values().filter(|(_, member)| leads(member)).count()
    }
}

#[test]
fn a_lease_leaves_time_for_an_attempt_after_a_third_of_it() {
    for seconds in [1, 5, 10, 30, 60] {
        let timing = Timing::new(Duration::from_secs(seconds));
        assert!(timing.lease * 2 / 3 > timing.attempt + timing.margin, "{seconds}");
    }
    assert_eq!(Timing::new(ATTEMPT).lease, Duration::from_secs(26));
}

#[test]
fn keys_are_shared_evenly_and_move_within_seconds_when_a_bridge_joins_or_leaves() {
    let mut world = World::new(7, &[1]);
    world.run(0..3);
    assert_eq!(world.shares(2), [7]);
    world.join(2);
    world.run(3..7);
    assert_eq!(world.shares(6), [4, 3]);
    world.join(3);
    world.run(7..11);
    assert_eq!(world.shares(10), [3, 2, 2]);
    let before = world.table.clone();
    world.run(11..15);
    let owners = |world: &mut World| {
        let view = world.table.exchange(&info(9), &LeaseChanges::default(), ATTEMPT, &[], DateTime::UNIX_EPOCH);
        view.leases.into_iter().map(|row| (row.owner, row.number)).collect::<Vec<_>>()
    };
    let after = owners(&mut world);
    world.table = before;
    assert_eq!(owners(&mut world), after, "nothing moves any more");
    world.member(2).leave();
    world.run(15..19);
    assert_eq!(world.shares(18), [4, 0, 3]);
    assert!(world.member(2).has_left());
}

#[test]
fn the_keys_of_a_dead_bridge_are_taken_when_their_leases_end_and_sent_for_an_attempt_later() {
    let mut world = World::new(4, &[1, 2]);
    world.run(0..20);
    assert_eq!(world.shares(19), [2, 2]);
    world.bridges.remove(&2);
    // The last renewal was at second 18 at the latest.
    world.run(20..47);
    assert_eq!(world.member(1).owned().filter(|(name, _)| **name != LeaseName::Leader).count(), 4);
    let taken = (47..70).find(|second| {
        world.run(*second..second + 1);
        world.shares(*second) == [4]
    });
    assert!(taken.is_some_and(|second| second <= 61), "{taken:?}");
    assert_eq!(world.leaders(taken.unwrap()), 1);
}

#[test]
fn who_takes_a_lease_that_ended_waits_for_an_attempt_and_who_takes_a_released_one_does_not() {
    let mut world = World::new(1, &[1]);
    world.run(0..2);
    assert_eq!(world.shares(1), [1]);
    world.bridges.clear();
    world.join(2);
    world.run(27..29);
    let at = |seconds| Duration::from_secs(seconds);
    assert_eq!(world.member(2).right(&lease(0), at(40)), None);
    assert_eq!(world.member(2).right(&lease(0), at(41)).unwrap().fence.number, 2);
    world.member(2).leave();
    world.turn(2, 41);
    world.join(3);
    world.run(41..43);
    assert_eq!(world.member(3).right(&lease(0), at(42)).unwrap().fence.number, 3, "released");
    assert_eq!(world.leaders(42), 1);
}

#[test]
fn a_lease_that_is_given_up_before_the_wait_is_over_is_ended_and_not_released() {
    let mut world = World::new(1, &[1]);
    world.run(0..2);
    world.bridges.clear();
    world.join(2);
    world.run(27..29);
    world.member(2).leave();
    let changes = world.turn(2, 30);
    assert_eq!((changes.release.len(), changes.end), (0, vec![(lease(0), 2), (LeaseName::Leader, 2)]));
}

#[test]
fn a_lease_is_given_up_when_none_of_its_attempts_is_in_flight_and_nothing_begins_meanwhile() {
    let mut world = World::new(2, &[1]);
    world.run(0..3);
    world.busy = BTreeSet::from([lease(0), lease(1)]);
    world.join(2);
    world.run(3..8);
    assert_eq!(world.shares(7), [1, 0]);
    world.busy.clear();
    world.run(8..11);
    assert_eq!(world.shares(10), [1, 1]);
}

#[test]
fn nothing_is_sent_when_too_little_is_left_by_the_bridges_own_clock() {
    let mut world = World::new(1, &[1]);
    world.run(0..2);
    let at = |seconds| Duration::from_secs(seconds);
    // Created at second 1, the lease ends at 27. No attempt begins later than 13 s before that: 10 s for an attempt, 3 s
    // of margin.
    assert_eq!(world.member(1).right(&lease(0), at(14)).unwrap().send_until, at(14));
    assert_eq!(world.member(1).right(&lease(0), at(15)), None);
    // The bridge was stopped for longer than the lease, and no other bridge has taken the lease.
    world.run(40..42);
    assert!(world.member(1).right(&lease(0), at(41)).is_some());
}

#[test]
fn what_is_left_of_a_lease_counts_from_before_the_statement_was_sent() {
    let mut member = LeaseHolder::new(BridgeId::new(1), Timing::new(ATTEMPT));
    let mut table = LeaseTable::default();
    let create = LeaseChanges { create: vec![lease(0)], ..LeaseChanges::default() };
    let utc = DateTime::<Utc>::UNIX_EPOCH + TimeDelta::seconds(500);
    let view = table.exchange(&info(1), &create, member.timing.lease, &[], utc);
    member.answered(Duration::from_secs(100), &create, view, Duration::from_secs(105));
    assert_eq!(member.right(&lease(0), Duration::from_secs(105)).unwrap().send_until, Duration::from_secs(113));
}

#[test]
fn a_lease_that_the_bridge_does_not_know_to_be_its_own_is_taken_with_a_new_number_and_a_wait() {
    let mut world = World::new(1, &[1]);
    world.run(0..3);
    world.join(1);
    world.run(3..5);
    assert_eq!(world.member(1).owned().map(|(_, fence)| fence.number).collect::<Vec<_>>(), [2, 2]);
    assert_eq!(world.shares(5), [0]);
    world.run(5..18);
    assert_eq!(world.shares(17), [1]);
}

#[test]
fn changes_whose_answer_was_lost_are_asked_for_again() {
    let mut world = World::new(1, &[1]);
    world.turn(1, 0);
    let (info, member) = world.bridges.get_mut(&1).unwrap();
    let changes = member.changes(Duration::from_secs(1), |_| false);
    assert_eq!(changes.create, [lease(0), LeaseName::Leader]);
    world.table.exchange(info, &changes, member.timing.lease, &world.keys, DateTime::<Utc>::UNIX_EPOCH);
    assert_eq!(world.turn(1, 2).create, [lease(0), LeaseName::Leader]);
    assert_eq!(world.shares(2), [1], "nobody had it before");
}

#[test]
fn a_bridge_that_cannot_reach_pagerduty_gets_no_keys_while_another_can() {
    let mut world = World::new(4, &[1, 2]);
    world.run(0..5);
    world.bridges.get_mut(&1).unwrap().0.reaches_pagerduty = false;
    world.run(5..9);
    assert_eq!(world.shares(8), [0, 4]);
    world.bridges.get_mut(&2).unwrap().0.reaches_pagerduty = false;
    world.run(9..13);
    assert_eq!(world.shares(12), [2, 2], "none is better than the other");
}

#[test]
fn one_bridge_does_what_is_done_for_all() {
    let mut world = World::new(0, &[1, 2, 3]);
    for second in 0..60 {
        world.run(second..second + 1);
        assert!(second < 3 || world.leaders(second) == 1, "second {second}");
    }
    world.member(1).leave();
    world.member(2).leave();
    world.run(60..64);
    assert_eq!(world.leaders(63), 1);
    assert!(world.member(3).right(&LeaseName::Leader, Duration::from_secs(63)).is_some());
}

fn at(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn only_failures_that_last_count_and_any_answer_ends_them() {
    let mut reach = Reachability::default();
    (0..20).for_each(|_| reach.ended(OutcomeKind::NetworkError, at(0)));
    assert!(reach.is_reached(at(29)), "it did not last");
    reach.ended(OutcomeKind::Timeout, at(30));
    assert!(!reach.is_reached(at(30)));
    assert!(!reach.is_reached(at(329)));
    assert!(reach.is_reached(at(330)), "it may be better");
    reach.ended(OutcomeKind::Dropped, at(331));
    assert!(!reach.is_reached(at(331)));
    reach.ended(OutcomeKind::Throttled, at(332));
    assert!(reach.is_reached(at(332)));
    (0..4).for_each(|seconds| reach.ended(OutcomeKind::NetworkError, at(340 + 20 * seconds)));
    assert!(reach.is_reached(at(400)), "too few");
}
