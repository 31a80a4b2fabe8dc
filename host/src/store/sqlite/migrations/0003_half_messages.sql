-- Half messages: what waits for the word of its sender.

CREATE TABLE half_message (
    id            TEXT PRIMARY KEY,  -- the transaction's id
    state         INTEGER NOT NULL,  -- 1 PREPARED, 2 COMMITTED, 3 ROLLED_BACK, 4 ABANDONED
    check_url     TEXT,              -- where it is asked what became of it; null when nobody can be
    timeout       INTEGER NOT NULL,  -- how long its sender has, in microseconds
    created_at    INTEGER NOT NULL,  -- when it was prepared
    deadline      INTEGER NOT NULL,  -- when the sender's time is over
    checks        INTEGER NOT NULL DEFAULT 0, -- how often it was asked; an older asking may write nothing
    next_check_at INTEGER,           -- when it is asked next, or a claim ends; null once it has ended
    last_answer   TEXT,              -- what the last asking brought
    reason        TEXT,              -- why it ended
    ended_at      INTEGER            -- when it ended
) STRICT;
CREATE INDEX half_message_time ON half_message (created_at, id);
CREATE INDEX half_message_state ON half_message (state, created_at, id);
CREATE INDEX half_message_due ON half_message (next_check_at) WHERE state = 1;
CREATE INDEX half_message_ended ON half_message (ended_at) WHERE ended_at IS NOT NULL; -- for retention

-- The messages of a transaction.
CREATE TABLE half_item (
    half_id    TEXT NOT NULL REFERENCES half_message (id) ON DELETE CASCADE, -- the transaction
    place      INTEGER NOT NULL,  -- its place in it, from 0
    message_id TEXT NOT NULL,     -- the message's id
    digest     BLOB NOT NULL,     -- SHA-256 of its content
    key        BLOB,              -- the raw key
    source     TEXT NOT NULL,     -- the sending service
    topic      TEXT NOT NULL,     -- the topic it is for
    goes_to    TEXT NOT NULL,     -- the topic its record goes to
    type_name  TEXT NOT NULL,     -- the type
    kind       TEXT NOT NULL,     -- event or broadcast
    time       INTEGER NOT NULL,  -- when the sender says it happened
    shard      INTEGER NOT NULL,  -- its relay shard
    due        INTEGER,           -- when it is due, if the sender named a time
    wait       INTEGER,           -- how long it waits from the commit on, in microseconds
    record     BLOB,              -- the encoded record; null once the transaction has ended
    PRIMARY KEY (half_id, place)
) STRICT, WITHOUT ROWID;
