-- A person's word that an open delivery is given up: why, and whether its record
-- goes to the dead letters. Its owner finds the mark by asked_at.
ALTER TABLE open_delivery ADD COLUMN give_up_reason text;
ALTER TABLE open_delivery ADD COLUMN give_up_letter boolean NOT NULL DEFAULT false;

-- What the configuration of each node binds, so that every host can tell whether
-- anybody runs a group. `types` is a JSON array; null means all types.
CREATE TABLE node_binding (
    node text NOT NULL,
    group_name text NOT NULL,
    topic text NOT NULL,
    types text,
    PRIMARY KEY (node, group_name, topic)
);
