-- The outbox of Courier for SQLite: insert a row in the transaction that
-- changes your own tables, and the message exists if and only if it commits.
--
--     INSERT INTO courier_outbox (topic, type, key, body)
--     VALUES ('order', 'OrderCreated', 'o-1', '{"order_id": "o-1"}');
--
-- Courier reads the rows, sends them and deletes them.
CREATE TABLE IF NOT EXISTS courier_outbox (
    -- The order of insertion, in which messages of one key are sent.
    seq         INTEGER PRIMARY KEY AUTOINCREMENT,
    -- The message's id; a second row with the same id, topic and source is not
    -- sent again.
    id          TEXT NOT NULL CHECK (id <> '') DEFAULT (
        lower(hex(randomblob(4)) || '-' || hex(randomblob(2)) || '-4' || substr(hex(randomblob(2)), 2) || '-'
              || substr('89ab', 1 + abs(random() % 4), 1) || substr(hex(randomblob(2)), 2) || '-' || hex(randomblob(6)))
    ),
    -- The sending service; null means the name of the outbox.
    source      TEXT DEFAULT NULL,
    -- The topic it is published on.
    topic       TEXT NOT NULL CHECK (topic <> ''),
    -- What happened, for example OrderCreated.
    type        TEXT NOT NULL CHECK (type <> ''),
    -- The primary key; messages of one key are handled in order.
    key         TEXT DEFAULT NULL,
    -- Whether each group handles it once, or each node of each group.
    kind        TEXT NOT NULL DEFAULT 'event' CHECK (kind IN ('event', 'broadcast')),
    -- The body as it is sent, letter for letter: JSON, or anything else under a
    -- header `content-type`.
    body        TEXT NOT NULL,
    -- Further headers, by name, as a JSON object.
    headers     TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(headers)),
    -- When it is delivered at the earliest, as RFC 3339 in UTC; null means at
    -- once.
    deliver_at  TEXT DEFAULT NULL,
    -- When the row was written, which becomes the message's time.
    created_at  TEXT NOT NULL DEFAULT (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    UNIQUE (id, topic, source)
);
