//! From the text of `BRIDGE_PAGERDUTY_ROUTES` to routes.

use thiserror::Error;

use crate::pagerduty::ServiceKey;
use crate::pagerduty::keys::ServiceKeyError;

/// One line: alerts whose `name` is `value` go to `key`.
///
/// `name` is a tag as Sentry stores it (`sentry:release` in the bodies of the legacy plugin) or one of `project` (slug
/// or name), `level`, `environment` and `rule`. A name may stand for several values, such as those of a field and of a
/// tag of the same name; the line matches when any of them equals its value exactly.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    number: usize,
    name: String,
    value: String,
    key: ServiceKey,
}

impl Route {
    /// Parses routes; `text` may be empty.
    ///
    /// # Errors
    ///
    /// Every line that is not a route, with its number and never with its key.
    pub fn parse_lines(text: &str) -> Result<Vec<Self>, Vec<RouteError>> {
        let mut routes = Vec::new();
        let mut errors = Vec::new();
        for line in split(text) {
            match parse(&line) {
                Ok(route) => routes.extend(route),
                Err(fault) => errors.push(RouteError { line: line.number, fault }),
            }
        }
        if errors.is_empty() { Ok(routes) } else { Err(errors) }
    }

    /// The number of its line, from 1; where all routes stand on one line, its position among what `;` separates.
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

    /// Where it sends alerts.
    #[must_use]
    pub fn key(&self) -> &ServiceKey {
        &self.key
    }
}

/// A line that is not a route. The message never repeats what may be a key.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
#[error("line {line} {fault}")]
pub struct RouteError {
    /// The number of the line, counted as in [`Route::number`].
    pub line: usize,
    /// What is wrong with it.
    pub fault: RouteFault,
}

/// What is wrong with a line.
#[derive(Clone, Debug, Eq, Error, PartialEq)]
pub enum RouteFault {
    /// There are not exactly 3 fields.
    #[error(
        "has {0} field{s}, but a route has 3: `tag,value,KEY` (put a value that contains `,` or `;` in double quotes)",
        s = if *.0 == 1 { "" } else { "s" }
    )]
    Fields(usize),
    /// Nothing stands before the first comma.
    #[error("has no tag before its first comma")]
    NoName,
    /// Nothing stands between the commas. Sentry keeps no empty tags, so the line could never match.
    #[error("has no value between its commas, so it would never match")]
    NoValue,
    /// The third field is not an integration key.
    #[error("ends in a key that {0}")]
    Key(#[from] ServiceKeyError),
    /// A field begins with `"` and does not end.
    #[error("opens a double quote that is never closed")]
    OpenQuote,
}

/// Parses one line; `None` for a blank line and a comment.
fn parse(line: &Line) -> Result<Option<Route>, RouteFault> {
    let text = line.text.trim();
    if text.is_empty() || text.starts_with('#') {
        return Ok(None);
    }
    if line.open_quote {
        return Err(RouteFault::OpenQuote);
    }
    let mut reader = csv::ReaderBuilder::new()
        .has_headers(false)
        .flexible(true)
        .trim(csv::Trim::All)
        // Otherwise a lone carriage return would end the record and hide what follows.
        .terminator(csv::Terminator::Any(b'\n'))
        .from_reader(text.as_bytes());
    let record = reader.records().next().and_then(Result::ok).unwrap_or_default();
    let fields: Vec<&str> = record.iter().collect();
    let [name, value, key] = fields[..] else {
        return Err(RouteFault::Fields(fields.len()));
    };
    if name.is_empty() {
        return Err(RouteFault::NoName);
    }
    if value.is_empty() {
        return Err(RouteFault::NoValue);
    }
    let key = ServiceKey::parse(key)?;
    Ok(Some(Route { number: line.number, name: name.to_owned(), value: value.to_owned(), key }))
}

/// The text between two line ends or `;`.
struct Line {
    number: usize,
    text: String,
    open_quote: bool,
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

/// Splits at line ends and `;` outside quotes, which no single terminator of the CSV reader can do, and drops the blanks
/// before a field, which would hide its quote from that reader.
fn split(text: &str) -> Vec<Line> {
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
            lines.push(Line { number, text: std::mem::take(&mut current), open_quote: false });
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
    lines.push(Line { number, text: current, open_quote: position == Position::Quoted });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0000000000000000000000000000000a";
    const B: &str = "0000000000000000000000000000000b";

    fn read(text: &str) -> Vec<(usize, String, String)> {
        let routes = Route::parse_lines(text).unwrap();
        routes.into_iter().map(|route| (route.number, route.name, route.value)).collect()
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
        let text = format!("level,fatal,{A}\nlevel,fatal\n,fatal,{A}\nlevel,,{A}\nlevel,fatal,{A}0\na,b,c,{A}\n{A}");
        assert_eq!(
            refusals(&text),
            [
                "line 2 has 2 fields, but a route has 3: `tag,value,KEY` (put a value that contains `,` or `;` in double quotes)",
                "line 3 has no tag before its first comma",
                "line 4 has no value between its commas, so it would never match",
                "line 5 ends in a key that has 33 characters, but an integration key has 32",
                "line 6 has 4 fields, but a route has 3: `tag,value,KEY` (put a value that contains `,` or `;` in double quotes)",
                "line 7 has 1 field, but a route has 3: `tag,value,KEY` (put a value that contains `,` or `;` in double quotes)",
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
