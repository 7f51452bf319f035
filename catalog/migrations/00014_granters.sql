-- +goose Up
-- Who issued a token; NULL: whoever holds the node, or a token older than this.
ALTER TABLE tokens ADD COLUMN issuer BYTEA; -- sealed
ALTER TABLE tokens ADD COLUMN issuer_mac BYTEA;
CREATE INDEX tokens_issuer ON tokens (issuer_mac);
-- By what right an approval was decided; NULL in older ones.
ALTER TABLE approvals ADD COLUMN granters BYTEA; -- sealed
ALTER TABLE approvals ADD COLUMN token TEXT NOT NULL DEFAULT '';
