//! Several bridges on one queue: which of them delivers for which service key, and which of them is the leader.
//!
//! - [`lease_holder`]: which leases one bridge requests, when it may send, and whether it reaches PagerDuty; pure
//! - [`view`]: the bridges as people and metrics see them; pure
//!
//! [`Cluster`] is the bridge's handle. Its task exchanges leases with the database every second; a [`Permit`] from it is
//! needed for each attempt. A bridge that has the queue to itself, as on SQLite, may do everything at any time.

pub mod lease_holder;
pub mod view;

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use log::{Level, debug, info};
use tokio::sync::{Notify, watch};
use tokio::time::{sleep, timeout};

use crate::logging::log_throttled;
use crate::pagerduty::{OutcomeKind, ServiceKey};
use crate::queue::leases::{BridgeId, BridgeInfo, Fence, LeaseName, LeaseStore};
use lease_holder::{LeaseHolder, Reachability, SendRight, Timing};
pub use view::{BridgeView, ClusterView};

/// How often leases are exchanged with the database.
const EXCHANGE: Duration = Duration::from_secs(1);

/// If the last answer is older than this, it is not known whether the database still answers.
const SILENCE: Duration = Duration::from_millis(1050);

/// How long after a change the database is asked again.
const SOON: Duration = Duration::from_millis(100);

/// How long hints are collected, from the first one on, before they are sent together.
const COALESCE: Duration = Duration::from_millis(50);

/// How long to wait before listening for hints again after that failed.
const LISTEN_PAUSE: Duration = Duration::from_secs(10);

/// A handle of the bridge among those that share its queue; clones refer to the same bridge.
#[derive(Clone, Debug, Default)]
pub struct Cluster(Option<Arc<Membership>>);

/// The part of this bridge in the cluster.
#[derive(Debug)]
struct Membership {
    store: Arc<dyn LeaseStore>,
    timing: Timing,
    state: Mutex<MembershipState>,
    view: watch::Sender<ClusterView>,
    /// Notified when the keys that this bridge delivers for may have changed, or may have new events.
    changed: Notify,
    /// Notified when the database should be asked at once.
    exchange_now: Notify,
    /// Notified when other bridges should be told of committed events.
    announce_now: Notify,
}

#[derive(Debug)]
struct MembershipState {
    leases: LeaseHolder,
    info: BridgeInfo,
    /// Whether this bridge commits nothing more, so that its row may be deleted.
    is_done: bool,
    reachability: Reachability,
    /// How many attempts of each key are in flight.
    in_flight: BTreeMap<ServiceKey, u32>,
    /// The time that the database's clock showed at a moment of this bridge's clock.
    database_clock: Option<(Duration, DateTime<Utc>)>,
    /// Keys for which other bridges committed events.
    hinted: BTreeSet<ServiceKey>,
    /// Keys for which this bridge committed events that other bridges deliver.
    to_announce: BTreeSet<ServiceKey>,
}

/// Returns at each call whether this bridge is the leader, as [`Cluster::is_leader`] does.
pub type IsLeader = Box<dyn Fn() -> bool>;

/// The right to make one attempt. The attempt counts as in flight until this is dropped.
#[derive(Debug)]
pub struct Permit {
    cluster: Cluster,
    key: ServiceKey,
    fence: Option<Fence>,
}

impl Cluster {
    /// Returns the handle of a bridge that has the queue to itself.
    #[must_use]
    pub fn alone() -> Self {
        Self(None)
    }

    /// Joins the bridges that share `store`. `attempt` is the longest time that one attempt takes; `fingerprint` is that
    /// of the settings. The database is not asked before [`run`](Self::run).
    #[must_use]
    pub fn join(store: Arc<dyn LeaseStore>, attempt: Duration, version: String, fingerprint: String) -> Self {
        let (id, timing) = (BridgeId::random(), Timing::new(attempt));
        let name = rustix::system::uname().nodename().to_string_lossy().into_owned();
        let info = BridgeInfo { id, name, version, fingerprint, is_leaving: false, reaches_pagerduty: true };
        let state = MembershipState {
            leases: LeaseHolder::new(id, timing),
            info,
            is_done: false,
            reachability: Reachability::default(),
            in_flight: BTreeMap::new(),
            database_clock: None,
            hinted: BTreeSet::new(),
            to_announce: BTreeSet::new(),
        };
        let (view, _) = watch::channel(ClusterView::default());
        let (changed, exchange_now, announce_now) = (Notify::new(), Notify::new(), Notify::new());
        Self(Some(Arc::new(Membership {
            store,
            timing,
            state: Mutex::new(state),
            view,
            changed,
            exchange_now,
            announce_now,
        })))
    }

    /// Whether this bridge has the queue to itself.
    #[must_use]
    pub fn is_alone(&self) -> bool {
        self.0.is_none()
    }

    /// Whether this bridge is the leader, which does what is done once for all bridges: retention, alarms and the like.
    /// There is at most one leader at a time, and none for the duration of a lease after the leader was killed.
    #[must_use]
    pub fn is_leader(&self) -> bool {
        self.0.as_ref().is_none_or(|membership| membership.state().leases.right(&LeaseName::Leader, clock()).is_some())
    }

