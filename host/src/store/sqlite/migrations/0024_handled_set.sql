-- Deliveries that were HANDLED at the first attempt, of groups that keep no row of
-- each: segments of a run-length set of their position. A settle appends them, and
-- those of a minute that is over are joined. A row in delivery or open_delivery for
-- the same offset goes before the bit.
CREATE TABLE handled_set (
    position     INTEGER NOT NULL, -- group, topic, incarnation and partition
    first_offset INTEGER NOT NULL, -- the smallest offset in it
    last_offset  INTEGER NOT NULL, -- the largest one
    from_at      INTEGER NOT NULL, -- no attempt of it began earlier
    to_at        INTEGER NOT NULL, -- no attempt of it ended later
    group_id     INTEGER NOT NULL, -- the group, once more
    node         INTEGER NOT NULL, -- word: the node that handled them
    version      INTEGER,          -- word: the plugin version that handled them
    deliveries   INTEGER NOT NULL, -- how many they are
    compacted    INTEGER NOT NULL DEFAULT 0, -- whether it was joined with the others of its minute
    runs         BLOB NOT NULL,    -- a version, then the lengths of runs and gaps in turn
    PRIMARY KEY (position, first_offset)
) STRICT;
CREATE INDEX handled_set_time ON handled_set (to_at);
CREATE INDEX handled_set_new ON handled_set (position, from_at) WHERE compacted = 0;
