//! The tables of the database, and whether they are those of this program.

use sqlx::migrate::Migrator;
use sqlx::{Connection, PgConnection, Row as _};

use super::Server;
use super::error::{PgFailure, failure};
use crate::queue::{QueueError, migrations};

/// The advisory lock of the bridge that brings the tables up to date, held until the end of that transaction. The
/// number has no other meaning.
const MIGRATION_LOCK: i64 = 7_316_421_902_350_117;

/// The migrations to the tables that this program needs.
fn migrator() -> Migrator {
    let mut migrator = migrations::postgres();
    // The migrator's own lock would be held for the whole session.
    migrator.set_locking(false);
    migrator
}

/// Brings the tables up to date, once, however many bridges start together. Refuses the tables of a newer program.
pub(super) async fn migrate(server: &Server) -> Result<(), QueueError> {
    let migrator = migrator();
    let mut connection = server.connect_directly().await?;
    // If nothing has to be done, do not wait for other bridges.
    if let Ok(Some(found)) = found(&mut connection).await
        && found >= migrations::newest(&migrator)
    {
        return migrations::check(&migrator, Some(found), server.name());
    }
    let mut transaction = connection.begin().await.map_err(|error| server.error(error))?;
    let locked = sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(MIGRATION_LOCK).execute(&mut *transaction).await;
    locked.map_err(|error| server.error(error))?;
    let migrated = migrator.run_direct(None, &mut *transaction, false).await;
    migrated.map_err(|error| migrations::failed(&migrator, error, server.name(), |error| server.error(error)))?;
    transaction.commit().await.map_err(|error| server.error(error))?;
    let _ = connection.close().await;
    Ok(())
}

/// Refuses tables that are not those of this program, and changes nothing.
pub(super) async fn check(connection: &mut PgConnection, server: &Server) -> Result<(), QueueError> {
    let found = match found(connection).await {
        Ok(found) => found,
        Err(error) if failure(&error) == PgFailure::Statement => None,
        Err(error) => return Err(server.error(error)),
    };
    migrations::check(&migrator(), found, server.name())
}

/// Reads the version of the tables in one message, for which a pooler assigns one connection of the server.
async fn found(connection: &mut PgConnection) -> sqlx::Result<Option<i64>> {
    let versions = sqlx::raw_sql("SELECT MAX(version) AS newest FROM _sqlx_migrations");
    versions.fetch_one(connection).await?.try_get("newest")
}
