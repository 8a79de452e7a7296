//! Checks whether attempts begin and end under a lease that this bridge still holds.

use sqlx::{PgConnection, Row as _};

use crate::queue::EventId;
use crate::queue::store::{Known, Wanted};

/// The events whose lease has this owner and this number. The leases are locked until the end of the transaction, so a
/// change of a lease waits for it. They are locked in the order of their names, after the incidents.
const ALLOWED: &str = "SELECT wanted.id
    FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS wanted (id, owner, number)
    JOIN events ON events.id = wanted.id
    JOIN leases ON leases.name = events.service_key AND leases.owner = wanted.owner::uuid
        AND leases.number = wanted.number
    ORDER BY leases.name FOR SHARE OF leases";

const EXISTING: &str = "SELECT id FROM events WHERE id = ANY($1::bigint[])";

/// Finds out which events of `wanted` are fenced. An event that no longer exists is not.
pub(super) async fn load(connection: &mut PgConnection, wanted: &Wanted, known: &mut Known) -> sqlx::Result<()> {
    if wanted.fences.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = wanted.fences.keys().map(|id| id.get()).collect();
    let owners: Vec<_> = wanted.fences.values().map(|fence| fence.owner.to_string()).collect();
    let numbers: Vec<_> = wanted.fences.values().map(|fence| fence.number).collect();
    let query = sqlx::query(ALLOWED).bind(&ids).bind(owners).bind(numbers);
    let allowed = self::ids(&query.fetch_all(&mut *connection).await?)?;
    let others: Vec<_> = ids.into_iter().filter(|id| !allowed.contains(&EventId::new(*id))).collect();
    if !others.is_empty() {
        known.fenced.extend(self::ids(&sqlx::query(EXISTING).bind(others).fetch_all(connection).await?)?);
    }
    Ok(())
}

fn ids(rows: &[sqlx::postgres::PgRow]) -> sqlx::Result<Vec<EventId>> {
    rows.iter().map(|row| row.try_get(0).map(EventId::new)).collect()
}
