-- +goose Up

-- The journals of calls. A journal belongs to its call and goes with it, but its row stays until its bytes are gone: so it
-- does not refer to the call.
CREATE TABLE journals (
    call_id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    -- Nothing more comes of the latest epoch.
    whole boolean NOT NULL,
    -- There are chunks that are not in the blob.
    pending boolean NOT NULL,
    -- The call's record is gone: the bytes are to follow.
    gone boolean NOT NULL,
    -- Counts the blobs that were written, 0 for none; what is in the latest, up to which chunk of which epoch.
    generation bigint NOT NULL,
    sealed_epoch bigint NOT NULL,
    sealed_number bigint NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL
);
CREATE INDEX journals_pending ON journals (updated_at) WHERE pending;
CREATE INDEX journals_gone ON journals (call_id) WHERE gone;

-- Pieces of journals as edges sent them, until they are in the blob.
CREATE TABLE journal_chunks (
    call_id text NOT NULL REFERENCES journals (call_id),
    epoch bigint NOT NULL,
    number bigint NOT NULL,
    account_id text NOT NULL REFERENCES accounts (id),
    entries text NOT NULL,
    PRIMARY KEY (call_id, epoch, number)
);

-- +goose Down

DROP TABLE journal_chunks;
DROP TABLE journals;
