-- The size of a record that was copied into the store because Kafka was about
-- to remove it; 0 for every other row. What is copied has a bound of its own.
ALTER TABLE open_delivery ADD COLUMN copied_bytes INTEGER NOT NULL DEFAULT 0;
CREATE INDEX open_delivery_copied ON open_delivery (position) WHERE copied_bytes > 0;
