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
use super::rows::TypedRow;
use super::sqlite::SqliteTransfer;
use crate::config::{DatabaseConfig, DatabaseUrl};
use crate::printable;

const FORMAT: &str = "sentry-pagerduty-bridge queue";

const VERSION: u32 = 1;

/// How many rows are read or written at once.
const PAGE: usize = 500;

/// What a column holds.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum ColumnKind {
    Integer,
    Text,
    Flag,
    Bytes,
}

/// A table and its columns; those of its key come first.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) name: &'static str,
    pub(super) columns: &'static [(&'static str, ColumnKind)],
    /// How many of the columns are the key, by which the table is read page by page; 0: the table is small and read at
    /// once.
    pub(super) key: usize,
}

use ColumnKind::{Bytes, Flag, Integer, Text};

impl Table {
    /// The statement that reads rows in the order of their key; `after` are the placeholders of the key to read after, for
    /// all pages but the first.
    pub(super) fn select(&self, after: Option<String>, limit: usize) -> String {
        let columns: Vec<_> = self.columns.iter().map(|(name, _)| *name).collect();
        let (columns, key, name) = (columns.join(", "), columns[..self.key].join(", "), self.name);
        if self.key == 0 {
            return format!("SELECT {columns} FROM {name} ORDER BY {columns}");
        }
        let condition = after.map_or_else(String::new, |after| format!("WHERE ({key}) > ({after})"));
        format!("SELECT {columns} FROM {name} {condition} ORDER BY {key} LIMIT {limit}")
    }

    /// The values of a row that [`select`](Self::select) reads.
    pub(super) fn cells(&self, row: &impl TypedRow) -> sqlx::Result<Vec<Cell>> {
        let cell = |(column, kind): &(&'static str, ColumnKind)| {
            let cell = match kind {
                Integer => row.decode_integer(column)?.map(Cell::Integer),
                Flag => row.decode_flag(column)?.map(|flag| Cell::Integer(flag.into())),
                Text => row.decode_text(column)?.map(|text| Cell::Text(text.into_owned())),
                Bytes => row.decode_bytes(column)?.map(Cell::Bytes),
            };
            Ok(cell.unwrap_or(Cell::Null))
        };
        self.columns.iter().map(cell).collect()
    }
}

