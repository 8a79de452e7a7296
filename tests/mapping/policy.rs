//! How the settings change the decisions, and to which key events of the integration platform are routed.

use chrono::{DateTime, TimeDelta, Utc};
use sentry_pagerduty_bridge::alert::{Alert, Level, TriggerKind};
use sentry_pagerduty_bridge::config::{IncidentScope, ResolveScope};
use sentry_pagerduty_bridge::envelope::{EnqueueRequest, Envelope, FollowUp};
use sentry_pagerduty_bridge::ingest::{Decision, IgnoreReason, Policy, Webhook};
use sentry_pagerduty_bridge::pagerduty::event::{Detail, EventAction, HAPPENED_AT};
use sentry_pagerduty_bridge::pagerduty::{EventType, IncidentKey, Template};

use crate::{DEFAULT_KEY, fixtures, ingest_of, opened, received_at};

const KEY: &str = "0000000000000000000000000000000a";

fn body(name: &str) -> Vec<u8> {
    let name = format!("platform/{name}");
    fixtures::platform().into_iter().find(|fixture| fixture.name == name).unwrap().webhook
}

fn alert_of(name: &str) -> Alert {
    Webhook::of_body(&body(name), received_at()).parse().unwrap().0
}

fn decide(name: &str, routes: &str, policy: Policy) -> Decision {
    ingest_of(routes, policy).decide(&Webhook::of_body(&body(name), received_at()))
}

#[track_caller]
fn queued(name: &str, routes: &str, policy: Policy) -> Envelope {
    opened(decide(name, routes, policy)).unwrap_or_else(|other| panic!("{name}: {other:?}"))
}

#[track_caller]
fn followed(name: &str, routes: &str, policy: Policy) -> FollowUp {
    match decide(name, routes, policy) {
        Decision::Enqueue(enqueue) => match *enqueue {
            EnqueueRequest::FollowUp(follow_up) => *follow_up,
            other @ EnqueueRequest::Event { .. } => panic!("{name}: {other:?}"),
        },
        other => panic!("{name}: {other:?}"),
    }
}

fn paging_on(openings: &[TriggerKind]) -> Policy {
    Policy { page_on: openings.to_vec(), ..Policy::default() }
}

#[test]
fn only_what_is_named_opens_incidents() {
    for (name, trigger_kind) in [
        ("event-alert-26", TriggerKind::Alert),
        ("event-alert-legacy-body", TriggerKind::Alert),
        ("metric-critical", TriggerKind::Metric),
        ("metric-warning", TriggerKind::Metric),
        ("metric-open", TriggerKind::Metric),
        ("issue-created-26", TriggerKind::IssueCreated),
        ("error-created", TriggerKind::Error),
    ] {
        assert_eq!(queued(name, "", paging_on(&[trigger_kind])).event_type, EventType::Trigger);
        let others: Vec<_> = TriggerKind::ALL.iter().copied().filter(|other| *other != trigger_kind).collect();
        assert_eq!(
            decide(name, "", paging_on(&others)),
            Decision::Ignored(IgnoreReason::NotPagedOn(trigger_kind)),
            "{name}"
        );
    }
}

#[test]
fn an_issue_that_is_back_opens_its_incident_again_and_a_new_one_only_where_that_is_wanted() {
    let name = "issue-unresolved-regressed";
    let follow_up = followed(name, "", Policy::default());
    assert_eq!((follow_up.event_type(), &follow_up.fallback), (EventType::Trigger, &None));

    let routes = format!("project,storefront,{KEY}");
    let follow_up = followed(name, &routes, paging_on(&[TriggerKind::IssueUnresolved]));
    assert_eq!(follow_up.fallback.map(|key| key.expose().to_owned()), Some(KEY.to_owned()));

    let follow_up = followed(name, &routes, paging_on(&[TriggerKind::Alert]));
    assert_eq!(follow_up.fallback, None);
}

