-- `id > 0` is true of every event. A partial index is used only by statements that repeat its predicate: with it, these three
-- serve those that look by service key or by number, and never those that look by incident, which would read all that waits.
-- Without it PostgreSQL takes both for equally cheap where a plan is made while the table is small, and keeps that plan.
DROP INDEX events_waiting;
DROP INDEX events_dead;
DROP INDEX events_died;
CREATE INDEX events_waiting ON events (service_key, id) WHERE state = 'waiting' AND id > 0;
CREATE INDEX events_dead ON events (id) WHERE state = 'dead' AND id > 0;
CREATE INDEX events_died ON events (service_key, finished_at) WHERE state = 'dead' AND id > 0;
