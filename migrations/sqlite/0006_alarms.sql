-- Finds the newest dead letter of each integration, and those of the bridge's own alarms.
CREATE INDEX events_died ON events (service_key, finished_at) WHERE state = 'dead';
CREATE INDEX events_dead_incidents ON events (service_key, incident_key, finished_at) WHERE state = 'dead';
