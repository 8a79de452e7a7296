//! What an operator does to the queue, and how the bridge hears of it.

use std::time::Duration;

use rand::RngExt;

use crate::happening::Happening;
use crate::plan::Deed;
use crate::queue::State;
use crate::world::World;

impl World {
    pub(crate) fn deed(&mut self, deed: Deed) {
        if self.disk_fails() {
            return;
        }
        let (now, running) = (self.now, self.bridge.is_some());
        let key = match deed {
            Deed::RetryDead { key } => {
                let mut letters = self.queue.dead(key);
                letters.retain(|id| !self.queue.was_triggered_anew(*id));
                for id in letters {
                    self.queue.put(id, State::Waiting, now);
                    let row = self.queue.row(id);
                    row.put_back = running;
                    row.blamed = Duration::ZERO;
                    row.first_failed_at = None;
                    row.excused_in = None;
                }
                key
            }
            Deed::Discard { key, place } => {
                if let Some(id) = self.queue.waiting(key).iter().nth(place).copied() {
                    self.queue.put(id, State::Discarded, now);
                }
                key
            }
            Deed::DiscardDead { key } => {
                for id in self.queue.dead(key) {
                    self.queue.put(id, State::Discarded, now);
                }
                key
            }
        };
        if running {
            let (run, delay) = (self.run, Duration::from_millis(self.rng.random_range(0..200)));
            self.expect(delay, Happening::Rescan { run, key });
        }
    }
}
