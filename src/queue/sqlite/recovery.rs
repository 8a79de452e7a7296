//! Saves what it can of files that were deleted, replaced or truncated while the bridge was running.
//!
//! A deleted file continues to exist while it is open, so all of it can be written to its path again. Of a file that
//! was replaced, a copy is put next to the new one, and what only it had is taken over, with the state of its incidents.
//! What was only in a log that was truncated is lost; the numbers of the lost events are logged.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use chrono::Utc;
use log::{error, info, warn};
use rusqlite::{Connection, TransactionBehavior};

use super::database::Database;
use super::files::{FileChange, Files};
use super::numbers;
use crate::queue::tables::TABLES;
use crate::queue::{EventId, QueueError};

/// How many lost events are listed in the log at most.
const NAMED: usize = 50;

/// The offset in SQLite's index of the number of frames that it has begun to write from the log into the database.
/// Source: SQLite's page "WAL-mode File Format", section 2.2.
const BACKFILL_ATTEMPTED: u64 = 128;

/// What was saved.
#[derive(Clone, Debug, Default)]
pub(super) enum Saved {
    /// Nothing, or the file itself.
    #[default]
    Nothing,
    /// Everything, in a file at the path again.
    All,
    /// Everything, in a copy next to the file that is there now.
    Copy(PathBuf),
}

/// Saves what it can of the files that are open, and gives them up. If nothing more is needed from the connection,
/// closing it is left to the caller.
///
/// # Errors
///
/// When that cannot be done yet, for example on a full disk. The connection is still there then, and has what it had.
pub(super) fn save(
    change: FileChange,
    database: &Database,
    files: &Files,
    connection: &mut Option<Connection>,
) -> Result<Saved, QueueError> {
    let Some(open) = connection else { return Ok(Saved::Nothing) };
    match change {
        FileChange::DatabaseGone => {
            // If the path was a link that is gone, too, the file is written where the link was.
            let is_link_there = fs::symlink_metadata(database.path()).is_ok();
            let target = if is_link_there { files.beside("") } else { database.absolute() };
            let copy = copy(open, database, &with(&target, "-restored"))?;
            // SQLite would use a log that is left for the new file.
            for suffix in ["-wal", "-shm"] {
                remove(&with(&target, suffix)).map_err(|error| database.unopened(&error))?;
            }
            // This fails if another file is there by now.
            fs::hard_link(&copy, &target)
                .and_then(|()| fs::remove_file(&copy))
                .and_then(|()| sync_folder(&target))
                .map_err(|error| database.unopened(&error))?;
            close(connection);
            Ok(Saved::All)
        }
        FileChange::DatabaseReplaced => {
            let suffix = format!("-replaced-{}", Utc::now().format("%Y%m%dT%H%M%SZ"));
            let copy = copy(open, database, &files.beside(&suffix))?;
            if files.owns_log() {
                for suffix in ["-wal", "-shm"] {
                    remove(&files.beside(suffix)).map_err(|error| database.unopened(&error))?;
                }
            }
            close(connection);
            warn!("what was in the database {} is kept as {}", database.path().display(), copy.display());
            Ok(Saved::Copy(copy))
        }
        FileChange::LogReplaced | FileChange::IndexReplaced => {
            // The log that is open still has everything.
            let busy: bool = open
                .query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0))
                .map_err(|error| database.write_error(error))?;
            if busy {
                return Err(QueueError::Locked { database: database.name() });
            }
            Ok(Saved::Nothing)
        }
        FileChange::LogTruncated => {
            let log = files.beside("-wal");
            save_log(&log, files, connection).map_err(|error| database.unopened(&error))?;
            Ok(Saved::Nothing)
        }
        FileChange::DatabaseTruncated => {
            // What is no longer in the file may be in the log or in memory; of a small database, this may even be
            // everything.
            let target = files.beside("");
            let copy = match copy(open, database, &with(&target, "-restored")) {
                Ok(copy) => copy,
                Err(error) if error.is_damage() => return Ok(Saved::Nothing),
                // For example, the disk is full. This is tried again.
                Err(error) => return Err(error),
            };
            fs::rename(&copy, &target)
                .and_then(|()| sync_folder(&target))
                .map_err(|error| database.unopened(&error))?;
            for suffix in ["-wal", "-shm"] {
                remove(&with(&target, suffix)).map_err(|error| database.unopened(&error))?;
            }
            close(connection);
            Ok(Saved::All)
        }
    }
}

