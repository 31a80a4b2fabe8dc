-- The tables of a single host.
--
-- Times are microseconds since 1970 in UTC, keys and records are raw bytes,
-- states and verdicts are the codes of the core. Rows that are wide or written
-- by the thousand are WITHOUT ROWID, which saves them a second index; bytes of
-- records live apart in kept_record, so that a row can change its state
-- without its body being written again.

-- Names that stand in many rows: nodes and plugin versions.
CREATE TABLE word (
    id   INTEGER PRIMARY KEY,   -- what the rows carry instead of the name
    text TEXT NOT NULL UNIQUE   -- the name
) STRICT;

CREATE TABLE consumer_group (
    id   INTEGER PRIMARY KEY,   -- what the rows carry instead of the name
    name TEXT NOT NULL UNIQUE   -- the group's name in the TOML
) STRICT;

-- A process's right to settle: one row for each incarnation of a node.
CREATE TABLE writer (
    id        INTEGER PRIMARY KEY AUTOINCREMENT, -- never used twice, so that a late writer meets nobody's row
    node      TEXT NOT NULL,                     -- the node it is an incarnation of
    joined_at INTEGER NOT NULL,                  -- when it joined
    sequence  INTEGER NOT NULL DEFAULT 0         -- the last settle that committed
) STRICT;

CREATE TABLE node (
    name        TEXT PRIMARY KEY,  -- the node's name in the TOML
    writer_id   INTEGER REFERENCES writer (id), -- its incarnation; null once it left or was evicted
    incarnation TEXT NOT NULL,     -- random, new for each start of the process
    boot        TEXT NOT NULL,     -- boot id of its machine; empty where none can be had
    pid         INTEGER NOT NULL,  -- process id on that machine
    started     INTEGER NOT NULL,  -- when the process started, in the machine's clock ticks
    joined_at   INTEGER NOT NULL,  -- when this incarnation joined
    lease_until INTEGER NOT NULL   -- another process may take the name from here on
) STRICT, WITHOUT ROWID;

CREATE TABLE position (
    id          INTEGER PRIMARY KEY AUTOINCREMENT, -- part of a delivery's identity, so never used twice
    group_id    INTEGER NOT NULL REFERENCES consumer_group (id), -- the group
    topic       TEXT NOT NULL,      -- the topic
    partition   INTEGER NOT NULL,   -- the partition
    incarnation INTEGER NOT NULL,   -- counts the topics that had this name; the highest is the present one
    topic_id    TEXT NOT NULL,      -- Kafka's id of the topic; empty while unknown
    next        INTEGER NOT NULL,   -- everything below is settled or parked; never goes back
    epoch       INTEGER NOT NULL,   -- counts the owners; an older one may write nothing
    writer_id   INTEGER REFERENCES writer (id), -- the owner of this epoch; null before the first claim
    UNIQUE (group_id, topic, partition, incarnation)
) STRICT;

-- Deliveries that are not finished. Retention never touches them.
CREATE TABLE open_delivery (
    position        INTEGER NOT NULL,  -- group, topic, incarnation and partition
    offset          INTEGER NOT NULL,  -- the record's offset
    group_id        INTEGER NOT NULL,  -- the group, once more for lists
    state           INTEGER NOT NULL,  -- COMMITTED (waits in its lane), PUSH_FAIL or HANDLE_FAIL
    next_attempt_at INTEGER,           -- when it is due; null behind its lane's head or while held
    held            INTEGER NOT NULL,  -- 1 while it waits for a person
    asked_at        INTEGER,           -- when a person last asked for it; each value occurs once
    record_time     INTEGER NOT NULL,  -- Kafka's time of the record
    received_at     INTEGER NOT NULL,  -- when a host first received it
    started_at      INTEGER,           -- when the last attempt began
    number          INTEGER NOT NULL,  -- invocations so far
    counted         INTEGER NOT NULL,  -- attempts used up so far
    verdict         INTEGER,           -- the last verdict
    node            INTEGER NOT NULL,  -- word: the node that worked on it last
    version         INTEGER,           -- word: the plugin version of the last attempt
    message_id      TEXT NOT NULL,     -- the message's id
    key             BLOB,              -- the record's raw key; null for a record without one
    type_name       TEXT NOT NULL,     -- the message's type; empty when unknown
    reason          TEXT,              -- why it is not HANDLED yet
    fingerprint     TEXT,              -- groups failures that are alike
    PRIMARY KEY (position, offset)
) STRICT, WITHOUT ROWID;
CREATE INDEX open_delivery_asked ON open_delivery (asked_at) WHERE asked_at IS NOT NULL;
CREATE INDEX open_delivery_message ON open_delivery (message_id);
CREATE INDEX open_delivery_key ON open_delivery (key, received_at) WHERE key IS NOT NULL;
CREATE INDEX open_delivery_time ON open_delivery (group_id, received_at);

