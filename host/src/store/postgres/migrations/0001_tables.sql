-- All times are microseconds since 1970-01-01T00:00:00Z, as in the program, so
-- that nothing is rounded and no session's time zone matters. States and
-- verdicts are the numbers that courier-core fixes. Names and ids compare by
-- their bytes, which is faster than any language's order and the same in every
-- database.

-- The store's clock. It moves within a transaction: a lease that was waited
-- for must not be judged by the time at which the waiting began.
CREATE FUNCTION courier_now() RETURNS bigint LANGUAGE sql VOLATILE AS
$$ SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint $$;

-- Words that stand in very many rows (nodes, plugin versions) are kept once;
-- a digest in each final row would be a third of it. Words are never removed,
-- so that hosts may remember their numbers.
CREATE TABLE word (
    id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- what the rows hold
    word text COLLATE "C" NOT NULL UNIQUE                              -- the node or digest
);

CREATE TABLE consumer_group (
    id   integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- what the rows hold
    name text COLLATE "C" NOT NULL UNIQUE                              -- as in the TOML
);

-- One incarnation of one node: a process's right to write.
CREATE TABLE writer (
    id         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- WriterId
    node       text COLLATE "C" NOT NULL, -- the node's name
    node_id    integer NOT NULL REFERENCES word, -- the same as a word, for rows
    sequence   bigint NOT NULL DEFAULT 0, -- settles that committed; tells what an unanswered commit did
    created_at bigint NOT NULL  -- when the process joined
);

-- A node's name is a lease.
CREATE TABLE node (
    name        text COLLATE "C" PRIMARY KEY, -- from the TOML
    writer_id   bigint,             -- the writer of the process that holds it; null when it left or was evicted
    incarnation text   NOT NULL,    -- random, new for each start of the process
    boot        text   NOT NULL,    -- the machine's boot id, empty where none can be had
    pid         bigint NOT NULL,    -- process id on that machine
    started     bigint NOT NULL,    -- the process's start in the machine's ticks (bits of a u64)
    joined_at   bigint NOT NULL,    -- when this incarnation joined
    lease_until bigint NOT NULL     -- the name is free from then on
);

-- Where a group stands in a partition. A topic that was created anew gets a
-- new row, since its offsets begin again.
CREATE TABLE position (
    id          bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- PositionId
    group_id    integer NOT NULL REFERENCES consumer_group, -- the group
    topic       text COLLATE "C" NOT NULL, -- the topic
    incarnation integer NOT NULL, -- counts the topics of this name, from 0
    partition   integer NOT NULL, -- the partition
    topic_id    text    NOT NULL, -- Kafka's id of the topic, empty while unknown
    next        bigint  NOT NULL, -- everything below is settled or parked
    epoch       bigint  NOT NULL, -- counts the owners; an older one may write nothing
    writer_id   bigint,           -- the owner; null before the first claim
    node        text,             -- the owner's node, kept when its writer is pruned
    current     boolean NOT NULL, -- false for the incarnations of the past
    UNIQUE (group_id, topic, partition, incarnation)
) WITH (fillfactor = 50); -- updated with every settle: room for HOT updates
CREATE UNIQUE INDEX position_current ON position (group_id, topic, partition) WHERE current;

