//! The invariants that are checked at the end of a world.

use std::collections::HashMap;
use std::time::Duration;

use crate::fault::{Content, PoisonFailure};
use crate::pagerduty::{ReceivedRequest, WINDOW};
use crate::queue::{Row, State};
use crate::scenario::Scenario;
use crate::world::EndState;

/// How long after the end of an outage the backlog has to be drained, in addition to the shortest possible time: the
/// longest pause between probes, an attempt in flight, and the minute for which PagerDuty counts the last probes.
pub(crate) const AFTER_AN_OUTAGE: Duration = Duration::from_mins(2);

/// The same after any faults, to which `Retry-After` is added: the longest pause under throttling, the recovery of the rate
/// limit, a restart, the longest backoff of a quarantined event.
pub(crate) const AFTER_ANYTHING: Duration = Duration::from_mins(5);

/// How long after its time a poison event is given up at the latest: it is retried once a minute by then, and another event
/// has to be delivered in between.
const LATE: Duration = Duration::from_secs(150);

/// Asserts that every accepted event is settled, that PagerDuty accepted every delivered one, and that order and rate limit
/// were kept.
pub(crate) fn nothing_is_lost(end: &EndState) {
    for row in &end.queue.rows {
        match &row.state {
            State::Waiting => panic!("this event is neither delivered nor dead: {row:?}"),
            State::Delivered => {
                let accepted = end.pagerduty.journal.iter().any(|seen| seen.accepted && seen.number == row.number);
                assert!(accepted, "PagerDuty never took what counts as delivered: {row:?}");
            }
            State::Dead(reason) => assert!(!reason.is_empty(), "dead without a reason: {row:?}"),
            State::Discarded => {}
        }
    }
    the_rate_limit_is_kept(end);
    incidents_are_in_order(end);
}

fn the_rate_limit_is_kept(end: &EndState) {
    if end.scenario.jumps_ahead() {
        return;
    }
    let rate = end.scenario.limits.rate as usize;
    for key in 0..end.scenario.keys {
        let seen: Vec<Duration> = of_key(end, key).map(|seen| seen.at).collect();
        for (first, over) in seen.iter().zip(seen.iter().skip(rate)) {
            assert!(*over - *first >= WINDOW, "more than {rate} attempts of key {key} in the minute from {first:?}");
        }
    }
}

/// Asserts that PagerDuty never receives an event of an incident after a later one, unless an operator retried it.
fn incidents_are_in_order(end: &EndState) {
    let scenario = &end.scenario;
    if !scenario.admin_actions.is_empty()
        || !scenario.admin_actions_between.is_empty()
        || !scenario.unreadable.is_empty()
    {
        // Then an event may be received after a later one, because it was retried or became readable later. That none is
        // sent while an earlier one waits is checked at each attempt.
        return;
    }
    let places: HashMap<usize, (usize, &Row)> =
        end.queue.rows.iter().enumerate().map(|(place, row)| (row.number, (place, row))).collect();
    let mut newest: HashMap<(usize, usize), usize> = HashMap::new();
    for seen in &end.pagerduty.journal {
        let (place, row) = places[&seen.number];
        let newest = newest.entry((row.key, row.incident)).or_default();
        assert!(place >= *newest, "seen at {:?} after a later event of its incident: {row:?}", seen.at);
        *newest = place;
    }
}

/// Asserts that dead letters are events that PagerDuty rejected, or on which it failed for long enough while it accepted
/// others.
pub(crate) fn only_culprits_are_dead_letters(end: &EndState) {
    let limit = end.scenario.limits.give_up_after;
    for (row, reason) in dead(end) {
        if row.content == Content::Invalid && reason.starts_with("answered 400") {
            continue;
        }
        assert!(reason.contains("given up"), "dead without being given up or refused: {row:?}");
        let (from, until) = (row.first_failed_at.unwrap(), row.settled_at.unwrap());
        assert!(until - from >= limit, "given up before {limit:?} were over: {row:?}");
        let passed = of_key(end, row.key).filter(|seen| seen.accepted && from <= seen.at && seen.at <= until).count();
        assert!(passed as u64 >= limit.as_secs() / 120, "given up while only {passed} others passed: {row:?}");
    }
}

/// Asserts that there are no dead letters, because no failure was attributable to an event.
pub(crate) fn there_are_no_dead_letters(end: &EndState) {
    if let Some((row, _)) = dead(end).next() {
        panic!("an event became a dead letter although no failure was attributable to it: {row:?}");
    }
}