-- Final rows are cut into slots of some thousands by the time they were
-- settled: a slot has the rows from its start to the start of the next. The
-- indexes by message and key begin with the slot. Their entries come in no
-- order, and in one large index nearly every row of a settle would change a
-- page of its own; within the newest slot they share a few. A look-up probes
-- each slot.
CREATE TABLE slot (
    start_at INTEGER PRIMARY KEY,  -- the first settled_at of the slot
    last_at  INTEGER NOT NULL,     -- no later settled_at was seen while it was the newest
    rows     INTEGER NOT NULL      -- rows settled while it was the newest
) STRICT;
INSERT INTO slot (start_at, last_at, rows) VALUES (-9223372036854775808, -9223372036854775808, 0);

-- Deliveries that are finished, written once in their final state.
CREATE TABLE delivery (
    position    INTEGER NOT NULL,  -- group, topic, incarnation and partition
    offset      INTEGER NOT NULL,  -- the record's offset
    day         INTEGER NOT NULL,  -- UTC day of the record's Kafka time, as in the other dialect
    group_id    INTEGER NOT NULL,  -- the group, once more for lists
    slot        INTEGER NOT NULL,  -- start of the slot that settled_at falls in
    state       INTEGER NOT NULL,  -- HANDLED or HANDLE_FAIL
    settled_at  INTEGER NOT NULL,  -- when it was decided
    record_time INTEGER NOT NULL,  -- Kafka's time of the record
    received_at INTEGER NOT NULL,  -- when a host first received it
    started_at  INTEGER,           -- when the last attempt began; null if it was never invoked
    number      INTEGER NOT NULL,  -- invocations
    counted     INTEGER NOT NULL,  -- attempts used up
    verdict     INTEGER,           -- the last verdict
    node        INTEGER NOT NULL,  -- word: the node that worked on it last
    version     INTEGER,           -- word: the plugin version of the last attempt
    message_id  TEXT NOT NULL,     -- the message's id
    key         BLOB,              -- the record's raw key; null for a record without one
    type_name   TEXT NOT NULL,     -- the message's type; empty when unknown
    reason      TEXT,              -- why it failed
    fingerprint TEXT,              -- groups failures that are alike
    PRIMARY KEY (position, offset, day)
) STRICT, WITHOUT ROWID;
CREATE INDEX delivery_message ON delivery (slot, message_id);
CREATE INDEX delivery_key ON delivery (slot, key, settled_at) WHERE key IS NOT NULL;
-- Rows arrive in about this order, so that the index costs little; lists of a
-- group and retention live on it.
CREATE INDEX delivery_time ON delivery (group_id, settled_at);
CREATE INDEX delivery_failed ON delivery (group_id, state, settled_at) WHERE state <> 5;
CREATE INDEX delivery_alike ON delivery (group_id, fingerprint, settled_at) WHERE state <> 5;

