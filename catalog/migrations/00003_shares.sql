-- +goose Up
CREATE TABLE shares (
    id          TEXT     NOT NULL PRIMARY KEY,
    station     TEXT     NOT NULL REFERENCES stations (id),
    secret_mac  BYTEA    NOT NULL UNIQUE, -- keyed; the secret is kept by nobody
    password    BYTEA    NOT NULL,        -- argon2id hash, sealed; empty: none
    generation  BIGINT   NOT NULL,        -- of the password
    downloads   BOOLEAN  NOT NULL,
    session_ttl BIGINT   NOT NULL,        -- nanoseconds
    max_uses    BIGINT   NOT NULL,        -- 0: any number
    uses        BIGINT   NOT NULL,
    epoch       BIGINT   NOT NULL,        -- of the station when it was made
    created     BIGINT   NOT NULL,
    expires     BIGINT   NOT NULL,
    revoked     BIGINT   NOT NULL
);
CREATE INDEX shares_station ON shares (station);
