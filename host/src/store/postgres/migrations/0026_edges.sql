-- The sources of dead letters, where logs ended, and which positions lost a range.

-- Two messages of one id and different sources are two letters. It is null in
-- rows from before, which match any source.
ALTER TABLE dead_letter ADD COLUMN source text COLLATE "C"; -- the message's source; empty when unknown

-- Where the logs of topics ended when a host last asked. Of a topic that was
-- deleted nothing else tells how much it held.
CREATE TABLE log_end (
    topic     text COLLATE "C" NOT NULL, -- the topic of Kafka, a companion by its own name
    partition integer NOT NULL,          -- the partition
    topic_id  text COLLATE "C" NOT NULL, -- Kafka's id of the topic
    log_end   bigint NOT NULL,           -- last offset + 1
    seen_at   bigint NOT NULL,           -- when a host last found it larger
    PRIMARY KEY (topic, partition, topic_id)
);

-- The position that lost the range, which names the deliveries that are lost.
ALTER TABLE lost_range ADD COLUMN position_id bigint; -- null in rows from before
