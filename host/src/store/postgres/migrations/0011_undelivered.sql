-- What the host owes Kafka and can never deliver as it is, with its whole
-- content. Retention never touches it: a person sends it again, edits it or
-- gives it up.
CREATE TABLE undelivered (
    id         bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order of keeping
    shard      integer NOT NULL, -- hash(topic, key) mod 64
    message_id text COLLATE "C" NOT NULL, -- the message
    topic      text COLLATE "C" NOT NULL, -- where it should go; empty when nobody could read it
    type_name  text    NOT NULL, -- the message's type
    source     text    NOT NULL, -- the sending service
    key        bytea,            -- the raw key
    record     bytea   NOT NULL, -- the whole record, encoded
    listed     boolean NOT NULL, -- whether people see it among the messages
    group_name text COLLATE "C", -- the group whose handler published it or gave it up; null for a sender's
    outbox     text,             -- the outbox it was in; null for others
    outbox_row text,             -- its row there
    code       text    NOT NULL, -- a stable word for why
    reason     text    NOT NULL, -- why, for people
    tries      integer NOT NULL, -- how often it was tried
    created_at bigint  NOT NULL, -- since when it is owed
    kept_at    bigint  NOT NULL  -- since when it is undelivered
);
CREATE INDEX undelivered_topic ON undelivered (topic);
CREATE INDEX undelivered_message ON undelivered (left(message_id, 64));

ALTER TABLE outbound ADD COLUMN topic_id text; -- Kafka's id of the topic that the partition was chosen in; null before, empty where the broker tells none
ALTER TABLE outbound ADD COLUMN unknown_from bigint; -- where in its partition it lies at the earliest, if nobody knows whether an earlier send arrived
ALTER TABLE outbound ADD COLUMN group_name text COLLATE "C"; -- the group whose handler published it or gave it up; null for a sender's
CREATE INDEX outbound_lane ON outbound (topic, substr(key, 1, 64)) WHERE key IS NOT NULL; -- whether a key has unsent rows
