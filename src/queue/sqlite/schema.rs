//! The tables of the file, and whether they are those of this program.

use sqlx::SqliteConnection;
use sqlx::migrate::{MigrateError, Migrator};

use super::place::{Place, is_misfit};
use crate::queue::QueueError;

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

fn newest() -> i64 {
    MIGRATIONS.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Brings the tables up to date; refuses those of a newer program.
pub(super) async fn migrate(connection: &mut SqliteConnection, place: &Place) -> Result<(), QueueError> {
    MIGRATIONS.run(connection).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) if found > newest() => newer(place, found),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => place.error(error),
        error => QueueError::Unprepared { path: place.path(), reason: error.to_string() },
    })
}

/// Refuses tables that are not those of this program, and changes nothing.
pub(super) async fn check(connection: &mut SqliteConnection, place: &Place) -> Result<(), QueueError> {
    let found: Option<i64> =
        match sqlx::query_scalar("SELECT MAX(version) FROM _sqlx_migrations").fetch_one(connection).await {
            Ok(found) => found,
            Err(error) if is_misfit(&error) => None,
            Err(error) => return Err(place.error(error)),
        };
    match found {
        Some(found) if found == newest() => Ok(()),
        Some(found) if found > newest() => Err(newer(place, found)),
        Some(found) => Err(unprepared(place, format!("they are at version {found} of {}", newest()))),
        None => Err(unprepared(place, "it has none of them".to_owned())),
    }
}

fn newer(place: &Place, found: i64) -> QueueError {
    QueueError::Newer { path: place.path(), found, known: newest() }
}

fn unprepared(place: &Place, reason: String) -> QueueError {
    QueueError::Unprepared { path: place.path(), reason }
}
