//! The rows of bridges and leases, hints between bridges, and whether attempts begin and end under a lease that this
//! bridge still holds.

use std::time::Duration;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::postgres::{PgListener, PgPoolOptions, PgRow};
use sqlx::{PgConnection, Row as _};
use tokio::runtime::Handle;
use tokio::sync::Mutex;
use tokio::time::timeout;

use super::pools::bounded;
use super::read::with_keys;
use super::{PostgresEngine, PostgresReads};
use crate::pagerduty::ServiceKey;
use crate::queue::leases::{
    BridgeId, BridgeInfo, BridgeRow, KEEP_BRIDGES, LeaseChanges, LeaseName, LeaseRow, LeaseState, LeaseStore,
};
use crate::queue::store::{Dependencies, Known};
use crate::queue::{EventId, QueueError};

/// The channel of the hints.
const CHANNEL: &str = "sentry_pagerduty_bridge";

/// How many keys a hint names at most; PostgreSQL takes less than 8000 bytes. A hint without keys means all keys.
const HINTED: usize = 200;

/// How often a connection that only listens is tested: one whose other end vanished reports nothing.
const KEEP_ALIVE: Duration = Duration::from_secs(30);

const SEEN: &str = "INSERT INTO bridges (id, name, version, fingerprint, is_leaving, reaches_pagerduty, last_seen)
    VALUES ($1::uuid, $2, $3, $4, $5, $6, clock_timestamp())
    ON CONFLICT (id) DO UPDATE SET name = excluded.name, version = excluded.version, fingerprint = excluded.fingerprint,
        is_leaving = excluded.is_leaving, reaches_pagerduty = excluded.reaches_pagerduty, last_seen = excluded.last_seen";

/// Locks leases in the order of their names, so that two bridges never wait for each other.
const LOCK: &str = "SELECT name FROM leases WHERE name = ANY($1::text[]) ORDER BY name FOR UPDATE";

const RENEW: &str = "UPDATE leases SET until = clock_timestamp() + $4 * interval '1 millisecond'
    FROM unnest($2::text[], $3::bigint[]) AS asked (name, number)
    WHERE leases.name = asked.name AND leases.number = asked.number AND owner = $1::uuid";

const TAKE: &str = "UPDATE leases SET owner = $1::uuid, number = leases.number + 1,
        until = clock_timestamp() + $4 * interval '1 millisecond'
    FROM unnest($2::text[], $3::bigint[]) AS asked (name, number)
    WHERE leases.name = asked.name AND leases.number = asked.number
        AND (owner IS NULL OR owner = $1::uuid OR until <= clock_timestamp())";

const CREATE: &str = "INSERT INTO leases (name, owner, number, until)
    SELECT name, $1::uuid, 1, clock_timestamp() + $3 * interval '1 millisecond' FROM unnest($2::text[]) AS asked (name)
    ORDER BY name ON CONFLICT (name) DO NOTHING";

const RELEASE: &str = "UPDATE leases SET owner = NULL, until = clock_timestamp()
    FROM unnest($2::text[], $3::bigint[]) AS asked (name, number)
    WHERE leases.name = asked.name AND leases.number = asked.number AND owner = $1::uuid";

const END: &str = "UPDATE leases SET until = LEAST(until, clock_timestamp())
    FROM unnest($2::text[], $3::bigint[]) AS asked (name, number)
    WHERE leases.name = asked.name AND leases.number = asked.number AND owner = $1::uuid";

const FORGET: &str = "DELETE FROM bridges WHERE last_seen < clock_timestamp() - $1 * interval '1 millisecond'";

const BRIDGES: &str = "SELECT id::text, name, version, fingerprint, is_leaving, reaches_pagerduty,
        (EXTRACT(EPOCH FROM last_seen) * 1000000)::bigint
    FROM bridges ORDER BY bridges.id";

const LEASES: &str =
    "SELECT name, owner::text, number, (EXTRACT(EPOCH FROM until) * 1000000)::bigint FROM leases ORDER BY name";

/// Times are read as microseconds since 1970.
const NOW: &str = "SELECT (EXTRACT(EPOCH FROM clock_timestamp()) * 1000000)::bigint";

const UNLEASED: &str = with_keys!(
    "SELECT service_key FROM keys WHERE service_key IS NOT NULL
        AND NOT EXISTS (SELECT 1 FROM leases WHERE leases.name = service_key)"
);

/// The events whose lease has this owner and this number. The leases are locked until the end of the transaction, so a
/// change of a lease waits for it. They are locked in the order of their names, after the incidents.
const ALLOWED: &str = "SELECT wanted.id
    FROM unnest($1::bigint[], $2::text[], $3::bigint[]) AS wanted (id, owner, number)
    JOIN events ON events.id = wanted.id
    JOIN leases ON leases.name = events.service_key AND leases.owner = wanted.owner::uuid
        AND leases.number = wanted.number
    ORDER BY leases.name FOR SHARE OF leases";

