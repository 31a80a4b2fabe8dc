-- What the partitions of a topic held when partitions were added to it. Those
-- that were added begin once the older ones are passed, or a key would be
-- handled there before its older messages.
CREATE TABLE growth (
    group_id  integer NOT NULL REFERENCES consumer_group, -- the group
    topic     text COLLATE "C" NOT NULL, -- the topic
    topic_id  text    NOT NULL, -- Kafka's id of the topic
    first_new integer NOT NULL, -- the first partition that was added
    count     integer NOT NULL, -- how many partitions there were then
    partition integer NOT NULL, -- an older partition
    log_end   bigint  NOT NULL, -- where its log ended when that was seen
    PRIMARY KEY (group_id, topic, topic_id, first_new, partition)
);