-- Unfinished deliveries that wait for a retry, for their lane's head, for a
-- person, or run again because somebody asked. Retention never touches them.
CREATE TABLE open_delivery (
    position_id     bigint   NOT NULL, -- group, topic, incarnation and partition
    record_offset   bigint   NOT NULL, -- the record's offset
    record_time     bigint   NOT NULL, -- Kafka's time of the record
    received_at     bigint   NOT NULL, -- when the host first received it
    next_attempt_at bigint,            -- when it is due; null behind its lane's head or held
    started_at      bigint,            -- when its last attempt began
    asked_at        bigint,            -- when somebody last asked for it to run
    group_id        integer  NOT NULL, -- the group, so that lists need no join
    node_id         integer  NOT NULL, -- word: the node that worked on it last
    version_id      integer,           -- word: the version of the last attempt
    number          integer  NOT NULL, -- invocations so far
    counted         integer  NOT NULL, -- attempts used up so far
    state           smallint NOT NULL, -- COMMITTED, PUSH_FAIL or HANDLE_FAIL
    verdict         smallint,          -- the last verdict
    held            boolean  NOT NULL, -- waits for a person
    message_id      text COLLATE "C" NOT NULL, -- the message
    key             bytea,             -- the record's raw key: its lane
    type_name       text     NOT NULL, -- the message's type, empty when unknown
    reason          text,              -- why it has not finished
    fingerprint     text,              -- groups failures that are alike
    record          bytea,             -- the encoded record; null where only coordinates are kept
    PRIMARY KEY (position_id, record_offset)
);
-- Ids and keys may be longer than an index takes, so their heads are indexed
-- and the whole is compared.
CREATE INDEX open_delivery_message ON open_delivery (left(message_id, 64));
CREATE INDEX open_delivery_key ON open_delivery (substr(key, 1, 64)) WHERE key IS NOT NULL;
CREATE INDEX open_delivery_group ON open_delivery (group_id, received_at);
CREATE INDEX open_delivery_asked ON open_delivery (asked_at) WHERE asked_at IS NOT NULL;

-- Finished deliveries, written once. Partitioned by day so that retention
-- drops whole tables; the day must therefore stand in the primary key.
CREATE TABLE delivery (
    position_id   bigint   NOT NULL, -- group, topic, incarnation and partition
    record_offset bigint   NOT NULL, -- the record's offset
    record_time   bigint   NOT NULL, -- Kafka's time of the record
    received_at   bigint   NOT NULL, -- when the host first received it
    started_at    bigint,            -- when its last attempt began
    settled_at    bigint   NOT NULL, -- when its outcome was decided
    day           integer  NOT NULL, -- UTC day of record_time, counted from 1970-01-01
    group_id      integer  NOT NULL, -- the group, so that indexes can begin with it
    node_id       integer  NOT NULL, -- word: the node that finished it
    version_id    integer,           -- word: the version of the last attempt
    number        integer  NOT NULL, -- invocations in all
    counted       integer  NOT NULL, -- attempts used up
    state         smallint NOT NULL, -- HANDLED or HANDLE_FAIL
    verdict       smallint,          -- the last verdict
    message_id    text COLLATE "C" NOT NULL, -- the message
    key           bytea,             -- the record's raw key
    type_name     text     NOT NULL, -- the message's type, empty when unknown
    reason        text,              -- why it failed
    fingerprint   text,              -- groups failures that are alike
    record        bytea,             -- the encoded record of a failed one
    PRIMARY KEY (position_id, record_offset, day)
) PARTITION BY RANGE (day);
CREATE INDEX delivery_message ON delivery (left(message_id, 64));
CREATE INDEX delivery_key ON delivery (substr(key, 1, 64)) WHERE key IS NOT NULL;
-- Rows arrive nearly in this order, so this one costs next to nothing: a list
-- reads slices of time, and retention finds whether a day is old.
CREATE INDEX delivery_settled ON delivery (settled_at);
CREATE INDEX delivery_unhandled ON delivery (group_id, state, settled_at) WHERE state <> 5;
CREATE INDEX delivery_fingerprint ON delivery (group_id, fingerprint, settled_at) WHERE state <> 5;
-- Records whose time is far from today's.
CREATE TABLE delivery_other PARTITION OF delivery DEFAULT;

