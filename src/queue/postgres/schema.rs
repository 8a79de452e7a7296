//! The tables of the database, and whether they are those of this program.

use sqlx::migrate::{MigrateError, Migrator};
use sqlx::{Connection, PgConnection, Row as _};

use super::Server;
use super::error::{Fault, fault};
use crate::queue::QueueError;

/// The advisory lock of the bridge that brings the tables up to date, held until the end of that transaction. The
/// number has no other meaning.
const MIGRATION_LOCK: i64 = 7_316_421_902_350_117;

/// The migrations to the tables that this program needs.
fn migrations() -> Migrator {
    let mut migrations = crate::queue::migrations::postgres();
    // The migrator's own lock would be held for the whole session.
    migrations.set_locking(false);
    migrations
}

fn newest(migrations: &Migrator) -> i64 {
    migrations.iter().map(|migration| migration.version).max().unwrap_or_default()
}

/// Brings the tables up to date, once, however many bridges start together. Refuses the tables of a newer program.
pub(super) async fn migrate(server: &Server) -> Result<(), QueueError> {
    let migrations = migrations();
    let mut connection = server.connect_directly().await?;
    // If nothing has to be done, do not wait for other bridges.
    match found(&mut connection).await {
        Ok(Some(found)) if found == newest(&migrations) => return Ok(()),
        Ok(Some(found)) if found > newest(&migrations) => return Err(newer(server, found, &migrations)),
        _ => {}
    }
    let mut transaction = connection.begin().await.map_err(|error| server.error(error))?;
    let locked = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *transaction).await;
    locked.map_err(|error| server.error(error))?;
    migrations.run_direct(None, &mut *transaction, false).await.map_err(|error| match error {
        MigrateError::VersionMissing(found) if found > newest(&migrations) => newer(server, found, &migrations),
        MigrateError::Execute(error) | MigrateError::ExecuteMigration(error, _) => server.error(error),
        error => unprepared(server, error.to_string()),
    })?;
    transaction.commit().await.map_err(|error| server.error(error))?;
    let _ = connection.close().await;
    Ok(())
}

/// Refuses tables that are not those of this program, and changes nothing.
pub(super) async fn check(connection: &mut PgConnection, server: &Server) -> Result<(), QueueError> {
    let migrations = migrations();
    let newest = newest(&migrations);
    match found(connection).await {
        Ok(Some(found)) if found == newest => Ok(()),
        Ok(Some(found)) if found > newest => Err(newer(server, found, &migrations)),
        Ok(Some(found)) => Err(unprepared(server, format!("they are at version {found} of {newest}"))),
        Ok(None) => Err(unprepared(server, "it has none of them".to_owned())),
        Err(error) if fault(&error) == Fault::Statement => Err(unprepared(server, "it has none of them".to_owned())),
        Err(error) => Err(server.error(error)),
    }
}

/// Reads the version of the tables in one message, for which a pooler assigns one connection of the server.
async fn found(connection: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    let versions = sqlx::raw_sql("SELECT MAX(version) AS newest FROM _sqlx_migrations");
    versions.fetch_one(connection).await?.try_get("newest")
}

fn newer(server: &Server, found: i64, migrations: &Migrator) -> QueueError {
    QueueError::Newer { database: server.name(), found, known: newest(migrations) }
}

fn unprepared(server: &Server, reason: String) -> QueueError {
    QueueError::Unprepared { database: server.name(), reason }
}
