//! `queue list`, `queue show` and `queue export`.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context, bail};
use serde_json::Value;

use crate::cli::{ItemState, QueueExportArgs, QueueListArgs, QueueShowArgs};
use crate::commands::environment::{UsageError, config_with_placeholders, out, say};
use crate::config::DatabaseConfig;
use crate::exit_code::ExitCode;
use crate::pagerduty::KeyNames;
use crate::printable;
use crate::queue::json::{ItemDetails, ItemSummary, ServiceKeys};
use crate::queue::{ItemId, QueueError, Reader, State};

/// The states that are listed and exported by default; what needs attention comes first.
const CURRENT: [ItemState; 3] = [ItemState::Dead, ItemState::Rejected, ItemState::Waiting];

/// The database. No other setting is needed to read it.
pub(super) fn database() -> anyhow::Result<DatabaseConfig> {
    config_with_placeholders().map(|(config, _)| config.database())
}

/// The names of service keys in the settings.
fn names() -> anyhow::Result<KeyNames> {
    let (config, _) = config_with_placeholders()?;
    Ok(KeyNames::new(config.pagerduty_names))
}

async fn reader() -> anyhow::Result<Reader> {
    Ok(Reader::open(database()?).await?)
}

/// Returns the numbers of the events or rejected webhooks in `state`, at most `limit`.
pub(super) async fn numbers(reader: &Reader, state: ItemState, limit: u64) -> Result<Vec<ItemId>, QueueError> {
    let Some(state) = event_state(state) else {
        let rejected = reader.rejected_summaries(limit).await?;
        return Ok(rejected.into_iter().map(|webhook| ItemId::Rejected(webhook.id)).collect());
    };
    Ok(reader.ids(state, limit).await?.into_iter().map(ItemId::Event).collect())
}

/// Returns the state of events; `None` for rejected webhooks, which are not events.
pub(super) fn event_state(state: ItemState) -> Option<State> {
    match state {
        ItemState::Waiting => Some(State::Waiting),
        ItemState::Dead => Some(State::Dead),
        ItemState::Delivered => Some(State::Delivered),
        ItemState::Rejected => None,
    }
}

/// The named states, each once, or the default ones when none is named.
pub(super) fn states_or(named: &[ItemState], default: &[ItemState]) -> Vec<ItemState> {
    let mut states = Vec::new();
    for state in if named.is_empty() { default } else { named } {
        if !states.contains(state) {
            states.push(*state);
        }
    }
    states
}

/// How many events are read at once. They are printed as they are read, so a long list takes little memory, and no
/// long read transaction keeps a running bridge from truncating its write-ahead log.
const PAGE: usize = 500;

pub(super) async fn list(args: &QueueListArgs) -> anyhow::Result<ExitCode> {
    let reader = reader().await?;
    let mut list = ItemPrinter { out: out(), json: args.json, printed: 0 };
    for state in states_or(&args.states, &CURRENT) {
        let left = args.limit.map_or(u64::MAX, |limit| limit.saturating_sub(list.printed));
        match event_state(state) {
            Some(state) => events(&reader, state, left, &mut list).await?,
            None => {
                for webhook in reader.rejected_summaries(left).await? {
                    list.print(&ItemSummary::of_rejected(webhook))?;
                }
            }
        }
    }
    list.end(&states_or(&args.states, &CURRENT))?;
    let held = reader.overview().await?.held;
    reader.close().await;
    if held > 0 {
        say(&format!(
            "{held} webhooks with a wrong signature are held besides, until a secret verifies them, at most 24 hours after they came"
        ));
    }
    Ok(ExitCode::Done)
}

