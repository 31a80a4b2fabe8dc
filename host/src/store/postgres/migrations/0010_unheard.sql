-- Broadcasts that nobody heard need a person, and are looked for each time the
-- overview is. They are few: a partial index costs nothing to all others.
CREATE INDEX message_unheard ON message (created_at) WHERE heard = false;
