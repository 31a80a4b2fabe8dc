-- The sources of dead letters, and where logs ended.

-- Two messages of one id and different sources are two letters. It is null in
-- rows from before, which match any source.
ALTER TABLE dead_letter ADD COLUMN source TEXT; -- the message's source; empty when unknown

-- Where the logs of topics ended when a host last asked. Of a topic that was
-- deleted nothing else tells how much it held.
CREATE TABLE log_end (
    topic     TEXT NOT NULL,    -- the topic of Kafka, a companion by its own name
    partition INTEGER NOT NULL, -- the partition
    topic_id  TEXT NOT NULL,    -- Kafka's id of the topic
    log_end   INTEGER NOT NULL, -- last offset + 1
    seen_at   INTEGER NOT NULL, -- when a host last found it larger
    PRIMARY KEY (topic, partition, topic_id)
) STRICT, WITHOUT ROWID;
