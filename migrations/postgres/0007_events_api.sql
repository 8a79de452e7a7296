-- The Events API that an event is for: 1 for v1, 2 for v2. Its body is in the shape of that API.
ALTER TABLE events ADD COLUMN api bigint NOT NULL DEFAULT 1;

-- The APIs by which an incident was triggered since it was opened: 1, 2, or 3 for both. Each of them resolves it.
ALTER TABLE incidents ADD COLUMN apis bigint NOT NULL DEFAULT 1;
