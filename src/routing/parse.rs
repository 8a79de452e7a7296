//! Parses the text of `BRIDGE_PAGERDUTY_ROUTES` to routes, and that of `BRIDGE_SEVERITY` to severity rules.

use std::collections::BTreeMap;

use thiserror::Error;

use crate::pagerduty::keys::ServiceKeyError;
use crate::pagerduty::{ApiVersion, ServiceKey, Severity};

/// Which alerts a line is about: those whose `name` is `value`.
///
/// `name` is a tag as Sentry stores it (`sentry:release` in the bodies of the legacy plugin) or one of `project` (slug
/// or name), `level`, `environment` and `rule`. A name may stand for several values, such as those of a field and of a
/// tag of the same name; the line matches when any of them equals its value exactly.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Condition {
    number: usize,
    name: String,
    value: String,
}

impl Condition {
    /// The number of its line, from 1. If the whole text is one line, the position among its parts separated by `;`.
    #[must_use]
    pub fn number(&self) -> usize {
        self.number
    }

    /// The tag or field it looks at.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value it matches.
    #[must_use]
    pub fn value(&self) -> &str {
        &self.value
    }
}

/// One line of routes: alerts that meet the condition go to this key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    condition: Condition,
    key: ServiceKey,
    api: Option<ApiVersion>,
}

impl Route {
    /// Parses routes; `text` may be empty.
    ///
    /// # Errors
    ///
    /// Returns an error for every line that is not a route, with its number and never with its key.
    pub fn parse_lines(text: &str) -> Result<Vec<Self>, Vec<RouteError>> {
        let mut apis: BTreeMap<ServiceKey, (usize, ApiVersion)> = BTreeMap::new();
        parse_lines(text, |number, fields| {
            let (name, value, key, api) = match *fields {
                [name, value, key] => (name, value, key, None),
                [name, value, key, api] => (name, value, key, Some(api)),
                _ => return Err(RouteFault::Fields(fields.len())),
            };
            let condition = condition(number, name, value)?;
            let key = ServiceKey::parse(key)?;
            let api = api.map(|api| ApiVersion::parse(api).ok_or(RouteFault::Api)).transpose()?;
            if let Some(api) = api {
                let (line, before) = *apis.entry(key.clone()).or_insert((number, api));
                if before != api {
                    return Err(RouteFault::OtherApi { line, before });
                }
            }
            Ok(Self { condition, key, api })
        })
    }

    /// Which alerts it is about.
    #[must_use]
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// Where it sends alerts.
    #[must_use]
    pub fn key(&self) -> &ServiceKey {
        &self.key
    }

    /// Through which API its key takes events, if the line says so. It then applies to every use of that key.
    #[must_use]
    pub fn api(&self) -> Option<ApiVersion> {
        self.api
    }
}

/// One line of severity rules: alerts that meet the condition have this severity.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct SeverityRule {
    condition: Condition,
    severity: Severity,
}

impl SeverityRule {
    /// Parses severity rules; `text` may be empty.
    ///
    /// # Errors
    ///
    /// Returns an error for every line that is not a severity rule, with its number.
    pub fn parse_lines(text: &str) -> Result<Vec<Self>, Vec<RouteError>> {
        parse_lines(text, |number, fields| {
            let [name, value, severity] = *fields else { return Err(RouteFault::SeverityFields(fields.len())) };
            let condition = condition(number, name, value)?;
            let severity = Severity::parse(severity).ok_or(RouteFault::Severity)?;
            Ok(Self { condition, severity })
        })
    }

    /// Which alerts it is about.
    #[must_use]
    pub fn condition(&self) -> &Condition {
        &self.condition
    }

    /// How severe they are.
    #[must_use]
    pub fn severity(&self) -> Severity {
        self.severity
    }
}

/// A line that is neither a route nor a severity rule. The message never repeats what may be a key.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("line {line} {fault}")]
pub struct RouteError {
    /// The number of the line, counted as in [`Condition::number`].
    pub line: usize,
    /// What is wrong with it.
    pub fault: RouteFault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RouteFault {
    /// There are not 3 or 4 fields.
    #[error(
        "has {0} field{s}, but a route has 3 or 4: `tag,value,KEY` or `tag,value,KEY,v2` (put a value that contains `,` or `;` \
         in double quotes)",
        s = if *.0 == 1 { "" } else { "s" }
    )]
    Fields(usize),
    /// There are not exactly 3 fields.
    #[error(
        "has {0} field{s}, but a severity rule has 3: `tag,value,SEVERITY` (put a value that contains `,` or `;` in double \
         quotes)",
        s = if *.0 == 1 { "" } else { "s" }
    )]
    SeverityFields(usize),
    /// There is nothing before the first comma.
    #[error("has no tag before its first comma")]
    NoName,
    /// There is nothing between the commas. Sentry keeps no empty tags, so the line could never match.
    #[error("has no value between its commas, so it would never match")]
    NoValue,
    /// The third field is not an integration key.
    #[error("ends in a key that {0}")]
    Key(#[from] ServiceKeyError),
    /// The fourth field is not an API. The message does not repeat it, because it may be a key.
    #[error("ends in something other than `v1` or `v2`, which say by which Events API its key takes events")]
    Api,
    /// An earlier line gives the same key another API.
    #[error("gives its key another Events API than line {line} ({before}): a key takes events by one API only")]
    OtherApi {
        /// The earlier line.
        line: usize,
        /// Its API.
        before: ApiVersion,
    },
    /// The third field is not a severity. The message does not repeat it, because it may be a key.
    #[error("ends in something that is not a severity: write one of {names}", names = Severity::NAMES.join(", "))]
    Severity,
    /// A field begins with `"` and has no closing quote.
    #[error("opens a double quote that is never closed")]
    OpenQuote,
}

