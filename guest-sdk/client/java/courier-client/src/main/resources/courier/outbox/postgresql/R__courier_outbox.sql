-- The outbox of Courier for PostgreSQL: insert a row in the transaction that
-- changes your own tables, and the message exists if and only if it commits.
--
--     INSERT INTO courier_outbox (topic, type, key, body)
--     VALUES ('order', 'OrderCreated', 'o-1', '{"order_id": "o-1"}');
--
-- Courier reads the rows, sends them and deletes them. It needs SELECT and
-- DELETE; your service needs INSERT.
CREATE TABLE IF NOT EXISTS courier_outbox (
    -- The order of insertion, in which messages of one key are sent.
    seq         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    -- The message's id; a second row with the same id, topic and source is not
    -- sent again.
    id          text        NOT NULL DEFAULT gen_random_uuid()::text CHECK (id <> ''),
    -- The sending service; null means the name of the outbox.
    source      text        DEFAULT NULL,
    -- The topic it is published on.
    topic       text        NOT NULL CHECK (topic <> ''),
    -- What happened, for example OrderCreated.
    type        text        NOT NULL CHECK (type <> ''),
    -- The primary key; messages of one key are handled in order.
    key         text        DEFAULT NULL,
    -- Whether each group handles it once, or each node of each group.
    kind        text        NOT NULL DEFAULT 'event' CHECK (kind IN ('event', 'broadcast')),
    -- The body as it is sent, letter for letter: JSON, or any other text under
    -- a header `content-type`.
    body        text        NOT NULL,
    -- Further headers, by name, as a JSON object.
    headers     jsonb       NOT NULL DEFAULT '{}' CHECK (jsonb_typeof(headers) = 'object'),
    -- When it is delivered at the earliest; null means at once.
    deliver_at  timestamptz DEFAULT NULL,
    -- When the row was written, which becomes the message's time.
    created_at  timestamptz NOT NULL DEFAULT clock_timestamp(),
    UNIQUE (id, topic, source)
);
