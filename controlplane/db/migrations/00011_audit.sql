-- +goose Up

-- The batch that an entry is sealed in; null until then. It is the only column of an entry that is ever written after the
-- entry, once, by the transaction that writes the batch.
ALTER TABLE audit_entries ADD COLUMN sealed_in bigint;
CREATE INDEX audit_entries_sealed ON audit_entries (account_id, sealed_in);
CREATE INDEX audit_entries_unsealed ON audit_entries (account_id, created_at, id) WHERE sealed_in IS NULL;
CREATE INDEX audit_entries_actor ON audit_entries (account_id, actor_id, created_at);
CREATE INDEX audit_entries_operation ON audit_entries (account_id, operation, created_at);
CREATE INDEX audit_entries_request ON audit_entries (request_id);

-- Batches of sealed entries, a chain per account: nothing updates or deletes a row, except rooted.
CREATE TABLE audit_batches (
    account_id text NOT NULL,
    number bigint NOT NULL,
    -- SHA-256 of what was signed of the batch before, in hex; empty for the first.
    previous text NOT NULL,
    sealed_at timestamptz NOT NULL,
    -- The latest created_at of the entries, and at most sealed_at.
    latest_at timestamptz NOT NULL,
    count bigint NOT NULL,
    first_id text NOT NULL,
    last_id text NOT NULL,
    root text NOT NULL,
    -- [{"id":…,"sha256":…}] in the order of sealing.
    entries jsonb NOT NULL,
    public_key text NOT NULL,
    signature text NOT NULL,
    -- The batch is in blob storage too.
    rooted boolean NOT NULL,
    PRIMARY KEY (account_id, number)
);
CREATE INDEX audit_batches_unrooted ON audit_batches (account_id, number) WHERE rooted = false;

-- +goose Down

DROP TABLE audit_batches;
DROP INDEX audit_entries_request;
DROP INDEX audit_entries_operation;
DROP INDEX audit_entries_actor;
DROP INDEX audit_entries_unsealed;
DROP INDEX audit_entries_sealed;
ALTER TABLE audit_entries DROP COLUMN sealed_in;
