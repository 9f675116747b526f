-- +goose Up

-- A leg may be wanted by another edge as well. The tickets of now are good for seconds and are given anew.
DROP TABLE edge_links;
CREATE TABLE edge_links (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    kind text NOT NULL CHECK (kind IN ('conference', 'park', 'leg')),
    -- Of the conference, the slot, or the id of the call that is wanted.
    name text NOT NULL,
    -- The leg, and the edge that has it.
    call_id text NOT NULL,
    edge_id text NOT NULL,
    to_edge_id text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX edge_links_expires ON edge_links (expires_at);

-- +goose Down

DROP TABLE edge_links;
CREATE TABLE edge_links (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    kind text NOT NULL CHECK (kind IN ('conference', 'park')),
    name text NOT NULL,
    call_id text NOT NULL,
    edge_id text NOT NULL,
    to_edge_id text NOT NULL,
    expires_at timestamptz NOT NULL
);
CREATE INDEX edge_links_expires ON edge_links (expires_at);
