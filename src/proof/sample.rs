//! Which delivered events are looked up, and when. Pure: times are those of the task's own clock.
//!
//! Not every event is looked up: a storm would exhaust the rate limit that all users of a PagerDuty account share. A few
//! events of each service key, the newest first, are watched until it is known what became of them; events for which there
//! is no room meanwhile stay *delivered*.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::pagerduty::{EventType, IncidentKey, ServiceKey};
use crate::queue::EventId;

/// How many events of one service key are watched at once.
const OF_ONE_KEY: usize = 10;

/// How many events are watched at once. Beyond that, an event is added only if its service key has none yet.
const OF_ALL_KEYS: usize = 100;

/// The absolute limit of watched events.
const MOST: usize = 2_000;

/// How many requests are made to the REST API in 60 seconds: an eighth of what PagerDuty allows an account.
pub const BUDGET: usize = 120;

/// The most requests that one look-up takes: for the incident, the service and its maintenance.
const OF_ONE_LOOK_UP: usize = 3;

const WINDOW: Duration = Duration::from_mins(1);

/// When an event is looked up, counted from its delivery.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ProofSchedule {
    offsets: Vec<Duration>,
    /// A resolve whose incident is still open after this time is sent once more.
    pub resend_after: Duration,
    /// The pause between two checks for due events.
    pub tick: Duration,
}

impl Default for ProofSchedule {
    /// After 5, 15 and 60 seconds, then every minute up to 20 minutes: PagerDuty has taken that long after some outages.
    fn default() -> Self {
        let minutes = (1..=20).map(Duration::from_mins);
        let offsets = [5, 15].into_iter().map(Duration::from_secs).chain(minutes).collect();
        Self { offsets, resend_after: Duration::from_mins(5), tick: Duration::from_secs(1) }
    }
}

impl ProofSchedule {
    /// A schedule with other times; `offsets` must be in ascending order.
    #[must_use]
    pub fn new(offsets: Vec<Duration>, resend_after: Duration, tick: Duration) -> Self {
        Self { offsets, resend_after, tick }
    }

    /// The time of the last look-up, counted from the delivery. After it nothing is expected any more.
    #[must_use]
    pub fn end(&self) -> Duration {
        self.offsets.last().copied().unwrap_or_default()
    }

    /// The first time after `age` at which an event is looked up; `None` if the last one has passed.
    fn after(&self, age: Duration) -> Option<Duration> {
        self.offsets.iter().copied().find(|offset| *offset > age)
    }
}

/// An event that is watched.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct WatchedEvent {
    /// The event.
    pub id: EventId,
    /// Where it was sent.
    pub service_key: ServiceKey,
    /// The incident it is about.
    pub incident_key: IncidentKey,
    /// A trigger or a resolve.
    pub event_type: EventType,
    /// When PagerDuty accepted it.
    pub delivered_at: DateTime<Utc>,
    /// The same time on the task's own clock.
    pub delivered: Duration,
    /// Whether it is a resolve that was sent once more.
    pub is_resent: bool,
}

/// The events that are watched, and the requests that were made.
#[derive(Debug, Default)]
pub struct Sample {
    schedule: ProofSchedule,
    /// Each with the time of its next look-up.
    watched: BTreeMap<EventId, (WatchedEvent, Duration)>,
    /// When each service key last had its turn.
    served: BTreeMap<ServiceKey, Duration>,
    /// When each request of the last minute ended.
    requests: VecDeque<Duration>,
}

impl Sample {
    /// Makes a sample that watches nothing yet.
    #[must_use]
    pub fn new(schedule: ProofSchedule) -> Self {
        Self { schedule, ..Self::default() }
    }

    /// The times of the look-ups.
    #[must_use]
    pub fn schedule(&self) -> &ProofSchedule {
        &self.schedule
    }

