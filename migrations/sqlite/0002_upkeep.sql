-- Finds the end of an incident's line.
CREATE INDEX events_line ON events (service_key, incident_key, id) WHERE state = 'waiting';

-- Webhooks that were answered 400 or 422, as they came.
CREATE TABLE rejected (
    id          INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at INTEGER NOT NULL,
    -- The header Sentry-Hook-Resource, without which the body could not be judged anew.
    resource    TEXT,
    reason      TEXT    NOT NULL,
    size        INTEGER NOT NULL,
    body        BLOB    NOT NULL
) STRICT;

-- Keeping them within bounds does not read their bodies.
CREATE INDEX rejected_sizes ON rejected (id, size);

-- One row, changed whenever somebody but the bridge changes what waits, so that a running bridge notices.
CREATE TABLE changes (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    generation INTEGER NOT NULL
) STRICT;

INSERT INTO changes (id, generation) VALUES (1, 0);

-- As large as a large alert, so that a disk that has room for a number only does not pass for one that takes alerts.
ALTER TABLE heartbeat ADD COLUMN ballast BLOB;