/// Parses all lines except blank ones and comments; `parse` converts the fields of one line.
fn parse_lines<T>(
    text: &str,
    mut parse: impl FnMut(usize, &[&str]) -> Result<T, RouteFault>,
) -> Result<Vec<T>, Vec<RouteError>> {
    let mut parsed = Vec::new();
    let mut errors = Vec::new();
    for (number, line) in split(text) {
        let result = match line.as_deref().map(str::trim) {
            Ok(line) if line.is_empty() || line.starts_with('#') => continue,
            Ok(line) => parse(number, &fields(line).iter().collect::<Vec<_>>()),
            Err(fault) => Err(fault.clone()),
        };
        match result {
            Ok(line) => parsed.push(line),
            Err(fault) => errors.push(RouteError { line: number, fault }),
        }
    }
    if errors.is_empty() { Ok(parsed) } else { Err(errors) }
}

fn condition(number: usize, name: &str, value: &str) -> Result<Condition, RouteFault> {
    if name.is_empty() {
        return Err(RouteFault::NoName);
    }
    if value.is_empty() {
        return Err(RouteFault::NoValue);
    }
    Ok(Condition { number, name: name.to_owned(), value: value.to_owned() })
}

/// The fields of one line.
fn fields(line: &str) -> csv::StringRecord {
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        // Otherwise a lone carriage return would end the record and hide what follows.
        .terminator(csv::Terminator::Any(b'\n'))
        .from_reader(line.as_bytes());
    reader.records().next().and_then(Result::ok).unwrap_or_default()
}

/// Where in a line [`split`] is, as the CSV reader sees it: a quote has a meaning only at the start of a field.
#[derive(Clone, Copy, PartialEq)]
enum Position {
    LineStart,
    FieldStart,
    Field,
    Comment,
    Quoted,
    QuoteClosed,
}

