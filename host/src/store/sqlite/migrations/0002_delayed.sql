-- Delayed messages.

ALTER TABLE message ADD COLUMN deliver_at INTEGER; -- when a delayed message is due; null for any other

-- What is not due yet. Its message is COMMITTED and has no place.
CREATE TABLE delayed (
    id         INTEGER PRIMARY KEY AUTOINCREMENT, -- ascending in the order of taking
    shard      INTEGER NOT NULL,      -- hash(topic, key) mod 64: its holder lets it go
    due        INTEGER NOT NULL,      -- when, in whole milliseconds
    message_id TEXT NOT NULL UNIQUE,  -- the message's id
    topic      TEXT NOT NULL,         -- where it goes
    key        BLOB,                  -- the raw key
    type_name  TEXT NOT NULL,         -- the message's type
    source     TEXT NOT NULL,         -- the sending service
    record     BLOB NOT NULL          -- the encoded record
) STRICT;
-- What is due next is the first entry of each shard, however many wait.
CREATE INDEX delayed_shard ON delayed (shard, due, id);
-- For lists.
CREATE INDEX delayed_due ON delayed (due, id);
