-- What is told of the outboxes of senders, written by the host that relays
-- them. Their rows are in the senders' databases.
CREATE TABLE outbox (
    name      text   PRIMARY KEY,         -- its name in the TOML
    node      text   NOT NULL,            -- the node that relays it, or did last
    shard     integer NOT NULL,           -- the relay shard whose holder relays it
    why       text,                       -- why nothing is relayed; null while all is well
    pending   bigint,                     -- rows in its table; null while unknown
    oldest_at bigint,                     -- when the oldest of them was written
    relayed   bigint NOT NULL DEFAULT 0,  -- rows that went to Kafka
    refused   bigint NOT NULL DEFAULT 0,  -- rows that were finally refused
    noted_at  bigint NOT NULL             -- when this was written
);
