-- Types and clauses that SQLite and PostgreSQL read alike: SQLite keeps a blob
-- in a BYTEA column as it is. Times are microseconds since 1970 in UTC.

-- +goose Up
CREATE TABLE stations (
    id          TEXT    NOT NULL PRIMARY KEY,
    name        BYTEA   NOT NULL, -- sealed
    name_mac    BYTEA   UNIQUE,   -- NULL: removed
    description BYTEA   NOT NULL, -- sealed
    downloads   BOOLEAN NOT NULL,
    epoch       BIGINT  NOT NULL,
    created     BIGINT  NOT NULL
);

CREATE TABLE segments (
    id           TEXT     NOT NULL PRIMARY KEY,
    station      TEXT     NOT NULL REFERENCES stations (id),
    state        SMALLINT NOT NULL CHECK (state BETWEEN 0 AND 3), -- 0: pending
    created      BIGINT   NOT NULL,
    multihash    BYTEA    UNIQUE, -- NULL: pending
    codec        BIGINT   NOT NULL,
    leaves       BYTEA    NOT NULL, -- SHA-256 digests in order
    fingerprint  BYTEA,             -- keyed; NULL: equal audio is welcome
    title        BYTEA    NOT NULL, -- sealed
    artist       BYTEA    NOT NULL, -- sealed
    media_type   TEXT     NOT NULL,
    duration     BIGINT   NOT NULL, -- nanoseconds
    size         BIGINT   NOT NULL,
    sealed_size  BIGINT   NOT NULL,
    ai_generated BOOLEAN  NOT NULL,
    publish_at   BIGINT   NOT NULL,
    expires_at   BIGINT   NOT NULL,
    mac          BYTEA    NOT NULL, -- keyed, of all the above; empty: pending
    CHECK (state = 0 OR multihash IS NOT NULL)
);
CREATE UNIQUE INDEX segments_fingerprint ON segments (station, fingerprint) WHERE fingerprint IS NOT NULL;
CREATE INDEX segments_page ON segments (station, state, created, id);
CREATE INDEX segments_pending ON segments (id) WHERE state = 0;

CREATE TABLE wrapped_keys (
    segment    TEXT   NOT NULL PRIMARY KEY REFERENCES segments (id),
    generation BIGINT NOT NULL,
    ciphertext BYTEA  NOT NULL
);

-- Blocks of live segments that have more than one; the root is in segments.
CREATE TABLE blocks (
    multihash BYTEA NOT NULL,
    segment   TEXT  NOT NULL REFERENCES segments (id),
    PRIMARY KEY (multihash, segment)
);
CREATE INDEX blocks_segment ON blocks (segment);

CREATE TABLE tokens (
    id          TEXT   NOT NULL PRIMARY KEY,
    subject     BYTEA  NOT NULL, -- sealed
    subject_mac BYTEA  NOT NULL,
    stations    TEXT   NOT NULL,
    actions     TEXT   NOT NULL,
    issued      BIGINT NOT NULL,
    expires     BIGINT NOT NULL,
    revoked     BIGINT NOT NULL
);
CREATE INDEX tokens_subject ON tokens (subject_mac);
CREATE INDEX tokens_expires ON tokens (expires);

CREATE TABLE revoked_tokens (
    id      TEXT   NOT NULL PRIMARY KEY,
    expires BIGINT NOT NULL
);

CREATE TABLE revoked_subjects (
    subject_mac BYTEA  NOT NULL PRIMARY KEY,
    subject     BYTEA  NOT NULL, -- sealed
    revoked     BIGINT NOT NULL
);

CREATE TABLE idempotency (
    key_mac  BYTEA  NOT NULL PRIMARY KEY,
    request  BYTEA  NOT NULL, -- digest
    response BYTEA  NOT NULL, -- sealed
    expires  BIGINT NOT NULL
);
CREATE INDEX idempotency_expires ON idempotency (expires);
