-- Canaries: events that the bridge sent through Sentry, and when their webhooks came back.
CREATE TABLE canaries (
    event_id    TEXT    PRIMARY KEY,
    sent_at     INTEGER NOT NULL,
    -- 1 once Sentry has taken it, 0 when it has not; null while that is not known.
    taken       INTEGER,
    -- Why it has not.
    failure     TEXT,
    returned_at INTEGER
) STRICT, WITHOUT ROWID;

CREATE INDEX canaries_sent ON canaries (sent_at);
CREATE INDEX canaries_returned ON canaries (sent_at) WHERE returned_at IS NOT NULL;
