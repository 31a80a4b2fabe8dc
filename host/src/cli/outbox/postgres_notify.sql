-- Optional: wakes Courier at each commit, instead of at its next poll, which is
-- 20 ms away while there is work and 250 ms at most. It has a price: PostgreSQL
-- lets only one transaction that notifies commit at a time. A sender with
-- thousands of commits a second is better off without it.
CREATE OR REPLACE FUNCTION courier_outbox_notify() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('courier_outbox', '');
    RETURN NULL;
END
$$;
DROP TRIGGER IF EXISTS courier_outbox_notify ON courier_outbox;
CREATE TRIGGER courier_outbox_notify AFTER INSERT ON courier_outbox
    FOR EACH STATEMENT EXECUTE FUNCTION courier_outbox_notify();
