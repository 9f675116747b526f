-- +goose Up

-- Days off and make-up working days, shared by calendars.
CREATE TABLE holiday_sets (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    days_off jsonb NOT NULL,
    make_up_days jsonb NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, name)
);

CREATE TABLE calendars (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    time_zone text NOT NULL,
    shifts jsonb NOT NULL,
    exceptions jsonb NOT NULL,
    holiday_set_ids jsonb NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, name)
);

-- The holiday_set_ids of the calendars once more, so that none refers to what is not there.
CREATE TABLE calendar_holiday_sets (
    account_id text NOT NULL,
    calendar_id text NOT NULL,
    holiday_set_id text NOT NULL,
    PRIMARY KEY (calendar_id, holiday_set_id),
    FOREIGN KEY (account_id, calendar_id) REFERENCES calendars (account_id, id) ON DELETE CASCADE,
    FOREIGN KEY (account_id, holiday_set_id) REFERENCES holiday_sets (account_id, id)
);
CREATE INDEX calendar_holiday_sets_set ON calendar_holiday_sets (account_id, holiday_set_id);

CREATE TABLE dictionaries (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    key text NOT NULL,
    label_zh text NOT NULL,
    label_en text NOT NULL,
    archived_at timestamptz,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, key)
);

CREATE TABLE dictionary_values (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    dictionary_id text NOT NULL,
    key text NOT NULL,
    label_zh text NOT NULL,
    label_en text NOT NULL,
    position bigint NOT NULL,
    colour text,
    enabled boolean NOT NULL,
    parent_id text,
    -- Something has held the value: from then on it is archived and not deleted.
    used boolean NOT NULL,
    archived_at timestamptz,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (key, dictionary_id),
    FOREIGN KEY (account_id, dictionary_id) REFERENCES dictionaries (account_id, id) ON DELETE CASCADE,
    FOREIGN KEY (account_id, parent_id) REFERENCES dictionary_values (account_id, id)
);
CREATE INDEX dictionary_values_order ON dictionary_values (dictionary_id, position, id);
CREATE INDEX dictionary_values_parent ON dictionary_values (account_id, parent_id);

-- Settings that an account has given a value of its own. A value is {"value": …}.
CREATE TABLE settings (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    key text NOT NULL,
    value jsonb NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, key)
);

-- Append-only.
CREATE TABLE setting_changes (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    key text NOT NULL,
    actor_id text NOT NULL,
    -- {"value": …}; without a value, the default.
    old jsonb NOT NULL,
    new jsonb NOT NULL,
    UNIQUE (account_id, id)
);
CREATE INDEX setting_changes_key ON setting_changes (account_id, key, created_at, id);

CREATE TABLE blocklist_entries (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    direction text NOT NULL CHECK (direction IN ('in', 'out', 'both')),
    kind text NOT NULL CHECK (kind IN ('number', 'pattern', 'anonymous')),
    -- The number, or the pattern; empty for anonymous callers.
    number text NOT NULL,
    -- What a number must begin with for the entry to be looked at: the number up to its first wildcard.
    prefix text NOT NULL,
    action text NOT NULL CHECK (action IN ('block', 'allow')),
    reason text NOT NULL,
    expires_at timestamptz,
    hits bigint NOT NULL,
    last_hit_at timestamptz,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, number, kind, direction)
);
CREATE INDEX blocklist_entries_prefix ON blocklist_entries (account_id, prefix);
CREATE INDEX blocklist_entries_created ON blocklist_entries (account_id, created_at, id);

CREATE TABLE notification_channels (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    kind text NOT NULL CHECK (kind IN ('email', 'webhook')),
    enabled boolean NOT NULL,
    -- The mail server; NULL for the installation's.
    smtp jsonb,
    smtp_password text,
    url text,
    secret text,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, name)
);

CREATE TABLE notification_rules (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    enabled boolean NOT NULL,
    channel_id text NOT NULL,
    event_types jsonb NOT NULL,
    recipients jsonb NOT NULL,
    language text,
    templates jsonb NOT NULL,
    digest_interval bigint NOT NULL,
    -- What whoever wrote it last could see.
    reader jsonb NOT NULL,
    last_sent_at timestamptz,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, name),
    FOREIGN KEY (account_id, channel_id) REFERENCES notification_channels (account_id, id)
);
CREATE INDEX notification_rules_channel ON notification_rules (account_id, channel_id);

-- What was sent, or is about to be. They outlive the rule and the channel they came of.
CREATE TABLE notifications (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    rule_id text,
    channel_id text NOT NULL,
    channel_kind text NOT NULL,
    -- Events are added while it is pending; sending and retrying, its text stands.
    status text NOT NULL CHECK (status IN ('pending', 'sending', 'retrying', 'sent', 'failed')),
    events bigint NOT NULL,
    recipients jsonb NOT NULL,
    subject text NOT NULL,
    body text NOT NULL,
    attempts bigint NOT NULL,
    error text,
    due_at timestamptz NOT NULL,
    sent_at timestamptz,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id)
);
CREATE INDEX notifications_created ON notifications (account_id, created_at, id);
CREATE UNIQUE INDEX notifications_pending ON notifications (rule_id) WHERE status = 'pending';

-- The events that a notification tells of. A rule tells of an event once.
CREATE TABLE notification_events (
    rule_id text NOT NULL,
    event_id text NOT NULL,
    notification_id text NOT NULL REFERENCES notifications (id) ON DELETE CASCADE,
    account_id text NOT NULL REFERENCES accounts (id),
    type text NOT NULL,
    object_id text NOT NULL,
    occurred_at timestamptz NOT NULL,
    data jsonb NOT NULL,
    PRIMARY KEY (rule_id, event_id)
);
CREATE INDEX notification_events_of ON notification_events (notification_id, occurred_at, event_id);

-- +goose Down

DROP TABLE notification_events;
DROP TABLE notifications;
DROP TABLE notification_rules;
DROP TABLE notification_channels;
DROP TABLE blocklist_entries;
DROP TABLE setting_changes;
DROP TABLE settings;
DROP TABLE dictionary_values;
DROP TABLE dictionaries;
DROP TABLE calendar_holiday_sets;
DROP TABLE calendars;
DROP TABLE holiday_sets;
