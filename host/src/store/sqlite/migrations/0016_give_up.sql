-- A person's word that an open delivery is given up: why, and whether its record
-- goes to the dead letters. Its owner finds the mark by asked_at.
ALTER TABLE open_delivery ADD COLUMN give_up_reason TEXT;
ALTER TABLE open_delivery ADD COLUMN give_up_letter INTEGER NOT NULL DEFAULT 0;

-- What the configuration of each node binds, so that every host can tell whether
-- anybody runs a group. `types` is a JSON array; null means all types.
CREATE TABLE node_binding (
    node TEXT NOT NULL,
    group_name TEXT NOT NULL,
    topic TEXT NOT NULL,
    types TEXT,
    PRIMARY KEY (node, group_name, topic)
) WITHOUT ROWID;
