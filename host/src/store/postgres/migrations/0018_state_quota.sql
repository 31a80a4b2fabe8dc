-- When a value of the handlers' state was last written, so that it can be
-- forgotten when it is old. What is there counts as written now.
ALTER TABLE state ADD COLUMN written_at bigint NOT NULL DEFAULT courier_now();

-- What the state of each group holds: keys, and bytes of keys and values. The
-- sums are kept by triggers, since counting a million rows before each write
-- would cost more than the write. A group has several rows, by session, so that
-- hosts which write for one group do not wait for one another; a row may be
-- negative, the sum is not.
CREATE TABLE state_usage (
    group_id integer  NOT NULL, -- whose handlers
    part     smallint NOT NULL, -- which of the sessions
    keys     bigint   NOT NULL, -- values that are there
    bytes    bigint   NOT NULL, -- bytes of their keys and of them
    PRIMARY KEY (group_id, part)
);
INSERT INTO state_usage (group_id, part, keys, bytes)
    SELECT group_id, 0, count(*), sum(octet_length(key) + octet_length(value)) FROM state
    WHERE value IS NOT NULL GROUP BY group_id;

CREATE FUNCTION state_inserted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO state_usage AS u (group_id, part, keys, bytes)
        SELECT group_id, pg_backend_pid() % 16, count(*), sum(octet_length(key) + octet_length(value)) FROM written
        WHERE value IS NOT NULL GROUP BY group_id ORDER BY group_id
        ON CONFLICT (group_id, part) DO UPDATE SET keys = u.keys + excluded.keys, bytes = u.bytes + excluded.bytes;
    RETURN NULL;
END $$;

CREATE FUNCTION state_deleted() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO state_usage AS u (group_id, part, keys, bytes)
        SELECT group_id, pg_backend_pid() % 16, -count(*), -sum(octet_length(key) + octet_length(value)) FROM gone
        WHERE value IS NOT NULL GROUP BY group_id ORDER BY group_id
        ON CONFLICT (group_id, part) DO UPDATE SET keys = u.keys + excluded.keys, bytes = u.bytes + excluded.bytes;
    RETURN NULL;
END $$;

CREATE FUNCTION state_updated() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    INSERT INTO state_usage AS u (group_id, part, keys, bytes)
        SELECT group_id, pg_backend_pid() % 16, sum(keys), sum(bytes) FROM (
            SELECT group_id, 1 AS keys, octet_length(key) + octet_length(value) AS bytes FROM written
            WHERE value IS NOT NULL
            UNION ALL
            SELECT group_id, -1, -(octet_length(key) + octet_length(value)) FROM gone WHERE value IS NOT NULL
        ) changed GROUP BY group_id ORDER BY group_id
        ON CONFLICT (group_id, part) DO UPDATE SET keys = u.keys + excluded.keys, bytes = u.bytes + excluded.bytes;
    RETURN NULL;
END $$;

CREATE TRIGGER state_inserted AFTER INSERT ON state REFERENCING NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION state_inserted();
CREATE TRIGGER state_deleted AFTER DELETE ON state REFERENCING OLD TABLE AS gone
    FOR EACH STATEMENT EXECUTE FUNCTION state_deleted();
CREATE TRIGGER state_updated AFTER UPDATE ON state REFERENCING OLD TABLE AS gone NEW TABLE AS written
    FOR EACH STATEMENT EXECUTE FUNCTION state_updated();
