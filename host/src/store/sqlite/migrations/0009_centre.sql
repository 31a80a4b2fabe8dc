-- What the message centre stands on: the chain of the audit log, sessions,
-- minutes for charts, dead letters, and an index for parked lanes.

-- Entries are sealed to the one before. Those from before this have neither.
ALTER TABLE audit ADD COLUMN previous BLOB; -- hash of the entry before
ALTER TABLE audit ADD COLUMN hash BLOB;     -- hash of previous and of this entry's fields
CREATE INDEX audit_at ON audit (at);        -- for retention

-- The two ends of the chain.
CREATE TABLE audit_chain (
    id          INTEGER PRIMARY KEY CHECK (id = 1), -- there is one row
    anchor_id   INTEGER NOT NULL, -- the last entry that was removed, or that is older than the chain
    anchor_hash BLOB NOT NULL,    -- its hash; zeros where the chain begins
    head_id     INTEGER NOT NULL, -- the newest entry
    head_hash   BLOB NOT NULL     -- its hash
) STRICT;
INSERT INTO audit_chain (id, anchor_id, anchor_hash, head_id, head_hash)
SELECT 1, coalesce(max(id), 0), zeroblob(32), coalesce(max(id), 0), zeroblob(32) FROM audit;

-- People who signed in with a browser.
CREATE TABLE session (
    hash       BLOB PRIMARY KEY,  -- SHA-256 of what the browser holds
    token      TEXT NOT NULL,     -- the name of the token it was opened with
    bound      BLOB NOT NULL,     -- binds it to that token's secret
    created_at INTEGER NOT NULL,  -- when it was opened
    expires_at INTEGER NOT NULL   -- when it ends
) STRICT, WITHOUT ROWID;

-- Sums of a minute, one row for each process: what a process writes twice is
-- the same.
CREATE TABLE minute (
    minute     INTEGER NOT NULL, -- when the minute began
    writer_id  INTEGER NOT NULL, -- the process
    group_name TEXT NOT NULL,    -- the group; empty for the send side
    published  INTEGER NOT NULL, -- messages that came to be on Kafka
    send_fail  INTEGER NOT NULL, -- messages that became SEND_FAIL
    handled    INTEGER NOT NULL, -- deliveries that became HANDLED
    failed     INTEGER NOT NULL, -- attempts that failed or could not run
    PRIMARY KEY (minute, writer_id, group_name)
) STRICT, WITHOUT ROWID;

-- How long attempts took lately, one row for each process and group.
CREATE TABLE pace (
    writer_id  INTEGER NOT NULL, -- the process
    group_name TEXT NOT NULL,    -- the group
    buckets    TEXT NOT NULL,    -- JSON array: attempts by how long they took
    at         INTEGER NOT NULL, -- when it was written
    PRIMARY KEY (writer_id, group_name)
) STRICT, WITHOUT ROWID;

-- Deliveries that were given up and published on a topic of dead letters,
-- written with the outcome.
CREATE TABLE dead_letter (
    position   INTEGER NOT NULL, -- the delivery's position
    offset     INTEGER NOT NULL, -- the delivery's offset
    number     INTEGER NOT NULL, -- invocations until then
    group_id   INTEGER NOT NULL, -- the group
    topic      TEXT NOT NULL,    -- where the dead letter went
    at         INTEGER NOT NULL, -- when the delivery was given up
    message_id TEXT NOT NULL,    -- the message
    key        BLOB,             -- the record's raw key
    type_name  TEXT NOT NULL,    -- the message's type; empty when unknown
    reason     TEXT,             -- why it was given up
    PRIMARY KEY (position, offset, number)
) STRICT, WITHOUT ROWID;
CREATE INDEX dead_letter_at ON dead_letter (at, position, offset);
CREATE INDEX dead_letter_group ON dead_letter (group_id, at, position, offset);

-- Heads of parked lanes.
CREATE INDEX open_delivery_head ON open_delivery (group_id, position, offset)
    WHERE state <> 2 AND (next_attempt_at IS NOT NULL OR held = 1);
