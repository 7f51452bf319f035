-- What processes that share one PostgreSQL tell each other. SQLite has one
-- process, and these rows are of no use there.

-- +goose Up
CREATE TABLE changes (
    kind    TEXT   NOT NULL PRIMARY KEY, -- of rows that memory holds; 'any': all of them
    counter BIGINT NOT NULL              -- number of the newest change of that kind
);
INSERT INTO changes (kind, counter) VALUES ('any', 0);

-- By its mark a process knows that a database still has what it has seen of it,
-- and is not one that took another turn, as a standby that lagged.
CREATE TABLE marks (
    number BIGINT NOT NULL PRIMARY KEY, -- of a change
    mark   TEXT   NOT NULL              -- random
);

CREATE TABLE gateways (
    id      TEXT   NOT NULL PRIMARY KEY, -- peer ID
    about   BYTEA  NOT NULL,             -- sealed
    seen    BIGINT NOT NULL,             -- by the clock of the database
    applied BIGINT NOT NULL              -- number of the newest change that it has applied
);

-- The change by which each row came, so that the newest can be read alone.
ALTER TABLE revoked_tokens ADD COLUMN change BIGINT NOT NULL DEFAULT 0;
ALTER TABLE revoked_subjects ADD COLUMN change BIGINT NOT NULL DEFAULT 0;
CREATE INDEX revoked_tokens_change ON revoked_tokens (change);
CREATE INDEX revoked_subjects_change ON revoked_subjects (change);
