-- What PagerDuty's REST API told about delivered events: whether an incident exists, and which.
CREATE TABLE proofs (
    event_id        INTEGER PRIMARY KEY,
    service_key     TEXT    NOT NULL,
    state           TEXT    NOT NULL,
    -- When PagerDuty accepted the event, and when it was decided what became of it.
    delivered_at    INTEGER NOT NULL,
    judged_at       INTEGER NOT NULL,
    incident_number INTEGER,
    incident_url    TEXT,
    reason          TEXT
) STRICT;

CREATE INDEX proofs_confirmed ON proofs (service_key, delivered_at) WHERE state = 'confirmed';
CREATE INDEX proofs_failed ON proofs (delivered_at) WHERE state IN ('not_opened', 'left_open');
