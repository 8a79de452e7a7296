-- The service keys for which PagerDuty has accepted nothing since a failed attempt: since when, and how the attempts failed.
-- The status page tells the same after a restart as before it, and the same on every bridge.
CREATE TABLE failing_keys (
    service_key text   COLLATE "C" PRIMARY KEY,
    kind        text   COLLATE "C" NOT NULL,
    since       bigint NOT NULL
);