    /// Whether nothing is watched.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.watched.is_empty()
    }

    /// Watches an event if there is room for it, and returns whether it was added. At most one trigger and one resolve of
    /// each incident are watched at a time.
    pub fn offer(&mut self, event: WatchedEvent) -> bool {
        let mut of_key = 0;
        for (other, _) in self.watched.values().filter(|(other, _)| other.service_key == event.service_key) {
            of_key += 1;
            if other.id == event.id || other.incident_key == event.incident_key && other.event_type == event.event_type
            {
                return false;
            }
        }
        let has_room = of_key == 0 || self.watched.len() < OF_ALL_KEYS;
        if of_key >= OF_ONE_KEY || !has_room || self.watched.len() >= MOST {
            return false;
        }
        let first = self.schedule.offsets.first().copied().unwrap_or_default();
        let due = event.delivered + first;
        self.watched.insert(event.id, (event, due));
        true
    }

    /// Returns the event to look up at `now`: the newest due event of the service key that has waited longest for its turn.
    /// `None` as well if the budget does not suffice for all requests that it may take: a look-up that ended halfway would be
    /// begun again each time, and use up the budget for nothing.
    pub fn next(&mut self, now: Duration) -> Option<WatchedEvent> {
        if self.left(now) < OF_ONE_LOOK_UP {
            return None;
        }
        let due = self.watched.values().filter(|(_, due)| *due <= now).map(|(event, _)| event);
        let turn = |event: &&WatchedEvent| (std::cmp::Reverse(self.served.get(&event.service_key)), event.id);
        let next = due.max_by_key(turn)?.clone();
        self.served.insert(next.service_key.clone(), now);
        Some(next)
    }

    /// Records that the event was looked up at `now` without a decision. Returns whether that was its last look-up.
    pub fn looked(&mut self, id: EventId, now: Duration) -> bool {
        let Some((event, due)) = self.watched.get_mut(&id) else { return false };
        match self.schedule.after(now.saturating_sub(event.delivered)) {
            Some(offset) => {
                *due = event.delivered + offset;
                false
            }
            None => true,
        }
    }

    /// Stops watching the event.
    pub fn forget(&mut self, id: EventId) {
        if let Some((event, _)) = self.watched.remove(&id)
            && self.watched.values().all(|(other, _)| other.service_key != event.service_key)
        {
            self.served.remove(&event.service_key);
        }
    }

    /// Stops watching all events. The requests that were made still count.
    pub fn clear(&mut self) {
        self.watched.clear();
        self.served.clear();
    }

    /// How many requests may be made at `now`.
    pub fn left(&mut self, now: Duration) -> usize {
        while self.requests.front().is_some_and(|at| now.saturating_sub(*at) >= WINDOW) {
            self.requests.pop_front();
        }
        BUDGET.saturating_sub(self.requests.len())
    }

    /// Records that a request ended at `now`. It counts from then on, because PagerDuty may have received it as late as that.
    pub fn requested(&mut self, now: Duration) {
        self.requests.push_back(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);
    const KEYS: [&str; 3] =
        ["0123456789abcdef0123456789abcdef", "NN2EZIJQPVVQF3KIKN2MDMSUV7E6GLFN", "00000000000000000000000000000002"];

    fn event(id: i64, key: usize, incident: &str, delivered: Duration) -> WatchedEvent {
        WatchedEvent {
            id: EventId::new(id),
            service_key: ServiceKey::parse(KEYS[key]).unwrap(),
            incident_key: IncidentKey::parse(incident).unwrap(),
            event_type: EventType::Trigger,
            delivered_at: DateTime::UNIX_EPOCH + delivered,
            delivered,
            is_resent: false,
        }
    }

    #[test]
    fn an_event_is_looked_up_on_the_schedule_and_given_up_at_its_end() {
        let mut sample = Sample::new(ProofSchedule::default());
        assert!(sample.offer(event(1, 0, "42", 100 * SECOND)));
        let (mut looked, mut is_over) = (Vec::new(), false);
        for second in 100..2000 {
            let now = second * SECOND;
            if !is_over && sample.next(now).is_some() {
                looked.push(second - 100);
                is_over = sample.looked(EventId::new(1), now);
            }
        }
        let expected: Vec<u32> = [5, 15].into_iter().chain((1..=20).map(|minute| minute * 60)).collect();
        assert_eq!(looked, expected);
        assert!(is_over);
    }

    #[test]
    fn look_ups_that_were_missed_are_not_made_up_for() {
        let mut sample = Sample::new(ProofSchedule::default());
        sample.offer(event(1, 0, "42", Duration::ZERO));
        assert!(sample.next(200 * SECOND).is_some());
        assert!(!sample.looked(EventId::new(1), 200 * SECOND));
        assert_eq!(sample.next(239 * SECOND), None);
        assert!(sample.next(240 * SECOND).is_some());
        assert!(sample.looked(EventId::new(1), 1200 * SECOND), "the end of the schedule, and no sooner");
    }

    #[test]
    fn service_keys_take_turns_and_the_newest_event_of_each_goes_first() {
        let mut sample = Sample::new(ProofSchedule::default());
        for (id, key) in [(1, 0), (2, 0), (3, 1), (4, 0), (5, 1)] {
            assert!(sample.offer(event(id, key, &id.to_string(), Duration::ZERO)));
        }
        let order: Vec<_> = (0..5)
            .map(|turn| {
                let now = 10 * SECOND + turn * Duration::from_millis(1);
                let next = sample.next(now).unwrap();
                sample.looked(next.id, now);
                next.id.get()
            })
            .collect();
        assert_eq!(order, [5, 4, 3, 2, 1]);
    }

    #[test]
    fn one_key_has_room_for_a_few_and_every_key_for_one() {
        let mut sample = Sample::new(ProofSchedule::default());
        let taken = (0..50).filter(|id| sample.offer(event(*id, 0, &id.to_string(), Duration::ZERO))).count();
        assert_eq!(taken, OF_ONE_KEY);
        assert!(sample.offer(event(100, 1, "1", Duration::ZERO)));
        assert!(!sample.offer(event(101, 1, "1", Duration::ZERO)), "its incident is watched");
        sample.forget(EventId::new(100));
        assert!(sample.offer(event(101, 1, "1", Duration::ZERO)));
    }

    #[test]
    fn a_storm_of_20000_events_stays_within_the_budget_whatever_pagerduty_does() {
        for opens in [true, false] {
            let mut sample = Sample::new(ProofSchedule::default());
            let (mut requests, mut judged) = (Vec::new(), 0);
            for second in 0_u32..3600 {
                let now = second * SECOND;
                // 20,000 events within ten minutes.
                for number in 0..if second < 600 { 34 } else { 0 } {
                    let id = i64::from(second * 34 + number);
                    sample.offer(event(id, usize::try_from(id % 3).unwrap(), &id.to_string(), now));
                }
                while let Some(event) = sample.next(now) {
                    let is_judged = sample.looked(event.id, now) || opens;
                    for _ in 0..if is_judged { OF_ONE_LOOK_UP } else { 1 } {
                        sample.requested(now);
                        requests.push(second);
                    }
                    if is_judged {
                        sample.forget(event.id);
                        judged += 1;
                    }
                }
            }
            let within = |from: u32| requests.iter().filter(|at| (from..from + 60).contains(*at)).count();
            let busiest = requests.iter().map(|from| within(*from)).max();
            assert!(busiest.unwrap() <= BUDGET, "{busiest:?}");
            assert!(judged >= 30, "{judged}");
            assert!(sample.is_empty());
        }
    }

    #[test]
    fn a_request_counts_until_a_minute_after_its_end() {
        let mut sample = Sample::new(ProofSchedule::default());
        for _ in 0..BUDGET {
            assert_ne!(sample.left(Duration::ZERO), 0);
            sample.requested(5 * SECOND);
        }
        assert_eq!(sample.left(64 * SECOND), 0, "PagerDuty may have got the first of them five seconds late");
        assert_eq!(sample.left(65 * SECOND), BUDGET);
    }

    #[test]
    fn a_look_up_begins_only_if_the_budget_suffices_for_all_of_it() {
        let mut sample = Sample::new(ProofSchedule::default());
        sample.offer(event(1, 0, "42", Duration::ZERO));
        for _ in 0..BUDGET - OF_ONE_LOOK_UP {
            sample.requested(10 * SECOND);
        }
        assert!(sample.next(10 * SECOND).is_some());
        sample.requested(11 * SECOND);
        assert_eq!(sample.next(11 * SECOND), None);
        assert!(sample.next(70 * SECOND).is_some());
    }
}
