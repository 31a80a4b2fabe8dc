-- Why an outbox stands still, for programs; and the rows that were counted last
-- and may not be deleted at their source yet, which are not counted again.
ALTER TABLE outbox ADD COLUMN cause_code TEXT;    -- null while all is well
ALTER TABLE outbox ADD COLUMN cause_fields TEXT;  -- a JSON object: what the sentence names
ALTER TABLE outbox ADD COLUMN since INTEGER;      -- since when it has stood still for this cause
ALTER TABLE outbox ADD COLUMN counted TEXT;       -- a JSON array of [seq, id in hexadecimal or null]

-- Finds the entry of a row that is read again.
CREATE INDEX undelivered_outbox ON undelivered (outbox, outbox_row) WHERE outbox IS NOT NULL;
