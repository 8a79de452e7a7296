//! The migrations of both engines. The build script lists the files in `migrations/`; `sqlx::migrate!` would do the same,
//! but needs a second build of sqlx, of its engines and of SQLite, for the macro that runs in the compiler.

use sqlx::SqlSafeStr as _;
use sqlx::migrate::{Migration, MigrationType, Migrator};

/// Version, description and statements of a migration.
type Source = (i64, &'static str, &'static str);

include!(concat!(env!("OUT_DIR"), "/migrations.rs"));

/// The migrations for the tables of a SQLite file.
pub(super) fn sqlite() -> Migrator {
    migrator(SQLITE)
}

/// The migrations for the tables of a PostgreSQL database.
pub(super) fn postgres() -> Migrator {
    migrator(POSTGRES)
}

fn migrator(sources: &[Source]) -> Migrator {
    let migration = |&(version, description, statements): &Source| {
        Migration::new(version, description.into(), MigrationType::Simple, statements.into_sql_str(), false)
    };
    Migrator::with_migrations(sources.iter().map(migration).collect())
}
