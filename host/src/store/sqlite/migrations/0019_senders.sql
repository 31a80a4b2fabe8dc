-- Who handed a message in: the name of the token, or outbox:NAME, and whether
-- its source is known to be that one's. Null for handlers, for hosts without
-- tokens and for what an earlier version took.
ALTER TABLE message ADD COLUMN sender TEXT;
ALTER TABLE message ADD COLUMN source_proven INTEGER;
ALTER TABLE half_message ADD COLUMN sender TEXT;
ALTER TABLE half_item ADD COLUMN source_proven INTEGER;

-- Keys that the hosts of this store share, and nobody else has.
CREATE TABLE host_key (
    name  TEXT PRIMARY KEY, -- what it is for
    value BLOB NOT NULL     -- 32 random bytes
) STRICT, WITHOUT ROWID;
