-- +goose Up

CREATE TABLE agents (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    -- The user, and the department that the user is in.
    owner_id text NOT NULL,
    department_id text,
    user_id text NOT NULL,
    credential_id text,
    superior_id text,
    auto_answer_delay double precision NOT NULL,
    -- What the agent or a supervisor has set, and what the agent is doing.
    presence text NOT NULL CHECK (presence IN ('offline', 'available', 'break', 'pending')),
    work text NOT NULL CHECK (work IN ('idle', 'offered', 'busy', 'acw')),
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, user_id),
    UNIQUE (account_id, credential_id),
    FOREIGN KEY (account_id, user_id) REFERENCES users (account_id, id),
    FOREIGN KEY (account_id, credential_id) REFERENCES credentials (account_id, id),
    FOREIGN KEY (account_id, superior_id) REFERENCES agents (account_id, id),
    CHECK (owner_id = user_id)
);
CREATE INDEX agents_created ON agents (account_id, created_at, id);
CREATE INDEX agents_superior ON agents (superior_id);
CREATE INDEX agents_department ON agents (account_id, department_id);

CREATE TABLE agent_groups (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    "order" text NOT NULL CHECK ("order" IN ('sequential', 'round_robin', 'random')),
    note text,
    enabled boolean NOT NULL,
    -- The members in their order.
    agent_ids jsonb NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, name)
);
CREATE INDEX agent_groups_created ON agent_groups (account_id, created_at, id);

-- The members of the groups once more, so that none of them is deleted, and to be found by agent. The id is the group's.
CREATE TABLE agent_group_members (
    id text NOT NULL,
    account_id text NOT NULL,
    agent_id text NOT NULL,
    PRIMARY KEY (id, agent_id),
    FOREIGN KEY (account_id, id) REFERENCES agent_groups (account_id, id) ON DELETE CASCADE,
    FOREIGN KEY (account_id, agent_id) REFERENCES agents (account_id, id)
);
CREATE INDEX agent_group_members_agent ON agent_group_members (agent_id);

-- The user whose call it was, and the department that the user was in then.
ALTER TABLE calls ADD COLUMN owner_id text;
ALTER TABLE calls ADD COLUMN department_id text;
CREATE INDEX calls_owner ON calls (account_id, owner_id, created_at, id);
CREATE INDEX calls_department ON calls (account_id, department_id, created_at, id);

ALTER TABLE recordings ADD COLUMN owner_id text;
ALTER TABLE recordings ADD COLUMN department_id text;
CREATE INDEX recordings_owner ON recordings (account_id, owner_id, created_at, id);
CREATE INDEX recordings_department ON recordings (account_id, department_id, created_at, id);

-- +goose Down

DROP INDEX recordings_department;
DROP INDEX recordings_owner;
ALTER TABLE recordings DROP COLUMN department_id;
ALTER TABLE recordings DROP COLUMN owner_id;
DROP INDEX calls_department;
DROP INDEX calls_owner;
ALTER TABLE calls DROP COLUMN department_id;
ALTER TABLE calls DROP COLUMN owner_id;
DROP TABLE agent_group_members;
DROP TABLE agent_groups;
DROP TABLE agents;
