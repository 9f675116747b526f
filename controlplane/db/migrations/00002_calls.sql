-- +goose Up

-- What every process of the installation must know and nobody else: made by the first one.
CREATE TABLE secrets (
    name text PRIMARY KEY,
    value text NOT NULL,
    created_at timestamptz NOT NULL
);

-- The SIP domains of an account. That at position 0 is its digest realm and never changes.
CREATE TABLE domains (
    domain text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    position bigint NOT NULL,
    UNIQUE (account_id, position)
);

CREATE TABLE applications (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    format text NOT NULL CHECK (format IN ('native', 'twiml')),
    voice_url text,
    program jsonb,
    method text NOT NULL,
    fallback_url text,
    fallback_instructions jsonb,
    status_url text,
    secret text NOT NULL,
    -- The secret before the last rotation, and until when requests are signed with it as well.
    old_secret text,
    old_secret_until timestamptz,
    connect_timeout_ms bigint NOT NULL,
    budget_ms bigint NOT NULL,
    retries bigint NOT NULL,
    fallback_timeout_ms bigint NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    CHECK ((voice_url IS NULL) <> (program IS NULL))
);

-- Extensions and short codes are one space per account: each has a row here, written with its owner's.
CREATE TABLE short_codes (
    account_id text NOT NULL REFERENCES accounts (id),
    code text NOT NULL,
    owner_id text NOT NULL,
    PRIMARY KEY (account_id, code)
);

CREATE TABLE credentials (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    extension text NOT NULL,
    domain text NOT NULL,
    ha1_md5 text NOT NULL,
    ha1_sha256 text NOT NULL,
    caller_id text,
    caller_name text,
    application_id text,
    max_contacts bigint NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, extension),
    FOREIGN KEY (account_id, application_id) REFERENCES applications (account_id, id)
);
CREATE INDEX credentials_application ON credentials (application_id);

CREATE TABLE numbers (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    number text NOT NULL,
    application_id text,
    credential_id text,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, number),
    FOREIGN KEY (account_id, application_id) REFERENCES applications (account_id, id),
    FOREIGN KEY (account_id, credential_id) REFERENCES credentials (account_id, id),
    CHECK (application_id IS NULL OR credential_id IS NULL)
);
-- A number of the telephone network is one account's.
CREATE UNIQUE INDEX numbers_e164 ON numbers (number) WHERE number LIKE '+%';
CREATE INDEX numbers_application ON numbers (application_id);
CREATE INDEX numbers_credential ON numbers (credential_id);

CREATE TABLE trunks (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    mode text NOT NULL CHECK (mode = 'peer'),
    address text NOT NULL,
    port bigint NOT NULL,
    transport text NOT NULL CHECK (transport IN ('udp', 'tcp')),
    networks jsonb NOT NULL,
    username text,
    password text,
    realm text,
    max_calls bigint NOT NULL,
    caller_id text,
    caller_id_header text NOT NULL CHECK (caller_id_header IN ('from', 'p_asserted_identity')),
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, name)
);

-- The networks of the trunks once more, each masked and written as CIDR, to be found by a source address: its at
-- most 129 prefixes are looked up by equality.
CREATE TABLE trunk_networks (
    network text NOT NULL,
    trunk_id text NOT NULL REFERENCES trunks (id) ON DELETE CASCADE,
    account_id text NOT NULL REFERENCES accounts (id),
    bits bigint NOT NULL,
    PRIMARY KEY (network, trunk_id)
);
CREATE INDEX trunk_networks_trunk ON trunk_networks (trunk_id);

-- Contacts that phones registered (RFC 3261 §10).
CREATE TABLE registrations (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    credential_id text NOT NULL REFERENCES credentials (id) ON DELETE CASCADE,
    extension text NOT NULL,
    contact text NOT NULL,
    edge_id text NOT NULL,
    source text NOT NULL,
    transport text NOT NULL,
    user_agent text NOT NULL,
    q double precision NOT NULL,
    sip_call_id text NOT NULL,
    cseq bigint NOT NULL,
    expires_at timestamptz NOT NULL,
    UNIQUE (account_id, external_id),
    UNIQUE (credential_id, contact)
);
CREATE INDEX registrations_expiry ON registrations (expires_at);

