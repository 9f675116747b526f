-- +goose Up

-- Every table of a resource has the columns of db.Row. References between resources carry the account, so that no
-- row can refer to another account's:
--   FOREIGN KEY (account_id, application_id) REFERENCES applications (account_id, id)
-- which needs UNIQUE (account_id, id) in the table referred to.

CREATE TABLE accounts (
    id text PRIMARY KEY,
    account_id text NOT NULL,
    external_id text UNIQUE,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    default_country text NOT NULL,
    limits jsonb NOT NULL,
    -- An account is a row of itself, so that its own scope shows it.
    CHECK (account_id = id)
);

CREATE TABLE api_keys (
    id text PRIMARY KEY,
    account_id text REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    -- sk (programs) or edge. An edge token belongs to the installation: it has no account.
    kind text NOT NULL CHECK (kind IN ('sk', 'edge')),
    hash text NOT NULL UNIQUE,
    permissions jsonb NOT NULL,
    networks jsonb NOT NULL,
    rate_per_second double precision NOT NULL,
    expires_at timestamptz,
    last_used_at timestamptz,
    UNIQUE (account_id, external_id),
    CHECK (kind = 'edge' OR account_id IS NOT NULL)
);

CREATE TABLE idempotency_keys (
    account_id text NOT NULL,
    actor_id text NOT NULL,
    key text NOT NULL,
    -- SHA-256 of method, path, query and body, in hex.
    request_hash text NOT NULL,
    -- 0 while the first request is still running.
    status bigint NOT NULL,
    headers jsonb NOT NULL,
    body text NOT NULL,
    locked_until timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, actor_id, key)
);
CREATE INDEX idempotency_keys_expiry ON idempotency_keys (expires_at);

CREATE TABLE outbox (
    id text PRIMARY KEY,
    account_id text,
    topic text NOT NULL,
    payload jsonb NOT NULL,
    attempts bigint NOT NULL,
    available_at timestamptz NOT NULL,
    claim_id text,
    created_at timestamptz NOT NULL
);
CREATE INDEX outbox_due ON outbox (topic, available_at, id);

-- Append-only: nothing updates or deletes a row. No foreign key, an entry outlives what it tells of.
CREATE TABLE audit_entries (
    id text PRIMARY KEY,
    account_id text NOT NULL,
    created_at timestamptz NOT NULL,
    actor_id text NOT NULL,
    operation text NOT NULL,
    object_id text NOT NULL,
    status bigint NOT NULL,
    address text NOT NULL,
    request_id text NOT NULL,
    before jsonb,
    after jsonb
);
CREATE INDEX audit_entries_account ON audit_entries (account_id, created_at, id);
CREATE INDEX audit_entries_object ON audit_entries (account_id, object_id, created_at);

-- +goose Down

DROP TABLE audit_entries;
DROP TABLE outbox;
DROP TABLE idempotency_keys;
DROP TABLE api_keys;
DROP TABLE accounts;
