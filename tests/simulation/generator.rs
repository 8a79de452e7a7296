//! Generates worlds from seeds.

use std::collections::HashMap;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use sentry_pagerduty_bridge::delivery::DeliveryLimits;
use sentry_pagerduty_bridge::pagerduty::EventType;

use crate::fault::{Content, Fault, Kind, MIDDLEBOXES, PoisonFailure};
use crate::scenario::{AdminAction, Alert, Crash, Scenario};

impl Scenario {
    /// All kinds of faults at the same time.
    pub(crate) fn all_faults(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let keys = rng.random_range(1..=3);
        let horizon = seconds(rng.random_range(60..=1800));
        let mut scenario = Self::without_faults(seed, keys, &mut rng);
        scenario.limits.rate = rng.random_range(3..=60);
        scenario.limits.give_up_after = seconds(rng.random_range(300..=3600));
        scenario.limits.in_flight = rng.random_range(2 * u32::try_from(keys).unwrap()..=16);
        scenario.limits.in_flight_per_key = rng.random_range(1..=8);
        scenario.limits.prefetch = rng.random_range(1..=30);
        let events = rng.random_range(1..=50);
        scenario.add_alerts(&mut rng, events, ..=horizon, |rng| match rng.random_range(0..20) {
            0 => Content::Invalid,
            1 => Content::Poison { until: within(rng, horizon), how: poison_failure(rng) },
            _ => Content::Fine,
        });
        for _ in 0..rng.random_range(0..=4) {
            let from = within(&mut rng, horizon);
            let until = from + seconds(2) + within(&mut rng, seconds(600));
            let key = rng.random_bool(0.5).then(|| rng.random_range(0..keys));
            scenario.faults.push(Fault { from, until, key, kind: kind(&mut rng, scenario.limits.rate) });
        }
        for _ in 0..rng.random_range(0..=3) {
            let after_steps = rng.random_range(1..=u64::try_from(events).unwrap() * 8);
            scenario.crashes.push(Crash { after_steps, down: within(&mut rng, seconds(90)) });
        }
        for _ in 0..rng.random_range(0..=3) {
            let admin_action = admin_action(&mut rng, keys);
            scenario.admin_actions.push((within(&mut rng, horizon), admin_action));
        }
        for _ in 0..rng.random_range(0..=6) {
            let after_steps = rng.random_range(1..=u64::try_from(events).unwrap() * 8);
            scenario.admin_actions_between.push((after_steps, admin_action(&mut rng, keys)));
        }
        if rng.random_bool(0.3) {
            scenario.bad_reads = (horizon, rng.random_range(0.1..0.9));
        }
        if rng.random_bool(0.3) {
            for _ in 0..rng.random_range(1..=5) {
                scenario.unreadable.insert(rng.random_range(0..events), within(&mut rng, horizon));
            }
        }
        if rng.random_bool(0.3) {
            scenario.overflows = rng.random_range(0.05..0.7);
        }
        if rng.random_bool(0.2) {
            let from = within(&mut rng, horizon);
            scenario.disk_failures.push((from, from + within(&mut rng, seconds(30))));
        }
        if rng.random_bool(0.3) {
            for _ in 0..rng.random_range(1..=2) {
                let step = if rng.random_bool(0.5) { 120 } else { 7_200 };
                scenario.clock_steps.push((within(&mut rng, horizon), rng.random_range(-step..=step)));
            }
        }
        scenario
    }

    /// PagerDuty is unreachable for minutes, sometimes for days, once or several times.
    pub(crate) fn outage(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let keys = rng.random_range(1..=2);
        let mut scenario = Self::without_faults(seed, keys, &mut rng);
        scenario.limits.rate = rng.random_range(5..=40);
        scenario.limits.give_up_after = seconds(rng.random_range(900..=3600));
        scenario.limits.prefetch = rng.random_range(5..=100);
        let longest = seconds(if seed.is_multiple_of(100) { 3 * 86_400 } else { 2400 });
        let mut from = within(&mut rng, seconds(120));
        for _ in 0..rng.random_range(1..=3) {
            for _ in 0..rng.random_range(1..=2) {
                let until = from + seconds(60) + within(&mut rng, longest);
                let kind = match rng.random_range(0..5) {
                    0 => Kind::Refused,
                    1 => Kind::BlackHole,
                    2 => Kind::Errors { part: 1.0, retry_after: None },
                    3 => middlebox(&mut rng),
                    _ => Kind::Distrusted,
                };
                scenario.faults.push(Fault { from, until, key: None, kind });
                from = until;
            }
            from += within(&mut rng, seconds(600));
        }
        let end = scenario.faults.last().unwrap().until;
        let events = rng.random_range(1..=120);
        scenario.add_alerts(&mut rng, events, ..=end, |_| Content::Fine);
        scenario
    }

