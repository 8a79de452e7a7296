-- Finds the dead letters of each integration; the incident tells those of the bridge's own alarms apart.
CREATE INDEX events_dead ON events (service_key, incident_key, finished_at) WHERE state = 'dead';
