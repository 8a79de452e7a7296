-- What Sentry's API told of the issue of an incident: the latest firing that catch-up has dealt with, and when the issue was
-- last seen there. An issue that was never seen is not taken for a deleted one.
CREATE TABLE sentry_issues (
    incident_key TEXT    PRIMARY KEY,
    fired_at     INTEGER,
    seen_at      INTEGER,
    noted_at     INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX sentry_issues_noted ON sentry_issues (noted_at);

-- The last run of catch-up that was complete: one row, or none before the first.
CREATE TABLE catch_up (
    id         INTEGER PRIMARY KEY CHECK (id = 1),
    -- What fired before this is dealt with.
    until      INTEGER NOT NULL,
    ran_at     INTEGER NOT NULL,
    found      INTEGER NOT NULL,
    enqueued   INTEGER NOT NULL,
    reported   INTEGER NOT NULL,
    summarized INTEGER NOT NULL
) STRICT;
