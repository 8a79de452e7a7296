-- What Sentry's API told of the issue of an incident: the latest firing that catch-up has dealt with, and when the issue was
-- last seen there. An issue that was never seen is not taken for a deleted one.
CREATE TABLE sentry_issues (
    incident_key text   COLLATE "C" PRIMARY KEY,
    fired_at     bigint,
    seen_at      bigint,
    noted_at     bigint NOT NULL
);

CREATE INDEX sentry_issues_noted ON sentry_issues (noted_at);

-- The last run of catch-up that was complete: one row, or none before the first.
CREATE TABLE catch_up (
    id         bigint PRIMARY KEY CHECK (id = 1),
    -- What fired before this is dealt with.
    until      bigint NOT NULL,
    ran_at     bigint NOT NULL,
    found      bigint NOT NULL,
    enqueued   bigint NOT NULL,
    reported   bigint NOT NULL,
    summarized bigint NOT NULL
);
