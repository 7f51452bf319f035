-- +goose Up
-- What was taken down, by the multihash of its root. Whoever can write here can
-- delete or put an older record back, which the ledger of each process outweighs.
CREATE TABLE takedowns (
    multihash  BYTEA  NOT NULL PRIMARY KEY,
    generation BIGINT NOT NULL, -- +1 with every change
    record     BYTEA  NOT NULL, -- sealed: all that is known of it
    created    BIGINT NOT NULL,
    change     BIGINT NOT NULL  -- the change by which the row came
);
CREATE INDEX takedowns_page ON takedowns (created, multihash);
CREATE INDEX takedowns_change ON takedowns (change);
