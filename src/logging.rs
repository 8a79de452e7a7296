//! The log: lines on standard error, text for people and JSON for programs.
//!
//! A separate thread writes them, so that no alert waits for the reader of the log. If nothing reads the log, lines are
//! dropped once the buffer is full, and counted. [`throttle`] limits repeated lines. Of the other modules, this one uses
//! only the one that makes text safe to print.

pub mod throttle;

use std::future::pending;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};
use std::{mem, thread};

use chrono::{SecondsFormat, Utc};
use env_logger::fmt::style::Style;
use env_logger::{Builder, Logger, Target, WriteStyle};
use log::{Level, LevelFilter, Log, Metadata, Record, kv};
use serde::Serializer as _;
use serde::ser::SerializeMap;
use tokio::sync::watch;
use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};

use crate::printable;
pub(crate) use throttle::log_throttled;

/// How many lines may wait to be written.
const CAPACITY: usize = 8192;

/// How long the writer waits between two writes. Lines that come meanwhile are written together: a write for each would
/// cost an alert more than parsing it does. The first line after a quiet time is written at once.
const WRITE_INTERVAL: Duration = Duration::from_millis(2);

/// How long [`Log::flush`] waits.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(1);

/// How log lines are written.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum LogFormat {
    /// Text on a terminal, else JSON.
    Auto,
    /// Text for people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging to standard error what `filter` lets through, in the syntax of `RUST_LOG`.
///
/// Lines are written within milliseconds, or when [`Log::flush`] is called. It has to be called before the program ends,
/// and waits at most a second; logging itself never waits. Lines that find the buffer full are dropped, and their number
/// is logged once the log is read again.
pub fn start(format: LogFormat, filter: &str) {
    let write_line: WriteLine = if is_json(format) { write_json } else { write_text };
    let has_colors = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    let mut builder = Builder::new();
    // The web server logs each of its threads. `RUST_LOG` can enable that by the same name.
    builder.filter_module("actix_server", LevelFilter::Warn).parse_filters(filter);
    builder.format(move |out, record| {
        let style = if has_colors { out.default_level_style(record.level()) } else { Style::new() };
        write_line(out, style, record)
    });
    let (logger, guard) = BufferedLogger::new(&mut builder, io::stderr(), CAPACITY, write_line);
    let filter = logger.logger.filter();
    // A second call, as tests that run several commands make, keeps the first logger.
    let ended = logger.ended.clone();
    if log::set_boxed_logger(Box::new(logger)).is_ok() {
        let _ = ENDED.set(ended);
        log::set_max_level(filter);
        // The guard would end the writer, and print to standard output where the buffer is full.
        mem::forget(guard);
    }
}

/// Whether lines are JSON on this standard error.
#[must_use]
pub fn is_json(format: LogFormat) -> bool {
    match format {
        LogFormat::Auto => !io::stderr().is_terminal(),
        LogFormat::Text => false,
        LogFormat::Json => true,
    }
}

/// Writes why the program ends, as JSON: a separate error for each line of `text`. Needs no logger, because invalid
/// settings prevent the logger from starting.
pub fn write_error_as_json(text: &str) {
    for line in text.lines() {
        let mut record = Record::builder();
        record.level(Level::Error).target(module_path!());
        // A closed standard error is no reason to fail.
        let _ = write_json(&mut io::stderr(), Style::new(), &record.args(format_args!("{line}")).build());
    }
}

/// Closed when the thread that writes the log ends.
static ENDED: OnceLock<watch::Receiver<()>> = OnceLock::new();

/// Returns when the thread that writes the log has ended, which it never should; waits forever if there is no such thread.
pub async fn writer_ended() {
    match ENDED.get().cloned() {
        Some(mut ended) => while ended.changed().await.is_ok() {},
        None => pending().await,
    }
}

/// A logger that never waits for the reader of the log.
struct BufferedLogger {
    logger: Logger,
    counts: Arc<LineCounts>,
    ended: watch::Receiver<()>,
}

/// How many lines were logged, written and dropped so far.
#[derive(Default)]
struct LineCounts {
    logged: AtomicUsize,
    written: AtomicUsize,
    dropped: OnceLock<ErrorCounter>,
}

impl LineCounts {
    fn dropped(&self) -> usize {
        self.dropped.get().map_or(0, ErrorCounter::dropped_lines)
    }
}

impl BufferedLogger {
    fn new(
        builder: &mut Builder,
        out: impl Write + Send + 'static,
        capacity: usize,
        write_line: WriteLine,
    ) -> (Self, WorkerGuard) {
        let (counts, (ends, ended)) = (Arc::new(LineCounts::default()), watch::channel(()));
        let out = BufWriter::with_capacity(1 << 16, out);
        let writer = LogWriter { out, counts: Arc::clone(&counts), write_line, unflushed: 0, reported: 0, _ends: ends };
        let buffer = NonBlockingBuilder::default().lossy(true).buffered_lines_limit(capacity).thread_name("log");
        let (buffer, guard) = buffer.finish(writer);
        counts.dropped.get_or_init(|| buffer.error_counter());
        // No colors are stripped: color codes in logged text are already escaped.
        let logger = builder.target(Target::Pipe(Box::new(buffer))).write_style(WriteStyle::Always).build();
        (Self { logger, counts, ended }, guard)
    }