/// Splits at line ends and `;` outside quotes, which the CSV reader cannot do with its single terminator, and numbers the
/// lines. It also drops white space before a field, because that reader would not recognise a quote after it.
fn split(text: &str) -> Vec<(usize, Result<String, RouteFault>)> {
    let text = text.trim_end();
    // People who write several lines count lines; people who write one line count routes.
    let counts_lines = text.contains('\n');
    let mut lines = Vec::new();
    let mut number = 1;
    let mut line_ends = 0;
    let mut current = String::new();
    let mut position = Position::LineStart;
    for character in text.chars() {
        let quoted = position == Position::Quoted;
        if character == '\n' {
            line_ends += 1;
        }
        if !quoted && (character == '\n' || character == ';') {
            lines.push((number, Ok(std::mem::take(&mut current))));
            number = if counts_lines { 1 + line_ends } else { number + 1 };
            position = Position::LineStart;
            continue;
        }
        let at_start = matches!(position, Position::LineStart | Position::FieldStart);
        if at_start && character.is_whitespace() {
            continue;
        }
        position = match (position, character) {
            (Position::LineStart, '#') | (Position::Comment, _) => Position::Comment,
            (Position::Quoted, '"') => Position::QuoteClosed,
            (Position::Quoted, _) | (Position::LineStart | Position::FieldStart | Position::QuoteClosed, '"') => {
                Position::Quoted
            }
            (_, ',') => Position::FieldStart,
            _ => Position::Field,
        };
        current.push(character);
    }
    lines.push((number, if position == Position::Quoted { Err(RouteFault::OpenQuote) } else { Ok(current) }));
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0000000000000000000000000000000a";
    const B: &str = "0000000000000000000000000000000b";

    fn read(text: &str) -> Vec<(usize, String, String)> {
        let routes = Route::parse_lines(text).unwrap();
        let conditions = routes.into_iter().map(|route| route.condition);
        conditions.map(|condition| (condition.number, condition.name, condition.value)).collect()
    }

    fn line(number: usize, name: &str, value: &str) -> (usize, String, String) {
        (number, name.to_owned(), value.to_owned())
    }

    fn refusals(text: &str) -> Vec<String> {
        let refusals: Vec<String> = Route::parse_lines(text).unwrap_err().iter().map(ToString::to_string).collect();
        assert!(!refusals.iter().any(|sentence| sentence.contains("00000000")), "{refusals:?}");
        refusals
    }

    #[test]
    fn lines_may_be_blank_or_comments_and_are_counted() {
        let text = format!("# \"production\" first\n\n environment , production , {A} \r\nlevel,fatal,{B}\n");
        assert_eq!(read(&text), [line(3, "environment", "production"), line(4, "level", "fatal")]);
        assert_eq!(read(""), []);
    }

    #[test]
    fn semicolons_divide_as_line_ends_do() {
        let text = format!("environment,production,{A}; level,fatal,{B};");
        assert_eq!(read(&text), [line(1, "environment", "production"), line(2, "level", "fatal")]);

        let text = format!("environment,production,{A};\nlevel,fatal,{B};\n");
        assert_eq!(read(&text), [line(1, "environment", "production"), line(2, "level", "fatal")]);
    }

    #[test]
    fn quoted_fields_hold_what_would_divide() {
        let text = format!("transaction,\"a,b;c \"\"d\"\"\ne\",{A}; \"#1\", \"x;y\",{B}\nlevel,say \"hi\",{A}");
        let expected = [line(1, "transaction", "a,b;c \"d\"\ne"), line(2, "#1", "x;y"), line(3, "level", "say \"hi\"")];
        assert_eq!(read(&text), expected);
    }

    #[test]
    fn every_bad_line_is_told_with_its_number() {
        let text = format!(
            "level,fatal,{A}\nlevel,fatal\n,fatal,{A}\nlevel,,{A}\nlevel,fatal,{A}0\na,b,c,d,{A}\n{A}\na,b,{A},c"
        );
        assert_eq!(
            refusals(&text),
            [
                "line 2 has 2 fields, but a route has 3 or 4: `tag,value,KEY` or `tag,value,KEY,v2` (put a value that contains \
                 `,` or `;` in double quotes)",
                "line 3 has no tag before its first comma",
                "line 4 has no value between its commas, so it would never match",
                "line 5 ends in a key that has 33 characters, but an integration key has 32",
                "line 6 has 5 fields, but a route has 3 or 4: `tag,value,KEY` or `tag,value,KEY,v2` (put a value that contains \
                 `,` or `;` in double quotes)",
                "line 7 has 1 field, but a route has 3 or 4: `tag,value,KEY` or `tag,value,KEY,v2` (put a value that contains \
                 `,` or `;` in double quotes)",
                "line 8 ends in something other than `v1` or `v2`, which say by which Events API its key takes events",
            ]
        );
    }

    #[test]
    fn a_fourth_field_is_the_api_of_the_key() {
        let apis = |text: &str| -> Vec<_> {
            Route::parse_lines(text).unwrap().iter().map(|route| route.api().map(ApiVersion::name)).collect()
        };
        let text = format!("level,fatal,{A},v2;level,error,{A};level,info,{A}, V2 ;level,warning,{B},v1");
        assert_eq!(apis(&text), [Some("v2"), None, Some("v2"), Some("v1")]);
        assert_eq!(
            refusals(&format!("level,fatal,{A},v2\nlevel,info,{B},v1\nlevel,error,{A},v1")),
            ["line 3 gives its key another Events API than line 1 (v2): a key takes events by one API only"]
        );
    }

    #[test]
    fn severity_rules_are_written_as_routes_are() {
        let rules = SeverityRule::parse_lines("# ours\nlevel,warning,Error;rule,\"a,b\",critical").unwrap();
        let severities: Vec<_> = rules.iter().map(|rule| (rule.condition().value(), rule.severity())).collect();
        assert_eq!(severities, [("warning", Severity::Error), ("a,b", Severity::Critical)]);
        let refusals: Vec<_> = SeverityRule::parse_lines("level,warning\nlevel,warning,fatal\n,a,info").unwrap_err();
        assert_eq!(
            refusals.iter().map(ToString::to_string).collect::<Vec<_>>(),
            [
                "line 1 has 2 fields, but a severity rule has 3: `tag,value,SEVERITY` (put a value that contains `,` or `;` in \
                 double quotes)",
                "line 2 ends in something that is not a severity: write one of critical, error, warning, info",
                "line 3 has no tag before its first comma",
            ]
        );
    }

    #[test]
    fn nothing_behind_a_mistake_is_silently_lost() {
        assert_eq!(refusals(&format!("level,fatal,{A}\nlevel,\"info,{A}\n\nlevel,error,{B}")).len(), 1);
        assert!(refusals(&format!("level,\"info,{A}"))[0].ends_with("opens a double quote that is never closed"));
        // A comment ends at `;` too, so that it cannot swallow routes written on one line.
        assert_eq!(read(&format!("# off; level,fatal,{A}")), [line(2, "level", "fatal")]);
        assert!(Route::parse_lines(&format!("level,fatal,{A}\rlevel,error,{B}")).is_err());
    }
}