/// Closes a connection whose log was truncated, and leaves the intact part of that log for SQLite to read, if it has
/// more than the database.
fn save_log(log: &Path, files: &Files, connection: &mut Option<Connection>) -> io::Result<()> {
    let whole = files.whole_frames();
    let part = with(log, "-part");
    if whole > 0 {
        fs::copy(log, &part)?;
    }
    // When it closes, SQLite would write what is left of the log into the database, with zeros for the rest. An empty
    // log cannot be read, so SQLite leaves both files unchanged.
    OpenOptions::new().write(true).open(log)?.set_len(0)?;
    close(connection);
    let mut attempted = [0; 4];
    let index =
        File::open(files.beside("-shm")).and_then(|index| index.read_exact_at(&mut attempted, BACKFILL_ATTEMPTED));
    let in_database = index.map_or(u64::MAX, |()| u64::from(u32::from_ne_bytes(attempted)));
    if whole > 0 && whole >= in_database { fs::rename(part, log) } else { remove(&part).and_then(|()| remove(log)) }
}

/// Prepares the database that was just opened for the running bridge, and logs what is lost.
pub(super) fn restore(
    change: FileChange,
    database: &Database,
    connection: &mut Connection,
    saved: &Saved,
    last: Option<EventId>,
    recent: &[EventId],
) -> Result<(), QueueError> {
    let path = database.path();
    if matches!(change, FileChange::LogTruncated | FileChange::DatabaseTruncated) {
        let found: String = connection
            .query_row("PRAGMA quick_check(1)", [], |row| row.get(0))
            .map_err(|error| database.write_error(error))?;
        if found != "ok" {
            return Err(database.damaged(found));
        }
    }
    number_on(connection, last).map_err(|error| database.write_error(error))?;
    match (change, saved) {
        (_, Saved::Copy(copy)) => match take_over(connection, copy).map_err(|error| database.write_error(error)) {
            Ok(taken) => warn!(
                "the database {} was replaced: the previous file is kept as {}, and {taken} waiting events and dead letters \
                 that only it had are taken over",
                path.display(),
                copy.display()
            ),
            Err(error) if error.is_of_content() => error!(
                "the database {} was replaced, and the waiting events of the previous file cannot be taken over ({error}): \
                 that file is kept as {}",
                path.display(),
                copy.display()
            ),
            // For example, the disk is full or another program has a lock. This is tried again.
            Err(error) => return Err(error),
        },
        (_, Saved::All) => info!("all that was in the database {} was written to its path again", path.display()),
        (FileChange::DatabaseGone | FileChange::DatabaseReplaced, _) => {
            error!("the waiting events of the database that was at {} before are lost", path.display());
        }
        (FileChange::LogTruncated | FileChange::DatabaseTruncated, _) => {
            tell_lost(connection, database, recent).map_err(|error| database.write_error(error))?;
        }
        _ => {}
    }
    Ok(())
}

/// Prevents a new event from getting a number that the bridge already knows, and makes the deliveries read the queue
/// again.
fn number_on(connection: &mut Connection, last: Option<EventId>) -> rusqlite::Result<()> {
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    change.execute("INSERT INTO sqlite_sequence (name, seq) SELECT 'events', 0 WHERE NOT EXISTS (SELECT 1 FROM sqlite_sequence WHERE name = 'events')", [])?;
    let last = last.map_or(0, EventId::get);
    change.execute("UPDATE sqlite_sequence SET seq = MAX(seq, ?) WHERE name = 'events'", [last])?;
    // Larger than any earlier value, because those are counted from one.
    let now = Utc::now().timestamp_millis();
    change.execute("UPDATE changes SET generation = MAX(generation + 1, ?)", [now])?;
    change.commit()
}

/// Takes over what the database `copy` has and this one has not: events that are not delivered, with what is known of their
/// incidents, rejected and held webhooks, and updates of issues. Returns the number of events.
fn take_over(connection: &mut Connection, copy: &Path) -> rusqlite::Result<usize> {
    connection.execute("ATTACH DATABASE ? AS before", [copy.to_string_lossy()])?;
    let taken = take_over_attached(connection);
    connection.execute("DETACH DATABASE before", [])?;
    taken
}

