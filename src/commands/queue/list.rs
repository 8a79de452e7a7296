//! `queue list`: a table for people, or a JSON array.

use std::collections::HashSet;
use std::io::Write;

use super::{CURRENT, reader, state_of, states_or};
use crate::cli::{QueueListArgs, Standing};
use crate::commands::{out, say};
use crate::exit::Exit;
use crate::printable;
use crate::queue::{Reader, State};
use crate::row::{Keys, Row};

/// How many events are read at once. They are printed as they are read, so a long list takes little memory, and no
/// long look keeps a running bridge from tidying up its log.
const PAGE: usize = 500;

pub(super) async fn run(args: &QueueListArgs) -> anyhow::Result<Exit> {
    let reader = reader().await?;
    let mut list = List { out: out(), json: args.json, printed: 0 };
    for standing in states_or(&args.states, &CURRENT) {
        let left = args.limit.map_or(u64::MAX, |limit| limit.saturating_sub(list.printed));
        match state_of(standing) {
            Some(state) => events(&reader, state, left, &mut list).await?,
            None => {
                for webhook in reader.rejected_summaries(left).await? {
                    list.print(&Row::of_rejected(webhook))?;
                }
            }
        }
    }
    list.end(&states_or(&args.states, &CURRENT))?;
    reader.close().await;
    Ok(Exit::Done)
}

async fn events(reader: &Reader, state: State, limit: u64, list: &mut List<impl Write>) -> anyhow::Result<()> {
    let mut unreadable = 0;
    for page in reader.ids(state, limit).await?.chunks(PAGE) {
        let mut missing: HashSet<_> = page.iter().copied().collect();
        for event in reader.summaries(page).await? {
            missing.remove(&event.id);
            // A bridge may be at work.
            if event.state == state {
                list.print(&Row::of_event(event, Keys::Masked))?;
            }
        }
        if state == State::Waiting && !missing.is_empty() {
            let missing: Vec<_> = missing.into_iter().collect();
            unreadable += reader.in_line(&missing).await?.len();
        }
    }
    if unreadable > 0 {
        say(&format!("{unreadable} more are waiting that cannot be read, and are not delivered"));
    }
    Ok(())
}

struct List<W> {
    out: W,
    json: bool,
    printed: u64,
}

impl<W: Write> List<W> {
    fn print(&mut self, row: &Row) -> anyhow::Result<()> {
        let first = self.printed == 0;
        self.printed += 1;
        if self.json {
            let separator = if first { "[\n" } else { ",\n" };
            write!(self.out, "{separator}{}", printable::json(&serde_json::to_string(row)?))?;
            return Ok(());
        }
        if first {
            writeln!(self.out, "{}", line(&HEAD))?;
        }
        writeln!(self.out, "{}", line(&cells(row).each_ref().map(String::as_str)))?;
        if let Some(reason) = &row.reason {
            writeln!(self.out, "{:INDENT$}because: {}", "", short(reason, 160))?;
        }
        Ok(())
    }

    fn end(&mut self, states: &[Standing]) -> anyhow::Result<()> {
        match (self.json, self.printed) {
            (true, 0) => writeln!(self.out, "[]")?,
            (true, _) => writeln!(self.out, "\n]")?,
            (false, 0) => {
                let names: Vec<_> = states.iter().map(|state| format!("{state:?}").to_lowercase()).collect();
                say(&format!("nothing is {}", names.join(" or ")));
            }
            (false, _) => {}
        }
        self.out.flush()?;
        Ok(())
    }
}

const HEAD: [&str; 9] = ["ID", "STATE", "EVENT", "INCIDENT", "KEY", "ALERTS", "TRIES", "RECEIVED", "DESCRIPTION"];

/// How wide the columns are at least; longer texts push the rest of their line.
const WIDTHS: [usize; 8] = [6, 9, 11, 14, 5, 6, 5, 20];

/// Where the second line of an entry begins.
const INDENT: usize = 8;

fn line(cells: &[&str; 9]) -> String {
    let columns = cells.iter().zip(WIDTHS).map(|(cell, width)| format!("{cell:<width$}  "));
    let mut line: String = columns.collect();
    line.push_str(cells[8]);
    line.truncate(line.trim_end().len());
    line
}

fn cells(row: &Row) -> [String; 9] {
    let text = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), |text| short(text, 60));
    let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    // Whole seconds do for people.
    let received_at = row.received_at.split_once('.').map_or(row.received_at.clone(), |(whole, _)| format!("{whole}Z"));
    [
        row.id.clone(),
        row.state.to_owned(),
        text(row.event_type),
        text(row.incident_key.as_deref()),
        text(row.service_key.as_deref()),
        number(row.count),
        number(row.attempts),
        received_at,
        text(row.description.as_deref().filter(|description| !description.is_empty())),
    ]
}

/// The beginning of a text, printable, at most `limit` characters.
fn short(text: &str, limit: usize) -> String {
    let text = printable::line(text);
    match text.char_indices().nth(limit) {
        None => text.into_owned(),
        Some(_) => text.chars().take(limit - 1).chain(['…']).collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row() -> Row {
        Row {
            id: "7".to_owned(),
            state: "dead",
            event_type: Some("trigger"),
            incident_key: Some("42".to_owned()),
            service_key: Some("…cdef".to_owned()),
            description: Some(format!("\u{1b}[2J{}", "x".repeat(100))),
            count: Some(3),
            attempts: Some(1),
            received_at: "2026-01-02T03:04:05.678Z".to_owned(),
            next_attempt_at: None,
            reason: Some("answered 400: Event object is invalid\n".to_owned()),
        }
    }

    fn printed(json: bool, rows: &[Row]) -> String {
        let mut list = List { out: Vec::new(), json, printed: 0 };
        for row in rows {
            list.print(row).unwrap();
        }
        list.end(&[]).unwrap();
        String::from_utf8(list.out).unwrap()
    }

    #[test]
    fn the_table_has_a_line_for_each_and_another_for_its_reason() {
        let rejected = Row {
            id: "r1".to_owned(),
            state: "rejected",
            event_type: None,
            incident_key: None,
            service_key: None,
            description: None,
            count: None,
            attempts: None,
            reason: None,
            ..row()
        };
        let expected = format!(
            "{}\n{}\n{}\n{}\n",
            "ID      STATE      EVENT        INCIDENT        KEY    ALERTS  TRIES  RECEIVED              DESCRIPTION",
            format_args!(
                "7       dead       trigger      42              …cdef  3       1      2026-01-02T03:04:05Z  \\u{{1b}}[2J{}…",
                "x".repeat(50)
            ),
            "        because: answered 400: Event object is invalid\\n",
            "r1      rejected   -            -               -      -       -      2026-01-02T03:04:05Z  -",
        );
        assert_eq!(printed(false, &[row(), rejected]), expected);
    }

    #[test]
    fn the_array_is_json_however_many_are_in_it() {
        for number in 0..3 {
            let text = printed(true, &vec![row(); number]);
            let rows: Vec<serde_json::Value> = serde_json::from_str(&text).unwrap();
            assert_eq!(rows.len(), number);
        }
    }
}
