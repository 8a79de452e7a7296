//! The model: states, what can happen in each, and what must always be true.

use stateright::{Model, Property};

use crate::rules::{KEYS, LeaseRule, LeaseRules, ValueId};
use crate::{ALL_DELIVERED, ONE_SENDER, ORDER, TIME_ENDS};

/// The service key of each event. The first two events belong to the same incident.
const KEY_OF: [usize; 3] = [0, 0, 1];

/// How many bridges there are.
const BRIDGES: usize = 2;

/// The model: what can happen in each state, within limits of time and faults.
///
/// A running bridge does not wait: within every step it exchanges with the database, sends the attempts that it has begun
/// and settles those that were answered. Doing so later is a fault. Events that cannot affect each other are combined into
/// one action, for example the beginning of an attempt and its request if nothing holds the bridge up in between.
#[derive(Debug)]
pub struct Protocol {
    rules: LeaseRules,
    /// The step at which time ends.
    steps: u8,
    /// The maximum number of faults in one run, each at any moment and in any bridge.
    faults: u8,
    /// Whether the only faults are that a process crashes or is held up.
    only_stops: bool,
}

/// The state of the database, of PagerDuty and of all bridges.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct ModelState {
    now: u8,
    faults: u8,
    table: ValueId,
    waits: [bool; KEY_OF.len()],
    /// PagerDuty has received the second event of the incident.
    is_second_received: bool,
    bridges: [ModelBridge; BRIDGES],
    /// A statement that the database executes at any later time or never.
    late: Option<LateStatement>,
    is_out_of_order: bool,
    has_two_senders: bool,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct ModelBridge {
    member: ValueId,
    condition: ProcessCondition,
    /// How many steps its clock is behind.
    behind: u8,
    has_exchanged: bool,
    attempts: [Option<ModelAttempt>; KEYS],
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum ProcessCondition {
    /// It exchanges with the database once in every step.
    Runs,
    /// The process stands still, and its clock goes on.
    Paused,
    /// The machine stands still, and so does its clock.
    Frozen,
    Crashed,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct ModelAttempt {
    event: usize,
    number: u8,
    phase: AttemptPhase,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
enum AttemptPhase {
    /// Its beginning is committed.
    Begun,
    /// The request arrives when the step ends.
    OnTheWay,
    /// The request has arrived. The response may get lost.
    Received,
}

#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
struct LateStatement {
    bridge: usize,
    is_leaving: bool,
    changes: ValueId,
}

/// A transition from one state to the next.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum ModelAction {
    /// A step ends: requests that are on the way arrive.
    Tick,
    /// The bridge exchanges with the database.
    Exchange(usize),
    /// Fault: the bridge sends changes and gets no answer. The database makes them at any later time or never.
    ExchangeLate(usize),
    /// The database makes the late changes.
    Apply,
    /// Fault: the process is held up (`SIGSTOP`, a machine that is too busy), for any time. Its clock goes on.
    Pause(usize),
    /// Fault: the machine is stopped with its clock, for any time.
    Freeze(usize),
    /// A paused or frozen bridge continues.
    Resume(usize),
    /// Fault: the process ends without telling the database.
    Crash(usize),
    /// The bridge is told to stop. Counts as a fault.
    Leave(usize),
    /// An attempt to deliver this event begins, arrives, is answered and is settled, all at once.
    Deliver(usize, usize),
    /// An attempt begins whose request arrives when the step ends.
    Start(usize, usize),
    /// Fault: an attempt begins, and the process is held up before it checks its clock and sends.
    StartAndPause(usize, usize),
    /// The bridge checks its clock, and sends if enough of the lease is left.
    Send {
        /// The bridge that sends.
        bridge: usize,
        /// The service key of the attempt.
        key: usize,
        /// Whether the request arrives at once, instead of when the step ends.
        is_fast: bool,
    },
    /// The attempt is settled as delivered.
    Settle(usize, usize),
    /// Fault: the response was lost, and the event keeps waiting.
    TimeOut(usize, usize),
}

impl Protocol {
    /// Returns a model in which time ends after `steps` steps and at most `faults` faults happen.
    #[must_use]
    pub fn new(steps: u8, faults: u8) -> Self {
        Self { rules: LeaseRules::without(None), steps, faults, only_stops: false }
    }

    /// Limits the faults to processes that crash or are held up, so that a longer time can be searched.
    #[must_use]
    pub fn only_stops(self) -> Self {
        Self { only_stops: true, ..self }
    }

    /// Leaves out one of the rules.
    #[must_use]
    pub fn without(self, rule: LeaseRule) -> Self {
        Self { rules: LeaseRules::without(Some(rule)), ..self }
    }

    /// The rules, with all values that they have met.
    #[must_use]
    pub fn rules(&self) -> &LeaseRules {
        &self.rules
    }

    /// Lets a bridge ask for changes, and returns them.
    fn ask(&self, state: &mut ModelState, bridge: usize) -> LateStatement {
        let asking = &mut state.bridges[bridge];
        let clock = LeaseRules::clock(state.now, asking.behind);
        let (member, changes) = self.rules.ask(asking.member, clock, asking.attempts.map(|attempt| attempt.is_some()));
        (asking.member, asking.has_exchanged) = (member, true);
        LateStatement { bridge, is_leaving: self.rules.is_leaving(member), changes }
    }

    /// Makes the changes in the database, and returns the bridge's view.
    fn apply(&self, state: &mut ModelState, LateStatement { bridge, is_leaving, changes }: LateStatement) -> ValueId {
        let waiting = state.waiting();
        let (table, view) = self.rules.apply(state.table, (bridge, is_leaving), changes, waiting, state.now);
        state.table = table;
        view
    }

    fn exchange(&self, state: &mut ModelState, bridge: usize) {
        let asked = self.ask(state, bridge);
        let view = self.apply(state, asked);
        let asking = &mut state.bridges[bridge];
        let clock = LeaseRules::clock(state.now, asking.behind);
        asking.member = self.rules.answer(asking.member, asked.changes, view, clock);
    }

    /// The number of the lease under which a bridge may send, if it may.
    fn right(&self, state: &ModelState, bridge: usize, key: usize) -> Option<u8> {
        let ModelBridge { member, behind, .. } = state.bridges[bridge];
        self.rules.rights(member, LeaseRules::clock(state.now, behind))[key]
    }

    /// The initial state: the first bridge has the leases of both keys, and the second bridge knows that.
    fn first_state(&self) -> ModelState {
        let bridge = |number| ModelBridge {
            member: self.rules.member(number),
            condition: ProcessCondition::Runs,
            behind: 0,
            has_exchanged: false,
            attempts: [None; KEYS],
        };
        let mut state = ModelState {
            now: 0,
            faults: 0,
            table: self.rules.table(),
            waits: [true; KEY_OF.len()],
            is_second_received: false,
            bridges: [bridge(0), bridge(1)],
            late: None,
            is_out_of_order: false,
            has_two_senders: false,
        };
        for bridge in [0, 0, 1] {
            self.exchange(&mut state, bridge);
        }
        state.bridges.iter_mut().for_each(|bridge| bridge.has_exchanged = false);
        state
    }

    /// Whether nothing can go wrong any more: all events are delivered and no attempt is open, or one bridge is gone and
    /// has no open attempts.
    fn is_over(&self, state: &ModelState) -> bool {
        let attempts = |bridge: &ModelBridge| bridge.attempts.iter().flatten().count();
        let is_gone =
            |bridge: &ModelBridge| bridge.condition == ProcessCondition::Crashed || self.rules.has_left(bridge.member);
        let mut bridges = state.bridges.iter();
        state.waits == [false; KEY_OF.len()] && bridges.clone().all(|bridge| attempts(bridge) == 0)
            || bridges.any(|bridge| attempts(bridge) == 0 && is_gone(bridge))
    }

    fn actions_of(&self, state: &ModelState, number: usize, actions: &mut Vec<ModelAction>) {
        let bridge = &state.bridges[number];
        match bridge.condition {
            ProcessCondition::Crashed => return,
            ProcessCondition::Paused | ProcessCondition::Frozen => return actions.push(ModelAction::Resume(number)),
            ProcessCondition::Runs => {}
        }
        let may_stop = state.faults < self.faults;
        let may_fail = may_stop && !self.only_stops;
        if !bridge.has_exchanged {
            actions.push(ModelAction::Exchange(number));
            if may_fail && state.late.is_none() {
                actions.push(ModelAction::ExchangeLate(number));
            }
        }
        if may_stop {
            actions.push(ModelAction::Crash(number));
            // Only a margin helps if the clock stood still and the bridge is then held up just before it sends.
            if !bridge.is_beginning() || bridge.behind == 0 {
                actions.push(ModelAction::Pause(number));
            }
        }
        if may_fail && !bridge.is_beginning() {
            actions.push(ModelAction::Freeze(number));
        }
        if may_fail && !self.rules.is_leaving(bridge.member) {
            actions.push(ModelAction::Leave(number));
        }
        for key in 0..KEYS {
            match bridge.attempts[key].map(|attempt| attempt.phase) {
                None => {
                    // The first waiting event of its incident.
                    let event = (0..KEY_OF.len()).find(|event| KEY_OF[*event] == key && state.waits[*event]);
                    let Some(event) = event.filter(|_| self.may_begin(state, number, key)) else { continue };
                    actions.extend([ModelAction::Deliver(number, event), ModelAction::Start(number, event)]);
                    if may_stop && bridge.behind == 0 {
                        actions.push(ModelAction::StartAndPause(number, event));
                    }
                }
                Some(AttemptPhase::Begun) => {
                    let send = |is_fast| ModelAction::Send { bridge: number, key, is_fast };
                    actions.extend([send(true), send(false)]);
                }
                Some(AttemptPhase::OnTheWay) => {}
                Some(AttemptPhase::Received) => {
                    actions.push(ModelAction::Settle(number, key));
                    actions.extend(may_fail.then_some(ModelAction::TimeOut(number, key)));
                }
            }
        }
    }

    fn may_begin(&self, state: &ModelState, bridge: usize, key: usize) -> bool {
        let right = self.right(state, bridge, key);
        right.is_some_and(|right| self.rules.allows(state.table, key, bridge, right))
    }

    fn begin(&self, state: &mut ModelState, bridge: usize, event: usize) -> Option<()> {
        let key = KEY_OF[event];
        let number = self.right(state, bridge, key)?;
        state.bridges[bridge].attempts[key] = Some(ModelAttempt { event, number, phase: AttemptPhase::Begun });
        Some(())
    }

    fn send(&self, state: &mut ModelState, bridge: usize, key: usize, is_fast: bool) -> Option<()> {
        let attempt = state.bridges[bridge].attempts[key]?;
        if self.right(state, bridge, key) != Some(attempt.number) {
            state.bridges[bridge].attempts[key] = None;
            return Some(());
        }
        let is_sending =
            |other: &ModelBridge| other.attempts[key].is_some_and(|other| other.phase == AttemptPhase::OnTheWay);
        state.has_two_senders |= is_sending(&state.bridges[1 - bridge]);
        let phase = if is_fast { AttemptPhase::Received } else { AttemptPhase::OnTheWay };
        state.bridges[bridge].attempts[key] = Some(ModelAttempt { phase, ..attempt });
        if is_fast {
            state.receive(attempt.event);
        }
        Some(())
    }

    fn settle(&self, state: &mut ModelState, bridge: usize, key: usize) -> Option<()> {
        let ModelAttempt { event, number, .. } = state.bridges[bridge].attempts[key].take()?;
        if self.rules.allows(state.table, key, bridge, number) {
            state.waits[event] = false;
        }
        Some(())
    }
}

impl ModelBridge {
    /// Whether it is between the beginning of an attempt and its request.
    fn is_beginning(&self) -> bool {
        self.attempts.iter().flatten().any(|attempt| attempt.phase == AttemptPhase::Begun)
    }
}

impl ModelState {
    /// The keys with waiting events.
    fn waiting(&self) -> [bool; KEYS] {
        let waits = |key| (0..KEY_OF.len()).any(|event| KEY_OF[event] == key && self.waits[event]);
        [waits(0), waits(1)]
    }

    /// Whether the step may end: every running bridge has exchanged, sent and settled.
    fn may_tick(&self) -> bool {
        let is_done = |bridge: &ModelBridge| {
            let mut attempts = bridge.attempts.iter().flatten();
            bridge.has_exchanged && attempts.all(|attempt| attempt.phase == AttemptPhase::OnTheWay)
        };
        self.bridges.iter().all(|bridge| bridge.condition != ProcessCondition::Runs || is_done(bridge))
    }

    fn tick(&mut self) {
        self.now += 1;
        for number in 0..BRIDGES {
            for key in 0..KEYS {
                let Some(attempt) = self.bridges[number].attempts[key] else { continue };
                if attempt.phase == AttemptPhase::OnTheWay {
                    self.receive(attempt.event);
                    self.bridges[number].attempts[key] =
                        Some(ModelAttempt { phase: AttemptPhase::Received, ..attempt });
                }
            }
            let bridge = &mut self.bridges[number];
            bridge.has_exchanged = false;
            bridge.behind += u8::from(bridge.condition == ProcessCondition::Frozen);
            if bridge.condition == ProcessCondition::Crashed {
                bridge.forget();
            }
        }
    }

    /// Records that PagerDuty receives an event.
    fn receive(&mut self, event: usize) {
        self.is_out_of_order |= event == 0 && self.is_second_received;
        self.is_second_received |= event == 1;
    }
}

impl ModelBridge {
    /// Clears a bridge that crashed, except its requests that are on the way: nothing else of it matters any more.
    fn forget(&mut self) {
        (self.member, self.behind, self.has_exchanged) = (ValueId::MAX, 0, false);
        for attempt in &mut self.attempts {
            attempt.take_if(|attempt| attempt.phase != AttemptPhase::OnTheWay);
        }
    }
}

impl Model for Protocol {
    type State = ModelState;
    type Action = ModelAction;

    fn init_states(&self) -> Vec<ModelState> {
        vec![self.first_state()]
    }

    fn actions(&self, state: &ModelState, actions: &mut Vec<ModelAction>) {
        if self.is_over(state) {
            return;
        }
        if state.now < self.steps && state.may_tick() {
            actions.push(ModelAction::Tick);
        }
        if state.late.is_some() {
            actions.push(ModelAction::Apply);
        }
        for number in 0..BRIDGES {
            self.actions_of(state, number, actions);
        }
    }

    fn next_state(&self, last: &ModelState, action: ModelAction) -> Option<ModelState> {
        let mut state = *last;
        match action {
            ModelAction::Tick => state.tick(),
            ModelAction::Exchange(bridge) => self.exchange(&mut state, bridge),
            ModelAction::ExchangeLate(bridge) => {
                state.late = Some(self.ask(&mut state, bridge));
                state.faults += 1;
            }
            ModelAction::Apply => {
                let late = state.late.take()?;
                self.apply(&mut state, late);
            }
            ModelAction::Pause(bridge) => state.fail(bridge, ProcessCondition::Paused),
            ModelAction::Freeze(bridge) => state.fail(bridge, ProcessCondition::Frozen),
            ModelAction::Crash(bridge) => {
                state.fail(bridge, ProcessCondition::Crashed);
                state.bridges[bridge].forget();
            }
            ModelAction::Resume(bridge) => state.bridges[bridge].condition = ProcessCondition::Runs,
            ModelAction::Leave(bridge) => {
                state.faults += 1;
                let leaving = &mut state.bridges[bridge];
                leaving.member = self.rules.leave(leaving.member);
            }
            ModelAction::Deliver(bridge, event) => {
                self.begin(&mut state, bridge, event)?;
                self.send(&mut state, bridge, KEY_OF[event], true)?;
                self.settle(&mut state, bridge, KEY_OF[event])?;
            }
            ModelAction::Start(bridge, event) => {
                self.begin(&mut state, bridge, event)?;
                self.send(&mut state, bridge, KEY_OF[event], false)?;
            }
            ModelAction::StartAndPause(bridge, event) => {
                self.begin(&mut state, bridge, event)?;
                state.fail(bridge, ProcessCondition::Paused);
            }
            ModelAction::Send { bridge, key, is_fast } => self.send(&mut state, bridge, key, is_fast)?,
            ModelAction::Settle(bridge, key) => self.settle(&mut state, bridge, key)?,
            ModelAction::TimeOut(bridge, key) => {
                state.faults += 1;
                state.bridges[bridge].attempts[key] = None;
            }
        }
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ORDER, |_, state: &ModelState| !state.is_out_of_order),
            Property::always(ONE_SENDER, |_, state: &ModelState| !state.has_two_senders),
            Property::sometimes(ALL_DELIVERED, |_, state: &ModelState| state.waits == [false; KEY_OF.len()]),
            Property::sometimes(TIME_ENDS, |protocol: &Self, state: &ModelState| state.now == protocol.steps),
        ]
    }
}

impl ModelState {
    fn fail(&mut self, bridge: usize, condition: ProcessCondition) {
        self.faults += 1;
        self.bridges[bridge].condition = condition;
    }
}
