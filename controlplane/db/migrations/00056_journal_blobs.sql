-- +goose Up

-- What holds sealed journals: many lie in one blob, behind each other. It is written down before its bytes are, so that
-- none is forgotten.
CREATE TABLE journal_blobs (
    blob text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    -- It has bytes that are no journal's: it was not finished, a journal has moved, or a call's record is gone. What is
    -- still a journal's is to be moved, and the blob removed.
    shed boolean NOT NULL,
    created_at timestamptz NOT NULL
);
CREATE INDEX journal_blobs_shed ON journal_blobs (blob) WHERE shed;

-- Where a journal lies: null for nowhere yet; a size of -1 is all of the blob.
ALTER TABLE journals ADD COLUMN blob text;
ALTER TABLE journals ADD COLUMN blob_offset bigint NOT NULL DEFAULT 0;
ALTER TABLE journals ADD COLUMN blob_size bigint NOT NULL DEFAULT 0;
UPDATE journals SET blob = 'journals/' || account_id || '/' || call_id || '.' || generation || '.jsonl.gz', blob_size = -1 WHERE generation > 0;
INSERT INTO journal_blobs (blob, account_id, shed, created_at) SELECT blob, account_id, false, updated_at FROM journals WHERE blob IS NOT NULL;
CREATE INDEX journals_blob ON journals (blob) WHERE blob IS NOT NULL;
ALTER TABLE journals DROP COLUMN generation;

-- +goose Down

ALTER TABLE journals ADD COLUMN generation bigint NOT NULL DEFAULT 0;
DROP INDEX journals_blob;
ALTER TABLE journals DROP COLUMN blob_size;
ALTER TABLE journals DROP COLUMN blob_offset;
ALTER TABLE journals DROP COLUMN blob;
DROP TABLE journal_blobs;
