-- Canaries: events that the bridge sent through Sentry, and when their webhooks came back.
CREATE TABLE canaries (
    event_id    text   COLLATE "C" PRIMARY KEY,
    sent_at     bigint NOT NULL,
    -- True once Sentry has accepted it, false when it has not; null while that is not known.
    taken       boolean,
    -- Why it has not.
    failure     text,
    returned_at bigint
);

CREATE INDEX canaries_sent ON canaries (sent_at);
CREATE INDEX canaries_returned ON canaries (sent_at) WHERE returned_at IS NOT NULL;
