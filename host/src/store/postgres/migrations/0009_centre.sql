-- What the message centre stands on: the chain of the audit log, sessions,
-- minutes for charts, dead letters, and an index for parked lanes.

-- Entries are sealed to the one before. Those from before this have neither.
ALTER TABLE audit ADD COLUMN previous bytea; -- hash of the entry before
ALTER TABLE audit ADD COLUMN hash     bytea; -- hash of previous and of this entry's fields

-- The one row whose lock makes appending serial.
CREATE TABLE audit_chain (
    id          smallint PRIMARY KEY DEFAULT 1 CHECK (id = 1), -- there is one row
    anchor_id   bigint NOT NULL, -- the last entry that was removed, or that is older than the chain
    anchor_hash bytea  NOT NULL, -- its hash; zeros where the chain begins
    head_id     bigint NOT NULL, -- the newest entry
    head_hash   bytea  NOT NULL  -- its hash
);
INSERT INTO audit_chain (anchor_id, anchor_hash, head_id, head_hash)
SELECT coalesce(max(id), 0), decode(repeat('00', 32), 'hex'), coalesce(max(id), 0), decode(repeat('00', 32), 'hex')
FROM audit;

-- People who signed in with a browser.
CREATE TABLE session (
    hash       bytea  PRIMARY KEY, -- SHA-256 of what the browser holds
    token      text   NOT NULL,    -- the name of the token it was opened with
    bound      bytea  NOT NULL,    -- binds it to that token's secret
    created_at bigint NOT NULL,    -- when it was opened
    expires_at bigint NOT NULL     -- when it ends
);
CREATE INDEX session_expires ON session (expires_at); -- for pruning

-- Sums of a minute, one row for each process: hosts do not wait for one
-- another here, and what a process writes twice is the same.
CREATE TABLE minute (
    minute     bigint NOT NULL, -- when the minute began
    writer_id  bigint NOT NULL, -- the process
    group_name text COLLATE "C" NOT NULL, -- the group; empty for the send side
    published  bigint NOT NULL, -- messages that came to be on Kafka
    send_fail  bigint NOT NULL, -- messages that became SEND_FAIL
    handled    bigint NOT NULL, -- deliveries that became HANDLED
    failed     bigint NOT NULL, -- attempts that failed or could not run
    PRIMARY KEY (minute, writer_id, group_name)
);

-- How long attempts took lately, one row for each process and group.
CREATE TABLE pace (
    writer_id  bigint   NOT NULL, -- the process
    group_name text COLLATE "C" NOT NULL, -- the group
    buckets    bigint[] NOT NULL, -- attempts by how long they took
    at         bigint   NOT NULL, -- when it was written
    PRIMARY KEY (writer_id, group_name)
);

-- Deliveries that were given up and published on a topic of dead letters,
-- written with the outcome.
CREATE TABLE dead_letter (
    position_id   bigint  NOT NULL, -- the delivery's position
    record_offset bigint  NOT NULL, -- the delivery's offset
    number        integer NOT NULL, -- invocations until then
    group_id      integer NOT NULL, -- the group
    topic         text COLLATE "C" NOT NULL, -- where the dead letter went
    at            bigint  NOT NULL, -- when the delivery was given up
    message_id    text COLLATE "C" NOT NULL, -- the message
    key           bytea,            -- the record's raw key
    type_name     text    NOT NULL, -- the message's type, empty when unknown
    reason        text,             -- why it was given up
    PRIMARY KEY (position_id, record_offset, number)
);
CREATE INDEX dead_letter_at ON dead_letter (at, position_id, record_offset);
CREATE INDEX dead_letter_group ON dead_letter (group_id, at, position_id, record_offset);

-- Heads of parked lanes.
CREATE INDEX open_delivery_head ON open_delivery (group_id, position_id, record_offset)
    WHERE state <> 2 AND (next_attempt_at IS NOT NULL OR held);