-- Attempts that are kept one by one: failed and repeated ones, and those that
-- logged. A delivery handled at once has none; its own row says it all.
CREATE TABLE attempt (
    position_id   bigint   NOT NULL, -- the delivery's position
    record_offset bigint   NOT NULL, -- the delivery's offset
    number        integer  NOT NULL, -- counts invocations from 1
    node_id       integer  NOT NULL, -- word: the node that ran it
    version_id    integer,           -- word: the version it ran
    started_at    bigint   NOT NULL, -- when it began
    finished_at   bigint   NOT NULL, -- when it ended
    verdict       smallint NOT NULL, -- what it concluded
    counted       boolean  NOT NULL, -- whether it used up one of max_attempts
    reason        text,              -- why
    fingerprint   text,              -- groups failures that are alike
    log           text,              -- what the handler logged
    PRIMARY KEY (position_id, record_offset, number)
);
CREATE INDEX attempt_finished ON attempt (finished_at); -- for retention

-- The send side: what senders handed in and what handlers published.
CREATE TABLE message (
    id         text COLLATE "C" PRIMARY KEY, -- the sender's or the host's
    digest     bytea,                -- SHA-256 of what makes it the same message; null for what no sender handed in
    key        bytea,                -- the raw key
    source     text     NOT NULL,    -- the sending service
    topic      text COLLATE "C" NOT NULL,    -- the topic
    type_name  text     NOT NULL,    -- the type
    kind       text     NOT NULL,    -- event or broadcast
    time       bigint   NOT NULL,    -- when the sender says it happened
    created_at bigint   NOT NULL,    -- when the host took it
    state      smallint NOT NULL,    -- SEND_FAIL or COMMITTED
    reason     text,                 -- why it is SEND_FAIL
    retrying   boolean  NOT NULL,    -- whether the host tries again by itself
    partition  integer,              -- where it is in Kafka, once it is
    kafka_offset bigint,             -- where in that partition
    record     bytea,                -- the record or the head of the body, while it is not on Kafka
    shard      integer,              -- its relay shard, if it can be sent again from record
    deliver_at bigint                -- when a delayed message is due
);
CREATE INDEX message_created ON message (created_at, id);
CREATE INDEX message_topic ON message (topic, created_at, id);
CREATE INDEX message_key ON message (substr(key, 1, 64)) WHERE key IS NOT NULL;
CREATE INDEX message_unsent ON message (created_at, id) WHERE state = 1;

-- What the host owes Kafka. Rows of a shard are sent in id order by one host.
CREATE TABLE outbound (
    id         bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order within a key
    shard      integer NOT NULL, -- hash(topic, key) mod 64
    message_id text COLLATE "C" NOT NULL, -- the message
    topic      text COLLATE "C" NOT NULL, -- where it goes
    type_name  text    NOT NULL, -- the message's type
    source     text    NOT NULL, -- the sending service
    key        bytea,            -- the raw key
    record     bytea   NOT NULL, -- the whole record, encoded
    partition  integer,          -- chosen before it is first produced, then kept
    held_until bigint,           -- not before then; a direct send's, or the wait after a failure
    listed     boolean NOT NULL, -- whether people see it among the messages
    tries      integer NOT NULL DEFAULT 0, -- how often it was tried
    created_at bigint  NOT NULL  -- when it was decided
);
CREATE INDEX outbound_shard ON outbound (shard, id);
CREATE INDEX outbound_message ON outbound (left(message_id, 64));
CREATE INDEX outbound_topic ON outbound (topic);
CREATE INDEX outbound_held ON outbound (shard, id) WHERE held_until IS NOT NULL;

-- Which host relays which shard.
CREATE TABLE relay_shard (
    shard       integer PRIMARY KEY,          -- 0 to 63
    writer_id   bigint,                       -- who leases it; null when free
    epoch       bigint  NOT NULL DEFAULT 0,   -- counts the holders; an older one may write nothing
    lease_until bigint  NOT NULL DEFAULT 0    -- free from then on
);
INSERT INTO relay_shard (shard) SELECT generate_series(0, 63);

