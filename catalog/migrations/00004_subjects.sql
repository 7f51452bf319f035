-- +goose Up
-- What was set for a subject; one that is not here is active.
CREATE TABLE subjects (
    subject_mac BYTEA    NOT NULL PRIMARY KEY,
    subject     BYTEA    NOT NULL, -- sealed
    state       SMALLINT NOT NULL CHECK (state BETWEEN 0 AND 3), -- active, limited, suspended, ended
    reason      BYTEA    NOT NULL, -- sealed
    actor       BYTEA    NOT NULL, -- sealed
    changed     BIGINT   NOT NULL
);
CREATE INDEX subjects_changed ON subjects (changed);
