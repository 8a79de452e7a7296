-- Webhooks with a wrong signature that came in a row, in one row: a restart does not end it. The addresses they came from are
-- separated by commas. Of several bridges it is the row of the one that saw the last of them.
CREATE TABLE wrong_signatures (
    id        bigint  PRIMARY KEY CHECK (id = 1),
    number    bigint  NOT NULL,
    first_at  bigint,
    lasted_ms bigint  NOT NULL,
    senders   text    NOT NULL,
    more      boolean NOT NULL
);
