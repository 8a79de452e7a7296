-- What PagerDuty's REST API told about delivered events: whether an incident exists, and which.
CREATE TABLE proofs (
    event_id        bigint PRIMARY KEY,
    service_key     text   NOT NULL,
    state           text   NOT NULL,
    -- When PagerDuty accepted the event, and when it was decided what became of it.
    delivered_at    bigint NOT NULL,
    judged_at       bigint NOT NULL,
    incident_number bigint,
    incident_url    text,
    reason          text
);

CREATE INDEX proofs_confirmed ON proofs (service_key, delivered_at) WHERE state = 'confirmed';
CREATE INDEX proofs_failed ON proofs (delivered_at) WHERE state IN ('not_opened', 'left_open');