#[test]
fn an_alert_on_an_issue_that_is_back_opens_its_incident_where_it_was_and_else_where_the_routes_say() {
    let name = "activity-alert-regression";
    let routes = format!("project,storefront,{KEY}");
    let follow_up = followed(name, &routes, Policy::default());
    assert_eq!(follow_up.event_type(), EventType::Trigger);
    assert_eq!(follow_up.fallback.map(|key| key.expose().to_owned()), Some(KEY.to_owned()));

    let others: Vec<_> =
        TriggerKind::ALL.iter().copied().filter(|trigger_kind| *trigger_kind != TriggerKind::Alert).collect();
    assert_eq!(followed(name, &routes, paging_on(&others)).fallback, None);

    let mild = Policy { min_level: Some(Level::Fatal), ..Policy::default() };
    assert!(matches!(decide(name, "", mild), Decision::Ignored(IgnoreReason::BelowMinLevel { .. })));
}

#[test]
fn resolved_closes_what_was_opened_or_everything_or_nothing() {
    let with = |resolve| Policy { resolve, ..Policy::default() };
    for (name, key) in [("issue-resolved-26", "6811223344"), ("metric-resolved", "incident_5_77")] {
        let follow_up = followed(name, "", with(ResolveScope::Opened));
        assert_eq!(follow_up.event_type(), EventType::Resolve);
        assert_eq!(follow_up.incident_key.as_str(), key);
        assert_eq!(follow_up.fallback, None);

        let follow_up = followed(name, &format!("project,storefront,{KEY}"), with(ResolveScope::All));
        assert_eq!(follow_up.fallback.map(|key| key.expose().to_owned()), Some(DEFAULT_KEY.to_owned()));

        assert_eq!(decide(name, "", with(ResolveScope::Off)), Decision::Ignored(IgnoreReason::ResolveOff));
    }
}

#[test]
fn assigned_acknowledges_only_where_that_is_wanted() {
    let name = "issue-assigned-to-person";
    assert_eq!(decide(name, "", Policy::default()), Decision::Ignored(IgnoreReason::AcknowledgeOff));
    let follow_up = followed(name, "", Policy { acknowledge: true, resolve: ResolveScope::All, ..Policy::default() });
    assert_eq!((follow_up.event_type(), follow_up.fallback), (EventType::Acknowledge, None));
}

#[test]
fn the_least_level_keeps_triggers_away_and_nothing_else() {
    let from = |level| Policy { min_level: Some(level), ..paging_on(TriggerKind::ALL) };
    let mild = IgnoreReason::BelowMinLevel { level: Level::Warning, min_level: Level::Error };
    assert_eq!(decide("metric-warning", "", from(Level::Error)), Decision::Ignored(mild));
    assert_eq!(decide("event-alert-20-message", "", from(Level::Error)), Decision::Ignored(mild));
    queued("metric-critical", "", from(Level::Fatal));
    followed("issue-resolved-26", "", from(Level::Fatal));
    let unresolved = decide("issue-unresolved-regressed", "", from(Level::Fatal));
    assert!(matches!(unresolved, Decision::Ignored(IgnoreReason::BelowMinLevel { .. })));
}

#[test]
fn the_prefix_keeps_several_sentrys_apart_for_issues_and_metric_alerts_alike() {
    let policy = || Policy { incident_key_prefix: "eu-".to_owned(), ..Policy::default() };
    assert_eq!(queued("event-alert-26", "", policy()).incident_key.as_str(), "eu-6811223344");
    assert_eq!(queued("metric-critical", "", policy()).incident_key.as_str(), "eu-incident_5_77");
    assert_eq!(followed("metric-resolved", "", policy()).incident_key.as_str(), "eu-incident_5_77");
}

