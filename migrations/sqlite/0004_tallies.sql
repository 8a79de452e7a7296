-- How many events stand where, so that nobody has to count them. The triggers keep it in the commit that changes them,
-- whoever that is. A row may say zero.
CREATE TABLE tallies (
    service_key TEXT    NOT NULL,
    state       TEXT    NOT NULL,
    -- No check: a wrong number here must never keep an alert out.
    events      INTEGER NOT NULL,
    PRIMARY KEY (service_key, state)
) STRICT, WITHOUT ROWID;

INSERT INTO tallies (service_key, state, events)
SELECT service_key, state, COUNT(*) FROM events GROUP BY service_key, state;

-- Not for an alert that is folded into a row: that is an update.
CREATE TRIGGER events_added AFTER INSERT ON events BEGIN
    INSERT INTO tallies (service_key, state, events) VALUES (new.service_key, new.state, 1)
    ON CONFLICT DO UPDATE SET events = events + 1;
END;

CREATE TRIGGER events_removed AFTER DELETE ON events BEGIN
    UPDATE tallies SET events = events - 1 WHERE service_key = old.service_key AND state = old.state;
END;

-- The service key only changes when somebody changes it by hand.
CREATE TRIGGER events_moved AFTER UPDATE OF state, service_key ON events
WHEN new.state <> old.state OR new.service_key <> old.service_key BEGIN
    UPDATE tallies SET events = events - 1 WHERE service_key = old.service_key AND state = old.state;
    INSERT INTO tallies (service_key, state, events) VALUES (new.service_key, new.state, 1)
    ON CONFLICT DO UPDATE SET events = events + 1;
END;

-- Dead letters from the newest, however much history lies between them.
CREATE INDEX events_dead ON events (id) WHERE state = 'dead';
