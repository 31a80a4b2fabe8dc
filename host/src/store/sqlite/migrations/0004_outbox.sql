-- What is told of the outboxes of senders, written by the host that relays
-- them. Their rows are in the senders' databases.
CREATE TABLE outbox (
    name      TEXT PRIMARY KEY,            -- its name in the TOML
    node      TEXT NOT NULL,               -- the node that relays it, or did last
    shard     INTEGER NOT NULL,            -- the relay shard whose holder relays it
    why       TEXT,                        -- why nothing is relayed; null while all is well
    pending   INTEGER,                     -- rows in its table; null while unknown
    oldest_at INTEGER,                     -- when the oldest of them was written
    relayed   INTEGER NOT NULL DEFAULT 0,  -- rows that went to Kafka
    refused   INTEGER NOT NULL DEFAULT 0,  -- rows that were finally refused
    noted_at  INTEGER NOT NULL             -- when this was written
) STRICT;
