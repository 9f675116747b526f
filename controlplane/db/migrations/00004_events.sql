-- +goose Up

-- Events of an account, with or without a call. Append-only but for the position, which each row is given once, after
-- it was committed: readers follow the feed by it (package event says why none is passed over). The table is made anew
-- because several events of a call may now have no sequence.
DROP INDEX events_account;
DROP INDEX events_ended;
ALTER TABLE events RENAME TO events_before;
CREATE TABLE events (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    type text NOT NULL,
    -- The resource whose "read" permission a reader needs, and the object that the event is about.
    resource text NOT NULL,
    object_id text,
    call_id text,
    conversation_id text,
    -- Gap-free from 1 per call; 0 for an event that has no place in one.
    sequence bigint NOT NULL,
    position bigint,
    occurred_at timestamptz NOT NULL,
    created_at timestamptz NOT NULL,
    owner_id text,
    department_id text,
    data jsonb NOT NULL
);
INSERT INTO events (id, account_id, type, resource, object_id, call_id, conversation_id, sequence, occurred_at, created_at, data)
    SELECT id, account_id, type, 'calls', call_id, call_id, conversation_id, sequence, occurred_at, created_at, data FROM events_before;
DROP TABLE events_before;
CREATE UNIQUE INDEX events_call ON events (call_id, sequence) WHERE sequence > 0;
-- One end per leg, whatever happens.
CREATE UNIQUE INDEX events_ended ON events (call_id) WHERE type = 'call.ended';
CREATE INDEX events_account ON events (account_id, created_at, id);
-- Partial, so that a row is in them once, and what has no position is found by its own index.
CREATE UNIQUE INDEX events_position ON events (position) WHERE position IS NOT NULL;
CREATE INDEX events_account_position ON events (account_id, position) WHERE position IS NOT NULL;
CREATE INDEX events_object ON events (account_id, object_id);
-- What has no position yet.
CREATE INDEX events_unplaced ON events (created_at, id) WHERE position IS NULL;

-- One row: the highest position given, and the highest of a row that was purged.
CREATE TABLE event_feed (
    id text PRIMARY KEY CHECK (id = 'feed'),
    last bigint NOT NULL,
    purged bigint NOT NULL
);
INSERT INTO event_feed (id, last, purged) VALUES ('feed', 0, 0);

CREATE TABLE event_endpoints (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    url text NOT NULL,
    description text,
    types jsonb NOT NULL,
    headers jsonb NOT NULL,
    enabled boolean NOT NULL,
    -- Why and since when it is off: manual, gone (it answered 410), failing (only failures for days).
    disabled_reason text,
    disabled_at timestamptz,
    secret text NOT NULL,
    -- The secret before the last rotation, and until when it signs as well.
    old_secret text,
    old_secret_until timestamptz,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id)
);

-- The processes that deliver, each with the time until which it is taken for alive.
CREATE TABLE delivery_workers (
    id text PRIMARY KEY,
    alive_until timestamptz NOT NULL
);

-- The work of one endpoint, which one process at a time may do.
CREATE TABLE delivery_lanes (
    endpoint_id text PRIMARY KEY REFERENCES event_endpoints (id) ON DELETE CASCADE,
    account_id text NOT NULL,
    worker_id text,
    -- When there is something to do next; null for nothing.
    due_at timestamptz,
    -- The first failure since the last success.
    failing_since timestamptz
);
CREATE INDEX delivery_lanes_due ON delivery_lanes (due_at) WHERE due_at IS NOT NULL;
CREATE INDEX delivery_lanes_worker ON delivery_lanes (worker_id) WHERE worker_id IS NOT NULL;

-- One event on its way to one endpoint. No foreign keys: it outlives both, and is purged by its age.
CREATE TABLE deliveries (
    id text PRIMARY KEY,
    account_id text NOT NULL,
    endpoint_id text NOT NULL,
    event_id text NOT NULL,
    type text NOT NULL,
    call_id text,
    -- What the event is about, its call or else its object: of one subject one delivery at a time is under way.
    subject text NOT NULL,
    position bigint NOT NULL,
    status text NOT NULL CHECK (status IN ('pending', 'delivered', 'dead')),
    attempts bigint NOT NULL,
    -- The failures of this round, and when it began: a round ends three days later. A retry begins another.
    failures bigint NOT NULL,
    first_attempt_at timestamptz,
    next_attempt_at timestamptz NOT NULL,
    -- Of the last attempt.
    response_status bigint,
    error text,
    created_at timestamptz NOT NULL,
    finished_at timestamptz,
    UNIQUE (endpoint_id, event_id)
);
CREATE INDEX deliveries_due ON deliveries (endpoint_id, next_attempt_at, position) WHERE status = 'pending';
CREATE INDEX deliveries_subject ON deliveries (endpoint_id, subject, position) WHERE status = 'pending';
CREATE INDEX deliveries_endpoint ON deliveries (endpoint_id, id);
CREATE INDEX deliveries_dead ON deliveries (endpoint_id, id) WHERE status = 'dead';
CREATE INDEX deliveries_created ON deliveries (created_at);

-- Append-only.
CREATE TABLE delivery_attempts (
    id text PRIMARY KEY,
    account_id text NOT NULL,
    delivery_id text NOT NULL,
    number bigint NOT NULL,
    started_at timestamptz NOT NULL,
    duration_ms bigint NOT NULL,
    request_headers jsonb NOT NULL,
    response_status bigint,
    response_body text,
    error text,
    message text
);
CREATE INDEX delivery_attempts_delivery ON delivery_attempts (delivery_id, number);
CREATE INDEX delivery_attempts_started ON delivery_attempts (started_at);

-- +goose Down

DROP TABLE delivery_attempts;
DROP TABLE deliveries;
DROP TABLE delivery_lanes;
DROP TABLE delivery_workers;
DROP TABLE event_endpoints;
DROP TABLE event_feed;
DROP INDEX events_call;
DROP INDEX events_ended;
DROP INDEX events_account;
DROP INDEX events_position;
DROP INDEX events_account_position;
DROP INDEX events_object;
DROP INDEX events_unplaced;
ALTER TABLE events RENAME TO events_after;
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
INSERT INTO events (id, account_id, type, call_id, conversation_id, sequence, occurred_at, created_at, data)
    SELECT id, account_id, type, call_id, conversation_id, sequence, occurred_at, created_at, data FROM events_after WHERE sequence > 0;
DROP TABLE events_after;
CREATE INDEX events_account ON events (account_id, id);
CREATE UNIQUE INDEX events_ended ON events (call_id) WHERE type = 'call.ended';