    /// Returns [`is_leader`](Self::is_leader) as a function, for a task that needs nothing else of the cluster.
    #[must_use]
    pub fn leadership(&self) -> IsLeader {
        let cluster = self.clone();
        Box::new(move || cluster.is_leader())
    }

    /// Sets the fingerprint of the settings that this bridge has from now on.
    pub fn set_fingerprint(&self, fingerprint: String) {
        if let Some(membership) = &self.0 {
            membership.state().info.fingerprint = fingerprint;
            membership.exchange_now.notify_one();
        }
    }

    /// Whether the database that the bridges share answered lately. Always true for a bridge that has the queue to itself.
    #[must_use]
    pub fn reaches_database(&self) -> bool {
        self.0.as_ref().is_none_or(|membership| {
            let asked = membership.state().database_clock;
            asked.is_some_and(|(at, _)| clock().saturating_sub(at) < SILENCE)
        })
    }

    /// Returns the current view of the bridges.
    #[must_use]
    pub fn view(&self) -> ClusterView {
        self.0.as_ref().map(|membership| membership.view.borrow().clone()).unwrap_or_default()
    }

    /// Returns the time to use where bridges compare times: the database's as far as it is known, otherwise the machine's.
    /// It may be ahead of the database's by as long as the database took to answer.
    #[must_use]
    pub fn now(&self) -> DateTime<Utc> {
        let Some((at, utc)) = self.0.as_ref().and_then(|membership| membership.state().database_clock) else {
            return Utc::now();
        };
        utc + TimeDelta::from_std(clock().saturating_sub(at)).unwrap_or_default()
    }

    /// Returns the service keys that this bridge delivers for, none of which has an attempt in flight under an earlier
    /// lease, and for how long from now an attempt may begin; `None`: all keys, without an end.
    pub(crate) fn keys(&self) -> Option<BTreeMap<ServiceKey, (Fence, Duration)>> {
        let membership = self.0.as_ref()?;
        let (state, now) = (membership.state(), clock());
        let left = |right: SendRight| (right.fence, right.send_until.saturating_sub(now));
        let active = state.leases.active(now).filter_map(|(name, right)| Some((name.key()?.clone(), left(right))));
        Some(active.collect())
    }

    /// Whether attempts of `key` are in flight.
    pub(crate) fn is_busy(&self, key: &ServiceKey) -> bool {
        self.0.as_ref().is_some_and(|membership| membership.state().in_flight.contains_key(key))
    }

    /// The right to begin an attempt for `key` now, if there is one.
    pub(crate) fn permit(&self, key: &ServiceKey) -> Option<Permit> {
        let mut fence = None;
        if let Some(membership) = &self.0 {
            let mut state = membership.state();
            fence = Some(state.leases.right(&LeaseName::Key(key.clone()), clock())?.fence);
            *state.in_flight.entry(key.clone()).or_default() += 1;
        }
        Some(Permit { cluster: self.clone(), key: key.clone(), fence })
    }

    /// Records that an attempt ended with an outcome of this kind.
    pub(crate) fn attempted(&self, kind: OutcomeKind) {
        if let Some(membership) = &self.0 {
            membership.state().reachability.ended(kind, clock());
        }
    }

    /// Tells the other bridges that this bridge committed events of keys that it does not deliver for.
    pub(crate) fn announce(&self, keys: impl IntoIterator<Item = ServiceKey>) {
        if let Some(membership) = &self.0 {
            membership.state().to_announce.extend(keys);
            membership.announce_now.notify_one();
        }
    }

    /// Returns the keys for which other bridges committed events since the last call.
    pub(crate) fn take_hints(&self) -> BTreeSet<ServiceKey> {
        self.0.as_ref().map(|membership| std::mem::take(&mut membership.state().hinted)).unwrap_or_default()
    }

    /// Waits until the keys may have changed or other bridges committed events; forever if no other bridge uses the queue.
    pub(crate) async fn changed(&self) {
        match &self.0 {
            Some(membership) => membership.changed.notified().await,
            None => std::future::pending().await,
        }
    }

    /// Takes part in the cluster, while it is polled.
    pub async fn run(self) -> Infallible {
        let Some(membership) = &self.0 else { return std::future::pending().await };
        tokio::select! {
            never = membership.keep_exchanging() => never,
            never = membership.keep_announcing() => never,
            never = membership.keep_listening() => never,
        }
    }

    /// Starts to leave, because the bridge is about to stop: other bridges take its keys from now on, each as soon as its
    /// attempts in flight have ended.
    pub fn leave(&self) {
        if let Some(membership) = &self.0 {
            let mut state = membership.state();
            state.leases.leave();
            state.info.is_leaving = true;
            membership.exchange_now.notify_one();
        }
    }

