-- Positions of single nodes, for broadcasts, and the nodes that listen.
--
-- The node becomes part of a position's key, which SQLite can only do in a new
-- table. Ids stay, and so does the highest one that was ever given.
CREATE TABLE position_of_all (
    id           INTEGER PRIMARY KEY AUTOINCREMENT, -- part of a delivery's identity, so never used twice
    group_id     INTEGER NOT NULL REFERENCES consumer_group (id), -- the group
    topic        TEXT NOT NULL,      -- the topic that senders publish on
    partition    INTEGER NOT NULL,   -- the partition, of the topic or of its companion
    incarnation  INTEGER NOT NULL,   -- counts the topics that had this name; the highest is the present one
    listener     TEXT NOT NULL,      -- the node whose broadcasts these are; empty for events
    topic_id     TEXT NOT NULL,      -- Kafka's id of the topic; empty while unknown
    next         INTEGER NOT NULL,   -- everything below is settled or parked; never goes back
    heard_from   INTEGER,            -- the first broadcast that the listener was there for; null for events
    epoch        INTEGER NOT NULL,   -- counts the owners; an older one may write nothing
    writer_id    INTEGER REFERENCES writer (id), -- the owner of this epoch; null before the first claim
    UNIQUE (group_id, topic, partition, listener, incarnation)
) STRICT;
INSERT INTO position_of_all (id, group_id, topic, partition, incarnation, listener, topic_id, next, epoch, writer_id)
SELECT id, group_id, topic, partition, incarnation, '', topic_id, next, epoch, writer_id FROM position;
DELETE FROM sqlite_sequence WHERE name = 'position_of_all';
INSERT INTO sqlite_sequence (name, seq) SELECT 'position_of_all', seq FROM sqlite_sequence WHERE name = 'position';

-- Lost ranges name positions, so that they move over to the new table first.
CREATE TABLE lost_range_of_all (
    id          INTEGER PRIMARY KEY,  -- ascending in the order they were found
    position    INTEGER NOT NULL REFERENCES position_of_all (id), -- where
    from_offset INTEGER NOT NULL,     -- first lost offset
    to_offset   INTEGER NOT NULL,     -- first offset after them, as far as it is known
    why         TEXT NOT NULL,        -- for people
    found_at    INTEGER NOT NULL      -- when it was found
) STRICT;
INSERT INTO lost_range_of_all SELECT id, position, from_offset, to_offset, why, found_at FROM lost_range;
DROP TABLE lost_range;
DROP TABLE position;
ALTER TABLE position_of_all RENAME TO position;
ALTER TABLE lost_range_of_all RENAME TO lost_range;

-- A node that listens to the broadcasts of a topic for a group.
CREATE TABLE listener (
    group_id      INTEGER NOT NULL REFERENCES consumer_group (id), -- the group
    topic         TEXT NOT NULL,     -- the topic that senders broadcast on
    node          TEXT NOT NULL,     -- the node
    registered_at INTEGER NOT NULL,  -- when it first listened
    seen_at       INTEGER NOT NULL,  -- when it was last there
    forget        INTEGER NOT NULL,  -- away for longer than this, in microseconds, it is no longer expected
    gone_at       INTEGER,           -- since when it is no longer expected; null while it is
    gone_why      TEXT,              -- why it is not
    PRIMARY KEY (group_id, topic, node)
) STRICT, WITHOUT ROWID;

ALTER TABLE message ADD COLUMN heard INTEGER; -- of a broadcast: 1 when a node was there for it; null until that is known
CREATE INDEX message_unjudged ON message (seq) WHERE kind = 'broadcast' AND heard IS NULL AND state = 2 AND partition IS NOT NULL;
