-- What happened in steps of ten minutes, as far as a day back.
CREATE TABLE activity (
    began_at  INTEGER PRIMARY KEY,
    received  INTEGER NOT NULL,
    delivered INTEGER NOT NULL,
    throttled INTEGER NOT NULL,
    failed    INTEGER NOT NULL
) STRICT;

-- One row: when something happened last. Null when it never did.
CREATE TABLE lately (
    id                INTEGER PRIMARY KEY CHECK (id = 1),
    last_webhook_at   INTEGER,
    last_delivered_at INTEGER
) STRICT;

INSERT INTO lately (id) VALUES (1);
