-- Positions of single nodes, for broadcasts, and the nodes that listen.
ALTER TABLE position ADD COLUMN listener text COLLATE "C" NOT NULL DEFAULT ''; -- the node whose broadcasts these are; empty for events
ALTER TABLE position ADD COLUMN heard_from bigint; -- the first broadcast that the listener was there for; null for events
ALTER TABLE position DROP CONSTRAINT position_group_id_topic_partition_incarnation_key;
ALTER TABLE position ADD UNIQUE (group_id, topic, partition, listener, incarnation);
DROP INDEX position_current;
CREATE UNIQUE INDEX position_current ON position (group_id, topic, partition, listener) WHERE current;

-- A node that listens to the broadcasts of a topic for a group.
CREATE TABLE listener (
    group_id      integer NOT NULL REFERENCES consumer_group, -- the group
    topic         text COLLATE "C" NOT NULL, -- the topic that senders broadcast on
    node          text COLLATE "C" NOT NULL, -- the node
    registered_at bigint  NOT NULL, -- when it first listened
    seen_at       bigint  NOT NULL, -- when it was last there
    forget        bigint  NOT NULL, -- away for longer than this, in microseconds, it is no longer expected
    gone_at       bigint,           -- since when it is no longer expected; null while it is
    gone_why      text,             -- why it is not
    PRIMARY KEY (group_id, topic, node)
);

ALTER TABLE message ADD COLUMN heard boolean; -- of a broadcast: whether a node was there for it; null until that is known
CREATE INDEX message_unjudged ON message (created_at) WHERE kind = 'broadcast' AND heard IS NULL AND state = 2 AND partition IS NOT NULL;
