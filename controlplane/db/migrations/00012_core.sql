-- +goose Up

-- Where the bytes lie of a file that was replaced; NULL for one that never was: they lie under its id.
ALTER TABLE media ADD COLUMN blob text;

-- Retention looks for the oldest that have audio.
CREATE INDEX recordings_kept ON recordings (account_id, created_at, id) WHERE status IN ('completed', 'failed');

-- +goose Down

DROP INDEX recordings_kept;

ALTER TABLE media DROP COLUMN blob;
