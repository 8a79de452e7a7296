//! Moves a whole queue from one database to another, also to the other engine: all rows, in a file with one JSON array
//! per line.
//!
//! ```text
//! {"format":"sentry-pagerduty-bridge queue","version":1,"numbers":{"events":7,"rejected":2,"seen_webhooks":0,"held":0}}
//! ["events",7,"waiting","0123456789abcdef0123456789abcdef","42","trigger",1,…]
//! {"rows":1}
//! ```
//!
//! Each array is a table's name and the values of its columns, in the order of `TABLES`: bytes as Base64, times as the
//! database has them, in milliseconds since 1970. `numbers` are the last numbers that were assigned, so that no number is
//! used twice after the move either. The last line says how many rows there are, so that an incomplete file is
//! recognised.

use std::io::{self, BufRead, Write};

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use thiserror::Error;

use super::QueueError;
use super::postgres::PostgresTransfer;
use super::sqlite::SqliteTransfer;
use super::tables::{Cell, ColumnKind, LastNumbers, TABLES, Table};
use crate::config::{DatabaseConfig, DatabaseUrl};
use crate::printable;

const FORMAT: &str = "sentry-pagerduty-bridge queue";

const VERSION: u32 = 1;

/// How many rows are read or written at once.
const PAGE: usize = 500;

/// A database that nothing else writes to meanwhile.
#[async_trait]
pub(super) trait Transfer: Send {
    /// Returns at most `limit` rows of a table, in the order of their key, after the row with the key `after`.
    async fn read(&mut self, table: &Table, after: Option<&[Cell]>, limit: usize)
    -> Result<Vec<Vec<Cell>>, QueueError>;

    async fn numbers(&mut self) -> Result<LastNumbers, QueueError>;

    /// Adds rows. Nothing is committed before [`finish`](Self::finish).
    async fn write(&mut self, table: &Table, rows: &[Vec<Cell>]) -> Result<(), QueueError>;

    /// Makes sure that no number up to these is assigned again, commits all that was written, and closes the database.
    async fn finish(self: Box<Self>, numbers: LastNumbers) -> Result<(), QueueError>;

    /// Closes a database that was only read.
    async fn close(self: Box<Self>) -> Result<(), QueueError>;
}

/// Why a queue could not be moved.
#[derive(Debug, Error)]
pub enum TransferError {
    /// An error of the database.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// An error of the file.
    #[error("the file cannot be read or written: {0}")]
    File(#[from] io::Error),
    /// The file does not contain a queue.
    #[error(
        "line {line} of the file is {what}; the file has to be one that `queue export --complete` of this version wrote"
    )]
    Line {
        /// The line, from 1.
        line: u64,
        /// What is wrong.
        what: &'static str,
    },
    /// The database is not empty: the queue would be mixed with another one.
    #[error("the database {database} holds a queue already; set BRIDGE_DATABASE_URL to an empty database")]
    NotEmpty {
        /// The database.
        database: String,
    },
}

/// The first line of the file.
#[derive(Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
struct Head {
    format: String,
    version: u32,
    numbers: LastNumbers,
}

async fn open(config: &DatabaseConfig, creates: bool) -> Result<Box<dyn Transfer>, QueueError> {
    Ok(match &config.url {
        DatabaseUrl::Sqlite(path) => Box::new(SqliteTransfer::open(path, creates).await?),
        DatabaseUrl::Postgres(url) => Box::new(PostgresTransfer::open(config, url).await?),
    })
}

/// Writes the whole queue to `out`, and returns how many rows it has.
///
/// # Errors
///
/// When the database cannot be read, a bridge runs on it, or `out` cannot be written.
pub async fn export(config: &DatabaseConfig, out: &mut impl Write) -> Result<u64, TransferError> {
    let mut database = open(config, false).await?;
    let numbers = database.numbers().await?;
    write_line(out, &Head { format: FORMAT.to_owned(), version: VERSION, numbers })?;
    let mut rows = 0;
    for table in TABLES {
        let mut after: Option<Vec<Cell>> = None;
        loop {
            let page = database.read(table, after.as_deref(), PAGE).await?;
            for row in &page {
                let cells = row.iter().map(cell_to_json);
                let line: Vec<_> = std::iter::once(Value::from(table.name)).chain(cells).collect();
                write_line(out, &line)?;
            }
            rows += page.len() as u64;
            match page.last() {
                Some(last) if table.key > 0 && page.len() == PAGE => after = Some(last[..table.key].to_vec()),
                _ => break,
            }
        }
    }
    database.close().await?;
    write_line(out, &json!({ "rows": rows }))?;
    out.flush()?;
    Ok(rows)
}