    /// PagerDuty accepts fewer events than the rate limit, or none, for up to an hour.
    pub(crate) fn throttling(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let keys = rng.random_range(1..=2);
        let mut scenario = Self::without_faults(seed, keys, &mut rng);
        scenario.limits.rate = rng.random_range(8..=60);
        scenario.limits.give_up_after = seconds(300);
        let end = seconds(rng.random_range(120..=3600));
        let mut from = Duration::ZERO;
        while from < end {
            let until = from + seconds(30) + within(&mut rng, seconds(1800));
            let limit = rng.random_range(0..=scenario.limits.rate as usize / 2);
            let retry_after = rng.random_bool(0.3).then(|| seconds(rng.random_range(0..=240)));
            let kind = Kind::Throttled { limit, counts_rejected: rng.random_bool(0.5), retry_after };
            scenario.faults.push(Fault { from, until, key: None, kind });
            from = until;
        }
        let events = rng.random_range(1..=120);
        scenario.add_alerts(&mut rng, events, ..=end, |_| Content::Fine);
        scenario
    }

    /// In [`Scenario::poison`], incidents from this number on have no poison events.
    pub(crate) const HEALTHY: usize = 100;

    /// PagerDuty permanently fails on a few events, and accepts all others.
    pub(crate) fn poison(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let keys = rng.random_range(1..=2);
        let mut scenario = Self::without_faults(seed, keys, &mut rng);
        scenario.limits.rate = rng.random_range(20..=60);
        scenario.limits.give_up_after = seconds(rng.random_range(300..=600));
        let end = scenario.limits.give_up_after + seconds(900);
        for key in 0..keys {
            for number in 0..rng.random_range(1..=4) {
                let at = within(&mut rng, seconds(300));
                let content = Content::Poison { until: end, how: poison_failure(&mut rng) };
                scenario.add_alert(at, key, number, EventType::Trigger, content);
                let later = at + within(&mut rng, seconds(300));
                scenario.add_alert(later, key, number, EventType::Resolve, Content::Fine);
            }
            let mut at = Duration::ZERO;
            for incident in Self::HEALTHY.. {
                at += seconds(5) + within(&mut rng, seconds(25));
                if at >= end {
                    break;
                }
                scenario.add_alert(at, key, incident, EventType::Trigger, Content::Fine);
            }
        }
        scenario.number();
        scenario
    }

    /// Key 0 has no faults, the others have many.
    pub(crate) fn bad_neighbours(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let keys = rng.random_range(2..=4);
        let mut scenario = Self::without_faults(seed, keys, &mut rng);
        scenario.limits.rate = rng.random_range(5..=60);
        scenario.limits.give_up_after = seconds(300);
        scenario.commit = 5..=5;
        let horizon = seconds(rng.random_range(60..=600));
        let events = rng.random_range(20..=80);
        scenario.add_alerts(&mut rng, events, ..=horizon, |_| Content::Fine);
        // No events of the first key are folded, because that would depend on milliseconds: no trigger follows another one
        // directly.
        let mut last = HashMap::new();
        for alert in scenario.alerts.iter_mut().filter(|alert| alert.key == 0) {
            let before = last.insert(alert.incident, alert.event_type);
            if before == Some(EventType::Trigger) && alert.event_type == EventType::Trigger {
                alert.event_type = EventType::Resolve;
                last.insert(alert.incident, EventType::Resolve);
            }
        }
        for alert in scenario.alerts.iter_mut().filter(|alert| alert.key > 0) {
            alert.content = match rng.random_range(0..4) {
                0 => Content::Poison { until: within(&mut rng, horizon), how: poison_failure(&mut rng) },
                1 => Content::Invalid,
                _ => Content::Fine,
            };
        }
        for _ in 0..rng.random_range(1..=8) {
            let from = within(&mut rng, horizon);
            let until = from + seconds(2) + within(&mut rng, seconds(300));
            let kind = match kind(&mut rng, scenario.limits.rate) {
                // An untrusted certificate affects PagerDuty's address, and therefore all keys.
                Kind::Distrusted => Kind::BlackHole,
                kind => kind,
            };
            scenario.faults.push(Fault { from, until, key: Some(rng.random_range(1..keys)), kind });
        }
        scenario
    }

    /// In [`Scenario::slow_keys`], the keys from this number on are slow.
    pub(crate) const SLOW: usize = 4;

    /// In [`Scenario::slow_keys`], the healthy keys were answered before this time, and the slow keys had no events.
    pub(crate) const BEFORE_SLOW: Duration = Duration::from_secs(20);