async fn events(reader: &Reader, state: State, limit: u64, list: &mut ItemPrinter<impl Write>) -> anyhow::Result<()> {
    let mut unreadable = 0;
    for page in reader.ids(state, limit).await?.chunks(PAGE) {
        let mut missing: HashSet<_> = page.iter().copied().collect();
        for event in reader.summaries(page).await? {
            missing.remove(&event.id);
            // A running bridge may have changed it.
            if event.state == state {
                list.print(&ItemSummary::of_event(event, ServiceKeys::Masked))?;
            }
        }
        if state == State::Waiting && !missing.is_empty() {
            let missing: Vec<_> = missing.into_iter().collect();
            unreadable += reader.still_waiting(&missing).await?.len();
        }
    }
    if unreadable > 0 {
        say(&format!("{unreadable} more waiting events cannot be read and are not delivered"));
    }
    Ok(())
}

struct ItemPrinter<W> {
    out: W,
    json: bool,
    printed: u64,
}

impl<W: Write> ItemPrinter<W> {
    fn print(&mut self, row: &ItemSummary) -> anyhow::Result<()> {
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

    fn end(&mut self, states: &[ItemState]) -> anyhow::Result<()> {
        match (self.json, self.printed) {
            (true, 0) => writeln!(self.out, "[]")?,
            (true, _) => writeln!(self.out, "\n]")?,
            (false, 0) => {
                say(&nothing(states));
            }
            (false, _) => {}
        }
        self.out.flush()?;
        Ok(())
    }
}

const HEAD: [&str; 9] = ["ID", "STATE", "EVENT", "INCIDENT", "KEY", "ALERTS", "TRIES", "RECEIVED", "DESCRIPTION"];

/// The minimum widths of the columns; longer texts shift the rest of their line.
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

fn cells(row: &ItemSummary) -> [String; 9] {
    let text = |text: Option<&str>| text.map_or_else(|| "-".to_owned(), |text| short(text, 60));
    let number = |number: Option<u32>| number.map_or_else(|| "-".to_owned(), |number| number.to_string());
    // Whole seconds are precise enough for people.
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

pub(super) async fn show(args: &QueueShowArgs) -> anyhow::Result<ExitCode> {
    let reader = reader().await?;
    let keys = if args.show_keys { ServiceKeys::Shown } else { ServiceKeys::Masked };
    let Some(details) = details(&reader, args.id, keys, &names()?).await? else {
        bail!("the queue has nothing with the number {}", args.id)
    };
    reader.close().await;
    let mut out = out();
    if args.json {
        writeln!(out, "{}", printable::json(&serde_json::to_string_pretty(&details)?))?;
    } else {
        print_details(&mut out, &details)?;
    }
    Ok(ExitCode::Done)
}

/// `None` when the queue has nothing with that number.
async fn details(
    reader: &Reader,
    id: ItemId,
    keys: ServiceKeys,
    names: &KeyNames,
) -> Result<Option<ItemDetails>, QueueError> {
    Ok(match id {
        ItemId::Event(id) => {
            let Some(record) = reader.get(id).await? else { return Ok(None) };
            let (name, proof) = (names.get(&record.summary.service_key), reader.proofs(&[id]).await?.pop());
            Some(ItemDetails::of_event(record, keys, name, proof))
        }
        ItemId::Rejected(id) => reader.rejected(id).await?.map(|webhook| ItemDetails::of_rejected(id, webhook, &[])),
    })
}

/// Prints a line for every field that has a value, then the event or the body.
fn print_details(out: &mut impl Write, details: &ItemDetails) -> anyhow::Result<()> {
    let Value::Object(mut members) = serde_json::to_value(details)? else { bail!("the item is not a JSON object") };
    let last = ["event", "body", "body_base64"].into_iter().find_map(|name| members.shift_remove_entry(name));
    for (name, value) in members {
        let text = match value {
            Value::Null => continue,
            Value::Object(proof) if name == "proof" => shown_proof(&proof),
            Value::String(text) => printable::line(&text).into_owned(),
            value => value.to_string(),
        };
        if !text.is_empty() {
            writeln!(out, "{:<16} {text}", name.replace('_', " "))?;
        }
    }
    match last {
        Some((name, Value::String(text))) if name == "body" => {
            writeln!(out, "body")?;
            for line in text.lines() {
                writeln!(out, "{}", printable::block(line))?;
            }
        }
        Some((name, Value::String(text))) if name == "body_base64" => writeln!(out, "body, in Base64\n{text}")?,
        Some((_, event)) => writeln!(out, "event\n{}", printable::json(&serde_json::to_string_pretty(&event)?))?,
        None => {}
    }
    Ok(())
}

/// Formats a proof, such as `confirmed, incident #7, https://example.pagerduty.com/incidents/Q1`.
fn shown_proof(proof: &serde_json::Map<String, Value>) -> String {
    let texts = proof.iter().filter_map(|(name, value)| match value {
        Value::Number(number) => Some(format!("incident #{number}")),
        Value::String(text) if name == "state" => Some(text.replace('_', " ")),
        Value::String(text) => Some(printable::line(text).into_owned()),
        _ => None,
    });
    texts.collect::<Vec<_>>().join(", ")
}

pub(super) async fn export(args: &QueueExportArgs) -> anyhow::Result<ExitCode> {
    let reader = reader().await?;
    let states = states_or(&args.states, &CURRENT);
    let number = if args.to == Path::new("-") {
        write_all(&reader, &states, out()).await?
    } else {
        let file = create(&args.to)?;
        let number = write_all(&reader, &states, BufWriter::new(&file)).await?;
        file.sync_all().with_context(|| format!("{} cannot be written", args.to.display()))?;
        number
    };
    say(&format!("{number} exported"));
    reader.close().await;
    Ok(ExitCode::Done)
}

/// Creates a new file that only its owner can read, because it contains service keys. An existing file could belong to
/// somebody else.
pub(super) fn create(path: &Path) -> anyhow::Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let name = path.display();
    match options.open(path) {
        Ok(file) => Ok(file),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            Err(UsageError(format!("{name} exists already; name a new file")).into())
        }
        Err(error) => Err(error).with_context(|| format!("{name} cannot be created")),
    }
}

