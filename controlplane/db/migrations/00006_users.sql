-- +goose Up

ALTER TABLE accounts ADD COLUMN status text NOT NULL DEFAULT 'active' CHECK (status IN ('active', 'suspended'));
ALTER TABLE accounts ADD COLUMN time_zone text NOT NULL DEFAULT 'UTC';
UPDATE accounts SET time_zone = 'Asia/Shanghai' WHERE default_country = 'CN';
-- People name their account when they sign in.
CREATE UNIQUE INDEX accounts_name ON accounts (name);

-- The table of keys is made anew because what a column may hold cannot be changed on SQLite: pk is the operator's,
-- which like an edge's token has no account; and a key that was rotated has an old text for a while.
ALTER TABLE api_keys RENAME TO api_keys_before;
CREATE TABLE api_keys (
    id text PRIMARY KEY,
    account_id text REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('sk', 'edge', 'pk')),
    hash text NOT NULL UNIQUE,
    -- The text before the last rotation, and until when it opens as well.
    old_hash text,
    old_until timestamptz,
    permissions jsonb NOT NULL,
    networks jsonb NOT NULL,
    rate_per_second double precision NOT NULL,
    expires_at timestamptz,
    last_used_at timestamptz,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    CHECK ((kind = 'sk') = (account_id IS NOT NULL))
);
INSERT INTO api_keys (id, account_id, external_id, metadata, created_at, updated_at, etag, name, kind, hash, permissions, networks, rate_per_second, expires_at, last_used_at)
    SELECT id, account_id, external_id, metadata, created_at, updated_at, etag, name, kind, hash, permissions, networks, rate_per_second, expires_at, last_used_at FROM api_keys_before;
DROP TABLE api_keys_before;

CREATE TABLE users (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    -- The user himself: so a data scope of users narrows the users as it does what they own.
    owner_id text NOT NULL,
    department_id text,
    -- In lower case.
    login text NOT NULL,
    name text NOT NULL,
    email text,
    mobile text,
    role_ids jsonb NOT NULL,
    status text NOT NULL CHECK (status IN ('active', 'disabled')),
    -- Who the user is at the account's identity provider (the claim sub).
    oidc_subject text,
    last_signed_in_at timestamptz,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, login),
    UNIQUE (account_id, oidc_subject),
    FOREIGN KEY (account_id, department_id) REFERENCES departments (account_id, id),
    CHECK (owner_id = id)
);
CREATE INDEX users_created ON users (account_id, created_at, id);
CREATE INDEX users_department ON users (department_id);
CREATE INDEX users_email ON users (account_id, email);

-- The roles of the users once more, so that none of them is deleted, and to be found by role. The id is the user's.
CREATE TABLE user_roles (
    id text NOT NULL,
    account_id text NOT NULL,
    role_id text NOT NULL,
    PRIMARY KEY (id, role_id),
    FOREIGN KEY (account_id, id) REFERENCES users (account_id, id) ON DELETE CASCADE,
    FOREIGN KEY (account_id, role_id) REFERENCES roles (account_id, id)
);
CREATE INDEX user_roles_role ON user_roles (role_id);

-- By what a user is known to be himself. Apart from users, so that no list or audit ever reads it.
CREATE TABLE user_secrets (
    user_id text PRIMARY KEY,
    account_id text NOT NULL,
    -- argon2id in the PHC form; null until the first one-time link was used.
    password text,
    -- The key of RFC 6238 in base 32, while it is in use, and one that waits to be confirmed.
    totp text,
    totp_pending text,
    -- The time step of the last code that was taken: no code is taken twice.
    totp_step bigint NOT NULL,
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id) ON DELETE CASCADE
);

-- SHA-256 of the recovery codes that are left.
CREATE TABLE recovery_codes (
    user_id text NOT NULL,
    account_id text NOT NULL,
    hash text NOT NULL,
    PRIMARY KEY (user_id, hash),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id) ON DELETE CASCADE
);

-- Links for a first sign-in or a new password; each is removed by its use.
CREATE TABLE one_time_links (
    hash text PRIMARY KEY,
    account_id text NOT NULL,
    user_id text NOT NULL,
    created_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id) ON DELETE CASCADE
);
CREATE INDEX one_time_links_user ON one_time_links (user_id);

CREATE TABLE sessions (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    user_id text NOT NULL,
    hash text NOT NULL UNIQUE,
    csrf text NOT NULL,
    method text NOT NULL CHECK (method IN ('password', 'oidc')),
    address text NOT NULL,
    user_agent text NOT NULL,
    seen_at timestamptz NOT NULL,
    -- It ends without use at the first, in any case at the second.
    idle_until timestamptz NOT NULL,
    ends_at timestamptz NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id) ON DELETE CASCADE
);
CREATE INDEX sessions_user ON sessions (account_id, user_id);
CREATE INDEX sessions_created ON sessions (account_id, created_at, id);
CREATE INDEX sessions_idle ON sessions (idle_until);

-- The identity provider of an account (OpenID Connect).
CREATE TABLE identity_providers (
    account_id text PRIMARY KEY REFERENCES accounts (id),
    issuer text NOT NULL,
    client_id text NOT NULL,
    client_secret text NOT NULL,
    domains jsonb NOT NULL,
    match text NOT NULL CHECK (match IN ('email', 'sub'))
);

-- +goose Down

DROP TABLE identity_providers;
DROP TABLE sessions;
DROP TABLE one_time_links;
DROP TABLE recovery_codes;
DROP TABLE user_secrets;
DROP TABLE user_roles;
DROP TABLE users;
ALTER TABLE api_keys RENAME TO api_keys_after;
CREATE TABLE api_keys (
    id text PRIMARY KEY,
    account_id text REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
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
INSERT INTO api_keys (id, account_id, external_id, metadata, created_at, updated_at, etag, name, kind, hash, permissions, networks, rate_per_second, expires_at, last_used_at)
    SELECT id, account_id, external_id, metadata, created_at, updated_at, etag, name, kind, hash, permissions, networks, rate_per_second, expires_at, last_used_at
    FROM api_keys_after WHERE kind <> 'pk';
DROP TABLE api_keys_after;
DROP INDEX accounts_name;
ALTER TABLE accounts DROP COLUMN time_zone;
ALTER TABLE accounts DROP COLUMN status;
