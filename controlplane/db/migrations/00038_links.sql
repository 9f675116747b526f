-- +goose Up

-- Which edge has the conference of a name. A row counts while that life of the edge lives and the conference is not over.
CREATE TABLE conference_places (
    account_id text NOT NULL REFERENCES accounts (id),
    name text NOT NULL,
    conference_id text NOT NULL,
    edge_id text NOT NULL,
    boot_id text NOT NULL,
    taken_at timestamptz NOT NULL,
    PRIMARY KEY (account_id, name)
);
CREATE INDEX conference_places_taken ON conference_places (taken_at);

-- Tickets for a call from one edge to another. Each is good once.
CREATE TABLE edge_links (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    kind text NOT NULL CHECK (kind IN ('conference', 'park')),
    -- Of the conference, or the slot.
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
DROP TABLE conference_places;