async fn write_all(reader: &Reader, states: &[ItemState], mut out: impl Write) -> anyhow::Result<u64> {
    let mut number = 0;
    for &state in states {
        for id in numbers(reader, state, u64::MAX).await? {
            // An item that a running bridge has changed meanwhile is written as it is now.
            if let Some(details) = details(reader, id, ServiceKeys::Shown, &KeyNames::default()).await? {
                writeln!(out, "{}", printable::json(&serde_json::to_string(&details)?))?;
                number += 1;
            }
        }
    }
    out.flush()?;
    Ok(number)
}

/// The message that there is nothing in these states.
fn nothing(states: &[ItemState]) -> String {
    let all = [ItemState::Waiting, ItemState::Dead, ItemState::Rejected, ItemState::Delivered];
    let names: Vec<_> = all.iter().filter(|state| states.contains(state)).collect();
    let names: Vec<_> = names.iter().map(|state| format!("{state:?}").to_lowercase()).collect();
    match names.split_last() {
        Some((last, [])) => format!("no {last} entries"),
        Some((last, others)) => format!("no {} or {last} entries", others.join(", ")),
        None => "no entries".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_empty_list_says_what_there_is_none_of() {
        assert_eq!(nothing(&CURRENT), "no waiting, dead or rejected entries");
        assert_eq!(nothing(&[ItemState::Dead]), "no dead entries");
    }

    fn row() -> ItemSummary {
        ItemSummary {
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
            service: None,
            proof: None,
        }
    }

    fn printed(json: bool, rows: &[ItemSummary]) -> String {
        let mut list = ItemPrinter { out: Vec::new(), json, printed: 0 };
        for row in rows {
            list.print(row).unwrap();
        }
        list.end(&[]).unwrap();
        String::from_utf8(list.out).unwrap()
    }

    #[test]
    fn the_table_has_a_line_for_each_and_another_for_its_reason() {
        let rejected = ItemSummary {
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
