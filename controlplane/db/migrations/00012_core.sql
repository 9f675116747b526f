-- +goose Up

-- Where the bytes lie of a file that was replaced; NULL for one that never was: they lie under its id.
ALTER TABLE media ADD COLUMN blob text;

-- +goose Down

ALTER TABLE media DROP COLUMN blob;