    /// Says that this bridge, which has begun to [`leave`](Self::leave), commits nothing more: only now its row may be deleted,
    /// by which `queue export` and `queue import` know that it runs. Waits until every lease is given up and the row is
    /// deleted, but at most for `patience`; the remaining leases end by themselves. [`run`](Self::run) has to be polled
    /// meanwhile.
    pub async fn wait_until_left(&self, patience: Duration) {
        let Some(membership) = &self.0 else { return };
        membership.state().is_done = true;
        let left = async {
            while !membership.view.borrow().has_left(membership.state().info.id) {
                membership.exchange_now.notify_one();
                sleep(SOON).await;
            }
        };
        if timeout(patience, left).await.is_err() {
            info!(
                "the database did not confirm in time that this bridge has stopped: other bridges take service keys that it \
                 had when their leases have ended"
            );
        }
    }
}

impl Membership {
    fn state(&self) -> MutexGuard<'_, MembershipState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn keep_exchanging(&self) -> Infallible {
        loop {
            let pause = if self.exchange().await { SOON } else { EXCHANGE };
            let _ = timeout(pause, self.exchange_now.notified()).await;
        }
    }

    /// Exchanges leases with the database once. Returns whether to do so again soon.
    async fn exchange(&self) -> bool {
        let asked_at = clock();
        let (info, changes) = {
            let mut state = self.state();
            let MembershipState { leases, in_flight, reachability, info, is_done, .. } = &mut *state;
            info.reaches_pagerduty = reachability.is_reached(asked_at);
            let is_busy = |name: &LeaseName| name.key().is_some_and(|key| in_flight.contains_key(key));
            let mut changes = leases.changes(asked_at, is_busy);
            changes.leave &= *is_done;
            (info.clone(), changes)
        };
        match self.store.exchange(&info, &changes, self.timing.lease).await {
            Ok(view) => {
                let (shown, now) = (ClusterView::new(&view, info.id, &self.timing), clock());
                let mut state = self.state();
                state.database_clock = Some((asked_at, view.now));
                let is_first = view.leases.is_empty() && changes.create.is_empty();
                state.leases.answered(asked_at, &changes, view, now);
                drop(state);
                self.view.send_replace(shown);
                self.changed.notify_one();
                is_first || changes.moves()
            }
            Err(error) => {
                log_throttled!(
                    Level::Warn, "leases were not renewed";
                    "the leases of service keys cannot be renewed; nothing is sent once they expire: {error}"
                );
                false
            }
        }
    }

    async fn keep_announcing(&self) -> Infallible {
        loop {
            self.announce_now.notified().await;
            sleep(COALESCE).await;
            let (id, keys) = {
                let mut state = self.state();
                (state.info.id, std::mem::take(&mut state.to_announce))
            };
            // A key that no bridge delivers for is taken at once.
            self.exchange_now.notify_one();
            let keys: Vec<_> = keys.into_iter().collect();
            if let Err(error) = self.store.announce(id, &keys).await {
                debug!("other bridges could not be notified and find the new events when they poll the queue: {error}");
            }
        }
    }

    async fn keep_listening(&self) -> Infallible {
        let id = self.state().info.id;
        loop {
            match self.store.hints(id).await {
                Ok(keys) => {
                    let mut state = self.state();
                    if keys.is_empty() {
                        let active = state.leases.active(clock()).filter_map(|(name, _)| name.key().cloned());
                        let active: Vec<_> = active.collect();
                        state.hinted.extend(active);
                    } else {
                        state.hinted.extend(keys);
                    }
                    drop(state);
                    self.changed.notify_one();
                }
                Err(error) => {
                    debug!(
                        "notifications of other bridges cannot be received, and the queue is polled instead: {error}"
                    );
                    sleep(LISTEN_PAUSE).await;
                }
            }
        }
    }
}

impl Permit {
    /// Returns the fence that the beginning and the settlement of the attempt carry.
    pub(crate) fn fence(&self) -> Option<Fence> {
        self.fence
    }

    /// Returns the time to use where bridges compare times; see [`Cluster::now`].
    pub(crate) fn now(&self) -> DateTime<Utc> {
        self.cluster.now()
    }

    /// Whether an attempt may still begin under it. This is checked once more before anything is sent, because recording
    /// the beginning of an attempt may take long.
    pub(crate) fn is_valid(&self) -> bool {
        let Some(membership) = &self.cluster.0 else { return true };
        let right = membership.state().leases.right(&LeaseName::Key(self.key.clone()), clock());
        right.map(|right| right.fence) == self.fence
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(membership) = &self.cluster.0 else { return };
        let mut state = membership.state();
        if let Some(count) = state.in_flight.get_mut(&self.key) {
            *count -= 1;
            if *count == 0 {
                state.in_flight.remove(&self.key);
                if state.leases.is_leaving() {
                    membership.exchange_now.notify_one();
                }
                membership.changed.notify_one();
            }
        }
    }
}

/// The bridge's own clock. On Linux it goes on while the machine sleeps, as the database's does.
fn clock() -> Duration {
    #[cfg(target_os = "linux")]
    let id = rustix::time::ClockId::Boottime;
    #[cfg(not(target_os = "linux"))]
    let id = rustix::time::ClockId::Monotonic;
    let now = rustix::time::clock_gettime(id);
    Duration::new(now.tv_sec.unsigned_abs(), u32::try_from(now.tv_nsec).unwrap_or_default())
}
