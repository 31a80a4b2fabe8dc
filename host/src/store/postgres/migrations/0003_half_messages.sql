-- Half messages: what waits for the word of its sender.
CREATE TABLE half_message (
    id            text COLLATE "C" PRIMARY KEY, -- the transaction's id
    state         smallint NOT NULL, -- 1 PREPARED, 2 COMMITTED, 3 ROLLED_BACK, 4 ABANDONED
    check_url     text,              -- where it is asked what became of it; null when nobody can be
    timeout       bigint   NOT NULL, -- how long its sender has, in microseconds
    created_at    bigint   NOT NULL, -- when it was prepared
    deadline      bigint   NOT NULL, -- when the sender's time is over
    checks        integer  NOT NULL DEFAULT 0, -- how often it was asked; an older asking may write nothing
    next_check_at bigint,            -- when it is asked next, or a claim ends; null once it has ended
    last_answer   text,              -- what the last asking brought
    reason        text,              -- why it ended
    ended_at      bigint             -- when it ended
);
CREATE INDEX half_message_time ON half_message (created_at, id);
CREATE INDEX half_message_state ON half_message (state, created_at, id);
CREATE INDEX half_message_due ON half_message (next_check_at) WHERE state = 1;
CREATE INDEX half_message_ended ON half_message (ended_at) WHERE ended_at IS NOT NULL; -- for retention

-- The messages of a transaction.
CREATE TABLE half_item (
    half_id    text COLLATE "C" NOT NULL REFERENCES half_message ON DELETE CASCADE, -- the transaction
    place      integer NOT NULL, -- its place in it, from 0
    message_id text COLLATE "C" NOT NULL, -- the message
    digest     bytea   NOT NULL, -- SHA-256 of its content
    key        bytea,            -- the raw key
    source     text    NOT NULL, -- the sending service
    topic      text    NOT NULL, -- the topic it is for
    goes_to    text    NOT NULL, -- the topic its record goes to
    type_name  text    NOT NULL, -- the type
    kind       text    NOT NULL, -- event or broadcast
    time       bigint  NOT NULL, -- when the sender says it happened
    shard      integer NOT NULL, -- its relay shard
    due        bigint,           -- when it is due, if the sender named a time
    wait       bigint,           -- how long it waits from the commit on, in microseconds
    record     bytea,            -- the whole record, encoded; null once the transaction has ended
    PRIMARY KEY (half_id, place)
);
