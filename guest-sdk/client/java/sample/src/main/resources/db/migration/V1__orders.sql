CREATE TABLE shop_order (
    id       text    PRIMARY KEY,
    article  text    NOT NULL,
    quantity integer NOT NULL CHECK (quantity > 0),
    version  integer NOT NULL
);