/// All tables that are moved. Tallies follow from the events; the dedup keys of the last minutes are not moved.
pub(super) const TABLES: &[Table] = &[
    Table {
        name: "events",
        columns: &[
            ("id", Integer),
            ("state", Text),
            ("service_key", Text),
            ("incident_key", Text),
            ("event_type", Text),
            ("count", Integer),
            ("received_at", Integer),
            ("first_seen", Integer),
            ("attempts", Integer),
            ("last_attempt_at", Integer),
            ("next_attempt_at", Integer),
            ("blamed_ms", Integer),
            ("finished_at", Integer),
            ("sentry_at", Integer),
            ("resolved_at", Integer),
            ("revived_at", Integer),
            ("reason", Text),
            ("description", Text),
            ("api", Integer),
        ],
        key: 1,
    },
    Table { name: "bodies", columns: &[("id", Integer), ("body", Bytes), ("counts_at", Integer)], key: 1 },
    Table {
        name: "incidents",
        columns: &[
            ("incident_key", Text),
            ("service_key", Text),
            ("is_open", Flag),
            ("changed_at", Integer),
            ("event_id", Integer),
            ("sentry_at", Integer),
            ("apis", Integer),
        ],
        key: 2,
    },
    Table {
        name: "incident_issues",
        columns: &[
            ("issue_key", Text),
            ("incident_key", Text),
            ("service_key", Text),
            ("is_open", Flag),
            ("received_at", Integer),
            ("sentry_at", Integer),
        ],
        key: 3,
    },
    Table {
        name: "resolves",
        columns: &[("incident_key", Text), ("happened_at", Integer), ("received_at", Integer)],
        key: 1,
    },
    Table {
        name: "seen_webhooks",
        columns: &[("id", Integer), ("digest", Bytes), ("incident_key", Text), ("event_type", Text)],
        key: 1,
    },
    Table {
        name: "rejected",
        columns: &[
            ("id", Integer),
            ("received_at", Integer),
            ("resource", Text),
            ("reason", Text),
            ("size", Integer),
            ("body", Bytes),
            ("idempotency_key", Text),
            ("sent_at", Integer),
            ("from_sentrys_pages", Flag),
            ("is_signed", Flag),
        ],
        key: 1,
    },
    Table {
        name: "held",
        columns: &[
            ("id", Integer),
            ("received_at", Integer),
            ("network", Text),
            ("signature", Bytes),
            ("resource", Text),
            ("idempotency_key", Text),
            ("sent_at", Integer),
            ("size", Integer),
            ("body", Bytes),
        ],
        key: 1,
    },
    Table {
        name: "discarded",
        columns: &[("last_attempt_at", Integer), ("service_key", Text), ("attempts", Integer)],
        key: 0,
    },
    Table {
        name: "activity",
        columns: &[
            ("began_at", Integer),
            ("received", Integer),
            ("delivered", Integer),
            ("throttled", Integer),
            ("failed", Integer),
        ],
        key: 0,
    },
    Table {
        name: "lately",
        columns: &[("id", Integer), ("last_webhook_at", Integer), ("last_delivered_at", Integer), ("untrusted", Text)],
        key: 0,
    },
    Table {
        name: "canaries",
        columns: &[
            ("event_id", Text),
            ("sent_at", Integer),
            ("taken", Flag),
            ("failure", Text),
            ("returned_at", Integer),
        ],
        key: 0,
    },
    Table {
        name: "issue_updates",
        columns: &[
            ("webhook_id", Text),
            ("incident_key", Text),
            ("change", Text),
            ("state", Text),
            ("happened_at", Integer),
            ("received_at", Integer),
            ("attempts", Integer),
            ("next_attempt_at", Integer),
            ("finished_at", Integer),
            ("reason", Text),
        ],
        key: 1,
    },
    Table { name: "fallback", columns: &[("id", Integer), ("told_at", Integer), ("outage_since", Integer)], key: 0 },
    Table {
        name: "proofs",
        columns: &[
            ("event_id", Integer),
            ("service_key", Text),
            ("state", Text),
            ("delivered_at", Integer),
            ("judged_at", Integer),
            ("incident_number", Integer),
            ("incident_url", Text),
            ("reason", Text),
        ],
        key: 1,
    },
    Table {
        name: "sentry_issues",
        columns: &[("incident_key", Text), ("fired_at", Integer), ("seen_at", Integer), ("noted_at", Integer)],
        key: 1,
    },
    Table {
        name: "catch_up",
        columns: &[
            ("id", Integer),
            ("until", Integer),
            ("ran_at", Integer),
            ("found", Integer),
            ("enqueued", Integer),
            ("reported", Integer),
            ("summarized", Integer),
        ],
        key: 0,
    },
    Table {
        name: "wrong_signatures",
        columns: &[
            ("id", Integer),
            ("number", Integer),
            ("first_at", Integer),
            ("lasted_ms", Integer),
            ("senders", Text),
            ("more", Flag),
        ],
        key: 0,
    },
    Table { name: "failing_keys", columns: &[("service_key", Text), ("kind", Text), ("since", Integer)], key: 0 },
    Table { name: "lately_delivered", columns: &[("service_key", Text), ("at", Integer)], key: 0 },
];

/// A value of a column.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Cell {
    Null,
    Integer(i64),
    Text(String),
    Bytes(Vec<u8>),
}

/// The last numbers that were assigned to the rows of the tables whose numbers are never used twice.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LastNumbers {
    events: i64,
    rejected: i64,
    seen_webhooks: i64,
    held: i64,
}

impl LastNumbers {
    /// Each table with its number.
    pub(super) fn by_table(&mut self) -> [(&'static str, &mut i64); 4] {
        let Self { events, rejected, seen_webhooks, held } = self;
        [("events", events), ("rejected", rejected), ("seen_webhooks", seen_webhooks), ("held", held)]
    }
}

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
        (Integer | Flag, Value::Number(number)) => Cell::Integer(number.as_i64()?),
        (Text, Value::String(text)) => Cell::Text(text.clone()),
        (Bytes, Value::String(text)) => Cell::Bytes(STANDARD.decode(text).ok()?),
        _ => return None,
    })
}
