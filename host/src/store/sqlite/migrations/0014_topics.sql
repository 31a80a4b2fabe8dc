-- Topics that change: partitions that are gone, and what a topic held when it
-- grew.
ALTER TABLE position ADD COLUMN gone INTEGER NOT NULL DEFAULT 0; -- 1 once the topic was created anew without this partition

-- What the partitions of a topic held when partitions were added to it. Those
-- that were added begin once the older ones are passed, or a key would be
-- handled there before its older messages.
CREATE TABLE growth (
    group_id  INTEGER NOT NULL REFERENCES consumer_group (id), -- the group
    topic     TEXT NOT NULL,     -- the topic
    topic_id  TEXT NOT NULL,     -- Kafka's id of the topic
    first_new INTEGER NOT NULL,  -- the first partition that was added
    count     INTEGER NOT NULL,  -- how many partitions there were then
    partition INTEGER NOT NULL,  -- an older partition
    log_end   INTEGER NOT NULL,  -- where its log ended when that was seen
    PRIMARY KEY (group_id, topic, topic_id, first_new, partition)
) STRICT, WITHOUT ROWID;
