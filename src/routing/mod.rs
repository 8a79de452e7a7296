//! Which service key an alert goes to, and through which API; and how severe it is, where the operator's rules say so.
//!
//! The syntax is that of Sentry's own legacy PagerDuty plugin, so its routes can be pasted in unchanged: lines of
//! `tag,value,KEY`, of which the first that matches wins. In addition, `;` ends a line too, fields may be quoted as in
//! CSV, and lines that begin with `#` are comments. The plugin skipped a line that it could not parse; [`Routes::new`]
//! rejects it, because an alert that goes to the wrong team is noticed too late. A fourth field says through which Events
//! API the key takes events.

mod parse;

use std::fmt;

use crate::alert::Alert;
use crate::pagerduty::{ApiVersion, Destination, KeyApis, ServiceKey, Severity};
use crate::printable::line;

pub use parse::{Condition, Route, RouteError, RouteFault, SeverityRule};

/// The routes in their order, and the key for alerts that none of them matches.
#[derive(Clone, Debug)]
pub struct Routes {
    default: ServiceKey,
    lines: Vec<Route>,
    apis: KeyApis,
}

impl Routes {
    /// Parses routes; `lines` may be empty. Keys take events through the Events API v1 unless a line says otherwise.
    ///
    /// # Errors
    ///
    /// Returns an error for every line that is not a route, with its number and never with its key.
    pub fn new(default: ServiceKey, lines: &str) -> Result<Self, Vec<RouteError>> {
        Ok(Self::from_lines(default, Route::parse_lines(lines)?, ApiVersion::default()))
    }

    /// Makes routes from parsed lines. Keys take events through `api` unless a line says otherwise.
    #[must_use]
    pub fn from_lines(default: ServiceKey, lines: Vec<Route>, api: ApiVersion) -> Self {
        let by_key = lines.iter().filter_map(|route| Some((route.key().clone(), route.api()?))).collect();
        Self { default, lines, apis: KeyApis::new(api, by_key) }
    }

    /// The key of the first line that matches, else the default key.
    #[must_use]
    pub fn key_for(&self, alert: &Alert) -> &ServiceKey {
        let matches = |route: &&Route| matches(route.condition(), alert);
        self.lines.iter().find(matches).map_or(&self.default, Route::key)
    }

    /// Where an alert goes.
    #[must_use]
    pub fn destination_of(&self, alert: &Alert) -> Destination {
        self.destination(self.key_for(alert))
    }

    /// The integration with this key, and the API through which it takes events.
    #[must_use]
    pub fn destination(&self, key: &ServiceKey) -> Destination {
        self.apis.destination(key)
    }

    /// Through which API each integration takes events.
    #[must_use]
    pub fn apis(&self) -> &KeyApis {
        &self.apis
    }

    /// The lines that [`Routes::key_for`] tried. The last step is the one that matched, if any did.
    #[must_use]
    pub fn explain<'a>(&'a self, alert: &'a Alert) -> Vec<RouteStep<'a>> {
        let mut steps = Vec::new();
        for route in &self.lines {
            let step = RouteStep::new(route, alert);
            let is_match = step.is_match;
            steps.push(step);
            if is_match {
                break;
            }
        }
        steps
    }

    /// The key of alerts that no line matches.
    #[must_use]
    pub fn default_key(&self) -> &ServiceKey {
        &self.default
    }

    /// Every key an alert may go to, each once, the default key first.
    #[must_use]
    pub fn keys(&self) -> Vec<&ServiceKey> {
        let mut keys = vec![&self.default];
        for route in &self.lines {
            if !keys.contains(&route.key()) {
                keys.push(route.key());
            }
        }
        keys
    }
}

/// Whether one line matched an alert. `Display` is a sentence such as ``line 2: level is `error`, not `fatal` ``.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct RouteStep<'a> {
    /// The line that was tried.
    pub route: &'a Route,
    /// Whether it matched.
    pub is_match: bool,
    /// The values that the alert has under the line's name, each once.
    pub found: Vec<&'a str>,
}

impl<'a> RouteStep<'a> {
    fn new(route: &'a Route, alert: &'a Alert) -> Self {
        let mut found = Vec::new();
        for value in values(alert, route.condition().name()) {
            // A field and the tag of the same name usually have the same value.
            if !found.contains(&value) {
                found.push(value);
            }
        }
        Self { route, is_match: matches(route.condition(), alert), found }
    }
}

impl fmt::Display for RouteStep<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { route, is_match, found } = self;
        let route = route.condition();
        write!(f, "line {}: ", route.number())?;
        if *is_match {
            return write!(f, "{} is {}", line(route.name()), quoted(route.value()));
        }
        if found.is_empty() {
            return write!(f, "there is no {}", line(route.name()));
        }
        let found = found.iter().map(|value| quoted(value)).collect::<Vec<_>>().join(" and ");
        write!(f, "{} is {found}, not {}", line(route.name()), quoted(route.value()))
    }
}