fn take_over_attached(connection: &mut Connection) -> rusqlite::Result<usize> {
    const ONLY_THERE: &str = "FROM before.events AS old WHERE state <> 'delivered' AND NOT EXISTS (SELECT 1 FROM main.events \
        AS new WHERE new.id = old.id AND new.incident_key = old.incident_key AND new.first_seen = old.first_seen)";
    let change = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    // Their numbers come after all numbers that are here, in the same order.
    let last = "SELECT seq FROM main.sqlite_sequence WHERE name = 'events'";
    let base: i64 = change.query_row(last, [], |row| row.get(0))?;
    let columns = columns_except("id", "bodies");
    let bodies = format!(
        "INSERT INTO main.bodies (id, {columns}) SELECT ? + id, {columns} FROM before.bodies WHERE id IN (SELECT id {ONLY_THERE})"
    );
    change.execute(&bodies, [base])?;
    let columns = columns_except("id", "events");
    let events = format!("INSERT INTO main.events (id, {columns}) SELECT ? + id, {columns} {ONLY_THERE} ORDER BY id");
    let taken = change.execute(&events, [base])?;
    for (table, time) in [("incidents", "changed_at"), ("incident_issues", "received_at"), ("resolves", "received_at")]
    {
        change.execute(&newer(table, time, base), [])?;
    }
    for table in ["issue_updates", "seen_webhooks"] {
        let columns = columns_except("id", table);
        let rows = format!("INSERT OR IGNORE INTO main.{table} ({columns}) SELECT {columns} FROM before.{table}");
        change.execute(&rows, [])?;
    }
    // They get new numbers, in the same order.
    for table in ["rejected", "held"] {
        let columns = columns_except("id", table);
        let rows = format!(
            "INSERT INTO main.{table} ({columns}) SELECT {columns} FROM before.{table} AS old WHERE NOT EXISTS (
                SELECT 1 FROM main.{table} AS new WHERE new.id = old.id AND new.received_at = old.received_at
            ) ORDER BY id"
        );
        change.execute(&rows, [])?;
    }
    change.commit()?;
    Ok(taken)
}

/// The statement that takes over rows of a table where they are missing or older here, by `time`: an older backup must not
/// bring back the state that an incident had then. An incident refers to its last event by number, so that number is moved
/// by `base`.
fn newer(table: &str, time: &str, base: i64) -> String {
    let names = names(table);
    let moved = |name: &&str| if *name == "event_id" { format!("{base} + event_id") } else { (*name).to_owned() };
    let values: Vec<_> = names.iter().map(moved).collect();
    let set: Vec<_> = names.iter().map(|name| format!("{name} = excluded.{name}")).collect();
    format!(
        "INSERT INTO main.{table} ({}) SELECT {} FROM before.{table} WHERE TRUE
         ON CONFLICT DO UPDATE SET {} WHERE excluded.{time} > {table}.{time}",
        names.join(", "),
        values.join(", "),
        set.join(", ")
    )
}

/// The columns of a table except one, as SQL lists them.
fn columns_except(except: &str, table: &str) -> String {
    names(table).into_iter().filter(|name| *name != except).collect::<Vec<_>>().join(", ")
}

fn names(table: &str) -> Vec<&'static str> {
    let table = TABLES.iter().filter(|known| known.name == table);
    table.flat_map(|table| table.columns).map(|(name, _)| *name).collect()
}

/// Logs which of the recently accepted events are lost.
fn tell_lost(connection: &Connection, database: &Database, recent: &[EventId]) -> rusqlite::Result<()> {
    let path = database.path();
    let mut lost = connection
        .prepare("SELECT value FROM json_each(?) WHERE value NOT IN (SELECT id FROM events) ORDER BY value")?;
    let lost = lost.query_map([numbers(recent)], |row| row.get(0))?.collect::<rusqlite::Result<Vec<i64>>>()?;
    if lost.is_empty() {
        warn!(
            "no event that was accepted into the database {} lately is lost, but outcomes may be: those events are sent again",
            path.display()
        );
        return Ok(());
    }
    let named: Vec<_> = lost.iter().take(NAMED).map(i64::to_string).collect();
    let more = if lost.len() > NAMED { ", …" } else { "" };
    error!(
        "{} events that were accepted into the database {} are lost (their numbers: {}{more}); the log has a line for each \
         with its incident",
        lost.len(),
        path.display(),
        named.join(", ")
    );
    Ok(())
}

/// Writes everything that the connection sees to a separate file, readable by its owner only, and syncs it to disk.
fn copy(connection: &Connection, database: &Database, to: &Path) -> Result<PathBuf, QueueError> {
    let unopened = |error: io::Error| database.unopened(&error);
    remove(to).map_err(unopened)?;
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(to).map_err(unopened)?;
    let written = connection.execute("VACUUM INTO ?", [to.to_string_lossy()]);
    let synced = match written {
        Ok(_) => File::open(to).and_then(|file| file.sync_all()).map_err(unopened),
        Err(error) => Err(database.write_error(error)),
    };
    if synced.is_err() {
        // An incomplete copy is of no use.
        let _ = fs::remove_file(to);
    }
    synced.map(|()| to.to_owned())
}

fn close(connection: &mut Option<Connection>) {
    // Errors do not matter: it cannot tidy up files that are no longer there.
    drop(connection.take());
}

/// Removes a file that may be missing.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Syncs the folder of a file, so that the names in it are on disk.
fn sync_folder(file: &Path) -> io::Result<()> {
    file.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn with(path: &Path, suffix: &str) -> PathBuf {
    let mut path = path.as_os_str().to_owned();
    path.push(suffix);
    path.into()
}