fn write_line(out: &mut impl Write, line: &impl Serialize) -> io::Result<()> {
    // Characters that a terminal would act on are escaped, or the printer of standard output would spoil the JSON.
    out.write_all(printable::json(&serde_json::to_string(line)?).as_bytes())?;
    out.write_all(b"\n")
}

/// Fills an empty database with the queue in `file`, all of it or nothing, and returns how many rows it has.
///
/// # Errors
///
/// When the file is not a complete one that [`export`] wrote, the database is not empty or cannot be written, or a bridge
/// runs on it.
pub async fn import(config: &DatabaseConfig, file: &mut impl BufRead) -> Result<u64, TransferError> {
    let mut database = open(config, true).await?;
    for table in TABLES.iter().filter(|table| table.name != "lately") {
        if !database.read(table, None, 1).await?.is_empty() {
            return Err(TransferError::NotEmpty { database: config.url.to_string() });
        }
    }
    let mut lines = Lines { file, line: 0 };
    let head: Head = lines.next()?.ok_or(TransferError::Line { line: 1, what: "missing" })?;
    if head.format != FORMAT || head.version != VERSION {
        return Err(lines.error("of another format or version"));
    }
    let (mut total, mut page, mut current): (u64, Vec<Vec<Cell>>, Option<&'static Table>) = (0, Vec::new(), None);
    loop {
        let line: Value = lines.next()?.ok_or_else(|| lines.error("missing: the file is not whole"))?;
        let parsed = if line.is_object() {
            None
        } else {
            Some(parse_row(&line).ok_or_else(|| lines.error("not a row of a table of the queue"))?)
        };
        let table = parsed.as_ref().map(|(table, _)| *table);
        let is_other = table.map(|table| table.name) != current.map(|table| table.name);
        if let Some(current) = current.filter(|_| is_other || page.len() >= PAGE) {
            database.write(current, &page).await?;
            page.clear();
        }
        current = table;
        let Some((_, row)) = parsed else {
            let rows = line.as_object().filter(|line| line.len() == 1).and_then(|line| line.get("rows")?.as_u64());
            let rows = rows.ok_or_else(|| lines.error("not a valid last line"))?;
            if rows != total || lines.next::<Value>()?.is_some() {
                return Err(lines.error("not the end: rows are missing, or there are too many"));
            }
            break;
        };
        total += 1;
        page.push(row);
    }
    database.finish(head.numbers).await?;
    Ok(total)
}

struct Lines<'f, F> {
    file: &'f mut F,
    line: u64,
}

impl<F: BufRead> Lines<'_, F> {
    fn next<T: serde::de::DeserializeOwned>(&mut self) -> Result<Option<T>, TransferError> {
        let mut text = String::new();
        self.line += 1;
        if self.file.read_line(&mut text)? == 0 {
            return Ok(None);
        }
        serde_json::from_str(&text).map(Some).map_err(|_| self.error("not valid JSON of an exported queue"))
    }

    fn error(&self, what: &'static str) -> TransferError {
        TransferError::Line { line: self.line, what }
    }
}

fn cell_to_json(cell: &Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Integer(number) => (*number).into(),
        Cell::Text(text) => text.as_str().into(),
        Cell::Bytes(bytes) => STANDARD.encode(bytes).into(),
    }
}

fn parse_row(line: &Value) -> Option<(&'static Table, Vec<Cell>)> {
    let (name, values) = line.as_array()?.split_first()?;
    let table = TABLES.iter().find(|table| Some(table.name) == name.as_str())?;
    let cells = table.columns.iter().zip(values).map(|((_, kind), value)| parse_cell(*kind, value));
    let cells = cells.collect::<Option<Vec<_>>>()?;
    (values.len() == table.columns.len()).then_some((table, cells))
}

fn parse_cell(kind: ColumnKind, value: &Value) -> Option<Cell> {
    Some(match (kind, value) {
        (_, Value::Null) => Cell::Null,
        (ColumnKind::Integer | ColumnKind::Flag, Value::Number(number)) => Cell::Integer(number.as_i64()?),
        (ColumnKind::Text, Value::String(text)) => Cell::Text(text.clone()),
        (ColumnKind::Bytes, Value::String(text)) => Cell::Bytes(STANDARD.decode(text).ok()?),
        _ => return None,
    })
}
