-- The attempts of events that were discarded a short while ago: PagerDuty counts them all the same.
CREATE TABLE discarded (
    service_key     TEXT    NOT NULL,
    last_attempt_at INTEGER NOT NULL,
    attempts        INTEGER NOT NULL
) STRICT;

CREATE INDEX discarded_attempted ON discarded (last_attempt_at);