const EXISTING: &str = "SELECT id FROM events WHERE id = ANY($1::bigint[])";

/// Leases in PostgreSQL.
#[derive(Debug)]
pub(in crate::queue) struct PostgresLeases {
    /// With a connection of its own: a lease that is not renewed in time costs more than any read.
    engine: Mutex<PostgresEngine>,
    reads: PostgresReads,
    listener: Mutex<Option<Listener>>,
}

/// A connection that listens. Dropping it spawns a task that tells the server, so outside of a runtime, as when the
/// process ends, closing it is left to the system.
#[derive(Debug)]
struct Listener(Option<PgListener>);

impl Drop for Listener {
    fn drop(&mut self) {
        if Handle::try_current().is_err() {
            std::mem::forget(self.0.take());
        }
    }
}

impl PostgresLeases {
    pub(in crate::queue) fn new(engine: PostgresEngine) -> Self {
        let reads = engine.reads();
        Self { engine: Mutex::new(engine), reads, listener: Mutex::new(None) }
    }

    async fn listen(&self) -> Result<Listener, QueueError> {
        let server = self.reads.delivery_pool().server();
        let pool = PgPoolOptions::new().max_connections(1).connect_lazy_with(server.direct_options());
        let listening = async {
            let mut listener = Listener(Some(PgListener::connect_with(&pool).await?));
            if let Some(connection) = &mut listener.0 {
                connection.listen(CHANNEL).await?;
            }
            Ok(listener)
        };
        match timeout(server.timeout(), listening).await {
            Ok(listening) => listening.map_err(|error: sqlx::Error| server.error(error)),
            Err(_) => Err(server.timed_out()),
        }
    }
}

#[async_trait]
impl LeaseStore for PostgresLeases {
    async fn exchange(
        &self,
        me: &BridgeInfo,
        changes: &LeaseChanges,
        duration: Duration,
    ) -> Result<LeaseState, QueueError> {
        let mut engine = self.engine.lock().await;
        let limit = engine.server.timeout();
        engine.transact(limit, async |connection| exchange(connection, me, changes, duration).await).await
    }

    async fn announce(&self, me: BridgeId, keys: &[ServiceKey]) -> Result<(), QueueError> {
        let names = if keys.len() > HINTED { &[] } else { keys };
        let payload = std::iter::once(me.to_string()).chain(names.iter().map(|key| key.expose().to_owned()));
        let payload = payload.collect::<Vec<_>>().join(" ");
        self.reads
            .delivery_pool()
            .with(async |connection| {
                // In a transaction of its own: transactions that notify are committed one after the other in the whole
                // server.
                let query = sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(payload);
                query.execute(connection).await.map(drop)
            })
            .await
    }

    async fn hints(&self, me: BridgeId) -> Result<Vec<ServiceKey>, QueueError> {
        let mut kept = self.listener.lock().await;
        let Some(mut listener) = kept.take() else {
            *kept = Some(self.listen().await?);
            // Hints that were sent before are unknown.
            return Ok(Vec::new());
        };
        let own = me.to_string();
        while let Some(connection) = &mut listener.0 {
            match timeout(KEEP_ALIVE, connection.try_recv()).await {
                Ok(Ok(Some(notification))) => {
                    let mut words = notification.payload().split(' ');
                    if words.next() == Some(&own) {
                        continue;
                    }
                    let keys = words.filter_map(|key| ServiceKey::parse(key).ok()).collect();
                    *kept = Some(listener);
                    return Ok(keys);
                }
                // The connection was lost; it is made again by the next call.
                Ok(Ok(None)) => return Ok(Vec::new()),
                Ok(Err(error)) => return Err(self.reads.delivery_pool().server().error(error)),
                Err(_) => {
                    let server = self.reads.delivery_pool().server();
                    let answer = bounded(server.timeout(), sqlx::query("SELECT 1").execute(connection)).await;
                    answer.ok_or_else(|| server.timed_out())?.map_err(|error| server.error(error))?;
                }
            }
        }
        Ok(Vec::new())
    }
}

