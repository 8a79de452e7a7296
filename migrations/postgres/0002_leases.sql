-- The bridges that share this database, each a run of the program. Those that were not seen for an hour are deleted.
CREATE TABLE bridges (
    id                uuid        PRIMARY KEY,
    name              text        NOT NULL,
    version           text        NOT NULL,
    fingerprint       text        NOT NULL,
    is_leaving        boolean     NOT NULL,
    reaches_pagerduty boolean     NOT NULL,
    last_seen         timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);

-- Which bridge delivers for which service key, and which one does what is done for all (`periodic`). An owner of NULL has
-- released it; one whose time is over has not. No index but the key, so that a renewal stays a change within one page.
CREATE TABLE leases (
    name   text        COLLATE "C" PRIMARY KEY,
    owner  uuid,
    number bigint      NOT NULL,
    until  timestamptz NOT NULL
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0.01, autovacuum_vacuum_threshold = 1000);