    /// Returns when all that was logged is written or dropped, the writer has ended, or `timeout` is over.
    fn flush_within(&self, timeout: Duration) {
        let (deadline, counts) = (Instant::now() + timeout, &self.counts);
        let logged = counts.logged.load(Ordering::Acquire);
        while counts.written.load(Ordering::Acquire) + counts.dropped() < logged
            && Instant::now() < deadline
            && self.ended.has_changed().is_ok()
        {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Log for BufferedLogger {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        self.logger.enabled(metadata)
    }

    fn log(&self, record: &Record<'_>) {
        if self.logger.matches(record) {
            self.counts.logged.fetch_add(1, Ordering::AcqRel);
            self.logger.log(record);
        }
    }

    fn flush(&self) {
        self.flush_within(FLUSH_TIMEOUT);
    }
}

/// The output of the thread. Lines that cannot be written are lost, as with any log.
struct LogWriter<W: Write> {
    out: BufWriter<W>,
    counts: Arc<LineCounts>,
    write_line: WriteLine,
    unflushed: usize,
    /// How many dropped lines were reported.
    reported: usize,
    /// Dropped when the thread ends, even by a panic.
    _ends: watch::Sender<()>,
}

impl<W: Write> Write for LogWriter<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.unflushed += 1;
        let _ = self.out.write_all(line);
        Ok(line.len())
    }

    /// Called when the buffer is empty.
    fn flush(&mut self) -> io::Result<()> {
        let dropped = self.counts.dropped();
        let lines = dropped - mem::replace(&mut self.reported, dropped);
        if lines > 0 {
            let pairs = [("lost", kv::Value::from(lines as u64))];
            let mut record = Record::builder();
            record.level(Level::Warn).target(module_path!()).key_values(&pairs);
            let text = format!("{lines} lines of the log are lost, because nobody read it");
            let _ = (self.write_line)(&mut self.out, Style::new(), &record.args(format_args!("{text}")).build());
        }
        let _ = self.out.flush();
        self.counts.written.fetch_add(mem::take(&mut self.unflushed), Ordering::AcqRel);
        thread::sleep(WRITE_INTERVAL);
        Ok(())
    }
}

