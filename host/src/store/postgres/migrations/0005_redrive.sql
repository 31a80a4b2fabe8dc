-- Redrives and replays: plans of what somebody wants to run again.
CREATE TABLE redrive (
    id          bigint   GENERATED ALWAYS AS IDENTITY PRIMARY KEY, -- the order of planning
    group_id    integer  NOT NULL REFERENCES consumer_group, -- the group whose deliveries run again
    topic       text COLLATE "C",   -- the topic, when it is held to one
    asked_for   text     NOT NULL,  -- the filter as it was asked for, as JSON
    replay      boolean  NOT NULL,  -- a range of offsets, not deliveries that a filter found
    rate        integer  NOT NULL,  -- items a second
    state       smallint NOT NULL,  -- 1 PLANNED, 2 RUNNING, 3 PAUSED, 4 DONE, 5 CANCELLED
    matched     bigint   NOT NULL,  -- items in all
    running     bigint   NOT NULL DEFAULT 0, -- items that were asked for and have no result yet
    handled     bigint   NOT NULL DEFAULT 0, -- items that ended HANDLED
    failed      bigint   NOT NULL DEFAULT 0, -- items that ended HANDLE_FAIL
    skipped     bigint   NOT NULL DEFAULT 0, -- items that were not run
    truncated   boolean  NOT NULL,  -- whether more matched than a plan holds
    by          text     NOT NULL,  -- who planned it
    created_at  bigint   NOT NULL,  -- when
    started_at  bigint,             -- when it first ran
    finished_at bigint,             -- when it was done or cancelled
    epoch       bigint   NOT NULL DEFAULT 0, -- counts the holders; an older one may write nothing
    writer_id   bigint,             -- who works on it; null when nobody does
    lease_until bigint   NOT NULL DEFAULT 0  -- free from then on
) WITH (fillfactor = 50); -- updated with every step: room for HOT updates
CREATE INDEX redrive_work ON redrive (id) WHERE state = 2 OR running > 0;

CREATE TABLE redrive_item (
    redrive_id    bigint   NOT NULL REFERENCES redrive, -- whose it is
    seq           bigint   NOT NULL, -- its place in the plan, from 1
    position_id   bigint   NOT NULL, -- the delivery's position
    record_offset bigint   NOT NULL, -- the delivery's offset
    number        integer,           -- invocations when it was planned; null for a replay
    was_final     boolean  NOT NULL, -- whether it was finished when it was planned
    state         smallint NOT NULL, -- 1 WAITING, 2 RUNNING, 3 HANDLED, 4 HANDLE_FAIL, 5 SKIPPED
    message_id    text COLLATE "C",  -- the message; null until a replay reads it
    reason        text,              -- why it failed or was not run
    asked_at      bigint,            -- when it was asked for
    finished_at   bigint,            -- when its outcome was decided
    PRIMARY KEY (redrive_id, seq)
);
CREATE INDEX redrive_item_open ON redrive_item (redrive_id, state, seq) WHERE state < 3;
