-- What BRIDGE_FALLBACK_URL was told last, in one row: an outage since then, or with null that it is over.
CREATE TABLE fallback (
    id           INTEGER PRIMARY KEY CHECK (id = 1),
    told_at      INTEGER NOT NULL,
    outage_since INTEGER
) STRICT;
