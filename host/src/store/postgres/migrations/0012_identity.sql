-- A message is told from others by its topic, its source and its id together.
-- The columns of the key stand in this order so that look-ups by id stay local.
-- Nobody joins until this has committed: an older host would write by a key
-- that is no longer there.
LOCK TABLE node IN SHARE ROW EXCLUSIVE MODE;
ALTER TABLE message ALTER COLUMN source TYPE text COLLATE "C";
ALTER TABLE message DROP CONSTRAINT message_pkey;
ALTER TABLE message ADD CONSTRAINT message_identity PRIMARY KEY (id, source, topic);

-- What is owed or waits says which message it stands for: a broadcast goes to
-- another topic than the one that it was published on.
ALTER TABLE outbound ALTER COLUMN source TYPE text COLLATE "C";
ALTER TABLE outbound ADD COLUMN published_on text COLLATE "C"; -- the topic its sender named; null when it is `topic`
UPDATE outbound o SET published_on = m.topic FROM message m
WHERE o.listed AND m.id = o.message_id AND m.topic <> o.topic;
ALTER TABLE undelivered ALTER COLUMN source TYPE text COLLATE "C";
ALTER TABLE undelivered ADD COLUMN published_on text COLLATE "C"; -- as in outbound
UPDATE undelivered u SET published_on = m.topic FROM message m
WHERE u.listed AND m.id = u.message_id AND m.topic <> u.topic;
ALTER TABLE delayed ALTER COLUMN source TYPE text COLLATE "C";
ALTER TABLE delayed ADD COLUMN published_on text COLLATE "C"; -- the topic its sender named
UPDATE delayed d SET published_on = coalesce((SELECT m.topic FROM message m WHERE m.id = d.message_id), d.topic);
ALTER TABLE delayed ALTER COLUMN published_on SET NOT NULL;

-- Deliveries know the source of their message by a hash; null in rows from
-- before, which match any source.
ALTER TABLE open_delivery ADD COLUMN source_hash bigint;
ALTER TABLE delivery ADD COLUMN source_hash bigint;

-- A prepared transaction keeps others from taking the identities of its
-- messages. Of two that hold the same already, the older one does.
ALTER TABLE half_item ALTER COLUMN source TYPE text COLLATE "C", ALTER COLUMN topic TYPE text COLLATE "C";
ALTER TABLE half_item ADD COLUMN reserved boolean NOT NULL DEFAULT false; -- while its transaction is prepared
UPDATE half_item i SET reserved = true
FROM (
    SELECT DISTINCT ON (o.message_id, o.source, o.topic) o.half_id, o.place
    FROM half_item o JOIN half_message h ON h.id = o.half_id WHERE h.state = 1
    ORDER BY o.message_id, o.source, o.topic, h.created_at, h.id, o.place
) AS oldest
WHERE i.half_id = oldest.half_id AND i.place = oldest.place;
CREATE UNIQUE INDEX half_item_reserved ON half_item (message_id, source, topic) WHERE reserved;

-- Askings that brought no answer are told from those that did.
ALTER TABLE half_message ADD COLUMN answered integer NOT NULL DEFAULT 0;    -- askings that were answered
ALTER TABLE half_message ADD COLUMN unreachable integer NOT NULL DEFAULT 0; -- the last askings in a row without an answer
ALTER TABLE half_message ADD COLUMN unreachable_since bigint;               -- when the first of them was; null when there is none
UPDATE half_message SET answered = checks;
CREATE INDEX half_message_unreachable ON half_message (created_at) WHERE state = 1 AND unreachable > 0;
