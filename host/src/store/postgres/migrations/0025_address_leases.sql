-- Addresses of pushed services: every one is a listener, and one host at a time
-- pushes broadcasts to it.

-- A host that pushes to a service.
CREATE TABLE address_host (
    group_id integer NOT NULL REFERENCES consumer_group, -- the group whose handler the service is
    service  text COLLATE "C" NOT NULL, -- host:port of its URL
    node     text COLLATE "C" NOT NULL, -- the host
    until    bigint NOT NULL, -- it counts until then
    PRIMARY KEY (group_id, service, node)
);

-- Who pushes to an address.
CREATE TABLE address_lease (
    group_id integer NOT NULL REFERENCES consumer_group, -- the group
    service  text COLLATE "C" NOT NULL, -- host:port of the URL
    address  text COLLATE "C" NOT NULL, -- the address and its port, as the listener is called
    node     text COLLATE "C" NOT NULL, -- the host that holds it
    until    bigint NOT NULL, -- nobody takes it from that host before
    PRIMARY KEY (group_id, service, address)
);
