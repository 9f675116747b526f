-- +goose Up

CREATE TABLE queues (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    description text,
    enabled boolean NOT NULL,
    -- 0 without limit, and for ever.
    max_waiting bigint NOT NULL,
    max_wait double precision NOT NULL,
    offer_timeout double precision NOT NULL,
    wait jsonb,
    screen jsonb,
    music_id text REFERENCES media (id),
    announce_position boolean NOT NULL,
    announce_interval double precision NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, name)
);
CREATE INDEX queues_created ON queues (account_id, created_at, id);
CREATE INDEX queues_music ON queues (music_id);

-- A call in a queue, from joining to leaving; those that have left are kept for an hour.
CREATE TABLE waiting_calls (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    queue_id text NOT NULL,
    call_id text NOT NULL,
    status text NOT NULL CHECK (status IN ('waiting', 'offered', 'connected', 'left')),
    -- The edge that carries the call, and what fences it.
    edge_id text NOT NULL,
    boot_id text NOT NULL,
    epoch bigint NOT NULL,
    token bigint NOT NULL,
    -- The lowest is served first: when it began to wait, in microseconds, less a minute for each step of the priority,
    -- and less a lifetime after an unanswered offer.
    rank bigint NOT NULL,
    priority bigint NOT NULL,
    ahead boolean NOT NULL,
    queued_at timestamptz NOT NULL,
    joined_at timestamptz NOT NULL,
    expires_at timestamptz,
    "from" text,
    "to" text,
    from_name text,
    data jsonb,
    -- For whom alone it is kept, until when.
    assigned_agent_id text,
    assigned_until timestamptz,
    -- Counts the claims: only the holder of the latest can connect it or give it back.
    claim bigint NOT NULL,
    taken_by_call_id text,
    taken_edge_id text,
    taken_boot_id text,
    agent_id text,
    taken_at timestamptz,
    offer_until timestamptz,
    connected_at timestamptz,
    left_at timestamptz,
    reason text,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    FOREIGN KEY (account_id, queue_id) REFERENCES queues (account_id, id)
);
-- A call waits in one queue at a time, and a leg is offered one caller.
CREATE UNIQUE INDEX waiting_calls_call ON waiting_calls (call_id) WHERE status IN ('waiting', 'offered', 'connected');
CREATE UNIQUE INDEX waiting_calls_taker ON waiting_calls (taken_by_call_id) WHERE status = 'offered';
CREATE INDEX waiting_calls_order ON waiting_calls (queue_id, rank, id) WHERE status IN ('waiting', 'offered');
CREATE INDEX waiting_calls_offers ON waiting_calls (offer_until) WHERE status = 'offered';
CREATE INDEX waiting_calls_edge ON waiting_calls (edge_id, boot_id, id) WHERE status IN ('waiting', 'offered', 'connected');
CREATE INDEX waiting_calls_left ON waiting_calls (left_at) WHERE status = 'left';
CREATE INDEX waiting_calls_history ON waiting_calls (call_id, id);
CREATE INDEX waiting_calls_queue ON waiting_calls (account_id, queue_id);

-- Until when the calls that wait at an edge, and those that it has taken, are its own.
CREATE TABLE queue_leases (
    edge_id text NOT NULL,
    boot_id text NOT NULL,
    lease_until timestamptz NOT NULL,
    PRIMARY KEY (edge_id, boot_id)
);
CREATE INDEX queue_leases_until ON queue_leases (lease_until);

-- +goose Down

DROP TABLE queue_leases;
DROP TABLE waiting_calls;
DROP TABLE queues;
