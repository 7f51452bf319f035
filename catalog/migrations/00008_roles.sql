-- +goose Up
-- Who holds which role where. A subject is one identity: there are no groups.
CREATE TABLE roles (
    subject_mac BYTEA  NOT NULL,
    role        TEXT   NOT NULL,
    station     TEXT   NOT NULL, -- empty: everywhere
    subject     BYTEA  NOT NULL, -- sealed
    until       BIGINT NOT NULL,
    granted     BIGINT NOT NULL,
    actor       BYTEA  NOT NULL, -- sealed
    PRIMARY KEY (subject_mac, role, station)
);

-- The token carries the roles of its subject.
ALTER TABLE tokens ADD COLUMN identity BOOLEAN NOT NULL DEFAULT FALSE;