    /// PagerDuty answers the events of a few keys at once and those of the others late; there are many more slow keys than
    /// connections.
    pub(crate) fn slow_keys(seed: u64) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let slow = rng.random_range(1..=48);
        let mut scenario = Self::without_faults(seed, Self::SLOW + slow, &mut rng);
        scenario.limits.in_flight = 16;
        let end = seconds(rng.random_range(60..=200));
        let mut incident = 0;
        for key in 0..Self::SLOW {
            let mut at = within(&mut rng, seconds(10));
            while at < end {
                for _ in 0..rng.random_range(1..=2) {
                    incident += 1;
                    scenario.add_alert(at, key, incident, EventType::Trigger, Content::Fine);
                }
                at = at.max(Self::BEFORE_SLOW) + seconds(2) + within(&mut rng, seconds(10));
            }
        }
        // All at the same time, or one after the other.
        let burst = rng.random_bool(0.5);
        for key in Self::SLOW..Self::SLOW + slow {
            let answer = Duration::from_millis(rng.random_range(2000..=9500));
            scenario.faults.push(Fault {
                from: Duration::ZERO,
                until: end,
                key: Some(key),
                kind: Kind::Late { answer },
            });
            let from = Self::BEFORE_SLOW + if burst { Duration::ZERO } else { within(&mut rng, seconds(30)) };
            for _ in 0..rng.random_range(1..=20) {
                incident += 1;
                let at = if burst { from } else { from + within(&mut rng, end.saturating_sub(from)) };
                scenario.add_alert(at, key, incident, EventType::Trigger, Content::Fine);
            }
        }
        scenario.number();
        scenario
    }

    fn without_faults(seed: u64, keys: usize, rng: &mut StdRng) -> Self {
        Self {
            seed,
            limits: DeliveryLimits::new(120, seconds(3600)),
            keys,
            alerts: Vec::new(),
            faults: Vec::new(),
            crashes: Vec::new(),
            admin_actions: Vec::new(),
            clock_steps: Vec::new(),
            admin_actions_between: Vec::new(),
            disk_failures: Vec::new(),
            bad_reads: (Duration::ZERO, 0.0),
            unreadable: HashMap::new(),
            overflows: 0.0,
            travel: Duration::from_millis(rng.random_range(10..=250)),
            commit: 1..=rng.random_range(1..=50),
        }
    }

    fn add_alerts(
        &mut self,
        rng: &mut StdRng,
        events: usize,
        times: std::ops::RangeToInclusive<Duration>,
        content: impl Fn(&mut StdRng) -> Content,
    ) {
        let incidents = rng.random_range(1..=events);
        // Alerts come one by one or in bursts.
        let bursts: Vec<Duration> = (0..rng.random_range(1..=5)).map(|_| within(rng, times.end)).collect();
        let bursting = rng.random_range(0.0..1.0);
        self.alerts = (0..events)
            .map(|_| Alert {
                number: 0,
                at: if rng.random_bool(bursting) {
                    bursts[rng.random_range(0..bursts.len())]
                } else {
                    within(rng, times.end)
                },
                key: rng.random_range(0..self.keys),
                incident: rng.random_range(0..incidents),
                event_type: match rng.random_range(0..5) {
                    0 => EventType::Acknowledge,
                    1 | 2 => EventType::Resolve,
                    _ => EventType::Trigger,
                },
                content: content(rng),
            })
            .collect();
        self.number();
    }

    fn add_alert(&mut self, at: Duration, key: usize, incident: usize, event_type: EventType, content: Content) {
        self.alerts.push(Alert { number: 0, at, key, incident, event_type, content });
    }

    fn number(&mut self) {
        self.alerts.sort_by_key(|alert| alert.at);
        for (number, alert) in self.alerts.iter_mut().enumerate() {
            alert.number = number;
        }
    }
}

fn admin_action(rng: &mut StdRng, keys: usize) -> AdminAction {
    let key = rng.random_range(0..keys);
    match rng.random_range(0..10) {
        0..6 => AdminAction::RetryDead { key },
        6..9 => AdminAction::Discard { key, place: rng.random_range(0..10) },
        _ => AdminAction::DiscardDead { key },
    }
}

fn kind(rng: &mut StdRng, rate: u32) -> Kind {
    let part = if rng.random_bool(0.5) { 1.0 } else { rng.random_range(0.1..1.0) };
    let retry_after = rng.random_bool(0.2).then(|| seconds(rng.random_range(0..=120)));
    match rng.random_range(0..9) {
        0 => Kind::Refused,
        1 => Kind::BlackHole,
        2 => Kind::Errors { part, retry_after },
        3 => Kind::LostAnswers { part },
        4 => Kind::Slow { answer: within(rng, seconds(15)) },
        5 => Kind::Distrusted,
        6 => Kind::Stale { part },
        7 => middlebox(rng),
        _ => {
            let limit = rng.random_range(0..=rate as usize);
            Kind::Throttled { limit, counts_rejected: rng.random_bool(0.5), retry_after }
        }
    }
}

fn middlebox(rng: &mut StdRng) -> Kind {
    let (status, body) = MIDDLEBOXES[rng.random_range(0..MIDDLEBOXES.len())];
    Kind::Middlebox { status, body }
}

fn poison_failure(rng: &mut StdRng) -> PoisonFailure {
    [PoisonFailure::Error, PoisonFailure::Timeout, PoisonFailure::Reset][rng.random_range(0..3)]
}

fn within(rng: &mut StdRng, end: Duration) -> Duration {
    Duration::from_millis(rng.random_range(0..=u64::try_from(end.as_millis()).unwrap()))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
