-- +goose Up

-- Every list is in the order of created_at, id within an account when no other is asked for.
CREATE INDEX applications_created ON applications (account_id, created_at, id);
CREATE INDEX credentials_created ON credentials (account_id, created_at, id);
CREATE INDEX numbers_created ON numbers (account_id, created_at, id);
CREATE INDEX trunks_created ON trunks (account_id, created_at, id);
CREATE INDEX media_created ON media (account_id, created_at, id);
CREATE INDEX registrations_created ON registrations (account_id, created_at, id);

-- +goose Down

DROP INDEX registrations_created;
DROP INDEX media_created;
DROP INDEX trunks_created;
DROP INDEX numbers_created;
DROP INDEX credentials_created;
DROP INDEX applications_created;
