-- Redrives and replays: plans of what somebody wants to run again.
CREATE TABLE redrive (
    id          INTEGER PRIMARY KEY AUTOINCREMENT, -- ascending in the order they were planned
    group_id    INTEGER NOT NULL REFERENCES consumer_group (id), -- the group whose deliveries run again
    topic       TEXT,              -- the topic, when it is held to one
    asked_for   TEXT NOT NULL,     -- the filter as it was asked for, as JSON
    replay      INTEGER NOT NULL,  -- 1 for a range of offsets, 0 for deliveries that a filter found
    rate        INTEGER NOT NULL,  -- items a second
    state       INTEGER NOT NULL,  -- 1 PLANNED, 2 RUNNING, 3 PAUSED, 4 DONE, 5 CANCELLED
    matched     INTEGER NOT NULL,  -- items in all
    running     INTEGER NOT NULL DEFAULT 0, -- items that were asked for and have no result yet
    handled     INTEGER NOT NULL DEFAULT 0, -- items that ended HANDLED
    failed      INTEGER NOT NULL DEFAULT 0, -- items that ended HANDLE_FAIL
    skipped     INTEGER NOT NULL DEFAULT 0, -- items that were not run
    truncated   INTEGER NOT NULL,  -- 1 when more matched than a plan holds
    actor       TEXT NOT NULL,     -- who planned it
    created_at  INTEGER NOT NULL,  -- when
    started_at  INTEGER,           -- when it first ran
    finished_at INTEGER,           -- when it was done or cancelled
    epoch       INTEGER NOT NULL DEFAULT 0, -- counts the holders; an older one may write nothing
    writer_id   INTEGER,           -- who works on it; null when nobody does
    lease_until INTEGER NOT NULL DEFAULT 0  -- another host may take it from here on
) STRICT;
CREATE INDEX redrive_work ON redrive (id) WHERE state = 2 OR running > 0;

CREATE TABLE redrive_item (
    redrive     INTEGER NOT NULL REFERENCES redrive (id), -- whose it is
    seq         INTEGER NOT NULL,  -- its place in the plan, from 1
    position    INTEGER NOT NULL,  -- the delivery's position
    offset      INTEGER NOT NULL,  -- the delivery's offset
    number      INTEGER,           -- invocations when it was planned; null for a replay
    was_final   INTEGER NOT NULL,  -- 1 when it was finished when it was planned
    state       INTEGER NOT NULL,  -- 1 WAITING, 2 RUNNING, 3 HANDLED, 4 HANDLE_FAIL, 5 SKIPPED
    message_id  TEXT,              -- the message's id; null until a replay reads it
    reason      TEXT,              -- why it failed or was not run
    asked_at    INTEGER,           -- when it was asked for
    finished_at INTEGER,           -- when its outcome was decided
    PRIMARY KEY (redrive, seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX redrive_item_open ON redrive_item (redrive, state, seq) WHERE state < 3;
