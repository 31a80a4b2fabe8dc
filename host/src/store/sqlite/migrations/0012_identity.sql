-- A message is told from others by its topic, its source and its id together.
-- The key of a table can only be changed in a new table. The columns of the key
-- stand in this order so that look-ups by id stay local.
CREATE TABLE message_by_identity (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT, -- ascending in the order they were taken
    id         TEXT NOT NULL,         -- the message's id
    digest     BLOB,                  -- SHA-256 of its content; null for what a handler published
    key        BLOB,                  -- the raw key
    source     TEXT NOT NULL,         -- the sending service
    topic      TEXT NOT NULL,         -- the topic
    type_name  TEXT NOT NULL,         -- the type
    kind       TEXT NOT NULL,         -- event or broadcast
    time       INTEGER NOT NULL,      -- when the sender says it happened
    created_at INTEGER NOT NULL,      -- when the store took it
    state      INTEGER NOT NULL,      -- SEND_FAIL or COMMITTED
    reason     TEXT,                  -- why it is SEND_FAIL
    retrying   INTEGER NOT NULL,      -- 1 while the host tries again by itself
    partition  INTEGER,               -- where it is in Kafka; null until it is
    offset     INTEGER,               -- where in the partition
    shard      INTEGER,               -- its relay shard if record is whole, so that it can be sent again
    record     BLOB,                  -- the whole record, or the front of a refused body; null once it is on Kafka
                                      -- and while its outbound row has it
    deliver_at INTEGER,               -- when a delayed message is due; null for any other
    heard      INTEGER                -- of a broadcast: 1 when a node was there for it; null until that is known
) STRICT;
INSERT INTO message_by_identity (seq, id, digest, key, source, topic, type_name, kind, time, created_at, state, reason,
    retrying, partition, offset, shard, record, deliver_at, heard)
SELECT seq, id, digest, key, source, topic, type_name, kind, time, created_at, state, reason, retrying, partition,
    offset, shard, record, deliver_at, heard
FROM message ORDER BY seq;
DELETE FROM sqlite_sequence WHERE name = 'message_by_identity';
INSERT INTO sqlite_sequence (name, seq) SELECT 'message_by_identity', seq FROM sqlite_sequence WHERE name = 'message';

-- What is owed says which message it stands for: a broadcast goes to another
-- topic than the one that it was published on.
ALTER TABLE outbound ADD COLUMN published_on TEXT; -- the topic its sender named; null when it is `topic`
UPDATE outbound SET published_on = (SELECT m.topic FROM message m WHERE m.id = outbound.message_id)
WHERE listed = 1 AND EXISTS (SELECT 1 FROM message m WHERE m.id = outbound.message_id AND m.topic <> outbound.topic);

ALTER TABLE undelivered ADD COLUMN published_on TEXT; -- as in outbound
UPDATE undelivered SET published_on = (SELECT m.topic FROM message m WHERE m.id = undelivered.message_id)
WHERE listed = 1 AND EXISTS (SELECT 1 FROM message m WHERE m.id = undelivered.message_id AND m.topic <> undelivered.topic);

CREATE TABLE delayed_by_identity (
    id           INTEGER PRIMARY KEY AUTOINCREMENT, -- ascending in the order of taking
    shard        INTEGER NOT NULL,  -- hash(topic, key) mod 64: its holder lets it go
    due          INTEGER NOT NULL,  -- when, in whole milliseconds
    message_id   TEXT NOT NULL,     -- the message's id
    topic        TEXT NOT NULL,     -- where it goes
    key          BLOB,              -- the raw key
    type_name    TEXT NOT NULL,     -- the message's type
    source       TEXT NOT NULL,     -- the sending service
    record       BLOB NOT NULL,     -- the encoded record
    published_on TEXT NOT NULL      -- the topic its sender named
) STRICT;
INSERT INTO delayed_by_identity (id, shard, due, message_id, topic, key, type_name, source, record, published_on)
SELECT d.id, d.shard, d.due, d.message_id, d.topic, d.key, d.type_name, d.source, d.record,
    coalesce((SELECT m.topic FROM message m WHERE m.id = d.message_id), d.topic)
FROM delayed d ORDER BY d.id;
DELETE FROM sqlite_sequence WHERE name = 'delayed_by_identity';
INSERT INTO sqlite_sequence (name, seq) SELECT 'delayed_by_identity', seq FROM sqlite_sequence WHERE name = 'delayed';
DROP TABLE delayed;
ALTER TABLE delayed_by_identity RENAME TO delayed;
CREATE UNIQUE INDEX delayed_message ON delayed (message_id, source, published_on);
CREATE INDEX delayed_shard ON delayed (shard, due, id);
CREATE INDEX delayed_due ON delayed (due, id);

DROP TABLE message;
ALTER TABLE message_by_identity RENAME TO message;
CREATE UNIQUE INDEX message_identity ON message (id, source, topic);
CREATE INDEX message_time ON message (created_at);
CREATE INDEX message_key ON message (seq / 8192, key) WHERE key IS NOT NULL;
CREATE INDEX message_unsent ON message (created_at) WHERE state = 1;
CREATE INDEX message_unjudged ON message (seq) WHERE kind = 'broadcast' AND heard IS NULL AND state = 2 AND partition IS NOT NULL;
CREATE INDEX message_unheard ON message (created_at) WHERE heard = 0;

-- Deliveries know the source of their message by a hash; null in rows from
-- before, which match any source.
ALTER TABLE open_delivery ADD COLUMN source_hash INTEGER;
ALTER TABLE delivery ADD COLUMN source_hash INTEGER;

-- A prepared transaction keeps others from taking the identities of its
-- messages. Of two that hold the same already, the older one does.
ALTER TABLE half_item ADD COLUMN reserved INTEGER NOT NULL DEFAULT 0; -- 1 while its transaction is prepared
UPDATE half_item SET reserved = 1
WHERE (half_id, place) IN (
    SELECT half_id, place FROM (
        SELECT i.half_id, i.place,
            row_number() OVER (PARTITION BY i.message_id, i.source, i.topic ORDER BY h.created_at, h.id, i.place) AS n
        FROM half_item i JOIN half_message h ON h.id = i.half_id WHERE h.state = 1)
    WHERE n = 1);
CREATE UNIQUE INDEX half_item_reserved ON half_item (message_id, source, topic) WHERE reserved = 1;

-- Askings that brought no answer are told from those that did.
ALTER TABLE half_message ADD COLUMN answered INTEGER NOT NULL DEFAULT 0;    -- askings that were answered
ALTER TABLE half_message ADD COLUMN unreachable INTEGER NOT NULL DEFAULT 0; -- the last askings in a row without an answer
ALTER TABLE half_message ADD COLUMN unreachable_since INTEGER;              -- when the first of them was; null when there is none
UPDATE half_message SET answered = checks;
CREATE INDEX half_message_unreachable ON half_message (created_at) WHERE state = 1 AND unreachable > 0;