-- The records of open and of failed deliveries, while they are kept.
CREATE TABLE kept_record (
    position INTEGER NOT NULL,  -- the delivery's position
    offset   INTEGER NOT NULL,  -- the delivery's offset
    record   BLOB NOT NULL,     -- the encoded record: key, value, headers
    PRIMARY KEY (position, offset)
) STRICT, WITHOUT ROWID;

-- Failed and repeated attempts, and those with a log. The one attempt of a
-- delivery that was handled at once is told by its final row.
CREATE TABLE attempt (
    position    INTEGER NOT NULL,  -- the delivery's position
    offset      INTEGER NOT NULL,  -- the delivery's offset
    number      INTEGER NOT NULL,  -- counts invocations from 1, also through a redrive
    counted     INTEGER NOT NULL,  -- 1 when it used up one of max_attempts
    version     INTEGER,           -- word: the plugin version
    node        INTEGER NOT NULL,  -- word: the node that ran it
    started_at  INTEGER NOT NULL,  -- when it began
    finished_at INTEGER NOT NULL,  -- when it ended
    verdict     INTEGER NOT NULL,  -- what it concluded
    reason      TEXT,              -- why
    fingerprint TEXT,              -- groups failures that are alike
    log         TEXT,              -- what the handler logged
    PRIMARY KEY (position, offset, number)
) STRICT, WITHOUT ROWID;

-- Sums that are kept and not counted, by node so that hosts do not queue up
-- for one row.
CREATE TABLE counter (
    group_id INTEGER NOT NULL REFERENCES consumer_group (id), -- the group
    node     INTEGER NOT NULL,            -- word: the node
    handled  INTEGER NOT NULL DEFAULT 0,  -- deliveries that ended HANDLED, less those asked to run again
    failed   INTEGER NOT NULL DEFAULT 0,  -- deliveries that are finally HANDLE_FAIL now
    PRIMARY KEY (group_id, node)
) STRICT, WITHOUT ROWID;

CREATE TABLE lost_range (
    id          INTEGER PRIMARY KEY,  -- ascending in the order they were found
    position    INTEGER NOT NULL REFERENCES position (id), -- where
    from_offset INTEGER NOT NULL,     -- first lost offset
    to_offset   INTEGER NOT NULL,     -- first offset after them, as far as it is known
    why         TEXT NOT NULL,        -- for people
    found_at    INTEGER NOT NULL      -- when it was found
) STRICT;

CREATE TABLE group_pause (
    group_id  INTEGER PRIMARY KEY REFERENCES consumer_group (id), -- the group
    why       TEXT NOT NULL,     -- who said so and why
    paused_at INTEGER NOT NULL   -- since when
) STRICT;

-- Key/value state of the handlers of a group.
CREATE TABLE state_value (
    group_id INTEGER NOT NULL REFERENCES consumer_group (id), -- whose it is
    key      TEXT NOT NULL,     -- the handler's key
    value    BLOB NOT NULL,     -- the handler's bytes
    PRIMARY KEY (group_id, key)
) STRICT, WITHOUT ROWID;

CREATE TABLE plugin (
    id     INTEGER PRIMARY KEY,   -- what the rows carry instead of the name
    name   TEXT NOT NULL UNIQUE,  -- the plugin's name
    active TEXT                   -- digest of the active version; null before the first activation
) STRICT;

-- The bytes of a component, apart from what is listed.
CREATE TABLE component (
    digest TEXT PRIMARY KEY,  -- sha256:<hex>
    wasm   BLOB NOT NULL      -- the component as it was uploaded
) STRICT;

CREATE TABLE plugin_version (
    id         INTEGER PRIMARY KEY,  -- ascending in the order of upload
    plugin_id  INTEGER NOT NULL REFERENCES plugin (id), -- the plugin
    digest     TEXT NOT NULL REFERENCES component (digest), -- sha256:<hex>
    size       INTEGER NOT NULL,     -- bytes of the component
    imports    TEXT NOT NULL,        -- JSON array of what it imports
    exports    TEXT NOT NULL,        -- JSON array of what it exports
    wants      TEXT,                 -- what it says of itself, as JSON
    actor      TEXT NOT NULL,        -- who uploaded it
    created_at INTEGER NOT NULL,     -- when
    UNIQUE (plugin_id, digest)
) STRICT;