/// Asserts that from the end of the faults the backlog of each key was delivered at its rate limit, with 10 % and `slack`
/// in addition.
pub(crate) fn the_backlog_drains(end: &EndState, slack: Duration) {
    let commit = Duration::from_millis(*end.scenario.commit.end());
    let round_trip = 2 * end.scenario.travel + 3 * commit;
    for (key, backlog) in end.backlog.iter().enumerate() {
        let rows = || end.queue.rows.iter().filter(|row| row.key == key);
        let Some(drained_at) = rows().filter_map(|row| row.settled_at).max() else { continue };
        let mut events_of_incidents: HashMap<usize, u32> = HashMap::new();
        for row in rows().filter(|row| row.settled_at > Some(end.faults_end)) {
            *events_of_incidents.entry(row.incident).or_default() += 1;
        }
        // Events of one incident are sent one by one.
        let at_the_rate = WINDOW * u32::try_from(*backlog).unwrap() / end.scenario.limits.rate;
        let least =
            at_the_rate.mul_f64(1.1).max(round_trip * events_of_incidents.values().copied().max().unwrap_or_default());
        let took = drained_at.saturating_sub(end.faults_end);
        let allowed = least + slack + end.scenario.longest_retry_after();
        assert!(took <= allowed, "{backlog} events of key {key} took {took:?} instead of {allowed:?}");
    }
}

/// Asserts that poison events are given up in time, and that events on which only the connection ends are not.
pub(crate) fn poison_events_are_given_up_in_time(end: &EndState) {
    let limit = end.scenario.limits.give_up_after;
    for row in &end.queue.rows {
        match row.content {
            Content::Poison { how: PoisonFailure::Reset, .. } | Content::Fine | Content::Invalid => {
                assert_eq!(row.state, State::Delivered, "not delivered: {row:?}");
            }
            Content::Poison { .. } => {
                assert!(matches!(&row.state, State::Dead(reason) if reason.contains("given up")), "{row:?}");
                let took = row.settled_at.unwrap() - row.first_failed_at.unwrap();
                assert!(limit <= took && took <= limit + LATE, "given up after {took:?} instead of {limit:?}: {row:?}");
            }
        }
    }
}

/// Asserts that events of other incidents were delivered at once.
pub(crate) fn other_events_are_delivered_at_once(end: &EndState) {
    for row in end.queue.rows.iter().filter(|row| row.incident >= Scenario::HEALTHY) {
        let took = row.settled_at.unwrap() - row.committed_at;
        assert!(took <= Duration::from_secs(20), "held up for {took:?}: {row:?}");
    }
}

/// Asserts that the events of keys with fast responses were delivered at once, whatever the slow keys had to send.
pub(crate) fn healthy_keys_never_wait_for_slow_ones(end: &EndState) {
    for row in end.queue.rows.iter().filter(|row| row.key < Scenario::SLOW && row.committed_at > Scenario::BEFORE_SLOW)
    {
        let took = row.settled_at.unwrap() - row.committed_at;
        assert!(took <= Duration::from_secs(3), "held up for {took:?}: {row:?}");
    }
}

/// Asserts that each alert of `key` was settled as early as in a world without events of other keys.
pub(crate) fn key_is_as_fast_as_alone(key: usize, alone: &EndState, together: &EndState) {
    let settled = |end: &EndState| -> Vec<Duration> {
        let rows = end.queue.rows.iter().filter(|row| row.key == key);
        let of_alerts = rows.flat_map(|row| (0..row.alerts).map(|_| row.settled_at.unwrap()));
        let mut moments: Vec<Duration> = of_alerts.collect();
        moments.sort_unstable();
        moments
    };
    for (number, (alone, together)) in settled(alone).into_iter().zip(settled(together)).enumerate() {
        let slower = together.saturating_sub(alone);
        assert!(slower <= Duration::from_secs(1), "delivery {number} was {slower:?} later than alone");
    }
}

fn of_key(end: &EndState, key: usize) -> impl Iterator<Item = &ReceivedRequest> {
    end.pagerduty.journal.iter().filter(move |seen| seen.key == key)
}

fn dead(end: &EndState) -> impl Iterator<Item = (&Row, &String)> {
    end.queue.rows.iter().filter_map(|row| match &row.state {
        State::Dead(reason) => Some((row, reason)),
        _ => None,
    })
}
