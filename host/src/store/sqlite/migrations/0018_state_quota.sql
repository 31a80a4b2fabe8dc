-- When a value of the handlers' state was last written, so that it can be
-- forgotten when it is old. What is there counts as written now.
ALTER TABLE state_value ADD COLUMN written_at INTEGER NOT NULL DEFAULT 0;
UPDATE state_value SET written_at = CAST(unixepoch('subsec') * 1000000 AS INTEGER);

-- What the state of each group holds: keys, and bytes of keys and values. The
-- sums are kept by triggers, since counting a million rows before each write
-- would cost more than the write.
CREATE TABLE state_usage (
    group_id INTEGER PRIMARY KEY REFERENCES consumer_group (id), -- whose handlers
    keys     INTEGER NOT NULL,  -- values that are there
    bytes    INTEGER NOT NULL   -- bytes of their keys and of them
) STRICT;
INSERT INTO state_usage (group_id, keys, bytes)
    SELECT group_id, count(*), sum(octet_length(key) + octet_length(value)) FROM state_value GROUP BY group_id;

CREATE TRIGGER state_inserted AFTER INSERT ON state_value BEGIN
    INSERT OR IGNORE INTO state_usage (group_id, keys, bytes) VALUES (NEW.group_id, 0, 0);
    UPDATE state_usage SET keys = keys + 1, bytes = bytes + octet_length(NEW.key) + octet_length(NEW.value)
        WHERE group_id = NEW.group_id;
END;
CREATE TRIGGER state_deleted AFTER DELETE ON state_value BEGIN
    UPDATE state_usage SET keys = keys - 1, bytes = bytes - octet_length(OLD.key) - octet_length(OLD.value)
        WHERE group_id = OLD.group_id;
END;
CREATE TRIGGER state_updated AFTER UPDATE ON state_value BEGIN
    UPDATE state_usage SET bytes = bytes + octet_length(NEW.value) - octet_length(OLD.value)
        WHERE group_id = NEW.group_id;
END;
