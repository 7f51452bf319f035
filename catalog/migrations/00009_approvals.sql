-- +goose Up
-- Requests that need a second person, and what became of them.
CREATE TABLE approvals (
    id          TEXT     NOT NULL PRIMARY KEY,
    state       SMALLINT NOT NULL CHECK (state BETWEEN 0 AND 3), -- pending, approved, denied, used
    request     BYTEA    NOT NULL, -- sealed: method and target
    route       TEXT     NOT NULL,
    station     TEXT     NOT NULL,
    digest      BYTEA    NOT NULL, -- keyed, of method, target and body
    subject     BYTEA    NOT NULL, -- sealed
    subject_mac BYTEA    NOT NULL,
    created     BIGINT   NOT NULL,
    expires     BIGINT   NOT NULL,
    decider     BYTEA    NOT NULL, -- sealed
    decided     BIGINT   NOT NULL
);
CREATE INDEX approvals_subject ON approvals (subject_mac, state);
CREATE INDEX approvals_created ON approvals (created);
