-- Times are milliseconds since 1970, UTC.
CREATE TABLE events (
    -- AUTOINCREMENT: a number is never used twice, so the order of numbers stays the order of the line.
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    state           TEXT    NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'dead', 'delivered')),
    service_key     TEXT    NOT NULL,
    incident_key    TEXT    NOT NULL,
    event_type      TEXT    NOT NULL CHECK (event_type IN ('trigger', 'acknowledge', 'resolve')),
    count           INTEGER NOT NULL DEFAULT 1,
    received_at     INTEGER NOT NULL,
    first_seen      INTEGER NOT NULL,
    attempts        INTEGER NOT NULL DEFAULT 0,
    last_attempt_at INTEGER,
    next_attempt_at INTEGER,
    blamed_ms       INTEGER NOT NULL DEFAULT 0,
    finished_at     INTEGER,
    reason          TEXT,
    description     TEXT    NOT NULL
) STRICT;

-- Apart from the events, so that marking an attempt does not write the body again and reading the line does not
-- drag the bodies through memory.
CREATE TABLE bodies (
    id   INTEGER PRIMARY KEY,
    body BLOB NOT NULL
) STRICT;

CREATE INDEX events_waiting ON events (service_key, id) WHERE state = 'waiting';
CREATE INDEX events_attempted ON events (last_attempt_at) WHERE last_attempt_at IS NOT NULL;
CREATE INDEX events_finished ON events (state, finished_at) WHERE finished_at IS NOT NULL;

-- One row, written to learn whether anything can be committed.
CREATE TABLE heartbeat (
    id    INTEGER PRIMARY KEY CHECK (id = 1),
    beats INTEGER NOT NULL
) STRICT;

INSERT INTO heartbeat (id, beats) VALUES (1, 0);
