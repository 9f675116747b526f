-- +goose Up

CREATE TABLE departments (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    code text,
    parent_id text,
    -- No reference: a user is in a department, and the head is one of the users.
    head_user_id text,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, code),
    FOREIGN KEY (account_id, parent_id) REFERENCES departments (account_id, id)
);
CREATE INDEX departments_parent ON departments (account_id, parent_id);
CREATE INDEX departments_created ON departments (account_id, created_at, id);
CREATE INDEX departments_head ON departments (head_user_id);

CREATE TABLE roles (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    name text NOT NULL,
    code text,
    permissions jsonb NOT NULL,
    data_scopes jsonb NOT NULL,
    masks jsonb NOT NULL,
    built_in boolean NOT NULL,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id),
    UNIQUE (account_id, code)
);
CREATE INDEX roles_created ON roles (account_id, created_at, id);

-- The departments that the data scopes of a role name, once more, so that none of them is deleted. The id is the
-- role's.
CREATE TABLE role_departments (
    id text NOT NULL,
    account_id text NOT NULL,
    department_id text NOT NULL,
    PRIMARY KEY (id, department_id),
    FOREIGN KEY (account_id, id) REFERENCES roles (account_id, id) ON DELETE CASCADE,
    FOREIGN KEY (account_id, department_id) REFERENCES departments (account_id, id)
);
CREATE INDEX role_departments_department ON role_departments (department_id);

-- +goose Down

DROP TABLE role_departments;
DROP TABLE roles;
DROP TABLE departments;
