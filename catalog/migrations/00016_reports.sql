-- +goose Up
-- What people say is wrong with what is played, one row for each thing and
-- category until somebody decides.
CREATE TABLE reports (
    id        TEXT     NOT NULL PRIMARY KEY,
    target    BYTEA    NOT NULL, -- multihash, or keyed hash of a station's id or of the secret of no share
    cid       BYTEA    NOT NULL, -- empty: it is not about a segment
    station   TEXT     NOT NULL, -- empty: what it is about is not here
    share     TEXT     NOT NULL, -- id; empty: no link was given
    category  SMALLINT NOT NULL,
    state     SMALLINT NOT NULL CHECK (state BETWEEN 0 AND 3), -- received, in review, acted on, dismissed
    created   BIGINT   NOT NULL,
    count     BIGINT   NOT NULL,
    reporters BIGINT   NOT NULL, -- rows of report_statements
    reporter  BYTEA    NOT NULL, -- the first: keyed hash of a pseudonym that lives for a day
    actor     BYTEA    NOT NULL, -- sealed; empty: nobody
    reason    BYTEA    NOT NULL, -- sealed; empty: none
    changed   BIGINT   NOT NULL,
    told      BOOLEAN  NOT NULL  -- that it waits for too long
);
CREATE UNIQUE INDEX reports_open ON reports (target, category) WHERE state < 2;
CREATE INDEX reports_room ON reports (station, reporter) WHERE state < 2;
CREATE INDEX reports_page ON reports (created, id);
CREATE INDEX reports_closed ON reports (changed) WHERE state > 1;

-- Who said so, each once, and what the first of them said.
CREATE TABLE report_statements (
    report   TEXT   NOT NULL REFERENCES reports (id),
    reporter BYTEA  NOT NULL, -- as above
    made     BIGINT NOT NULL,
    text     BYTEA,           -- sealed; NULL: nothing was said, or it is not kept
    PRIMARY KEY (report, reporter)
);
