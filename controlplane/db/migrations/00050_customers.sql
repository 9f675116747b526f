-- +goose Up

-- Owners and departments are not referred to: a customer outlives both.
CREATE TABLE customers (
    id text PRIMARY KEY,
    account_id text NOT NULL REFERENCES accounts (id),
    external_id text,
    metadata jsonb NOT NULL,
    created_at timestamptz NOT NULL,
    updated_at timestamptz NOT NULL,
    etag text NOT NULL,
    owner_id text,
    department_id text,
    name text NOT NULL,
    phones jsonb NOT NULL,
    email text,
    company text,
    note text,
    UNIQUE (account_id, id),
    UNIQUE (account_id, external_id)
);
CREATE INDEX customers_created ON customers (account_id, created_at, id);
CREATE INDEX customers_name ON customers (account_id, name, id);
CREATE INDEX customers_owner ON customers (account_id, owner_id, created_at, id);
CREATE INDEX customers_department ON customers (account_id, department_id, created_at, id);

-- The numbers of customers once more, so that a customer is found by one of them. The id is the customer's; a number may be
-- several customers'.
CREATE TABLE customer_phones (
    id text NOT NULL,
    account_id text NOT NULL,
    number text NOT NULL,
    PRIMARY KEY (id, number),
    FOREIGN KEY (account_id, id) REFERENCES customers (account_id, id) ON DELETE CASCADE
);
CREATE INDEX customer_phones_number ON customer_phones (account_id, number, id);

-- A call outlives its customer.
ALTER TABLE calls ADD COLUMN customer_id text;
CREATE INDEX calls_customer ON calls (account_id, customer_id, created_at, id) WHERE customer_id IS NOT NULL;

-- +goose Down

DROP INDEX calls_customer;
ALTER TABLE calls DROP COLUMN customer_id;
DROP TABLE customer_phones;
DROP TABLE customers;
