-- Where incidents were opened, as far as PagerDuty has taken it; what still waits is told by the events themselves.
CREATE TABLE incidents (
    incident_key TEXT    NOT NULL,
    service_key  TEXT    NOT NULL,
    is_open      INTEGER NOT NULL,
    changed_at   INTEGER NOT NULL,
    PRIMARY KEY (incident_key, service_key)
) STRICT, WITHOUT ROWID;

CREATE INDEX incidents_changed ON incidents (changed_at);

-- Resolves of the last minute: a trigger that Sentry sent before one may come after it.
CREATE TABLE resolves (
    incident_key TEXT    PRIMARY KEY,
    happened_at  INTEGER NOT NULL,
    received_at  INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX resolves_received ON resolves (received_at);

-- By incident first, so that it also tells at which integrations events of one incident wait.
DROP INDEX events_line;
CREATE INDEX events_line ON events (incident_key, service_key, id) WHERE state = 'waiting';
