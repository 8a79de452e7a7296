-- When Sentry received what an event tells of, by Sentry's own clock. Null where the webhook does not say so: a time of
-- another clock is never compared with one of Sentry's.
ALTER TABLE events ADD COLUMN sentry_at INTEGER;
ALTER TABLE incidents ADD COLUMN sentry_at INTEGER;

-- Of triggers that PagerDuty had not taken by then: when a resolve of their incident came. Null where none did.
ALTER TABLE events ADD COLUMN resolved_at INTEGER;

-- Finds the dead letters of an incident at every integration.
CREATE INDEX events_dead_keys ON events (incident_key) WHERE state = 'dead';

-- Incidents that are closed are forgotten by age, those that are open by number.
DROP INDEX incidents_changed;
CREATE INDEX incidents_closed ON incidents (changed_at) WHERE is_open = 0;
CREATE INDEX incidents_open ON incidents (changed_at) WHERE is_open <> 0;

-- Signed webhooks that may be replayed, and what rejected webhooks became when they were mapped again. The oldest rows go
-- first, whatever the clock shows.
CREATE TABLE seen_webhooks (
    id           INTEGER PRIMARY KEY AUTOINCREMENT,
    digest       BLOB    NOT NULL UNIQUE,
    incident_key TEXT    NOT NULL,
    event_type   TEXT    NOT NULL
) STRICT;

CREATE INDEX seen_webhooks_incidents ON seen_webhooks (incident_key);

-- The headers without which a rejected webhook could not be judged as it would have been when it came.
ALTER TABLE rejected ADD COLUMN idempotency_key TEXT;
ALTER TABLE rejected ADD COLUMN sent_at INTEGER;
ALTER TABLE rejected ADD COLUMN from_sentrys_pages INTEGER NOT NULL DEFAULT 0;
ALTER TABLE rejected ADD COLUMN is_signed INTEGER NOT NULL DEFAULT 0;
