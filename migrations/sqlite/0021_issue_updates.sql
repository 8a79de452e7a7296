-- What people did to incidents in PagerDuty and has to be done to the issues in Sentry: what waits, and what was dealt with
-- lately, so that a repetition of a webhook is recognised, and a webhook of Sentry's that follows from it.
CREATE TABLE issue_updates (
    -- PagerDuty's header X-Webhook-Id, or the event's id.
    webhook_id      TEXT    PRIMARY KEY,
    incident_key    TEXT    NOT NULL,
    -- resolve or unresolve.
    change          TEXT    NOT NULL,
    -- waiting, done or dead.
    state           TEXT    NOT NULL,
    -- When it happened, by PagerDuty's clock.
    happened_at     INTEGER NOT NULL,
    received_at     INTEGER NOT NULL,
    attempts        INTEGER NOT NULL,
    next_attempt_at INTEGER NOT NULL,
    finished_at     INTEGER,
    -- Why the last attempt failed, or why nothing was to be done.
    reason          TEXT
) STRICT, WITHOUT ROWID;

CREATE INDEX issue_updates_state ON issue_updates (state, received_at);
CREATE INDEX issue_updates_incident ON issue_updates (incident_key, change);
