-- What the host owes Kafka and can never deliver as it is, with its whole
-- content. Retention never touches it: a person sends it again, edits it or
-- gives it up.
CREATE TABLE undelivered (
    id         INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of keeping
    shard      INTEGER NOT NULL, -- hash(topic, key) mod 64
    message_id TEXT NOT NULL,    -- the message
    topic      TEXT NOT NULL,    -- where it should go; empty when nobody could read it
    type_name  TEXT NOT NULL,    -- the message's type
    source     TEXT NOT NULL,    -- the sending service
    key        BLOB,             -- the raw key
    record     BLOB NOT NULL,    -- the whole record, encoded
    listed     INTEGER NOT NULL, -- 1 when people see it among the messages
    group_name TEXT,             -- the group whose handler published it or gave it up; null for a sender's
    outbox     TEXT,             -- the outbox it was in; null for others
    outbox_row TEXT,             -- its row there
    code       TEXT NOT NULL,    -- a stable word for why
    reason     TEXT NOT NULL,    -- why, for people
    tries      INTEGER NOT NULL, -- how often it was tried
    created_at INTEGER NOT NULL, -- since when it is owed
    kept_at    INTEGER NOT NULL  -- since when it is undelivered
) STRICT;
CREATE INDEX undelivered_topic ON undelivered (topic);
CREATE INDEX undelivered_message ON undelivered (message_id);

ALTER TABLE outbound ADD COLUMN topic_id TEXT; -- Kafka's id of the topic that the partition was chosen in; null before, empty where the broker tells none
ALTER TABLE outbound ADD COLUMN unknown_from INTEGER; -- where in its partition it lies at the earliest, if nobody knows whether an earlier send arrived
ALTER TABLE outbound ADD COLUMN group_name TEXT; -- the group whose handler published it or gave it up; null for a sender's
