-- +goose Up

-- Most numbers of an import are bound to nothing yet: such rows need no entry here. A comparison with an id finds the index
-- all the same, on both databases.
DROP INDEX numbers_application;
DROP INDEX numbers_credential;
CREATE INDEX numbers_application ON numbers (application_id) WHERE application_id IS NOT NULL;
CREATE INDEX numbers_credential ON numbers (credential_id) WHERE credential_id IS NOT NULL;

-- +goose Down

DROP INDEX numbers_application;
DROP INDEX numbers_credential;
CREATE INDEX numbers_application ON numbers (application_id);
CREATE INDEX numbers_credential ON numbers (credential_id);
