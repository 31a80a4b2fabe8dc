-- Delayed messages: what is not due yet. Its message is COMMITTED, has no
-- place, and says in deliver_at when it is due.
CREATE TABLE delayed (
    id         bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- ascending in the order of taking
    shard      integer NOT NULL, -- hash(topic, key) mod 64: its holder lets it go
    due        bigint  NOT NULL, -- when, in whole milliseconds
    message_id text COLLATE "C" NOT NULL, -- the message
    topic      text COLLATE "C" NOT NULL, -- where it goes
    type_name  text    NOT NULL, -- the message's type
    source     text    NOT NULL, -- the sending service
    key        bytea,            -- the raw key
    record     bytea   NOT NULL  -- the whole record, encoded
);
-- What is due next is the first entry of each shard, however many wait.
CREATE INDEX delayed_shard ON delayed (shard, due, id);
CREATE INDEX delayed_due ON delayed (due, id); -- for lists
CREATE INDEX delayed_message ON delayed (left(message_id, 64));
