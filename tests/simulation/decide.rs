//! Executes the decisions of the scheduler, and checks each of them.

use std::time::Duration;

use rand::RngExt;
use sentry_pagerduty_bridge::delivery::scheduler::Next;
use sentry_pagerduty_bridge::pagerduty::ServiceKey;
use sentry_pagerduty_bridge::queue::EventId;

use crate::commits::Operation;
use crate::queue::Read;
use crate::steps::Step;
use crate::world::World;

/// Allowed number of consecutive wakes with nothing to do, for each key: a lowered rate limit rises in three steps, and
/// after each of them there may still be nothing to send.
const IDLE_WAKES: u32 = 4;

impl World {
    /// Executes decisions until the scheduler says to wait.
    pub(crate) fn decide(&mut self) {
        loop {
            let now = self.now;
            let bridge = self.bridge();
            let clock = bridge.clock(now);
            match bridge.scheduler.next(clock) {
                Next::Send { id, key } => {
                    bridge.idle_wakes = 0;
                    self.begin(id, &key);
                }
                Next::Load { key, after } => {
                    bridge.idle_wakes = 0;
                    self.load(&key, after);
                }
                Next::Wait(moment) => return self.wait(moment),
            }
        }
    }

    fn begin(&mut self, id: EventId, key: &ServiceKey) {
        assert_eq!(number_of(key), self.queue.row(id).key, "event {id} was sent with the key of another");
        let limits = self.scenario.limits;
        let bridge = self.bridge();
        assert!(bridge.in_flight.insert(id), "event {id} is under way twice");
        assert!(bridge.scheduler.in_flight() <= limits.in_flight, "too many attempts are under way");
        bridge.outstanding += 1;
        let asked = self.now;
        self.ask(Operation::Begin { id, asked });
    }

    /// Begins to read a page while everything else continues. The read sees the queue at a random moment before its end.
    fn load(&mut self, key: &ServiceKey, after: Option<EventId>) {
        let (number, run) = (number_of(key), self.run);
        let longest = if self.rng.random_bool(0.5) { Duration::from_millis(20) } else { Duration::from_secs(5) };
        let wait = self.rng.random_range(Duration::ZERO..longest);
        let early = self.rng.random_bool(0.5).then(|| self.read(number, after));
        self.schedule(wait, Step::PageRead { run, key: number, after, early });
    }

    /// The result of a read at this moment.
    pub(crate) fn read(&mut self, key: usize, after: Option<EventId>) -> Read {
        let (until, part) = self.scenario.bad_reads;
        let fails = self.disk_fails() || self.now < until && self.rng.random_bool(part);
        if fails {
            Read::Fails
        } else {
            Read::Page(self.queue.page(key, after, self.scenario.limits.prefetch, self.now))
        }
    }

    fn wait(&mut self, moment: Option<Duration>) {
        let (now, run, all_settled) = (self.now, self.run, self.queue.all_settled());
        let most = IDLE_WAKES * u32::try_from(self.scenario.keys).unwrap();
        let bridge = self.bridge();
        bridge.wake += 1;
        assert!(bridge.idle_wakes <= most, "woken more than {most} times for nothing: {bridge:#?}");
        let Some(moment) = moment else {
            let stuck = bridge.outstanding == 0 && !all_settled;
            assert!(!stuck, "nothing will ever wake the bridge, but events are waiting: {bridge:#?}");
            return;
        };
        let clock = bridge.clock(now);
        assert!(moment > clock, "told to wait until {moment:?}, but it is {clock:?} already");
        let wake = bridge.wake;
        self.after(moment - clock, Step::Wake { run, wake });
    }
}

fn number_of(key: &ServiceKey) -> usize {
    key.expose().parse().unwrap()
}
