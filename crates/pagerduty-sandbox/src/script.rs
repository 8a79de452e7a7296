//! Which fault is due: the rules that stand, and how often each has acted.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::{Map, Value};

use crate::faults::{Fault, FaultRule};

/// A rule and what came of it so far.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StandingRule {
    /// Its number, by which it can be cleared.
    pub id: u64,
    /// The rule.
    pub rule: FaultRule,
    /// How many requests were in its scope.
    pub seen: u64,
    /// How many of them it happened to.
    pub acted: u64,
    #[serde(skip)]
    ends: Option<DateTime<Utc>>,
}

/// What a rule's scope is compared with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// The members of the body, if it is an object.
    pub(crate) members: Option<&'a Map<String, Value>>,
    pub(crate) reused_connection: bool,
}

impl Target<'_> {
    fn says(&self, member: &str, wanted: &str) -> bool {
        self.members.and_then(|members| members.get(member)).and_then(Value::as_str) == Some(wanted)
    }

    fn is_in_scope_of(&self, rule: &FaultRule) -> bool {
        let event_type = self.members.and_then(|members| members.get("event_type")).and_then(Value::as_str);
        rule.service_key.as_ref().is_none_or(|key| self.says("service_key", key))
            && rule.incident_key.as_ref().is_none_or(|key| self.says("incident_key", key))
            && rule.event_type.is_none_or(|wanted| event_type.and_then(crate::EventType::parse) == Some(wanted))
            && (self.reused_connection || !rule.reused_connection)
    }
}

/// All rules that stand, in the order they were added.
#[derive(Debug, Default)]
pub(crate) struct Script {
    rules: Vec<StandingRule>,
    added: u64,
}

impl Script {
    pub(crate) fn add(&mut self, rule: FaultRule, now: DateTime<Utc>) -> u64 {
        self.added += 1;
        let ends = rule.lasts.and_then(|lasts| now.checked_add_signed(TimeDelta::from_std(lasts).ok()?));
        self.rules.push(StandingRule { id: self.added, rule, seen: 0, acted: 0, ends });
        self.added
    }

    /// Takes one rule away, or all.
    pub(crate) fn clear(&mut self, id: Option<u64>) {
        self.rules.retain(|standing| id.is_some_and(|id| standing.id != id));
    }

    pub(crate) fn rules(&self) -> &[StandingRule] {
        &self.rules
    }

    /// The fault that happens to this request. Rules that are spent leave.
    pub(crate) fn next(&mut self, target: Target<'_>, now: DateTime<Utc>) -> Option<Fault> {
        self.rules.retain(|standing| standing.ends.is_none_or(|ends| now < ends));
        let mut due = None;
        for standing in self.rules.iter_mut().filter(|standing| target.is_in_scope_of(&standing.rule)) {
            standing.seen += 1;
            if due.is_none() && standing.seen >= standing.rule.from {
                standing.acted += 1;
                due = Some(standing.rule.fault.clone());
            }
        }
        self.rules.retain(|standing| standing.rule.times.is_none_or(|times| standing.acted < times));
        due
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;

    const ANY: Target<'_> = Target { members: None, reused_connection: false };

    fn script(rules: impl IntoIterator<Item = FaultRule>) -> Script {
        let mut script = Script::default();
        for rule in rules {
            script.add(rule, DateTime::UNIX_EPOCH);
        }
        script
    }

    #[test]
    fn a_rule_acts_from_its_first_request_on_and_as_often_as_it_says() {
        let mut script = script([FaultRule { from: 2, ..FaultRule::new(Fault::SilentDrop).times(2) }]);
        let acted: Vec<_> = (0..5).map(|_| script.next(ANY, DateTime::UNIX_EPOCH).is_some()).collect();
        assert_eq!(acted, [false, true, true, false, false]);
        assert!(script.rules().is_empty());
    }

    #[test]
    fn a_rule_that_has_gone_on_long_enough_ends() {
        let lasts = Some(Duration::from_secs(5));
        let mut script = script([FaultRule { lasts, ..Fault::SilentDrop.into() }]);
        let at = |second| DateTime::from_timestamp(second, 0).unwrap();
        assert!(script.next(ANY, at(4)).is_some());
        assert!(script.next(ANY, at(5)).is_none());
    }

    #[test]
    fn the_first_rule_that_is_due_acts_and_the_others_still_count() {
        let mut script = script([FaultRule::new(Fault::SilentDrop).times(1), Fault::InvalidAs500.into()]);
        assert_eq!(script.next(ANY, DateTime::UNIX_EPOCH), Some(Fault::SilentDrop));
        assert_eq!((script.rules()[0].seen, script.rules()[0].acted), (1, 0));
        assert_eq!(script.next(ANY, DateTime::UNIX_EPOCH), Some(Fault::InvalidAs500));
    }

    #[test]
    fn a_rule_acts_on_nothing_outside_its_scope() {
        let narrow = FaultRule {
            service_key: Some("K".to_owned()),
            incident_key: Some("42".to_owned()),
            event_type: Some(crate::EventType::Resolve),
            reused_connection: true,
            ..Fault::SilentDrop.into()
        };
        let inside = json!({"service_key": "K", "incident_key": "42", "event_type": "resolve"});
        let mut cases = vec![(inside.clone(), true, true), (inside.clone(), false, false), (json!({}), true, false)];
        for member in ["service_key", "incident_key", "event_type"] {
            let mut outside = inside.clone();
            outside[member] = json!("trigger");
            cases.push((outside, true, false));
        }
        for (members, reused_connection, acts) in cases {
            let target = Target { members: members.as_object(), reused_connection };
            let due = script([narrow.clone()]).next(target, DateTime::UNIX_EPOCH);
            assert_eq!(due.is_some(), acts, "{members} {reused_connection}");
        }
    }
}
