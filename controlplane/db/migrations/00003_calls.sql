-- +goose Up

-- When the edge's boot began by its own clock: a call that began before is one of an earlier life.
ALTER TABLE edges ADD COLUMN booted_at timestamptz NOT NULL DEFAULT '1970-01-01 00:00:00+00:00';
-- When the boot before this one was last heard of: calls of that life ended then, as far as anyone knows.
ALTER TABLE edges ADD COLUMN last_heard_at timestamptz;

-- +goose Down

ALTER TABLE edges DROP COLUMN last_heard_at;
ALTER TABLE edges DROP COLUMN booted_at;