/// Writes a record as a line that holds nothing unsafe to print; the style is that of the level.
type WriteLine = fn(&mut dyn Write, Style, &Record<'_>) -> io::Result<()>;

fn write_text(out: &mut dyn Write, style: Style, record: &Record<'_>) -> io::Result<()> {
    let now = Utc::now().to_rfc3339_opts(SecondsFormat::Secs, true);
    let (level, target) = (record.level(), record.target());
    write!(out, "[{now} {style}{level:<5}{style:#} {target}] {}", printable::line(&record.args().to_string()))?;
    each_pair(record, |key, value| write!(out, " {}={}", printable::line(key), printable::line(&value.to_string())))?;
    writeln!(out)
}

/// The fields of every JSON line; a key-value pair of the same name is left out.
const MEMBERS: [&str; 4] = ["time", "level", "message", "target"];

fn write_json(out: &mut dyn Write, _: Style, record: &Record<'_>) -> io::Result<()> {
    let [time, level, message, target] = MEMBERS;
    let mut json = Vec::with_capacity(256);
    let mut serializer = serde_json::Serializer::new(&mut json);
    let mut line = serializer.serialize_map(None)?;
    line.serialize_entry(time, &Utc::now().to_rfc3339_opts(SecondsFormat::Millis, true))?;
    line.serialize_entry(level, &record.level().as_str().to_ascii_lowercase())?;
    line.serialize_entry(message, record.args())?;
    line.serialize_entry(target, record.target())?;
    each_pair(record, |key, value| {
        match value.to_i64() {
            _ if MEMBERS.contains(&key) => {}
            Some(number) => line.serialize_entry(key, &number)?,
            None => line.serialize_entry(key, &format_args!("{value}"))?,
        }
        Ok(())
    })?;
    SerializeMap::end(line)?;
    writeln!(out, "{}", printable::json(&String::from_utf8_lossy(&json)))
}

fn each_pair(record: &Record<'_>, write: impl FnMut(&str, kv::Value<'_>) -> io::Result<()>) -> io::Result<()> {
    struct Pairs<F>(F);
    impl<'kvs, F: FnMut(&str, kv::Value<'_>) -> io::Result<()>> kv::VisitSource<'kvs> for Pairs<F> {
        fn visit_pair(&mut self, key: kv::Key<'kvs>, value: kv::Value<'kvs>) -> Result<(), kv::Error> {
            self.0(key.as_str(), value).map_err(kv::Error::from)
        }
    }
    record.key_values().visit(&mut Pairs(write)).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, Sender, channel};

    use super::*;

    fn written(write_line: WriteLine, record: &Record<'_>) -> String {
        let mut line = Vec::new();
        write_line(&mut line, Style::new(), record).unwrap();
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_line_holds_message_and_pairs() {
        let pairs = [("event", kv::Value::from(7)), ("incident_key", "4\"2".into()), ("level", "x".into())];
        let builder = &mut Record::builder();
        let record = builder.args(format_args!("queued \"x\"\n")).target("web").level(Level::Info).key_values(&pairs);
        let line = written(write_json, &record.build());
        assert!(line.starts_with(r#"{"time":"2"#) && line.ends_with("}\n"), "{line}");
        assert_eq!(line.matches('\n').count(), 1);
        let members: serde_json::Value = serde_json::from_str(&line).unwrap();
        assert_eq!(members.as_object().unwrap().len(), 6, "{line}");
        assert_eq!(members["level"], "info");
        assert_eq!(members["message"], "queued \"x\"\n");
        assert_eq!(members["target"], "web");
        assert_eq!(members["event"], 7);
        assert_eq!(members["incident_key"], "4\"2");
        let line = written(write_text, &record.build());
        let (time, rest) = line.split_once(' ').unwrap();
        assert!(time.starts_with("[2") && time.ends_with('Z'), "{line}");
        assert_eq!(rest, "INFO  web] queued \"x\"\\n event=7 incident_key=4\"2 level=x\n");
    }

    /// A reader of the log that has to be told to read on: each write is held until then.
    struct Reader {
        began: Sender<()>,
        goes_on: Receiver<()>,
        read: Sender<Vec<u8>>,
    }

    impl Write for Reader {
        fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
            let _ = self.began.send(());
            // Once the sender is dropped, every write passes.
            let _ = self.goes_on.recv();
            let _ = self.read.send(lines.to_vec());
            Ok(lines.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn write_message(out: &mut dyn Write, _: Style, record: &Record<'_>) -> io::Result<()> {
        writeln!(out, "{}", record.args())
    }

    /// Returns a logger that buffers three lines, the guard that ends its writer, and the other ends of its reader.
    fn logger() -> (BufferedLogger, WorkerGuard, Receiver<()>, Sender<()>, Receiver<Vec<u8>>) {
        let ((began, begins), (go_on, goes_on), (read, reads)) = (channel(), channel(), channel());
        let mut builder = Builder::new();
        builder.filter_level(LevelFilter::Info).format(|out, record| write_message(out, Style::new(), record));
        let reader = Reader { began, goes_on, read };
        let (logger, guard) = BufferedLogger::new(&mut builder, reader, 3, write_message);
        (logger, guard, begins, go_on, reads)
    }

    impl BufferedLogger {
        fn info(&self, text: &str) {
            self.log(&Record::builder().level(Level::Info).args(format_args!("{text}")).build());
        }
    }

    #[test]
    fn lines_that_came_while_others_were_written_are_written_together_and_in_their_order() {
        let (logger, _guard, begins, go_on, reads) = logger();
        logger.info("first");
        begins.recv().unwrap();
        for line in ["a", "b", "c"] {
            logger.info(line);
        }
        drop(go_on);
        logger.flush_within(Duration::from_mins(1));
        assert_eq!(reads.try_iter().collect::<Vec<_>>(), [&b"first\n"[..], b"a\nb\nc\n"]);
    }

    #[test]
    fn a_reader_who_stops_holds_up_nobody_and_learns_how_many_lines_were_lost() {
        let (logger, _guard, begins, go_on, reads) = logger();
        logger.info("first");
        begins.recv().unwrap();
        // Nothing is read: lines that find no room are dropped without waiting, and the flush gives up.
        for line in ["a", "b", "c", "lost", "lost", "lost"] {
            logger.info(line);
        }
        logger.flush_within(Duration::from_millis(1));
        assert_eq!(reads.try_iter().count(), 0);
        drop(go_on);
        let read: Vec<u8> = reads.iter().take(2).flatten().collect();
        let expected = "first\na\nb\nc\n3 lines of the log are lost, because nobody read it\n";
        assert_eq!(String::from_utf8(read).unwrap(), expected);
        // Once everything is written, a flush succeeds again.
        logger.flush_within(Duration::from_mins(1));
        logger.info("last");
        logger.flush_within(Duration::from_mins(1));
        assert_eq!(reads.try_iter().collect::<Vec<_>>(), [b"last\n"]);
    }

    struct Broken;

    impl Write for Broken {
        fn write(&mut self, _: &[u8]) -> io::Result<usize> {
            panic!("the log is broken")
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn the_end_of_the_thread_is_told_and_nobody_waits_for_it() {
        let mut builder = Builder::new();
        builder.filter_level(LevelFilter::Info);
        let (logger, _guard) = BufferedLogger::new(&mut builder, Broken, 3, write_message);
        logger.info("first");
        let mut ended = logger.ended.clone();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        let told = runtime.block_on(async { tokio::time::timeout(Duration::from_mins(1), ended.changed()).await });
        assert!(told.expect("nobody is told").is_err());
        logger.info("second");
        logger.flush_within(Duration::from_hours(1));
    }
}
