-- When PagerDuty took an event of each integration last: of what was delivered long ago only this is left. One row for each
-- service key that was ever in use.
CREATE TABLE lately_delivered (
    service_key TEXT    PRIMARY KEY,
    at          INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

INSERT INTO lately_delivered (service_key, at)
SELECT service_key, MAX(finished_at) FROM events
WHERE state = 'delivered' AND finished_at IS NOT NULL GROUP BY service_key;

-- Why PagerDuty could not be trusted; null while it can be.
ALTER TABLE lately ADD COLUMN untrusted TEXT;

-- When a dead letter was put back in line last; null for what never was. It waits from then on.
ALTER TABLE events ADD COLUMN revived_at INTEGER;
