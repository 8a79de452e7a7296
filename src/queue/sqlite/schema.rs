//! The tables of the file: creates and migrates them, checks that they are those of this program, and lets the file shrink.

use std::sync::LazyLock;

use log::{info, warn};
use rusqlite::Connection;
use sqlx::migrate::Migrator;
use sqlx::{Connection as _, SqliteConnection};

use super::database::{Database, is_misfit};
use crate::queue::{QueueError, migrations};

/// A file that cannot shrink is rewritten at startup if its contents take no more than this, in bytes. That takes about
/// a second for each 100 MB, and as much space again meanwhile.
const WRITTEN_ANEW: i64 = 64 << 20;

/// How many pages may be empty in any file, because the next storm of alerts needs them: 4 MiB.
const SPARE_PAGES: i64 = 1024;

static MIGRATIONS: LazyLock<Migrator> = LazyLock::new(migrations::sqlite);

/// Brings the tables up to date, and opens the writer's connection.
pub(super) async fn open(database: &Database) -> Result<Connection, QueueError> {
    let mut aside = database.connect_aside().await?;
    let migrated = migrate(&mut aside, database).await;
    // Closed first, so that the log is written into the file: what the writer does not have in memory is then never
    // only in the log, which someone may truncate.
    let closed = aside.close().await.map_err(|error| database.error(error));
    migrated.and(closed)?;
    database.connect()
}

/// Brings the tables up to date. Refuses the tables of a newer program.
pub(super) async fn migrate(connection: &mut SqliteConnection, database: &Database) -> Result<(), QueueError> {
    // `Migrator::run` calls this, but cannot itself be called from a task: the compiler does not find `Acquire` general
    // enough.
    let migrated = MIGRATIONS.run_direct(None, connection, false).await;
    migrated.map_err(|error| migrations::failed(&MIGRATIONS, error, database.name(), |error| database.error(error)))
}

/// Refuses tables that are not those of this program, and changes nothing.
pub(super) async fn check(connection: &mut SqliteConnection, database: &Database) -> Result<(), QueueError> {
    let found: Option<i64> =
        match sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(connection).await {
            Ok(found) => found,
            Err(error) if is_misfit(&error) => None,
            Err(error) => return Err(database.error(error)),
        };
    migrations::check(&MIGRATIONS, found, database.name())
}

/// Rewrites a file of an earlier version that did not give space back, if that takes only a moment. A failure does not
/// prevent the start.
pub(super) fn let_it_shrink(connection: &Connection, database: &Database) {
    if let Err(error) = rewrite(connection, database) {
        let path = database.path();
        warn!(
            "the file {} will not shrink, because it cannot be set to do so: {}",
            path.display(),
            database.write_error(error)
        );
    }
}

fn rewrite(connection: &Connection, database: &Database) -> rusqlite::Result<()> {
    if number(connection, "PRAGMA auto_vacuum")? == 2 {
        return Ok(());
    }
    let size = number(connection, "PRAGMA page_size")?;
    let (all, free) = pages(connection)?;
    if (all - free).saturating_mul(size) > WRITTEN_ANEW {
        info!(
            "the file {} does not shrink when events are forgotten, because it was made by an earlier version; it will once \
             the bridge starts on less than {} MiB in it, or after `PRAGMA auto_vacuum = INCREMENTAL; VACUUM` while the \
             bridge is stopped",
            database.path().display(),
            WRITTEN_ANEW >> 20
        );
        return Ok(());
    }
    // The connection has requested the mode `INCREMENTAL`, which takes effect only with a VACUUM.
    connection.execute_batch("VACUUM")
}

/// How many pages the file has, and how many of them are empty.
pub(super) fn pages(connection: &Connection) -> rusqlite::Result<(i64, i64)> {
    Ok((number(connection, "PRAGMA page_count")?, number(connection, "PRAGMA freelist_count")?))
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    connection.query_row(pragma, [], |row| row.get(0))
}

/// Whether so many pages are empty that the file should shrink: more than a quarter of those in use, and more than the
/// next storm of alerts may need.
pub(super) fn is_wasteful(all: i64, free: i64) -> bool {
    free > SPARE_PAGES.max((all - free) / 4)
}
