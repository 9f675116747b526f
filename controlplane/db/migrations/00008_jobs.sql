-- +goose Up

CREATE TABLE jobs (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    owner_id text,
    department_id text,
    created_by text NOT NULL,
    kind text NOT NULL,
    status text NOT NULL CHECK (status IN ('queued', 'running', 'succeeded', 'failed', 'canceled')),
    progress_done bigint NOT NULL,
    progress_total bigint NOT NULL,
    result jsonb,
    failure text,
    started_at timestamptz,
    finished_at timestamptz,
    -- The blob that lists what went wrong, row by row.
    errors_key text,
    input jsonb NOT NULL,
    -- Who started it, with the rights of that moment.
    caller jsonb NOT NULL,
    -- How far it is, in its own words: where the next run goes on.
    checkpoint jsonb,
    -- Runs since the last checkpoint, and those of them that ended with an error.
    attempts bigint NOT NULL,
    failures bigint NOT NULL,
    -- Counts the claims: only the holder of the latest can write.
    token bigint NOT NULL,
    -- When a queued job may begin, and the lease of a running one ends.
    available_at timestamptz NOT NULL,
    cancel_asked boolean NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id)
);
CREATE INDEX jobs_due ON jobs (available_at, id) WHERE status IN ('queued', 'running');
CREATE INDEX jobs_created ON jobs (account_id, created_at, id);
CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;

-- No foreign keys to jobs: those are purged first.
CREATE TABLE imports (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    owner_id text,
    department_id text,
    created_by text NOT NULL,
    resource text NOT NULL,
    status text NOT NULL,
    file_name text NOT NULL,
    size bigint NOT NULL,
    format text NOT NULL,
    encoding text,
    separator text,
    sheet text,
    header jsonb NOT NULL,
    sample jsonb NOT NULL,
    mapping jsonb NOT NULL,
    missing jsonb NOT NULL,
    -- Null until a job has counted them.
    rows bigint,
    on_duplicate text NOT NULL CHECK (on_duplicate IN ('skip', 'update', 'fail')),
    job_id text,
    checked jsonb,
    counts jsonb,
    reverted jsonb,
    -- How many rows are committed; a batch and this change in one transaction.
    position bigint NOT NULL,
    -- How many batches a revert has still to undo; null before there is one.
    revert_left bigint,
    -- When the first row was committed, and the last.
    began_at timestamptz,
    completed_at timestamptz,
    revert_until timestamptz,
    failure text,
    -- Blobs: the upload, and the reports of the three jobs.
    file_key text,
    check_key text,
    commit_key text,
    revert_key text,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id)
);
CREATE INDEX imports_created ON imports (account_id, created_at, id);
CREATE INDEX imports_kept ON imports (created_at) WHERE file_key IS NOT NULL;

-- What a commit did with some rows, and a revert with what it had done: arrays with one object per row.
CREATE TABLE import_batches (
    import_id text NOT NULL REFERENCES imports (id) ON DELETE CASCADE,
    number bigint NOT NULL,
    account_id text NOT NULL REFERENCES accounts (id),
    outcomes jsonb NOT NULL,
    reverted jsonb,
    PRIMARY KEY (import_id, number)
);

-- The mapping last used for files with the same heading.
CREATE TABLE import_mappings (
    account_id text NOT NULL REFERENCES accounts (id),
    resource text NOT NULL,
    -- SHA-256 of the sorted names of the heading, in hex.
    header_hash text NOT NULL,
    mapping jsonb NOT NULL,
    updated_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, resource, header_hash)
);

CREATE TABLE exports (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    owner_id text,
    department_id text,
    created_by text NOT NULL,
    resource text NOT NULL,
    search jsonb NOT NULL,
    columns jsonb NOT NULL,
    format text NOT NULL CHECK (format IN ('csv', 'xlsx', 'jsonl')),
    status text NOT NULL,
    rows bigint NOT NULL,
    size bigint NOT NULL,
    job_id text,
    completed_at timestamptz,
    expires_at timestamptz,
    failure text,
    file_key text,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id)
);
CREATE INDEX exports_created ON exports (account_id, created_at, id);
CREATE INDEX exports_kept ON exports (expires_at) WHERE file_key IS NOT NULL;

-- +goose Down

DROP TABLE exports;
DROP TABLE import_mappings;
DROP TABLE import_batches;
DROP TABLE imports;
DROP TABLE jobs;
