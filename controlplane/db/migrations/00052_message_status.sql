-- +goose Up

-- Who is told what becomes of a message that a call's program has sent, and the application in whose name.
ALTER TABLE messages ADD COLUMN status_url text;
ALTER TABLE messages ADD COLUMN application_id text;

-- +goose Down

ALTER TABLE messages DROP COLUMN application_id;
ALTER TABLE messages DROP COLUMN status_url;
