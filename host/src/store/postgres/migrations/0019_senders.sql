-- Who handed a message in: the name of the token, or outbox:NAME, and whether
-- its source is known to be that one's. Null for handlers, for hosts without
-- tokens and for what an earlier version took.
ALTER TABLE message ADD COLUMN sender text;
ALTER TABLE message ADD COLUMN source_proven boolean;
ALTER TABLE half_message ADD COLUMN sender text;
ALTER TABLE half_item ADD COLUMN source_proven boolean;

-- Keys that the hosts of this store share, and nobody else has.
CREATE TABLE host_key (
    name  text  PRIMARY KEY, -- what it is for
    value bytea NOT NULL     -- 32 random bytes
);
