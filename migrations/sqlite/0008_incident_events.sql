-- The event that PagerDuty took last of an incident: whether a dead letter is older is told by the numbers, which no clock
-- sets back. Null for what was taken before this.
ALTER TABLE incidents ADD COLUMN event_id INTEGER;
