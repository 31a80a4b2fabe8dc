-- One index says which topics and which of their keys have unsent rows: each row
-- that is held for a direct send is written to one index less.
CREATE INDEX outbound_topic_key ON outbound (topic, substr(key, 1, 64));
DROP INDEX outbound_topic;
DROP INDEX outbound_lane;

-- Which lanes, by their places in the arrays, have unsent rows. Always one
-- look-up by the index for each: a session keeps the plan that it made while the
-- table was empty, and would read all rows before each send once there are many.
CREATE FUNCTION courier_unsent_lanes(topics text[], keys bytea[]) RETURNS SETOF bigint
LANGUAGE plpgsql STABLE SET enable_seqscan = off AS $$
BEGIN
    RETURN QUERY SELECT l.place FROM unnest(topics, keys) WITH ORDINALITY AS l (topic, key, place)
    WHERE (SELECT true FROM outbound o WHERE o.topic = l.topic AND substr(o.key, 1, 64) = substr(l.key, 1, 64)
        AND o.key = l.key LIMIT 1);
END $$;
