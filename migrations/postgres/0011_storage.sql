-- Bodies are JSON of a few KB. LZ4 compresses them in a fraction of the time that PostgreSQL's own method takes; it is there from
-- PostgreSQL 14 on, unless the server was built without it.
DO $$
BEGIN
    EXECUTE 'ALTER TABLE bodies ALTER body SET COMPRESSION lz4';
EXCEPTION WHEN syntax_error OR feature_not_supported OR invalid_parameter_value THEN
    NULL;
END $$;

-- Rows come in about the order of this time, and only retention looks by it: an index of a few pages is enough, and an alert does
-- not have to write to it.
DROP INDEX incident_queues_used;
CREATE INDEX incident_queues_used ON incident_queues USING brin (used_at);
