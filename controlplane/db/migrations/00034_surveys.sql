-- +goose Up

CREATE TABLE surveys (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    enabled boolean NOT NULL,
    -- Of the questions and what is said around them, which are those of the version with this number.
    version bigint NOT NULL,
    invite jsonb,
    thanks jsonb,
    questions jsonb NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, name)
);
CREATE INDEX surveys_created ON surveys (account_id, created_at, id);

-- What callers were asked, for as long as there are answers. Versions never change.
CREATE TABLE survey_versions (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    survey_id text NOT NULL,
    version bigint NOT NULL,
    invite jsonb,
    thanks jsonb,
    questions jsonb NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (survey_id, version),
    FOREIGN KEY (account_id, survey_id) REFERENCES surveys (account_id, id)
);

CREATE TABLE survey_responses (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    -- The agent's user, and the department that the user was in then.
    owner_id text,
    department_id text,
    survey_id text NOT NULL,
    survey_version bigint NOT NULL,
    call_id text NOT NULL,
    conversation_id text,
    agent_id text,
    queue_id text,
    "from" text,
    outcome text NOT NULL CHECK (outcome IN ('answered', 'skipped', 'hangup', 'redirected', 'failed')),
    answers jsonb NOT NULL,
    -- The mean of the scores of the answers.
    score double precision,
    completed_at timestamptz NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    FOREIGN KEY (account_id, survey_id) REFERENCES surveys (account_id, id)
);
CREATE INDEX survey_responses_created ON survey_responses (account_id, created_at, id);
CREATE INDEX survey_responses_completed ON survey_responses (account_id, completed_at, id);
CREATE INDEX survey_responses_survey ON survey_responses (survey_id, created_at, id);
CREATE INDEX survey_responses_agent ON survey_responses (account_id, agent_id, created_at, id);
CREATE INDEX survey_responses_queue ON survey_responses (account_id, queue_id, created_at, id);
CREATE INDEX survey_responses_owner ON survey_responses (account_id, owner_id, created_at, id);
CREATE INDEX survey_responses_department ON survey_responses (account_id, department_id, created_at, id);
CREATE INDEX survey_responses_call ON survey_responses (account_id, call_id);

-- +goose Down

DROP TABLE survey_responses;
DROP TABLE survey_versions;
DROP TABLE surveys;