fn quoted(text: &str) -> String {
    format!("`{}`", line(text))
}

/// Whether the alert has the line's value under the line's name.
fn matches(condition: &Condition, alert: &Alert) -> bool {
    values(alert, condition.name()).any(|value| value == condition.value())
}

/// The values that `name` has in an alert: the field first, then tags.
fn values<'a>(alert: &'a Alert, name: &'a str) -> impl Iterator<Item = &'a str> {
    let (first, second, more) = match name {
        "project" => (&alert.project.slug, &alert.project.name, alert.project.others.as_slice()),
        "level" => (&alert.level, &None, [].as_slice()),
        "environment" => (&alert.environment, &None, [].as_slice()),
        "rule" => (&None, &None, alert.rules.as_slice()),
        _ => (&None, &None, [].as_slice()),
    };
    let tags = alert.tags.iter().filter(move |(tag, _)| tag == name).map(|(_, value)| value);
    first.iter().chain(second).chain(more).chain(tags).map(String::as_str)
}

/// The first of the operator's rules that matches an alert.
#[must_use]
pub fn severity_rule<'a>(rules: &'a [SeverityRule], alert: &Alert) -> Option<&'a SeverityRule> {
    rules.iter().find(|rule| matches(rule.condition(), alert))
}

/// The severity of an alert: that of the first rule that matches, else [the alert's own](Severity::of).
#[must_use]
pub fn severity(rules: &[SeverityRule], alert: &Alert) -> Severity {
    severity_rule(rules, alert).map_or_else(|| Severity::of(alert), SeverityRule::severity)
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::alert::{IncidentAction, Project, SentryId, Subject, TriggerKind};

    const DEFAULT: &str = "00000000000000000000000000000001";
    const A: &str = "0000000000000000000000000000000a";
    const B: &str = "0000000000000000000000000000000b";
    const C: &str = "0000000000000000000000000000000c";

    /// The routes that were configured in the Sentry with whose plugin the bridge is compared.
    fn recorded() -> Routes {
        routes(&format!("environment,production,{A}\nlevel,fatal,{B}\nlevel,warning,{C}"))
    }

    fn routes(lines: &str) -> Routes {
        Routes::new(ServiceKey::parse(DEFAULT).unwrap(), lines).unwrap()
    }

    fn alert(level: &str, environment: Option<&str>, tags: &[(&str, &str)]) -> Alert {
        let subject = Subject::Issue(SentryId::new("42").unwrap());
        Alert {
            level: Some(level.to_owned()),
            project: Project {
                name: Some("Web Shop, EU".to_owned()),
                slug: Some("web-shop-eu".to_owned()),
                ..Project::default()
            },
            tags: tags.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            rules: vec!["Regressions".to_owned(), "New issues".to_owned()],
            environment: environment.map(str::to_owned),
            ..Alert::new(subject, IncidentAction::Trigger(TriggerKind::Alert), DateTime::UNIX_EPOCH)
        }
    }

    fn chosen(routes: &Routes, alert: &Alert) -> (String, Option<usize>) {
        let line =
            routes.explain(alert).last().filter(|step| step.is_match).map(|step| step.route.condition().number());
        (routes.key_for(alert).expose().to_owned(), line)
    }

    #[test]
    fn the_first_line_that_matches_wins_and_the_default_takes_the_rest() {
        let routes = recorded();
        for (alert, key, line) in [
            (alert("fatal", Some("production"), &[]), A, Some(1)),
            (alert("fatal", Some("staging"), &[]), B, Some(2)),
            (alert("warning", None, &[]), C, Some(3)),
            (alert("error", Some("Production"), &[("level", "ERROR")]), DEFAULT, None),
        ] {
            assert_eq!(chosen(&routes, &alert), (key.to_owned(), line));
        }
    }

    #[test]
    fn tags_are_matched_as_they_are_stored() {
        let routes = routes(&format!("release,shop@1.4.2,{C}\nsentry:release,shop@1.4.2,{A}\nteam,payments,{B}"));
        let error = |tags| alert("error", None, tags);
        assert_eq!(chosen(&routes, &error(&[("sentry:release", "shop@1.4.2")])).0, A);
        assert_eq!(chosen(&routes, &error(&[("team", "payments"), ("release", "shop@1.4.2")])).0, C);
        assert_eq!(chosen(&routes, &error(&[("team", "search"), ("team", "payments")])).0, B);
        assert_eq!(chosen(&routes, &error(&[("team", "payment")])).0, DEFAULT);
        assert_eq!(chosen(&routes, &error(&[("payments", "team")])).0, DEFAULT);
    }

    #[test]
    fn fields_are_matched_beside_tags_of_their_name() {
        let error = alert("error", Some("production"), &[("environment", "eu-1"), ("project", "billing")]);
        for (line, matches) in [
            ("project,web-shop-eu", true),
            ("project,\"Web Shop, EU\"", true),
            ("project,billing", true),
            ("project,web-shop", false),
            ("rule,New issues", true),
            ("rule,Regressions", true),
            ("rule,Metric", false),
            ("environment,production", true),
            ("environment,eu-1", true),
            ("level,error", true),
            ("level,production", false),
        ] {
            assert_eq!(chosen(&routes(&format!("{line},{A}")), &error).1.is_some(), matches, "{line}");
        }
    }

    #[test]
    fn each_line_that_was_tried_is_explained() {
        let explained = |routes: &Routes, alert: &Alert| -> Vec<String> {
            routes.explain(alert).iter().map(ToString::to_string).collect()
        };
        let warning = alert("warning", None, &[("level", "warning")]);
        assert_eq!(
            explained(&recorded(), &warning),
            [
                "line 1: there is no environment",
                "line 2: level is `warning`, not `fatal`",
                "line 3: level is `warning`"
            ]
        );
        let fatal = alert("fatal", None, &[]);
        assert_eq!(explained(&recorded(), &fatal).len(), 2);
        assert_eq!(
            explained(&routes(&format!("rule,x,{A};team,x,{A}")), &alert("error", None, &[("team", "a\u{1b}[2J")])),
            ["line 1: rule is `Regressions` and `New issues`, not `x`", "line 2: team is `a\\u{1b}[2J`, not `x`"]
        );
    }

    #[test]
    fn every_key_is_listed_once() {
        let routes = routes(&format!("level,fatal,{B}\nlevel,error,{A}\nlevel,warning,{B}\nlevel,info,{DEFAULT}"));
        let keys: Vec<&str> = routes.keys().into_iter().map(ServiceKey::expose).collect();
        assert_eq!(keys, [DEFAULT, B, A]);
    }

    #[test]
    fn a_key_takes_events_by_the_api_that_any_line_gives_it() {
        let key = |text: &str| ServiceKey::parse(text).unwrap();
        let lines = Route::parse_lines(&format!("level,fatal,{A};level,error,{A},v1;level,info,{B},v2")).unwrap();
        let routes = Routes::from_lines(key(DEFAULT), lines, ApiVersion::V2);
        let apis = [DEFAULT, A, B, C].map(|text| routes.destination(&key(text)).api.name());
        assert_eq!(apis, ["v2", "v1", "v2", "v2"]);
        assert_eq!(Routes::new(key(DEFAULT), "").unwrap().destination(&key(DEFAULT)), Destination::v1(key(DEFAULT)));
    }

    #[test]
    fn the_first_severity_rule_that_matches_wins_and_the_alert_itself_says_the_rest() {
        let rules = "rule,Regressions,warning;level,error,critical;team,web,info";
        let rules = SeverityRule::parse_lines(rules).unwrap();
        let with = |level: &str, rule: &str, tags: &[(&str, &str)]| {
            let alert = Alert { rules: vec![rule.to_owned()], ..alert(level, None, tags) };
            (
                super::severity(&rules, &alert).name(),
                severity_rule(&rules, &alert).map(|rule| rule.condition().number()),
            )
        };
        assert_eq!(with("error", "Regressions", &[]), ("warning", Some(1)));
        assert_eq!(with("error", "other", &[("team", "web")]), ("critical", Some(2)));
        assert_eq!(with("fatal", "other", &[("team", "web")]), ("info", Some(3)));
        assert_eq!(with("fatal", "other", &[]), ("critical", None));
    }

    #[test]
    fn an_alert_is_as_severe_as_its_level_and_its_priority_say() {
        let severity = |level: Option<&str>, priority: Option<&'static str>| {
            let facts = priority.map(|priority| ("priority", priority.to_owned())).into_iter().collect();
            Severity::of(&Alert { level: level.map(str::to_owned), facts, ..alert("", None, &[]) }).name()
        };
        for (level, by_level) in [
            (Some("debug"), "info"),
            (Some("info"), "info"),
            (Some("warning"), "warning"),
            (Some("error"), "error"),
            (Some("FATAL"), "critical"),
            (Some("critical"), "critical"),
            (Some("sample"), "error"),
            (None, "error"),
        ] {
            assert_eq!(severity(level, None), by_level, "{level:?}");
            assert_eq!(severity(level, Some("medium")), by_level, "{level:?}");
            let (high, low) = (severity(level, Some("high")), severity(level, Some("low")));
            assert_eq!(high, if by_level == "critical" { "critical" } else { "error" }, "{level:?}");
            assert_eq!(low, if by_level == "info" { "info" } else { "warning" }, "{level:?}");
        }
    }

    #[test]
    fn routes_do_not_print_their_keys() {
        let printed = format!("{:?}", recorded());
        assert!(printed.contains("…000a"), "{printed}");
        assert!(!printed.contains(&A[..28]), "{printed}");
    }
}
