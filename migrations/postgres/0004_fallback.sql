-- What BRIDGE_FALLBACK_URL was told last, in one row: an outage since then, or with null that it is over.
CREATE TABLE fallback (
    id           bigint PRIMARY KEY CHECK (id = 1),
    told_at      bigint NOT NULL,
    outage_since bigint
);
