-- The service keys for which PagerDuty has accepted nothing since a failed attempt: since when, and how the attempts failed.
-- The status page tells the same after a restart as before it.
CREATE TABLE failing_keys (
    service_key TEXT    PRIMARY KEY,
    kind        TEXT    NOT NULL,
    since       INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