#[test]
fn routes_look_at_project_level_environment_rule_and_tags() {
    let matched = |name: &str, route: &str| {
        let routes = format!("{route},{KEY}");
        queued(name, &routes, paging_on(TriggerKind::ALL)).service_key.expose() == KEY
    };
    for (name, route) in [
        ("event-alert-9.1", "project,storefront"),
        ("event-alert-9.1", "environment,production"),
        ("event-alert-9.1", "rule,Page the shop team"),
        ("event-alert-9.1", "level,error"),
        ("event-alert-9.1", "server_name,web-3"),
        ("event-alert-9.1", "release,storefront@3.4.0"),
        ("event-alert-23-rule-action", "rule,Checkout is broken"),
        ("error-created-trimmed", "environment,staging"),
        ("issue-created-26", "project,Storefront"),
        ("issue-created-26", "project,storefront"),
        ("issue-created-feedback", "level,info"),
        ("metric-critical", "level,critical"),
        ("metric-critical", "rule,Too many checkout errors"),
        ("metric-critical", "environment,production"),
        ("metric-critical-20-two-projects", "project,storefront"),
        ("metric-critical-20-two-projects", "project,invoices"),
    ] {
        assert!(matched(name, route), "{name} {route}");
    }
    assert!(!matched("metric-warning", "level,critical"));
    assert!(!matched("metric-critical", "project,invoices"));
}

/// The decision on a fixture of the platform with this header that comes at `received_at`.
fn decided(name: &str, sent_at: Option<DateTime<Utc>>, received_at: DateTime<Utc>) -> Decision {
    let webhook = body(name);
    let webhook = Webhook { sent_at, ..Webhook::of_body(&webhook, received_at) };
    ingest_of("", Policy { acknowledge: true, ..paging_on(TriggerKind::ALL) }).decide(&webhook)
}

/// The time of the decision's event by Sentry's clock.
#[track_caller]
fn sentry_at(decision: Decision) -> Option<DateTime<Utc>> {
    match decision {
        Decision::Enqueue(enqueue) => match *enqueue {
            EnqueueRequest::Event { sentry_at, .. } => sentry_at,
            EnqueueRequest::FollowUp(follow_up) => follow_up.sentry_at,
        },
        other => panic!("{other:?}"),
    }
}

/// How long before its arrival the event of this fixture happened by Sentry's clock; zero if it has no time.
fn age(name: &str, sent_at: Option<DateTime<Utc>>) -> TimeDelta {
    sentry_at(decided(name, sent_at, received_at())).map_or(TimeDelta::zero(), |at| received_at() - at)
}

#[test]
fn a_change_of_an_issue_or_metric_alert_happens_when_sentry_says_that_it_sent_it() {
    let ago = |seconds| Some(received_at() - TimeDelta::seconds(seconds));
    // A metric alert is dated back by its time window, often to before the end of the last one.
    let metric = ["metric-critical", "metric-warning", "metric-open", "metric-resolved"];
    for name in ["issue-resolved-26", "issue-unresolved-regressed", "issue-assigned-to-team"].into_iter().chain(metric)
    {
        assert_eq!(age(name, ago(3)), TimeDelta::seconds(3), "{name}");
        assert_eq!(age(name, None), TimeDelta::zero(), "{name}");
        assert_eq!(age(name, ago(-30)), TimeDelta::zero(), "a time that is not yet cannot be: {name}");
        assert_eq!(age(name, ago(3_600)), TimeDelta::zero(), "nor one of an hour ago: {name}");
    }
}

#[test]
fn what_opens_incidents_happens_when_its_event_did() {
    let at = |name| {
        opened(decided(name, None, received_at())).unwrap();
        let body = body(name);
        match ingest_of("", paging_on(TriggerKind::ALL))
            .trigger_of(&Webhook::of_body(&body, received_at()))
            .unwrap()
            .action
        {
            EventAction::Trigger(trigger) => trigger.details[HAPPENED_AT].clone(),
            other => panic!("{name}: {other:?}"),
        }
    };
    let expected = [
        ("event-alert-26", "2026-09-30T07:08:09.000010Z"),
        ("event-alert-without-page", "2026-09-30T07:08:09.000010Z"),
        ("issue-created-26", "2026-09-30T07:10:00Z"),
    ];
    for (name, time) in expected {
        assert_eq!(at(name), Detail::Time(time.parse().unwrap()), "{name}");
    }
}