-- Sums, kept so that nothing is counted. One row for each group and node:
-- hosts do not wait for one another here. Only the sum over nodes has a
-- meaning; a single row may be negative.
CREATE TABLE counter (
    group_id  integer NOT NULL, -- the group
    node_id   integer NOT NULL, -- word: the node that wrote; 0 for what people did
    handled   bigint  NOT NULL DEFAULT 0, -- deliveries that ended HANDLED
    failed    bigint  NOT NULL DEFAULT 0, -- final rows in HANDLE_FAIL
    waiting   bigint  NOT NULL DEFAULT 0, -- open rows behind their lane's head
    push_fail bigint  NOT NULL DEFAULT 0, -- open rows in PUSH_FAIL
    retrying  bigint  NOT NULL DEFAULT 0, -- open rows in HANDLE_FAIL with a next attempt
    held      bigint  NOT NULL DEFAULT 0, -- open rows that wait for a person
    PRIMARY KEY (group_id, node_id)
) WITH (fillfactor = 50);

-- Key/value state of the groups' handlers.
CREATE TABLE state (
    group_id integer NOT NULL, -- whose handlers
    key      text COLLATE "C" NOT NULL, -- the handler's
    value    bytea,            -- the handler's; null: deleted, the row goes with the next pruning
    PRIMARY KEY (group_id, key)
);
CREATE INDEX state_deleted ON state (group_id, key) WHERE value IS NULL; -- for pruning

CREATE TABLE lost_range (
    id          bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order of finding
    group_id    integer NOT NULL REFERENCES consumer_group, -- the group
    topic       text COLLATE "C" NOT NULL, -- the topic
    partition   integer NOT NULL, -- the partition
    from_offset bigint  NOT NULL, -- first lost offset
    to_offset   bigint  NOT NULL, -- first offset after them
    why         text    NOT NULL, -- for people
    found_at    bigint  NOT NULL  -- when it was found
);

CREATE TABLE plugin (
    name   text COLLATE "C" PRIMARY KEY, -- as bindings name it
    active text              -- the digest in use, null before the first activation
);

CREATE TABLE plugin_version (
    id         bigint  GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order of uploading
    plugin     text COLLATE "C" NOT NULL REFERENCES plugin, -- the plugin
    digest     text COLLATE "C" NOT NULL, -- sha256:<hex>
    wasm       bytea   NOT NULL, -- the component
    imports    text[]  NOT NULL, -- what it imports
    exports    text[]  NOT NULL, -- what it exports
    wants      text,             -- what it says of itself, as JSON
    by         text    NOT NULL, -- who uploaded it
    created_at bigint  NOT NULL, -- when
    UNIQUE (plugin, digest)
);
CREATE INDEX plugin_version_digest ON plugin_version (digest);

-- The history of what was active.
CREATE TABLE activation (
    id     bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order
    plugin text COLLATE "C" NOT NULL REFERENCES plugin, -- the plugin
    digest text COLLATE "C" NOT NULL, -- the version that became active
    by     text   NOT NULL, -- who said so
    at     bigint NOT NULL  -- when
);
CREATE INDEX activation_plugin ON activation (plugin, id);

-- Which process compiled which version. A new process compiles anew.
CREATE TABLE prepared (
    writer_id bigint NOT NULL, -- the process
    digest    text COLLATE "C" NOT NULL, -- the version
    PRIMARY KEY (writer_id, digest)
);

CREATE TABLE group_pause (
    name text COLLATE "C" PRIMARY KEY, -- the group; it need not have a position yet
    why  text   NOT NULL,    -- who paused it and why
    at   bigint NOT NULL     -- when
);

CREATE TABLE audit (
    id      bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order
    at      bigint NOT NULL, -- when
    by      text   NOT NULL, -- who
    action  text   NOT NULL, -- what was done
    subject text   NOT NULL, -- to what
    detail  text   NOT NULL  -- for people
);
CREATE INDEX audit_at ON audit (at);
