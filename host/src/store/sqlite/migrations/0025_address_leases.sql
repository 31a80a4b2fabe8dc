-- Addresses of pushed services: every one is a listener, and one host at a time
-- pushes broadcasts to it.

-- A host that pushes to a service.
CREATE TABLE address_host (
    group_id INTEGER NOT NULL REFERENCES consumer_group (id), -- the group whose handler the service is
    service  TEXT NOT NULL,    -- host:port of its URL
    node     TEXT NOT NULL,    -- the host
    until    INTEGER NOT NULL, -- it counts until then
    PRIMARY KEY (group_id, service, node)
) STRICT, WITHOUT ROWID;

-- Who pushes to an address.
CREATE TABLE address_lease (
    group_id INTEGER NOT NULL REFERENCES consumer_group (id), -- the group
    service  TEXT NOT NULL,    -- host:port of the URL
    address  TEXT NOT NULL,    -- the address and its port, as the listener is called
    node     TEXT NOT NULL,    -- the host that holds it
    until    INTEGER NOT NULL, -- nobody takes it from that host before
    PRIMARY KEY (group_id, service, address)
) STRICT, WITHOUT ROWID;
