-- +goose Up

CREATE TABLE mailboxes (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    -- Whose the messages in it are.
    owner_id text,
    department_id text,
    name text NOT NULL,
    enabled boolean NOT NULL,
    -- The extension that it is named by as well.
    credential_id text,
    greeting jsonb,
    min_length double precision NOT NULL,
    max_length double precision NOT NULL,
    silence double precision NOT NULL,
    finish_on_key text NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, name),
    UNIQUE (account_id, credential_id),
    FOREIGN KEY (account_id, credential_id) REFERENCES credentials (account_id, id)
);
CREATE INDEX mailboxes_created ON mailboxes (account_id, created_at, id);
CREATE INDEX mailboxes_owner ON mailboxes (account_id, owner_id);
CREATE INDEX mailboxes_department ON mailboxes (account_id, department_id);

CREATE TABLE voicemails (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    owner_id text,
    department_id text,
    mailbox_id text,
    -- What the program called the mailbox, where there was none of that name.
    mailbox_name text,
    call_id text NOT NULL,
    conversation_id text,
    recording_id text NOT NULL,
    "from" text,
    "to" text,
    duration double precision NOT NULL,
    size bigint NOT NULL,
    left_at timestamptz NOT NULL,
    read boolean NOT NULL,
    read_at timestamptz,
    read_by text,
    note text,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    FOREIGN KEY (account_id, mailbox_id) REFERENCES mailboxes (account_id, id)
);
CREATE INDEX voicemails_created ON voicemails (account_id, created_at, id);
CREATE INDEX voicemails_left ON voicemails (account_id, left_at, id);
CREATE INDEX voicemails_mailbox ON voicemails (mailbox_id, created_at, id);
CREATE INDEX voicemails_owner ON voicemails (account_id, owner_id, created_at, id);
CREATE INDEX voicemails_department ON voicemails (account_id, department_id, created_at, id);
CREATE INDEX voicemails_call ON voicemails (account_id, call_id);

-- Messages that are being recorded, or are on their way.
CREATE TABLE pending_voicemails (
    recording_id text PRIMARY KEY,
    account_id text NOT NULL,
    call_id text NOT NULL,
    mailbox text NOT NULL,
    started_at timestamptz NOT NULL
);
CREATE INDEX pending_voicemails_started ON pending_voicemails (started_at);

-- Calls that are parked: a slot has one.
CREATE TABLE parked_calls (
    account_id text NOT NULL REFERENCES accounts (id),
    slot text NOT NULL,
    -- Of this one stay.
    id text NOT NULL UNIQUE,
    call_id text NOT NULL,
    edge_id text NOT NULL,
    parked_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, slot)
);
CREATE INDEX parked_calls_call ON parked_calls (call_id);

-- +goose Down

DROP TABLE parked_calls;
DROP TABLE pending_voicemails;
DROP TABLE voicemails;
DROP TABLE mailboxes;
