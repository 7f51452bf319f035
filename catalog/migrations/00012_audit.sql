-- +goose Up
-- The head of each node's audit log, so that one that was cut or put back is
-- noticed.
CREATE TABLE audit_heads (
    log  TEXT   NOT NULL PRIMARY KEY, -- its name, which says whose it is
    size BIGINT NOT NULL,             -- in records
    hash BYTEA  NOT NULL,             -- of the last
    made BIGINT NOT NULL
);

-- What was reviewed: "access", or the name of an audit log, up to a record.
ALTER TABLE reviews ADD COLUMN what TEXT NOT NULL DEFAULT 'access';
ALTER TABLE reviews ADD COLUMN size BIGINT NOT NULL DEFAULT 0;
