//! From the text of `BRIDGE_PAGERDUTY_ROUTES` to its lines.

use super::{Route, RouteError, RouteFault};
use crate::pagerduty::ServiceKey;

/// Reads all lines, or tells what is wrong with each that is no route.
pub(super) fn routes(text: &str) -> Result<Vec<Route>, Vec<RouteError>> {
    let mut routes = Vec::new();
    let mut errors = Vec::new();
    for line in split(text) {
        match route(&line) {
            Ok(found) => routes.extend(found),
            Err(fault) => errors.push(RouteError { line: line.number, fault }),
        }
    }
    if errors.is_empty() { Ok(routes) } else { Err(errors) }
}

/// Reads one line; `None` for a blank one and a comment.
fn route(line: &Line) -> Result<Option<Route>, RouteFault> {
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
        // A lone carriage return would else end the record and hide what follows.
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

/// What stands between two line ends or `;`, unread.
struct Line {
    number: usize,
    text: String,
    open_quote: bool,
}

/// Where in a line [`split`] is, in the terms of the CSV reader: a quote means something only where a field begins.
#[derive(Clone, Copy, PartialEq)]
enum Place {
    LineStart,
    FieldStart,
    Field,
    Comment,
    Quoted,
    QuoteClosed,
}

/// Cuts at line ends and `;` outside quotes, which no single terminator of the CSV reader can do, and drops the blanks
/// before a field, which would hide its quote from that reader.
fn split(text: &str) -> Vec<Line> {
    let text = text.trim_end();
    // Whoever writes lines counts lines; whoever writes one line counts routes.
    let counts_lines = text.contains('\n');
    let mut lines = Vec::new();
    let mut number = 1;
    let mut line_ends = 0;
    let mut current = String::new();
    let mut place = Place::LineStart;
    for character in text.chars() {
        let quoted = place == Place::Quoted;
        if character == '\n' {
            line_ends += 1;
        }
        if !quoted && (character == '\n' || character == ';') {
            lines.push(Line { number, text: std::mem::take(&mut current), open_quote: false });
            number = if counts_lines { 1 + line_ends } else { number + 1 };
            place = Place::LineStart;
            continue;
        }
        let at_start = matches!(place, Place::LineStart | Place::FieldStart);
        if at_start && character.is_whitespace() {
            continue;
        }
        place = match (place, character) {
            (Place::LineStart, '#') | (Place::Comment, _) => Place::Comment,
            (Place::Quoted, '"') => Place::QuoteClosed,
            (Place::Quoted, _) | (Place::LineStart | Place::FieldStart | Place::QuoteClosed, '"') => Place::Quoted,
            (_, ',') => Place::FieldStart,
            _ => Place::Field,
        };
        current.push(character);
    }
    lines.push(Line { number, text: current, open_quote: place == Place::Quoted });
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "0000000000000000000000000000000a";
    const B: &str = "0000000000000000000000000000000b";

    fn read(text: &str) -> Vec<(usize, String, String)> {
        let routes = routes(text).unwrap();
        routes.into_iter().map(|route| (route.number, route.name, route.value)).collect()
    }

    fn line(number: usize, name: &str, value: &str) -> (usize, String, String) {
        (number, name.to_owned(), value.to_owned())
    }

    fn refusals(text: &str) -> Vec<String> {
        let refusals: Vec<String> = routes(text).unwrap_err().iter().map(ToString::to_string).collect();
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
                "line 2 has 2 fields, but a route has 3: `tag,value,KEY` (a value that holds `,` or `;` goes in double quotes)",
                "line 3 names no tag before its first comma",
                "line 4 has no value between its commas, so it would never match",
                "line 5 ends in a key that has 33 characters, but an integration key has 32",
                "line 6 has 4 fields, but a route has 3: `tag,value,KEY` (a value that holds `,` or `;` goes in double quotes)",
                "line 7 has 1 field, but a route has 3: `tag,value,KEY` (a value that holds `,` or `;` goes in double quotes)",
            ]
        );
    }

    #[test]
    fn nothing_behind_a_mistake_is_silently_lost() {
        assert_eq!(refusals(&format!("level,fatal,{A}\nlevel,\"info,{A}\n\nlevel,error,{B}")).len(), 1);
        assert!(refusals(&format!("level,\"info,{A}"))[0].ends_with("opens a double quote that is never closed"));
        // A comment ends at `;` too, so that it cannot swallow routes written on one line.
        assert_eq!(read(&format!("# off; level,fatal,{A}")), [line(2, "level", "fatal")]);
        assert!(routes(&format!("level,fatal,{A}\rlevel,error,{B}")).is_err());
    }
}
