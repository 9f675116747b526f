-- +goose Up

CREATE TABLE conferences (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    -- Whose call it was that made it.
    owner_id text,
    department_id text,
    name text NOT NULL,
    status text NOT NULL CHECK (status IN ('waiting', 'in_progress', 'completed')),
    -- In it now.
    participants bigint NOT NULL,
    started_at timestamptz,
    ended_at timestamptz,
    duration double precision,
    reason text,
    ended_by_call_id text,
    recording_id text,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id)
);
CREATE INDEX conferences_created ON conferences (account_id, created_at, id);
CREATE INDEX conferences_name ON conferences (account_id, name, created_at, id);
CREATE INDEX conferences_owner ON conferences (account_id, owner_id, created_at, id);
CREATE INDEX conferences_department ON conferences (account_id, department_id, created_at, id);

CREATE TABLE conference_participants (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    owner_id text,
    department_id text,
    conference_id text NOT NULL,
    call_id text NOT NULL,
    label text,
    mode text NOT NULL,
    muted boolean NOT NULL,
    held boolean NOT NULL,
    start_on_enter boolean NOT NULL,
    end_on_exit boolean NOT NULL,
    joined_at timestamptz NOT NULL,
    left_at timestamptz,
    duration double precision,
    reason text,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    FOREIGN KEY (account_id, conference_id) REFERENCES conferences (account_id, id)
);
CREATE INDEX conference_participants_created ON conference_participants (account_id, created_at, id);
CREATE INDEX conference_participants_conference ON conference_participants (conference_id, joined_at, id);
CREATE INDEX conference_participants_call ON conference_participants (call_id);

-- +goose Down

DROP TABLE conference_participants;
DROP TABLE conferences;
