//! The model: states, what can happen in each, and what must always be true.

use std::time::Duration;

use chrono::{DateTime, Utc};
use sentry_pagerduty_bridge::cluster::member::{Member, Timing};
use sentry_pagerduty_bridge::pagerduty::ServiceKey;
use sentry_pagerduty_bridge::queue::leases::{BridgeId, BridgeInfo, Fence, LeaseName, LeaseTable};
use stateright::{Model, Property};

pub(crate) const ORDER: &str = "no event is received after a later one of its incident";
pub(crate) const ONE_SENDER: &str = "no two bridges send for one service key";

/// The service key of each event; the first two are of one incident.
const EVENTS: [usize; 3] = [0, 0, 1];

const STEP: Duration = Duration::from_secs(1);

/// No margin: that is for a stop between the look at the clock and the sending, which are one step here.
const TIMING: Timing = Timing { lease: Duration::from_secs(3), attempt: STEP, margin: Duration::ZERO };

/// A rule that is left out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Rule {
    /// The database looks at the fence.
    Fence,
    /// Who takes a lease that ended waits before it sends.
    Wait,
    /// A bridge sends only while its clock says that enough is left of the lease.
    Clock,
}

/// What may happen.
#[derive(Clone, Debug)]
pub(crate) struct Protocol {
    left_out: Option<Rule>,
    /// Time ends here.
    steps: u8,
    /// So many answers of the database get lost, and so many bridges are killed.
    lost_answers: u8,
    kills: u8,
    /// So many steps may the clock of a bridge stand still, while its machine is stopped.
    stopped: u8,
}

impl Protocol {
    /// One answer of the database gets lost, and one bridge is killed.
    pub(crate) fn with_losses() -> Self {
        Self { left_out: None, steps: 5, lost_answers: 1, kills: 1, stopped: 0 }
    }

    /// A bridge is stopped, clock and all, for longer than a lease.
    pub(crate) fn with_stops() -> Self {
        Self { left_out: None, steps: 5, lost_answers: 0, kills: 0, stopped: 4 }
    }