async fn exchange(
    connection: &mut PgConnection,
    me: &BridgeInfo,
    changes: &LeaseChanges,
    duration: Duration,
) -> sqlx::Result<LeaseState> {
    let id = me.id.to_string();
    let duration = milliseconds(duration);
    let LeaseChanges { renew, take, create, release, end, leave } = changes;
    let numbered = || [renew, take, release, end].into_iter().flatten().map(|(name, _)| name);
    let names: Vec<_> = numbered().map(LeaseName::as_str).collect();
    if !names.is_empty() {
        sqlx::query(LOCK).bind(names).execute(&mut *connection).await?;
    }
    for (statement, asked) in [(RENEW, renew), (TAKE, take), (RELEASE, release), (END, end)] {
        if asked.is_empty() {
            continue;
        }
        let (names, numbers): (Vec<_>, Vec<_>) = asked.iter().map(|(name, number)| (name.as_str(), *number)).unzip();
        let query = sqlx::query(statement).bind(&id).bind(names).bind(numbers);
        let lasts = [RENEW, TAKE].contains(&statement);
        let query = if lasts { query.bind(duration) } else { query };
        query.execute(&mut *connection).await?;
    }
    if !create.is_empty() {
        let names: Vec<_> = create.iter().map(LeaseName::as_str).collect();
        sqlx::query(CREATE).bind(&id).bind(names).bind(duration).execute(&mut *connection).await?;
    }
    if *leave {
        sqlx::query("DELETE FROM bridges WHERE id = $1::uuid").bind(&id).execute(&mut *connection).await?;
    } else {
        let query = sqlx::query(SEEN).bind(&id).bind(&me.name).bind(&me.version).bind(&me.fingerprint);
        query.bind(me.is_leaving).bind(me.reaches_pagerduty).execute(&mut *connection).await?;
    }
    sqlx::query(FORGET).bind(milliseconds(KEEP_BRIDGES)).execute(&mut *connection).await?;
    state(connection).await
}

async fn state(connection: &mut PgConnection) -> sqlx::Result<LeaseState> {
    let bridges = sqlx::query(BRIDGES).fetch_all(&mut *connection).await?;
    let leases = sqlx::query(LEASES).fetch_all(&mut *connection).await?;
    let unleased: Vec<String> = sqlx::query_scalar(UNLEASED).fetch_all(&mut *connection).await?;
    let now = time(&sqlx::query(NOW).fetch_one(connection).await?, 0)?;
    let mut unleased: Vec<_> = unleased.iter().filter_map(|key| ServiceKey::parse(key).ok()).collect();
    unleased.sort();
    Ok(LeaseState {
        now,
        bridges: bridges.iter().map(bridge).collect::<sqlx::Result<_>>()?,
        // Rows with a name that the bridge did not write are left out.
        leases: leases.iter().filter_map(|row| lease(row).transpose()).collect::<sqlx::Result<_>>()?,
        unleased,
    })
}

fn bridge(row: &PgRow) -> sqlx::Result<BridgeRow> {
    let info = BridgeInfo {
        id: id(row.try_get(0)?)?,
        name: row.try_get(1)?,
        version: row.try_get(2)?,
        fingerprint: row.try_get(3)?,
        is_leaving: row.try_get(4)?,
        reaches_pagerduty: row.try_get(5)?,
    };
    Ok(BridgeRow { info, last_seen: time(row, 6)? })
}

fn lease(row: &PgRow) -> sqlx::Result<Option<LeaseRow>> {
    let Some(name) = LeaseName::parse(row.try_get(0)?) else { return Ok(None) };
    let owner: Option<&str> = row.try_get(1)?;
    let owner = owner.map(id).transpose()?;
    Ok(Some(LeaseRow { name, owner, number: row.try_get(2)?, until: time(row, 3)? }))
}

fn id(text: &str) -> sqlx::Result<BridgeId> {
    BridgeId::parse(text).ok_or_else(|| sqlx::Error::Decode("the id of a bridge is not a UUID".into()))
}

fn time(row: &PgRow, column: usize) -> sqlx::Result<DateTime<Utc>> {
    let invalid = || sqlx::Error::Decode("a time is out of range".into());
    DateTime::from_timestamp_micros(row.try_get(column)?).ok_or_else(invalid)
}

fn milliseconds(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1000.0
}

/// Finds out which events of `dependencies` are fenced. An event that no longer exists is not.
pub(super) async fn load_fenced(
    connection: &mut PgConnection,
    dependencies: &Dependencies,
    known: &mut Known,
) -> sqlx::Result<()> {
    if dependencies.fences.is_empty() {
        return Ok(());
    }
    let ids: Vec<_> = dependencies.fences.keys().map(|id| id.get()).collect();
    let owners: Vec<_> = dependencies.fences.values().map(|fence| fence.owner.to_string()).collect();
    let numbers: Vec<_> = dependencies.fences.values().map(|fence| fence.number).collect();
    let query = sqlx::query(ALLOWED).bind(&ids).bind(owners).bind(numbers);
    let allowed = event_ids(&query.fetch_all(&mut *connection).await?)?;
    let others: Vec<_> = ids.into_iter().filter(|id| !allowed.contains(&EventId::new(*id))).collect();
    if !others.is_empty() {
        known.fenced.extend(event_ids(&sqlx::query(EXISTING).bind(others).fetch_all(connection).await?)?);
    }
    Ok(())
}

fn event_ids(rows: &[PgRow]) -> sqlx::Result<Vec<EventId>> {
    rows.iter().map(|row| row.try_get(0).map(EventId::new)).collect()
}
