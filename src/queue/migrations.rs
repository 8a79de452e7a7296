//! The migrations of both engines, and whether the tables of a database are those of this program. The build script lists
//! the files in `migrations/`; `sqlx::migrate!` would do the same, but needs a second build of sqlx, of its engines and of
//! SQLite, for the macro that runs in the compiler.

use std::cmp::Ordering;

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};

use super::QueueError;

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// The migrations for the tables of a SQLite file.
pub(super) fn sqlite() -> Migrator {
    migrator(SQLITE)
}

/// The migrations for the tables of a PostgreSQL database.
pub(super) fn postgres() -> Migrator {
    migrator(POSTGRES)
}

/// Makes a migrator of the version, the description and the statements of each migration.
fn migrator(sources: &[(i64, &'static str, &'static str)]) -> Migrator {
    let migration = |&(version, description, statements): &(i64, &'static str, &'static str)| {
        Migration::new(version, description.into(), MigrationType::Simple, statements.into_sql_str(), false)
    };
    Migrator::with_migrations(sources.iter().map(migration).collect())
}

/// The version of the tables after all migrations.
pub(super) fn newest(migrations: &Migrator) -> i64 {
    migrations.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Refuses the tables of a database, which are at the version `found`, if any, unless they are those of this program.
pub(super) fn check(migrations: &Migrator, found: Option<i64>, database: String) -> Result<(), QueueError> {
    let known = newest(migrations);
    let Some(found) = found else {
        return Err(QueueError::Unprepared { database, reason: "it has none of them".to_owned() });
    };
    match found.cmp(&known) {
        Ordering::Equal => Ok(()),
        Ordering::Greater => Err(QueueError::Newer { database, found, known }),
        Ordering::Less => {
            Err(QueueError::Unprepared { database, reason: format!("they are at version {found} of {known}") })
        }
    }
}

/// The error for tables that could not be brought up to date; `of_engine` translates those of the database.
pub(super) fn failed(
    migrations: &Migrator,
    error: MigrateError,
    database: String,
    of_engine: impl FnOnce(sqlx::Error) -> QueueError,
) -> QueueError {
    let known = newest(migrations);
    match error {
        MigrateError::VersionMissing(found) if found > known => QueueError::Newer { database, found, known },
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => of_engine(error),
        error => QueueError::Unprepared { database, reason: error.to_string() },
    }
}