    /// The same without one of the rules.
    pub(crate) fn without(self, rule: Rule) -> Self {
        Self { left_out: Some(rule), ..self }
    }
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
pub(crate) struct State {
    now: u8,
    table: LeaseTable,
    events: [Event; EVENTS.len()],
    /// `None`: killed.
    bridges: [Option<Bridge>; 2],
    /// What PagerDuty has received: the greatest event of the first incident.
    received: Option<usize>,
    is_out_of_order: bool,
    /// Requests on their way: the bridge and the event. They end within the step: an attempt takes less than one.
    on_the_way: Vec<(usize, usize)>,
    lost_answers: u8,
    kills: u8,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct Event {
    waits: bool,
}

#[derive(Clone, Debug, Eq, Hash, PartialEq)]
struct Bridge {
    member: Member,
    /// When it exchanged last: once a step.
    exchanged_at: Option<u8>,
    /// So many steps is its clock behind.
    behind: u8,
    /// One attempt at a time.
    attempt: Option<(usize, Fence, Phase)>,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum Phase {
    /// Its beginning is committed.
    Begun,
    /// The request is on its way, or was answered.
    Sent,
    Answered,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub(crate) enum Action {
    Tick,
    /// Time passes while a bridge is stopped, clock and all.
    Stop {
        bridge: usize,
    },
    /// The bridge exchanges with the database, whose answer may get lost.
    Exchange {
        bridge: usize,
        is_lost: bool,
    },
    Begin {
        bridge: usize,
        event: usize,
    },
    /// It looks at its clock, and sends if enough is left of the lease.
    Send {
        bridge: usize,
    },
    /// PagerDuty receives the request.
    Receive {
        bridge: usize,
        event: usize,
    },
    /// It settles the event as delivered.
    Settle {
        bridge: usize,
    },
    /// The attempt timed out, and the bridge does not know whether PagerDuty received it: the event waits.
    TimeOut {
        bridge: usize,
    },
    Kill {
        bridge: usize,
    },
}

fn key(number: usize) -> ServiceKey {
    ServiceKey::parse(&format!("{number:032}")).unwrap()
}

fn lease(event: usize) -> LeaseName {
    LeaseName::Key(key(EVENTS[event]))
}

fn info(bridge: usize) -> BridgeInfo {
    BridgeInfo {
        id: BridgeId::new(bridge as u128),
        name: String::new(),
        version: String::new(),
        fingerprint: String::new(),
        is_leaving: false,
        reaches_pagerduty: true,
    }
}

impl State {
    /// What a bridge's clock shows. It began before the world did.
    fn clock(&self, bridge: usize) -> Duration {
        let behind = self.bridges[bridge].as_ref().map_or(0, |bridge| bridge.behind);
        STEP * u32::from(self.now + 10 - behind)
    }

    /// What the database's clock shows.
    fn utc(&self) -> DateTime<Utc> {
        DateTime::<Utc>::UNIX_EPOCH + STEP * u32::from(self.now)
    }

    /// Whether a bridge whose clock is behind is about to send: one fault at a time, it is not stopped there.
    fn is_about_to_send(&self, bridge: &Bridge) -> bool {
        bridge.behind > 0 && matches!(bridge.attempt, Some((.., Phase::Begun)))
    }

    /// The keys with waiting events.
    fn waiting(&self) -> Vec<ServiceKey> {
        let waits = |number: usize| (0..EVENTS.len()).any(|event| EVENTS[event] == number && self.events[event].waits);
        [0, 1].into_iter().filter(|number| waits(*number)).map(key).collect()
    }

    /// Whether an earlier event of its incident waits.
    fn is_behind(&self, event: usize) -> bool {
        event == 1 && self.events[0].waits
    }
}

impl Protocol {
    fn fence(&self, state: &State, bridge: usize, event: usize) -> Option<Fence> {
        let member = &state.bridges[bridge].as_ref()?.member;
        if self.left_out == Some(Rule::Clock) {
            return member.held().find(|(name, _)| **name == lease(event)).map(|(_, fence)| fence);
        }
        let right = member.right(&lease(event), state.clock(bridge))?;
        Some(right.fence)
    }

    fn allows(&self, state: &State, event: usize, fence: Fence) -> bool {
        self.left_out == Some(Rule::Fence) || state.table.allows(&lease(event), fence)
    }

    fn exchange(&self, state: &mut State, bridge: usize, is_lost: bool) {
        let (now, utc, waiting) = (state.clock(bridge), state.utc(), state.waiting());
        let step = state.now;
        let Some(Bridge { member, attempt, exchanged_at, .. }) = &mut state.bridges[bridge] else { return };
        *exchanged_at = Some(step);
        let busy = attempt.map(|(event, ..)| lease(event));
        let changes = member.changes(now, |name| busy.as_ref() == Some(name));
        let view = state.table.exchange(&info(bridge), &changes, TIMING.lease, &waiting, utc);
        if is_lost {
            state.lost_answers += 1;
        } else {
            // Without the wait, what was taken at this moment may be sent for at this moment.
            let answered_at = if self.left_out == Some(Rule::Wait) { now.saturating_sub(STEP) } else { now };
            member.answered(now, &changes, view, answered_at);
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let bridge = |number| {
            let member = Member::new(BridgeId::new(number), TIMING);
            Some(Bridge { member, exchanged_at: None, behind: 0, attempt: None })
        };
        let mut state = State {
            now: 0,
            table: LeaseTable::default(),
            events: [Event { waits: true }; EVENTS.len()],
            bridges: [bridge(0), bridge(1)],
            received: None,
            is_out_of_order: false,
            on_the_way: Vec::new(),
            lost_answers: 0,
            kills: 0,
        };
        // The first one has just got both keys, and the second one knows that.
        for bridge in [0, 0, 1] {
            self.exchange(&mut state, bridge, false);
        }
        state.bridges.iter_mut().flatten().for_each(|bridge| bridge.exchanged_at = None);
        vec![state]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        let is_any_sending = state.bridges.iter().flatten().any(|bridge| state.is_about_to_send(bridge));
        let is_faultless_done = state.bridges[1].as_ref().is_none_or(|bridge| bridge.exchanged_at == Some(state.now));
        if state.now < self.steps && state.on_the_way.is_empty() && !is_any_sending && is_faultless_done {
            actions.push(Action::Tick);
            let stopped: u8 = state.bridges.iter().flatten().map(|bridge| bridge.behind).sum();
            if stopped < self.stopped {
                let may_stop = |bridge: &Bridge| !matches!(bridge.attempt, Some((.., Phase::Begun)));
                if state.bridges[0].as_ref().is_some_and(may_stop) {
                    actions.push(Action::Stop { bridge: 0 });
                }
            }
        }
        for (bridge, event) in &state.on_the_way {
            actions.push(Action::Receive { bridge: *bridge, event: *event });
        }
        for (bridge, running) in state.bridges.iter().enumerate() {
            let Some(running) = running else { continue };
            if running.exchanged_at != Some(state.now) {
                actions.push(Action::Exchange { bridge, is_lost: false });
                if bridge == 0 && state.lost_answers < self.lost_answers {
                    actions.push(Action::Exchange { bridge, is_lost: true });
                }
            }
            match running.attempt {
                None => {
                    let waits = |event: &usize| state.events[*event].waits && !state.is_behind(*event);
                    let begin = |event| Action::Begin { bridge, event };
                    actions.extend((0..EVENTS.len()).filter(waits).map(begin));
                }
                Some((.., Phase::Begun)) => actions.push(Action::Send { bridge }),
                Some((event, _, Phase::Sent)) => {
                    if !state.on_the_way.contains(&(bridge, event)) {
                        actions.push(Action::TimeOut { bridge });
                    }
                }
                Some((.., Phase::Answered)) => actions.push(Action::Settle { bridge }),
            }
            if bridge == 0 && state.kills < self.kills {
                actions.push(Action::Kill { bridge });
            }
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Tick => state.now += 1,
            Action::Stop { bridge } => {
                state.now += 1;
                state.bridges[bridge].as_mut()?.behind += 1;
            }
            Action::Exchange { bridge, is_lost } => self.exchange(&mut state, bridge, is_lost),
            Action::Begin { bridge, event } => {
                let fence = self.fence(&state, bridge, event)?;
                if !self.allows(&state, event, fence) {
                    return None;
                }
                state.bridges[bridge].as_mut()?.attempt = Some((event, fence, Phase::Begun));
            }
            Action::Send { bridge } => {
                let (event, fence, _) = state.bridges[bridge].as_ref()?.attempt?;
                let is_allowed = self.fence(&state, bridge, event) == Some(fence);
                if is_allowed {
                    state.on_the_way.push((bridge, event));
                    state.on_the_way.sort_unstable();
                }
                state.bridges[bridge].as_mut()?.attempt = is_allowed.then_some((event, fence, Phase::Sent));
            }
            Action::Receive { bridge, event } => {
                state.on_the_way.retain(|request| *request != (bridge, event));
                if event < 2 {
                    state.is_out_of_order |= state.received > Some(event);
                    state.received = state.received.max(Some(event));
                }
                if let Some(Bridge { attempt: Some((own, _, phase @ Phase::Sent)), .. }) = &mut state.bridges[bridge]
                    && *own == event
                {
                    *phase = Phase::Answered;
                }
            }
            Action::Settle { bridge } => {
                let (event, fence, _) = state.bridges[bridge].as_mut()?.attempt.take()?;
                if self.allows(&state, event, fence) {
                    state.events[event].waits = false;
                }
            }
            Action::TimeOut { bridge } => state.bridges[bridge].as_mut()?.attempt = None,
            Action::Kill { bridge } => {
                state.bridges[bridge] = None;
                state.kills += 1;
            }
        }
        (state != *last).then_some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ORDER, |_, state: &State| !state.is_out_of_order),
            Property::always(ONE_SENDER, |_, state: &State| {
                let ways = &state.on_the_way;
                !ways.iter().any(|(a, e)| ways.iter().any(|(b, f)| a != b && EVENTS[*e] == EVENTS[*f]))
            }),
            Property::sometimes("all is delivered", |_, state: &State| state.events.iter().all(|event| !event.waits)),
        ]
    }
}
