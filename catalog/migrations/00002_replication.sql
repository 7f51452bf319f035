-- +goose Up
ALTER TABLE stations ADD COLUMN label        TEXT     NOT NULL DEFAULT ''; -- empty: derived from the id, by a keyed hash
ALTER TABLE stations ADD COLUMN min_replicas SMALLINT NOT NULL DEFAULT 1;
ALTER TABLE stations ADD COLUMN max_replicas SMALLINT NOT NULL DEFAULT 1;
ALTER TABLE stations ADD COLUMN spread       BOOLEAN  NOT NULL DEFAULT FALSE; -- over sites
ALTER TABLE stations ADD COLUMN community    SMALLINT NOT NULL DEFAULT 0;
