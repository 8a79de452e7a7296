-- Webhooks whose signature was well-formed and made with no secret that was known then. They are kept for a day: a secret may
-- become known that made it.
CREATE TABLE held (
    id              INTEGER PRIMARY KEY AUTOINCREMENT,
    received_at     INTEGER NOT NULL,
    -- The network it came from; null for one with a right token.
    network         TEXT,
    signature       BLOB    NOT NULL,
    resource        TEXT,
    idempotency_key TEXT,
    sent_at         INTEGER,
    size            INTEGER NOT NULL,
    body            BLOB    NOT NULL
) STRICT;

-- They are counted and listed without their bodies.
CREATE INDEX held_sizes ON held (id, received_at, network, size);
