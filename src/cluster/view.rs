//! The bridges as the status page, the metrics and the alarms show them. Pure.

use chrono::{DateTime, Utc};

use super::lease_holder::Timing;
use crate::pagerduty::ServiceKey;
use crate::queue::leases::{BridgeId, LeaseName, LeaseState};

/// All bridges that share the queue, in the order of their names.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ClusterView {
    /// The bridges that run, and those that stopped within the last hour without giving up their leases. Empty if this
    /// bridge has the queue to itself.
    pub bridges: Vec<BridgeView>,
}

/// One bridge.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct BridgeView {
    /// The id of this run of the bridge.
    pub id: BridgeId,
    /// The host's name.
    pub name: String,
    /// Its version and commit.
    pub version: String,
    /// The hash of its settings.
    pub fingerprint: String,
    /// When it was seen last, by the database's clock.
    pub last_seen: DateTime<Utc>,
    /// Whether it was seen lately.
    pub is_alive: bool,
    /// Whether it is the bridge that shows this view.
    pub is_self: bool,
    /// Whether it is the leader, which does what is done once for all bridges: alarms, retention.
    pub is_leader: bool,
    /// Whether its attempts reach PagerDuty.
    pub reaches_pagerduty: bool,
    /// The service keys that it delivers for, in their order.
    pub keys: Vec<ServiceKey>,
}

impl ClusterView {
    /// Returns what `state` shows to the bridge `me`.
    pub(super) fn new(state: &LeaseState, me: BridgeId, timing: &Timing) -> Self {
        let mut bridges: Vec<_> = state
            .bridges
            .iter()
            .map(|row| {
                let owned = || {
                    let owned = state.leases.iter().filter(|lease| lease.owner == Some(row.info.id));
                    owned.filter(|lease| lease.until > state.now).map(|lease| &lease.name)
                };
                BridgeView {
                    id: row.info.id,
                    name: row.info.name.clone(),
                    version: row.info.version.clone(),
                    fingerprint: row.info.fingerprint.clone(),
                    last_seen: row.last_seen,
                    is_alive: row.last_seen > state.now - timing.alive(),
                    is_self: row.info.id == me,
                    is_leader: owned().any(|name| *name == LeaseName::Leader),
                    reaches_pagerduty: row.info.reaches_pagerduty,
                    keys: owned().filter_map(LeaseName::key).cloned().collect(),
                }
            })
            .collect();
        bridges.sort_by(|a, b| (&a.name, a.id).cmp(&(&b.name, b.id)));
        Self { bridges }
    }

    /// Whether a bridge has given up everything and is gone.
    pub(super) fn has_left(&self, id: BridgeId) -> bool {
        self.bridges.iter().all(|bridge| bridge.id != id)
    }

    /// The bridges that run.
    pub fn alive(&self) -> impl Iterator<Item = &BridgeView> {
        self.bridges.iter().filter(|bridge| bridge.is_alive)
    }

    /// The first two bridges that run with different settings.
    #[must_use]
    pub fn different_settings(&self) -> Option<(&BridgeView, &BridgeView)> {
        let first = self.alive().next()?;
        self.alive().find(|bridge| bridge.fingerprint != first.fingerprint).map(|other| (first, other))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::queue::leases::{BridgeInfo, LeaseChanges, LeaseTable};

    fn bridge(number: u128, fingerprint: &str) -> BridgeInfo {
        BridgeInfo {
            id: BridgeId::new(number),
            name: format!("host-{number}"),
            version: "1".to_owned(),
            fingerprint: fingerprint.to_owned(),
            is_leaving: false,
            reaches_pagerduty: true,
        }
    }

    #[test]
    fn each_bridge_is_shown_with_what_it_does() {
        let timing = Timing::new(Duration::from_secs(10));
        let mut table = LeaseTable::default();
        let key = ServiceKey::parse("0123456789abcdef0123456789abcdef").unwrap();
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        let create =
            LeaseChanges { create: vec![LeaseName::Key(key.clone()), LeaseName::Leader], ..LeaseChanges::default() };
        table.exchange(&bridge(2, "a"), &create, timing.lease, &[], at(0));
        let mut view = |seconds| {
            let view = table.exchange(&bridge(1, "b"), &LeaseChanges::default(), timing.lease, &[], at(seconds));
            ClusterView::new(&view, BridgeId::new(1), &timing)
        };
        let seen = view(5);
        let shown: Vec<_> =
            seen.bridges.iter().map(|b| (b.name.as_str(), b.is_self, b.is_leader, b.is_alive)).collect();
        assert_eq!(shown, [("host-1", true, false, true), ("host-2", false, true, true)]);
        assert_eq!((&seen.bridges[0].keys, &seen.bridges[1].keys), (&vec![], &vec![key]));
        let (one, other) = seen.different_settings().unwrap();
        assert_eq!((one.fingerprint.as_str(), other.fingerprint.as_str()), ("b", "a"));
        let seen = view(30);
        assert!(!seen.bridges[1].is_alive && seen.bridges[1].keys.is_empty());
        assert_eq!(seen.different_settings(), None, "of those that run");
    }
}
