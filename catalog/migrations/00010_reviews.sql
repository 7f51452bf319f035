-- +goose Up
-- When a token, or a subject of another issuer, was last used, to the hour.
CREATE TABLE uses (
    key_mac BYTEA  NOT NULL PRIMARY KEY,
    key     BYTEA  NOT NULL, -- sealed: jti or subject
    used    BIGINT NOT NULL
);

-- Who looked at who may do what, and signed for it.
CREATE TABLE reviews (
    id        TEXT   NOT NULL PRIMARY KEY,
    made      BIGINT NOT NULL,
    reviewer  BYTEA  NOT NULL, -- sealed
    actor     BYTEA  NOT NULL, -- sealed
    digest    TEXT   NOT NULL, -- of what was reviewed
    signature TEXT   NOT NULL  -- JWS of all the above
);
