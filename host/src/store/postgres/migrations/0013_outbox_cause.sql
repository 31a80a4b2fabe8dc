-- Why an outbox stands still, for programs; and the rows that were counted last
-- and may not be deleted at their source yet, which are not counted again.
ALTER TABLE outbox
    ADD COLUMN cause_code   text,    -- null while all is well
    ADD COLUMN cause_fields text,    -- a JSON object: what the sentence names
    ADD COLUMN since        bigint,  -- since when it has stood still for this cause
    ADD COLUMN counted      text;    -- a JSON array of [seq, id in hexadecimal or null]

-- Finds the entry of a row that is read again.
CREATE INDEX undelivered_outbox ON undelivered (outbox, outbox_row) WHERE outbox IS NOT NULL;