-- Records of calls outlive what they refer to: no foreign keys but the account's.
CREATE TABLE calls (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    -- That which the edge counts while the call lives.
    etag text NOT NULL,
    "from" text NOT NULL,
    "to" text NOT NULL,
    dialed text,
    direction text NOT NULL,
    status text NOT NULL,
    parent_call_id text,
    conversation_id text,
    application_id text,
    number_id text,
    trunk_id text,
    credential_id text,
    sip_call_id text,
    source text,
    started_at timestamptz NOT NULL,
    ringing_at timestamptz,
    answered_at timestamptz,
    ended_at timestamptz,
    duration double precision,
    ring_duration double precision,
    talk_duration double precision,
    cause text,
    sip_code bigint,
    ended_by text,
    reason text,
    reason_zh text,
    media jsonb,
    data jsonb,
    edge_id text NOT NULL,
    boot_id text NOT NULL,
    epoch bigint NOT NULL,
    -- The sequence wanted next of the call's edge, and that given to the event stored next. They differ after an
    -- edge that was taken for dead came back.
    edge_expects bigint NOT NULL,
    next_sequence bigint NOT NULL,
    UNIQUE (account_id, external_id)
);
CREATE INDEX calls_started ON calls (account_id, started_at, id);
CREATE INDEX calls_created ON calls (account_id, created_at, id);
CREATE INDEX calls_conversation ON calls (account_id, conversation_id);
CREATE INDEX calls_sip ON calls (account_id, sip_call_id);
CREATE INDEX calls_parent ON calls (account_id, parent_call_id);
CREATE INDEX calls_live ON calls (edge_id, boot_id) WHERE ended_at IS NULL;
CREATE INDEX calls_live_account ON calls (account_id) WHERE ended_at IS NULL;
CREATE INDEX calls_live_trunk ON calls (trunk_id) WHERE ended_at IS NULL;

-- Append-only.
CREATE TABLE events (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    type text NOT NULL,
    call_id text,
    conversation_id text,
    sequence bigint NOT NULL,
    occurred_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    data jsonb NOT NULL,
    UNIQUE (call_id, sequence)
);
CREATE INDEX events_account ON events (account_id, id);
-- One end per leg, whatever happens.
CREATE UNIQUE INDEX events_ended ON events (call_id) WHERE type = 'call.ended';

CREATE TABLE recordings (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    call_id text NOT NULL,
    status text NOT NULL CHECK (status IN ('recording', 'completed', 'failed', 'deleted')),
    started_at timestamptz NOT NULL,
    duration double precision NOT NULL,
    channels bigint NOT NULL,
    format text NOT NULL,
    size bigint NOT NULL,
    failure text,
    codec text NOT NULL,
    segments bigint NOT NULL,
    UNIQUE (account_id, external_id)
);
CREATE INDEX recordings_call ON recordings (account_id, call_id);
CREATE INDEX recordings_created ON recordings (account_id, created_at, id);
CREATE INDEX recordings_open ON recordings (call_id) WHERE status = 'recording';

CREATE TABLE media (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    content_type text NOT NULL,
    size bigint NOT NULL,
    sha256 text NOT NULL,
    UNIQUE (account_id, external_id)
);

-- The edges that ever beat, and the life each is in.
CREATE TABLE edges (
    id text PRIMARY KEY,
    boot_id text NOT NULL,
    calls bigint NOT NULL,
    draining boolean NOT NULL,
    sip text NOT NULL,
    started_at timestamptz NOT NULL,
    beat_at timestamptz NOT NULL
);

-- +goose Down

DROP TABLE edges;
DROP TABLE media;
DROP TABLE recordings;
DROP TABLE events;
DROP TABLE calls;
DROP TABLE registrations;
DROP TABLE trunk_networks;
DROP TABLE trunks;
DROP TABLE numbers;
DROP TABLE credentials;
DROP TABLE short_codes;
DROP TABLE applications;
DROP TABLE domains;
DROP TABLE secrets;
