-- Where in the body of a trigger the number of its alerts, and when the first came, are inserted at its first attempt. Null
-- where they are in the body already, or have to be inserted by parsing it.
ALTER TABLE bodies ADD COLUMN counts_at INTEGER;