#[test]
fn alerts_are_compared_with_resolves_by_when_sentry_received_their_event_and_by_no_other_clock() {
    let taken: DateTime<Utc> = "2026-09-30T07:08:10.200Z".parse().unwrap();
    let time = |sent_at, came| sentry_at(decided("event-alert-26", sent_at, came));
    let later = |seconds| taken + TimeDelta::seconds(seconds);
    for sent_at in [None, Some(later(2)), Some(later(-60))] {
        assert_eq!(time(sent_at, later(3)), Some(taken), "the header says when it was sent and not when it happened");
    }
    assert_eq!(time(Some(later(2)), later(-1)), None, "what is not yet cannot be");
    assert_eq!(time(Some(later(3_599)), later(3_600)), None, "nor is it known which clock is wrong by an hour");
    // The creation of an issue is dated by Sentry, but its event by a client.
    assert_eq!(sentry_at(decided("issue-created-26", Some(later(2)), later(3))), Some(later(2)));
}

#[test]
fn a_template_makes_the_description_of_what_opens_an_incident_and_says_nothing_of_what_is_not_known() {
    let described = |name: &str, template: &str| {
        let description = Some(Template::parse(template).unwrap());
        queued(name, "", Policy { description, ..paging_on(TriggerKind::ALL) }).description
    };
    let plain = queued("event-alert-26", "", Policy::default()).description;
    let alert = alert_of("event-alert-26");
    let (project, level) = (alert.project.slug.unwrap(), alert.level.unwrap());
    assert_eq!(described("event-alert-26", "{title}"), plain);
    assert_eq!(
        described("event-alert-26", "[{project}] {{{level}}} {title}"),
        format!("[{project}] {{{level}}} {plain}")
    );
    assert_eq!(described("event-alert-26", "{message}"), plain, "a blank line is none");
    assert_eq!(described("metric-critical", "{issue}!{server_name}"), "incident_5_77!");
    let long = "x".repeat(2_000);
    assert_eq!(described("event-alert-26", &format!("{long}{{title}}")).chars().count(), 1024);
}

#[test]
fn a_template_changes_no_resolve_and_no_acknowledge() {
    let with = |description| followed("issue-resolved-26", "", Policy { description, ..Policy::default() });
    let template = Template::parse("{project}: {title}").unwrap();
    assert_eq!(with(Some(template)).action, with(None).action);
}

#[test]
fn an_incident_may_stand_for_a_rule_or_a_project_but_a_metric_alert_has_one_of_its_own() {
    let keys = |name: &str, incident_scope| {
        let policy = Policy { incident_scope, incident_key_prefix: "eu-".to_owned(), ..paging_on(TriggerKind::ALL) };
        let envelope = queued(name, "", policy);
        let text = |key: &IncidentKey| key.as_str().to_owned();
        (text(&envelope.incident_key), envelope.issue_key.as_ref().map(text))
    };
    let own = keys("event-alert-26", IncidentScope::Issue);
    let alert = alert_of("event-alert-26");
    let (project, rule) = (alert.project.slug.unwrap(), &alert.rules[0]);
    assert_eq!(own.1, None);
    let shared = |key: String| (key, Some(own.0.clone()));
    assert_eq!(keys("event-alert-26", IncidentScope::Rule), shared(format!("eu-rule/{project}/{rule}")));
    assert_eq!(keys("event-alert-26", IncidentScope::Project), shared(format!("eu-project/{project}")));
    assert_eq!(keys("metric-critical", IncidentScope::Project), ("eu-incident_5_77".to_owned(), None));
    assert_eq!(keys("issue-created-26", IncidentScope::Rule).1, None, "no rule is told");
}

#[test]
fn a_resolve_of_an_unknown_issue_closes_no_incident_that_others_may_share() {
    let fallback = |name: &str, incident_scope| {
        let policy = Policy { incident_scope, resolve: ResolveScope::All, ..Policy::default() };
        followed(name, "", policy).fallback.is_some()
    };
    assert!(fallback("issue-resolved-26", IncidentScope::Issue));
    assert!(
        !fallback("issue-resolved-26", IncidentScope::Rule) && !fallback("issue-resolved-26", IncidentScope::Project)
    );
    assert!(fallback("metric-resolved", IncidentScope::Project));
}