CREATE TABLE activation (
    id           INTEGER PRIMARY KEY,  -- ascending in the order they happened
    plugin_id    INTEGER NOT NULL REFERENCES plugin (id), -- the plugin
    digest       TEXT NOT NULL,        -- what became active
    actor        TEXT NOT NULL,        -- who did it
    activated_at INTEGER NOT NULL      -- when
) STRICT;

-- Which processes compiled which component.
CREATE TABLE prepared (
    writer_id INTEGER NOT NULL REFERENCES writer (id) ON DELETE CASCADE, -- the process
    digest    TEXT NOT NULL,     -- what it can run
    PRIMARY KEY (writer_id, digest)
) STRICT, WITHOUT ROWID;

-- The send side: what was handed to Courier, and what handlers published.
CREATE TABLE message (
    seq        INTEGER PRIMARY KEY AUTOINCREMENT, -- ascending in the order they were taken
    id         TEXT NOT NULL UNIQUE,  -- the message's id
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
    record     BLOB                   -- the whole record, or the front of a refused body; null once it is on Kafka
                                      -- and while its outbound row has it
) STRICT;
CREATE INDEX message_time ON message (created_at);
-- Cut into slots like the indexes of delivery, by the order of taking.
CREATE INDEX message_key ON message (seq / 8192, key) WHERE key IS NOT NULL;
CREATE INDEX message_unsent ON message (created_at) WHERE state = 1;

-- What the host owes Kafka.
CREATE TABLE outbound (
    id         INTEGER PRIMARY KEY AUTOINCREMENT, -- the order of sending; never used twice, so that a late relay meets nobody's row
    shard      INTEGER NOT NULL,   -- hash(topic, key) mod 64
    message_id TEXT NOT NULL,      -- the message's id
    topic      TEXT NOT NULL,      -- where it goes
    key        BLOB,               -- the raw key
    type_name  TEXT NOT NULL,      -- the message's type
    source     TEXT NOT NULL,      -- the sending service
    partition  INTEGER,            -- chosen before it is first produced; null until then
    held_until INTEGER NOT NULL,   -- the relay leaves it alone until then
    tries      INTEGER NOT NULL DEFAULT 0, -- how often the relay tried
    sender     INTEGER NOT NULL,   -- 1 when it stands for a row of message that a sender handed in
    listed     INTEGER NOT NULL,   -- 1 when it is listed among the messages (dead letters are not)
    created_at INTEGER NOT NULL,   -- when it was written
    record     BLOB NOT NULL       -- the encoded record
) STRICT;
CREATE INDEX outbound_lane ON outbound (topic, key, id);
CREATE INDEX outbound_message ON outbound (message_id);

CREATE TABLE relay_shard (
    shard       INTEGER PRIMARY KEY, -- 0 to 63
    epoch       INTEGER NOT NULL,    -- counts the holders; an older one may write nothing
    writer_id   INTEGER,             -- who relays it; null when nobody does
    lease_until INTEGER NOT NULL     -- another host may take it from here on
) STRICT;
INSERT INTO relay_shard (shard, epoch, writer_id, lease_until)
WITH RECURSIVE s (n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM s WHERE n < 63)
SELECT n, 0, NULL, 0 FROM s;

CREATE TABLE audit (
    id      INTEGER PRIMARY KEY AUTOINCREMENT, -- ascending in the order they happened
    at      INTEGER NOT NULL,  -- when
    actor   TEXT NOT NULL,     -- who
    action  TEXT NOT NULL,     -- what was done
    subject TEXT NOT NULL,     -- to what
    detail  TEXT NOT NULL      -- anything else, for people
) STRICT;
