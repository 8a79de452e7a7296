-- Webhooks with a wrong signature that came in a row, in one row: a restart does not end it. The addresses they came from are
-- separated by commas.
CREATE TABLE wrong_signatures (
    id        INTEGER PRIMARY KEY CHECK (id = 1),
    number    INTEGER NOT NULL,
    first_at  INTEGER,
    lasted_ms INTEGER NOT NULL,
    senders   TEXT    NOT NULL,
    more      INTEGER NOT NULL
) STRICT;
