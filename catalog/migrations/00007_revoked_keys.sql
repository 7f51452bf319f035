-- +goose Up
CREATE TABLE revoked_keys (
    id      TEXT   NOT NULL PRIMARY KEY, -- kid; of a foreign issuer its name, a bar, and the kid
    revoked BIGINT NOT NULL
);
