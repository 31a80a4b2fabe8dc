-- Deliveries that were HANDLED at the first attempt, of groups that keep no row of
-- each: segments of a run-length set of their position. A settle appends them, and
-- those of a minute that is over are joined. A row in delivery or open_delivery for
-- the same offset goes before the bit.
CREATE TABLE handled_set (
    position_id  bigint  NOT NULL, -- group, topic, incarnation and partition
    first_offset bigint  NOT NULL, -- the smallest offset in it
    last_offset  bigint  NOT NULL, -- the largest one
    from_at      bigint  NOT NULL, -- no attempt of it began earlier
    to_at        bigint  NOT NULL, -- no attempt of it ended later
    group_id     integer NOT NULL, -- the group, once more
    node_id      integer NOT NULL, -- word: the node that handled them
    version_id   integer,          -- word: the plugin version that handled them
    deliveries   integer NOT NULL, -- how many they are
    compacted    boolean NOT NULL DEFAULT false, -- whether it was joined with the others of its minute
    runs         bytea   NOT NULL, -- a version, then the lengths of runs and gaps in turn
    PRIMARY KEY (position_id, first_offset)
);
CREATE INDEX handled_set_time ON handled_set (to_at);
CREATE INDEX handled_set_new ON handled_set (position_id, from_at) WHERE NOT compacted;
