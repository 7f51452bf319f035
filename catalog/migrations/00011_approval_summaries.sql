-- +goose Up
-- All that a request would do, in words: sealed. Older records have none.
ALTER TABLE approvals ADD COLUMN summary BYTEA;
