//! Admin actions on the queue, and how the bridge learns of them.

use std::time::Duration;

use rand::RngExt;

use crate::scenario::AdminAction;
use crate::steps::Step;
use crate::world::World;

impl World {
    pub(crate) fn admin_action(&mut self, admin_action: AdminAction) {
        if self.disk_fails() {
            return;
        }
        let (now, running) = (self.now, self.bridge.is_some());
        let key = match admin_action {
            AdminAction::RetryDead { key } => {
                let (ids, at) = (self.queue.dead(key), self.scenario.wall_clock(now));
                for id in self.queue.requeue(&ids, at, now) {
                    let row = self.queue.row(id);
                    row.requeued = running;
                    row.first_failed_at = None;
                    row.excused_in = None;
                }
                key
            }
            AdminAction::Discard { key, place } => {
                if let Some(id) = self.queue.waiting(key).get(place).copied() {
                    self.queue.discard(&[id], now);
                }
                key
            }
            AdminAction::DiscardDead { key } => {
                self.queue.discard(&self.queue.dead(key), now);
                key
            }
        };
        if running {
            let (run, delay) = (self.run, Duration::from_millis(self.rng.random_range(0..200)));
            self.schedule(delay, Step::Rescan { run, key });
        }
    }
}
