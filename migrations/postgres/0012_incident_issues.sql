-- The issues of incidents that several issues share (BRIDGE_INCIDENT_KEY): each keeps the incident open until it is resolved.
CREATE TABLE incident_issues (
    issue_key    text    COLLATE "C" NOT NULL,
    incident_key text    COLLATE "C" NOT NULL,
    service_key  text    COLLATE "C" NOT NULL,
    is_open      boolean NOT NULL,
    -- When its newest alert came.
    received_at  bigint  NOT NULL,
    -- When Sentry received the latest of its alerts, by Sentry's own clock.
    sentry_at    bigint,
    PRIMARY KEY (issue_key, incident_key, service_key)
);

CREATE INDEX incident_issues_open ON incident_issues (incident_key, service_key, issue_key) WHERE is_open;
CREATE INDEX incident_issues_newest ON incident_issues (received_at) WHERE is_open;
CREATE INDEX incident_issues_closed ON incident_issues (received_at) WHERE NOT is_open;
