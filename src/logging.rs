//! Log lines: for people on a terminal, JSON for everything else.
//!
//! - [`repeats`]: where one cause repeats, lines are counted instead of written; [`limiter`]: how many
//! - `spool`: where JSON lines wait for each other, so that a storm does not cost a write for each, and where they wait
//!   when nobody reads them, so that no alert does

pub mod limiter;
pub mod repeats;
mod spool;

use std::future::pending;
use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

use chrono::{SecondsFormat, Utc};
use env_logger::{Builder, Logger, Target, WriteStyle};
use log::kv::{Error, Key, Value, VisitSource};
use log::{Level, LevelFilter, Log, Metadata, Record};
use serde::Serialize;
use tokio::sync::watch;

use self::spool::Spool;
use crate::config::LogFormat;
use crate::printable;

/// Starts logging to standard error what `filter` lets through, in the syntax of `RUST_LOG`.
///
/// A warning or an error is written when this returns to whoever logs it, and so is everything before it. Other JSON
/// lines are written within milliseconds, or when [`log::Log::flush`] is called, which has to be done before the program
/// ends. If nobody reads standard error, whoever logs waits for a second, and nobody does again until all is written: JSON
/// lines are kept as far as there is room, and those beyond it are counted and lost. Text is written at once: whoever holds a terminal with
/// Ctrl-S holds the program.
pub fn start(format: LogFormat, filter: &str) {
    let json = match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    };
    let mut builder = Builder::new();
    // The web server tells of each of its threads. Whoever wants that can ask for it by the same name.
    builder.filter_module("actix_server", LevelFilter::Warn).parse_filters(filter);
    // A second call, as tests that run several commands make, keeps the first logger.
    if !json {
        let logger = builder.build();
        let filter = logger.filter();
        if log::set_boxed_logger(Box::new(Text(logger))).is_ok() {
            log::set_max_level(filter);
        }
        return;
    }
    let spool = Spool::default();
    builder.format(write_line);
    // There are no colours to be taken out: what could be one is escaped.
    builder.target(Target::Pipe(Box::new(spool.clone()))).write_style(WriteStyle::Always);
    let logger = builder.build();
    let filter = logger.filter();
    if log::set_boxed_logger(Box::new(Lines { logger, spool: spool.clone() })).is_ok() {
        log::set_max_level(filter);
        let _ = ENDED.set(spool.attend(io::stderr(), tell_lost));
    }
}

/// Closed when the thread that writes JSON lines ends.
static ENDED: OnceLock<watch::Receiver<()>> = OnceLock::new();

/// Returns when the thread that writes JSON lines has ended, which it never should; waits for ever where there is none.
pub async fn writer_ended() {
    match ENDED.get().cloned() {
        Some(mut ended) => while ended.changed().await.is_ok() {},
        None => pending().await,
    }
}

/// Writes lines of text. What strangers wrote into one neither commands the terminal nor begins another line.
struct Text(Logger);

impl Log for Text {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.0.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if !self.0.matches(record) {
            return;
        }
        let mut pairs = Printable(Vec::new());
        // Collecting does not fail.
        let _ = record.key_values().visit(&mut pairs);
        let text = record.args().to_string();
        let mut printable = Record::builder();
        printable.metadata(record.metadata().clone()).key_values(&pairs.0);
        printable.module_path(record.module_path()).file(record.file()).line(record.line());
        self.0.log(&printable.args(format_args!("{}", printable::line(&text))).build());
    }

    fn flush(&self) {
        self.0.flush();
    }
}

struct Printable(Vec<(String, String)>);

impl<'kvs> VisitSource<'kvs> for Printable {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        self.0.push((printable::line(key.as_str()).into_owned(), printable::line(&value.to_string()).into_owned()));
        Ok(())
    }
}

/// Writes JSON lines, grave ones at once and others together.
struct Lines {
    logger: Logger,
    spool: Spool,
}

impl Log for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        self.logger.log(record);
        if record.level() <= Level::Warn || !self.spool.is_attended() {
            self.flush();
        }
    }

    fn flush(&self) {
        self.spool.wait();
    }
}

/// The line that stands for those that found no room.
fn tell_lost(lines: u64) -> Vec<u8> {
    let mut line = Vec::new();
    let pairs = [("lost", Value::from(lines))];
    let mut record = Record::builder();
    record.level(Level::Warn).target(module_path!()).key_values(&pairs);
    let said = format_args!("{lines} lines of the log are lost, because nobody read it").to_string();
    let written = write_line(&mut line, &record.args(format_args!("{said}")).build());
    if written.is_err() {
        line.clear();
    }
    line
}

/// The members every line has; a pair of the same name is left out.
const MEMBERS: [&str; 4] = ["time", "level", "message", "target"];

fn write_line(out: &mut impl Write, record: &Record<'_>) -> io::Result<()> {
    let [time, level, message, target] = MEMBERS;
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true);
    let word = match record.level() {
        Level::Error => "error",
        Level::Warn => "warn",
        Level::Info => "info",
        Level::Debug => "debug",
        Level::Trace => "trace",
    };
    write!(out, r#"{{"{time}":"{now}","{level}":"{word}","{message}":"#)?;
    match record.args().as_str() {
        Some(text) => write_json(out, text)?,
        None => write_json(out, &record.args().to_string())?,
    }
    write!(out, r#","{target}":"#)?;
    write_json(out, record.target())?;
    record.key_values().visit(&mut Pairs(out)).map_err(io::Error::other)?;
    out.write_all(b"}\n")
}

fn write_json(out: &mut impl Write, value: &(impl Serialize + ?Sized)) -> io::Result<()> {
    let text = serde_json::to_string(value)?;
    out.write_all(printable::json(&text).as_bytes())
}

struct Pairs<'a, W>(&'a mut W);

impl<'kvs, W: Write> VisitSource<'kvs> for Pairs<'_, W> {
    fn visit_pair(&mut self, key: Key<'kvs>, value: Value<'kvs>) -> Result<(), Error> {
        let out = &mut *self.0;
        if MEMBERS.contains(&key.as_str()) {
            return Ok(());
        }
        out.write_all(b",")?;
        write_json(out, key.as_str())?;
        out.write_all(b":")?;
        match value.to_i64() {
            Some(number) => write!(out, "{number}")?,
            None => write_json(out, &value.to_string())?,
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_holds_message_and_pairs() {
        let pairs = [("event", Value::from(7)), ("incident_key", Value::from("4\"2")), ("level", Value::from("x"))];
        let mut line = Vec::new();
        let builder = &mut Record::builder();
        let record = builder.args(format_args!("queued \"x\"\n")).target("web").level(Level::Info).key_values(&pairs);
        write_line(&mut line, &record.build()).unwrap();
        let line = String::from_utf8(line).unwrap();
        assert!(line.starts_with(r#"{"time":"2"#) && line.ends_with("}\n"), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
        let members: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(members.as_object().unwrap().len(), 6, "{line}");
        assert_eq!(members["level"], "info");
        assert_eq!(members["message"], "queued \"x\"\n");
        assert_eq!(members["target"], "web");
        assert_eq!(members["event"], 7);
        assert_eq!(members["incident_key"], "4\"2");
    }
}
