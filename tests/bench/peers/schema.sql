-- The status rows that every peer writes, one a message: what a team that owns
-- its consumer keeps to answer "was it handled, when, and why not". PostgreSQL;
-- for SQLite `bytea` is read as `blob`.
CREATE TABLE IF NOT EXISTS delivery (
    position_id   bigint   NOT NULL, -- the record's partition
    record_offset bigint   NOT NULL, -- the record's offset
    message_id    text     NOT NULL, -- topic:partition:offset
    key           bytea,             -- the record's raw key
    state         smallint NOT NULL, -- 5 HANDLED, 4 HANDLE_FAIL
    reason        text,              -- why it failed
    record_time   bigint   NOT NULL, -- Kafka's time of the record; all times are microseconds since 1970
    received_at   bigint   NOT NULL, -- when the consumer had the record
    started_at    bigint   NOT NULL, -- when the last invocation of the handler began
    settled_at    bigint   NOT NULL, -- when the outcome was known
    PRIMARY KEY (position_id, record_offset)
);
CREATE INDEX IF NOT EXISTS delivery_message ON delivery (message_id);
CREATE INDEX IF NOT EXISTS delivery_key ON delivery (key) WHERE key IS NOT NULL;
CREATE INDEX IF NOT EXISTS delivery_settled ON delivery (settled_at);
CREATE INDEX IF NOT EXISTS delivery_unhandled ON delivery (state, settled_at) WHERE state <> 5;
