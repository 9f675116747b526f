-- +goose Up

CREATE TABLE message_providers (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('http', 'smpp')),
    enabled boolean NOT NULL,
    is_default boolean NOT NULL,
    "from" text,
    messages_per_second double precision NOT NULL,
    http jsonb,
    http_headers jsonb,
    http_secret text,
    -- Whoever has it may report what became of this provider's messages.
    report_token text UNIQUE,
    smpp jsonb,
    smpp_password text,
    -- Of the session with a message centre, as the process that keeps it has seen it last.
    state text,
    last_error text,
    last_error_at timestamptz,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, name)
);
CREATE INDEX message_providers_created ON message_providers (account_id, created_at, id);
CREATE UNIQUE INDEX message_providers_default ON message_providers (account_id) WHERE is_default;

CREATE TABLE message_templates (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    body text NOT NULL,
    language text,
    code text,
    signature text,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, name)
);
CREATE INDEX message_templates_created ON message_templates (account_id, created_at, id);

-- They outlive the provider, the template and the call that they name.
CREATE TABLE messages (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    owner_id text,
    department_id text,
    direction text NOT NULL CHECK (direction IN ('outbound', 'inbound')),
    status text NOT NULL CHECK (status IN ('queued', 'sending', 'sent', 'delivered', 'undelivered', 'failed', 'canceled', 'received')),
    "to" text NOT NULL,
    "from" text,
    body text NOT NULL,
    encoding text NOT NULL,
    segments bigint NOT NULL,
    template_id text,
    -- What the template said for the provider when the message was made, and what it was filled in with.
    template_code text,
    signature text,
    data jsonb,
    provider_id text NOT NULL,
    provider_message_id text,
    call_id text,
    -- Whoever gives it again gets the message that there is.
    idempotency_key text,
    error_code text,
    error_message text,
    send_at timestamptz,
    sent_at timestamptz,
    delivered_at timestamptz,
    -- Times that it was sent, and those of them of which nobody knows whether they succeeded.
    attempts bigint NOT NULL,
    uncertain bigint NOT NULL,
    -- Counts the claims: only the holder of the latest can write.
    token bigint NOT NULL,
    -- When a queued message may be sent, and the lease of one being sent ends.
    available_at timestamptz NOT NULL,
    expires_at timestamptz NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, idempotency_key)
);
CREATE INDEX messages_created ON messages (account_id, created_at, id);
CREATE INDEX messages_owner ON messages (account_id, owner_id, created_at, id);
CREATE INDEX messages_department ON messages (account_id, department_id, created_at, id);
CREATE INDEX messages_to ON messages (account_id, "to", created_at, id);
CREATE INDEX messages_call ON messages (account_id, call_id);
CREATE INDEX messages_due ON messages (provider_id, available_at, id) WHERE status IN ('queued', 'sending');
CREATE INDEX messages_expiring ON messages (expires_at) WHERE status IN ('queued', 'sending');

-- What a provider has taken of a message, with its own id for it.
CREATE TABLE message_segments (
    message_id text NOT NULL REFERENCES messages (id) ON DELETE CASCADE,
    position bigint NOT NULL,
    account_id text NOT NULL,
    provider_id text NOT NULL,
    provider_message_id text NOT NULL,
    status text NOT NULL CHECK (status IN ('sent', 'delivered', 'undelivered')),
    error_code text,
    PRIMARY KEY (message_id, position)
);
CREATE INDEX message_segments_provider ON message_segments (provider_id, provider_message_id);

-- Reports of what is not known to have been taken yet: they may be faster than the answer.
CREATE TABLE message_receipts (
    provider_id text NOT NULL,
    provider_message_id text NOT NULL,
    account_id text NOT NULL,
    status text NOT NULL CHECK (status IN ('delivered', 'undelivered')),
    error_code text,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (provider_id, provider_message_id)
);
CREATE INDEX message_receipts_created ON message_receipts (created_at);

-- Parts of messages from phones of which others are still to come.
CREATE TABLE message_parts (
    provider_id text NOT NULL,
    "from" text NOT NULL,
    "to" text NOT NULL,
    reference bigint NOT NULL,
    total bigint NOT NULL,
    position bigint NOT NULL,
    account_id text NOT NULL,
    body text NOT NULL,
    created_at timestamptz NOT NULL,
    PRIMARY KEY (provider_id, "from", "to", reference, total, position)
);
CREATE INDEX message_parts_created ON message_parts (created_at);

-- +goose Down

DROP TABLE message_parts;
DROP TABLE message_receipts;
DROP TABLE message_segments;
DROP TABLE messages;
DROP TABLE message_templates;
DROP TABLE message_providers;
